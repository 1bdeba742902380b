import type { Steering } from '../../../src/core/steer.ts';
import type { SeededRandom } from '../random.ts';

/** What can happen to a cluster. */
export const FAULTS = [
  'crash',
  'pause',
  'stop',
  'join',
  'partition',
  'isolation',
  'outage',
  'noise',
  'late store',
  'lost answers',
  'move',
  'cut',
  'die',
  'admin',
  'clock',
] as const;
/** One of {@link FAULTS}. */
export type Fault = (typeof FAULTS)[number];

/** What a seed decides about a cluster before it begins. */
export interface ClusterPlan {
  readonly shards: number;
  readonly brokers: number;
  readonly clients: number;
  /** How long there is trouble, in milliseconds. */
  readonly troubleMs: number;
  /** Between two faults, in milliseconds, about. */
  readonly faultMs: number;
  /** How often each fault is the next one. */
  readonly weights: Readonly<Record<Fault, number>>;
  readonly latencyMs: number;
  /** The longest time of a message from broker to broker, and to the log, in milliseconds. */
  readonly busMs: number;
  readonly logMs: number;
  /** The share of messages to and from the log that are lost. */
  readonly logLoss: number;
  readonly maxBytesPerShard: number;
  readonly tickMs: number;
  readonly upkeepMs: number;
  readonly graceMs: number;
  readonly steering: Steering;
  readonly checkpointBytes: number;
  readonly wasteBytes: number;
  /** The state is compared after every so many records. */
  readonly compareEvery: number;
}

/** Draws a plan: most clusters have some kinds of trouble, a few have them all, or none. */
export function drawCluster(random: SeededRandom): ClusterPlan {
  const kinds = random.chance(0.1) ? 1 : random.float();
  const weights = Object.fromEntries(
    FAULTS.map((fault) => [fault, random.chance(kinds) ? 1 + random.below(4) : 0]),
  ) as Record<Fault, number>;
  return {
    shards: 2 + random.below(4),
    brokers: 2 + random.below(3),
    clients: 2 + random.below(4),
    troubleMs: 4000 + random.below(8000),
    faultMs: 200 + random.below(2000),
    weights,
    latencyMs: [0, 2, 5, 20][random.below(4)]!,
    busMs: [0.5, 2, 5, 20][random.below(4)]!,
    logMs: [0.5, 2, 5, 20][random.below(4)]!,
    logLoss: random.chance(0.3) ? random.float() * 0.05 : 0,
    // Enough for all that comes: a cluster whose log is full for good has a test of its own in `make chaos`.
    maxBytesPerShard: random.chance(0.15) ? 4_000_000 + random.below(60_000) : Infinity,
    tickMs: random.below(4),
    upkeepMs: 100 + random.below(400),
    graceMs: 3000 + random.below(4000),
    steering: (['owner', 'capacity', 'round-robin', 'stay'] as const)[random.below(4)]!,
    checkpointBytes: 512 << random.below(5),
    wasteBytes: 256 << random.below(5),
    compareEvery: random.chance(0.05) ? 1 : 20 + random.below(40),
  };
}

/** As {@link drawCluster}, for a cluster whose logs are small, and fill up. */
export function drawHeaps(random: SeededRandom): ClusterPlan {
  return {
    ...drawCluster(random),
    maxBytesPerShard: 30_000 + random.below(60_000),
    graceMs: 3000,
  };
}
