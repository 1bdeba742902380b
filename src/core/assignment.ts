import type { Pools } from './pools.ts';
import { shardsOf } from './pools.ts';
import { compareVersions } from './version.ts';

/** Which broker is to own which shard: one document for the whole cluster. */
export interface Assignment {
  /** The broker's id by shard; '' if there was none to give the shard to. */
  readonly owners: readonly string[];
  /** Brokers that somebody has chosen by hand, by shard. */
  readonly pins: Readonly<Record<number, string>>;
}

/** A live broker, as far as {@link assign} cares. */
export interface Assignable {
  readonly id: string;
  readonly version: string;
  /** It gets nothing, and what it has goes to others. */
  readonly draining: boolean;
}

/** A live broker, and whose shards it may own. */
export interface PoolMember extends Assignable {
  readonly pool: string;
}

/** The assignment of a cluster in which nothing is assigned yet. */
export const UNASSIGNED: Assignment = { owners: [], pins: {} };

/** A broker while shards are dealt. */
interface Hand {
  readonly id: string;
  readonly version: string;
  readonly pinned: number;
  /** Shards that it owns and that are not pinned. */
  readonly held: readonly number[];
  /** How many shards beside the pinned ones it is to own. */
  quota: number;
}

/**
 * Who is to own each of `shards` shards, now that these are the brokers. The same for the same brokers in any
 * order, and nothing changes if it is applied to its own outcome.
 *
 * - Shards go to brokers that don't drain. If all do, everything stays where it is, and only shards without
 *   an owner are given to one of them.
 * - A pinned shard goes to its broker as long as that one doesn't drain; the pin ends when the broker is gone.
 * - The others make the numbers of shards as equal as they can: without pins they differ by one at most.
 * - No more shards move than that takes. Where it leaves a choice, brokers of newer versions get more, so that
 *   in a rolling update fewer shards move again.
 */
export function assign(
  previous: Assignment,
  members: readonly Assignable[],
  { shards }: { readonly shards: number },
): Assignment {
  const sorted = members.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const present = new Set(sorted.map(({ id }) => id));
  const pins = Object.fromEntries(
    Object.entries(previous.pins).filter(([shard, id]) => Number(shard) < shards && present.has(id)),
  );
  const open = sorted.filter(({ draining }) => !draining);
  const owners =
    open.length > 0
      ? balance(previous, open, pins, shards)
      : keep(
          Array.from({ length: shards }, (_, shard) => previous.owners[shard] ?? ''),
          sorted,
        );
  return { owners, pins };
}

/**
 * {@link assign} in each pool: its shards go to its own brokers, and to nobody if there are none. Shards of pools
 * of which this broker has not heard yet stay as they are.
 */
export function assignPools(previous: Assignment, members: readonly PoolMember[], pools: Pools): Assignment {
  const owners: string[] = [];
  const pins: Record<number, string> = {};
  for (const { name, first, shards } of pools) {
    const own = Object.entries(previous.pins).map(([shard, id]) => [Number(shard) - first, id] as const);
    const part = {
      owners: previous.owners.slice(first, first + shards),
      pins: Object.fromEntries(own.filter(([shard]) => shard >= 0 && shard < shards)),
    };
    const next = assign(
      part,
      members.filter(({ pool }) => pool === name),
      { shards },
    );
    owners.push(...next.owners);
    for (const [shard, id] of Object.entries(next.pins)) pins[Number(shard) + first] = id;
  }
  owners.push(...previous.owners.slice(shardsOf(pools)));
  return { owners, pins };
}

/** Whether two assignments say the same. */
export function sameAssignment(a: Assignment, b: Assignment): boolean {
  const pins = Object.entries(a.pins);
  return (
    a.owners.length === b.owners.length &&
    a.owners.every((owner, shard) => owner === b.owners[shard]) &&
    pins.length === Object.keys(b.pins).length &&
    pins.every(([shard, broker]) => b.pins[Number(shard)] === broker)
  );
}

function balance(
  { owners: previous }: Assignment,
  members: readonly Assignable[],
  pins: Assignment['pins'],
  shards: number,
): string[] {
  const able = new Set(members.map(({ id }) => id));
  const owners = Array.from({ length: shards }, (_, shard) => {
    const pin = pins[shard];
    return pin !== undefined && able.has(pin) ? pin : '';
  });
  const loose = [...owners.keys()].filter((shard) => owners[shard] === '');
  const hands = members.map(({ id, version }) => ({
    id,
    version,
    pinned: owners.filter((owner) => owner === id).length,
    held: loose.filter((shard) => previous[shard] === id),
    quota: 0,
  }));
  setQuotas(hands, loose.length);
  for (const { id, held, quota } of hands) for (const shard of held.slice(0, quota)) owners[shard] = id;
  const moving = loose.filter((shard) => owners[shard] === '');
  for (const { id, held, quota } of hands.toSorted(newerFirst)) {
    for (const shard of moving.splice(0, Math.max(0, quota - held.length))) owners[shard] = id;
  }
  return owners;
}

/** Deals `count` shards to the hands that have the fewest, pinned ones included. */
function setQuotas(hands: readonly Hand[], count: number): void {
  const upTo = (level: number): number =>
    hands.reduce((sum, { pinned }) => sum + Math.max(0, level - pinned), 0);
  let level = 0;
  while (upTo(level + 1) <= count) level++;
  for (const hand of hands) hand.quota = Math.max(0, level - hand.pinned);
  // Who keeps a shard by getting one more goes first: that is one less to move.
  const keeps = (hand: Hand): number => Number(hand.held.length > hand.quota);
  hands
    .filter(({ pinned }) => pinned <= level)
    .toSorted((a, b) => keeps(b) - keeps(a) || newerFirst(a, b))
    .slice(0, count - upTo(level))
    .forEach((hand) => hand.quota++);
}

/** Gives only shards without an owner, each to whoever has the fewest then. */
function keep(owners: string[], members: readonly Assignable[]): string[] {
  const counts = new Map(members.map(({ id }) => [id, 0]));
  for (const owner of owners) if (counts.has(owner)) counts.set(owner, counts.get(owner)! + 1);
  return owners.map((owner) => {
    if (counts.has(owner)) return owner;
    const [first, ...others] = counts.keys();
    if (first === undefined) return '';
    const fewest = others.reduce((least, id) => (counts.get(id)! < counts.get(least)! ? id : least), first);
    counts.set(fewest, counts.get(fewest)! + 1);
    return fewest;
  });
}

function newerFirst(a: { readonly version: string }, b: { readonly version: string }): number {
  return compareVersions(b.version, a.version);
}
