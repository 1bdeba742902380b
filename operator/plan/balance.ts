import { assign } from '../../src/core/assignment.ts';

/** Shards and what they weigh, and who has them. */
export interface Spread {
  /** Of each shard. */
  readonly loads: readonly number[];
  /** Id of the broker that has it; '' if nobody said so. */
  readonly owners: readonly string[];
  /** Ids of the brokers that there are, those first that stay longest. */
  readonly brokers: readonly string[];
}

/**
 * What the busiest broker would carry if there were `count` of them: the cluster would spread the shards by
 * {@link assign}, which moves as few as it can and looks at numbers of shards, not at loads.
 */
export function busiest({ loads, owners, brokers }: Spread, count: number): number {
  if (count <= 0) return Infinity;
  const ids = Array.from(
    { length: count },
    (_, index) => brokers[index] ?? `~${String(index).padStart(5, '0')}`,
  );
  const members = ids.map((id) => ({ id, version: '', draining: false }));
  const next = assign({ owners, pins: {} }, members, { shards: loads.length });
  const carried = new Map<string, number>();
  next.owners.forEach((owner, shard) => carried.set(owner, (carried.get(owner) ?? 0) + loads[shard]!));
  return Math.max(0, ...carried.values());
}

/** What one of `count` brokers carries at most, however the shards are spread, as long as their numbers are even. */
export function worst(loads: readonly number[], count: number): number {
  if (count <= 0) return Infinity;
  const most = Math.ceil(loads.length / count);
  return [...loads]
    .sort((a, b) => b - a)
    .slice(0, most)
    .reduce((sum, load) => sum + load, 0);
}
