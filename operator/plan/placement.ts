import { isDeepStrictEqual } from 'node:util';
import type { PlacementRule, PlacementRules } from '../../src/core/placement.ts';
import { DEFAULT_POOL } from '../../src/core/pools.ts';
import type { PlacementDocument } from '../../src/wire/placement-document.ts';
import type { BrokerCluster } from '../api/brokercluster.ts';
import type { KubeObject } from '../api/object.ts';
import type { BrokerClusterStatus } from '../api/status.ts';
import { brokerPool, shardsOf } from './context.ts';
import { leftoverSets } from './leftover.ts';
import type { Obstacle } from './verdicts.ts';
import { counted, listed } from './words.ts';

/** What is to be done about the placement rules. */
export interface PlacementPlan {
  /** Rules to be made those of the brokers, with the version that they replace. */
  readonly change: PlacementRules | undefined;
  /** Whether the brokers go by the rules of the spec; not if nobody could be asked. */
  readonly inForce: boolean;
  /** What it waits for, if they don't yet. */
  readonly pending: string | undefined;
  readonly obstacles: readonly Obstacle[];
  /** What to keep. */
  readonly status: BrokerClusterStatus['placement'];
}

/**
 * Whether the operator has a say in the rules: of a cluster that never had more than one pool it has none, so that
 * those stay that somebody has made by hand.
 */
export function managesPlacement(cluster: BrokerCluster, children: readonly KubeObject[]): boolean {
  const { spec, status } = cluster;
  return (
    spec.pools.length > 1 || status.placement !== undefined || leftoverSets(cluster, children).length > 0
  );
}

/** What is to be done so that the brokers go by the rules of the spec; `known`: what a broker said last. */
export function planPlacement(
  cluster: BrokerCluster,
  children: readonly KubeObject[],
  known: PlacementDocument | undefined,
): PlacementPlan {
  const { status } = cluster;
  const nothing = { change: undefined, obstacles: [], status: status.placement };
  if (!managesPlacement(cluster, children)) return { ...nothing, inForce: true, pending: undefined };
  if (known === undefined) {
    return { ...nothing, inForce: false, pending: 'no broker has told yet which placement rules it knows' };
  }
  const rules = wishedRules(cluster);
  const obstacles = otherShards(cluster, known);
  const kept = { version: known.version, rules: known.rules.length };
  if (isDeepStrictEqual(known.rules, rules) && known.defaultPool === DEFAULT_POOL) {
    const over = cluster.spec.pools.length === 1 && leftoverSets(cluster, children).length === 0;
    return {
      change: undefined,
      obstacles,
      inForce: true,
      pending: undefined,
      status: over ? undefined : kept,
    };
  }
  const there = new Set(known.pools.map(({ name }) => name));
  const absent = cluster.spec.pools
    .filter((pool) => !there.has(brokerPool(cluster, pool)))
    .map(({ name }) => name);
  if (absent.length > 0) {
    const pending = `the placement rules wait for the first broker of pool ${listed(absent)}`;
    return { ...nothing, obstacles, inForce: false, pending };
  }
  return {
    change: { version: known.version, defaultPool: DEFAULT_POOL, rules },
    obstacles,
    inForce: false,
    pending: 'the brokers are told the placement rules',
    status: kept,
  };
}

/** The rules of all pools in the form that brokers have them, in the order of pools and rules. */
export function wishedRules(cluster: BrokerCluster): readonly PlacementRule[] {
  return cluster.spec.pools.flatMap((spec) => {
    const pool = brokerPool(cluster, spec);
    return spec.rules.map(({ agents, range, region, taskTypes, spread }): PlacementRule => {
      if (agents !== undefined) return { pool, agents };
      if (range !== undefined) {
        const { prefix, first, last } = range;
        return { pool, range: { prefix, first, last } };
      }
      if (region !== undefined) return { pool, region };
      return {
        pool,
        taskTypes: taskTypes ?? '',
        ...(spread === undefined || spread === 1 ? {} : { spread }),
      };
    });
  });
}

/** A pool that was there before keeps the shards that it had then. */
function otherShards(cluster: BrokerCluster, { pools }: PlacementDocument): readonly Obstacle[] {
  return cluster.spec.pools.flatMap((pool): Obstacle[] => {
    const known = pools.find(({ name }) => name === brokerPool(cluster, pool));
    const wished = shardsOf(cluster, pool);
    if (known === undefined || known.shards === wished) return [];
    const message =
      `pool ${pool.name} was made with ${counted(known.shards, 'shard')}, which can't be changed, and the spec says ` +
      `${wished}: make it a pool of another name, or again with shards: ${known.shards}`;
    return [{ reason: 'PoolShardsFixed', message }];
  });
}
