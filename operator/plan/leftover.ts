import type { PlacementDocument } from '../../src/wire/placement-document.ts';
import { DEFAULT_POOL } from '../../src/core/pools.ts';
import type { BrokerCluster } from '../api/brokercluster.ts';
import type { KubeObject } from '../api/object.ts';
import { LABEL, nameOf } from './context.ts';
import type { PodView } from './pods.ts';
import type { Obstacle } from './verdicts.ts';

/** A pool that the spec has no more, and whose brokers are still there. */
export interface Leftover {
  readonly pool: string;
  /** Name of its StatefulSet. */
  readonly set: string;
  /** Whether it is known that nothing is left in it. */
  readonly empty: boolean;
  /** Why it will not be empty by itself. */
  readonly obstacle: Obstacle | undefined;
}

/** What is looked at to find out. */
interface LeftoverInput {
  readonly cluster: BrokerCluster;
  readonly children: readonly KubeObject[];
  /** By pool. */
  readonly pods: Readonly<Record<string, readonly PodView[]>>;
  readonly placement?: PlacementDocument | undefined;
}

/** `moved`: whether the brokers go by rules that know nothing of these pools any more. */
export function leftoverPools(
  { cluster, children, pods, placement }: LeftoverInput,
  moved: boolean,
): readonly Leftover[] {
  return leftoverSets(cluster, children).map((object): Leftover => {
    const set = object.metadata.name;
    const pool = object.metadata.labels?.[LABEL.pool] ?? '';
    const views = pods[pool] ?? [];
    const known = placement?.pools.find(({ name }) => name === pool);
    const empty = moved && placement !== undefined && (known === undefined || holdsNothing(views, known));
    return { pool, set, empty, obstacle: empty ? undefined : mute(object.spec, pool, set) };
  });
}

/** StatefulSets of pools that the spec has no more. */
export function leftoverSets(cluster: BrokerCluster, children: readonly KubeObject[]): readonly KubeObject[] {
  const kept = new Set(cluster.spec.pools.map(({ name }) => name));
  return children.filter(({ kind, metadata: { name, labels, deletionTimestamp } }) => {
    const pool = labels?.[LABEL.pool];
    if (kind !== 'StatefulSet' || pool === undefined || deletionTimestamp !== undefined) return false;
    return !kept.has(pool) && name === nameOf.pool(cluster, pool);
  });
}

/** Only who has told of every shard has told that there is nothing. */
function holdsNothing(
  views: readonly PodView[],
  { name, shards }: PlacementDocument['pools'][number],
): boolean {
  const told = new Map<number, number>();
  for (const { answers } of views) {
    if (answers.failure !== undefined) continue;
    for (const { shard, queued, outbox = 0 } of answers.capacity?.shards ?? []) {
      told.set(shard, (told.get(shard) ?? 0) + queued + outbox);
    }
  }
  return name !== DEFAULT_POOL && told.size >= shards && [...told.values()].every((left) => left === 0);
}

function mute(spec: unknown, pool: string, set: string): Obstacle | undefined {
  if ((spec as { readonly replicas?: number } | undefined)?.replicas !== 0) return undefined;
  const message =
    `pool ${pool} is no more in the spec and has no broker that could hand over what it may still hold: add it again ` +
    `with a replica, or delete StatefulSet ${set} if that may be lost`;
  return { reason: 'PoolWithoutBrokers', message };
}
