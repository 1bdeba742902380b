import { HubError } from '../std/errors.ts';
import type { PlacementRules } from './placement.ts';

/** A group of brokers, and the shards that only they own: those from `first` on. */
export interface Pool {
  readonly name: string;
  readonly first: number;
  readonly shards: number;
}

/** The pools of a cluster, each with the shards behind those of the one before. It only ever grows. */
export type Pools = readonly Pool[];

/** Which pools there are, and which mailboxes live in which. */
export interface Layout {
  readonly pools: Pools;
  readonly rules: PlacementRules;
}

/** The pool that every cluster has, and that takes what no rule sends elsewhere unless they say so. */
export const DEFAULT_POOL = 'default';

/** Numbers of shards have 16 bits wherever they are written. */
export const MAX_SHARDS = 65_535;

/** The rules of a cluster for which nobody has made any. */
export const NO_RULES: PlacementRules = { version: 0, defaultPool: DEFAULT_POOL, rules: [] };

/** A layout with nothing but a default pool of so many shards. */
export function plainLayout(shards: number): Layout {
  return { pools: [{ name: DEFAULT_POOL, first: 0, shards }], rules: NO_RULES };
}

/** The shards of all pools. */
export function shardsOf(pools: Pools): number {
  const last = pools.at(-1);
  return last ? last.first + last.shards : 0;
}

/** The pool that the shard belongs to, if there is one. */
export function poolOf(pools: Pools, shard: number): Pool | undefined {
  return pools.find(({ first, shards }) => first <= shard && shard < first + shards);
}

/**
 * The pools with one of that name and so many shards behind the others; the same pools if there is one of
 * that name already.
 *
 * @throws HubError `exhausted` if all pools together would have too many shards.
 */
export function withPool(pools: Pools, name: string, shards: number): Pools {
  if (pools.some((pool) => pool.name === name)) return pools;
  const first = shardsOf(pools);
  if (first + shards > MAX_SHARDS) {
    throw new HubError(
      'exhausted',
      `the pool ${name} would need ${shards} shards, and of ${MAX_SHARDS} there are ${MAX_SHARDS - first} left`,
      { limit: 'cluster.poolShards' },
    );
  }
  return [...pools, { name, first, shards }];
}

/** Whether two lists of pools say the same. */
export function samePools(a: Pools, b: Pools): boolean {
  return (
    a.length === b.length &&
    a.every(({ name, first, shards }, index) => {
      const other = b[index]!;
      return other.name === name && other.first === first && other.shards === shards;
    })
  );
}
