import type { Sync } from '../../../src/log/journal.ts';
import type { SeededRandom } from '../random.ts';

/** What a seed decides about a world before it begins. */
export interface Plan {
  readonly shards: number;
  readonly log: 'file' | 'memory';
  readonly sync: Sync;
  readonly segmentBytes: number;
  /** The longest time that an operation of the disk takes, in milliseconds; 0: none. */
  readonly diskMs: number;
  readonly latencyMs: number;
  readonly clients: number;
  /** Calls of the clock while there is trouble. */
  readonly steps: number;
  /** Chances per call of the clock. */
  readonly crash: number;
  readonly stop: number;
  readonly cut: number;
  readonly die: number;
  readonly diskFailure: number;
  readonly admin: number;
  /** The chance that an append takes a long way to the log. */
  readonly detour: number;
  readonly tickMs: number;
  readonly upkeepMs: number;
  readonly graceMs: number;
  /** Tasks, results and dead letters are kept for fractions of a second only. */
  readonly shortRetention: boolean;
  readonly mailboxDepth: number;
  readonly checkpointBytes: number;
  readonly wasteBytes: number;
  /** The state is compared after every so many records. */
  readonly compareEvery: number;
}

/** Draws a plan: most worlds have some trouble of each kind, some have none, or much. */
export function draw(random: SeededRandom): Plan {
  const often = (chance: number): number => chance * [0, 0.5, 1, 1, 2, 4][random.below(6)]!;
  const log = random.chance(0.75) ? 'file' : 'memory';
  return {
    shards: 1 + random.below(4),
    log,
    sync: random.chance(0.7) ? 'always' : random.chance(0.5) ? 'interval' : 'none',
    segmentBytes: 2048 << random.below(4),
    diskMs: [0, 1, 3, 10][random.below(4)]!,
    latencyMs: [0, 2, 5, 20][random.below(4)]!,
    clients: 2 + random.below(4),
    steps: 500 + random.below(1500),
    crash: often(0.002),
    stop: often(0.0006),
    cut: often(0.004),
    die: often(0.0005),
    diskFailure: often(0.002),
    admin: often(0.005),
    detour: often(0.02),
    tickMs: random.below(4),
    upkeepMs: 10 + random.below(40),
    graceMs: 100 + random.below(200),
    shortRetention: random.chance(0.15),
    mailboxDepth: random.chance(0.3) ? 5 + random.below(10) : 10_000,
    checkpointBytes: 512 << random.below(5),
    wasteBytes: 256 << random.below(5),
    compareEvery: random.chance(0.05) ? 1 : 20 + random.below(40),
  };
}
