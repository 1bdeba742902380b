import type { PlacementRules } from '../core/placement.ts';
import type { Placement } from '../wire/gen/agenthub/v1/admin_pb.ts';
import { readRules } from '../wire/placement.ts';

/** Placement for programs: what `placement set` takes, and the pools. */
export function placementView(placement: Placement) {
  const rules: PlacementRules = readRules(placement);
  const pools = placement.pools.map(({ name, firstShard, shards, brokers }) => ({
    name,
    firstShard,
    shards,
    brokers,
  }));
  return { ...rules, pools };
}
