/** What a benchmark does. Times are in milliseconds, sizes in bytes. */
export interface BenchPlan {
  readonly publishers: number;
  /** Attached workers; each works on one mailbox. */
  readonly agents: number;
  readonly mailboxes: number;
  /** Connections that publishers and agents share. */
  readonly sessions: number;
  /** Tasks a second of all publishers together; 0: as many as the broker takes. */
  readonly rate: number;
  readonly warmupMs: number;
  readonly durationMs: number;
  /** Payloads of tasks, one size after the other. */
  readonly payloadBytes: readonly number[];
  /** Tasks that leave together. */
  readonly batch: number;
  /** Tasks that may be accepted and not completed, if the rate is 0. */
  readonly unfinished: number;
  /** Tasks that an agent may hold; 0: adaptive. */
  readonly window: number;
  /** Tasks that are due at the same moment, each to another mailbox. */
  readonly fanOut: number;
  /** Whether tasks have all priorities, one after the other; else all have the same. */
  readonly mixedPriorities: boolean;
  /** How often the connection of a session is broken; 0: never. */
  readonly breakMs: number;
  /** Whether publishers want the results. Without them nobody hears of completions. */
  readonly results: boolean;
  /** How long to wait for the last ones. */
  readonly settleMs: number;
}

const BASE: BenchPlan = {
  publishers: 10,
  agents: 10,
  mailboxes: 10,
  sessions: 2,
  rate: 1000,
  warmupMs: 1000,
  durationMs: 10_000,
  payloadBytes: [256],
  batch: 1,
  unfinished: 20_000,
  window: 0,
  fanOut: 1,
  mixedPriorities: false,
  breakMs: 0,
  results: true,
  settleMs: 30_000,
};

/** Plans with a name. */
export const SCENARIOS: Readonly<Record<string, BenchPlan>> = {
  /** A steady trickle: what a quiet system feels like. */
  steady: BASE,
  /** The load test that the first AgentHub was sized with. */
  seed: { ...BASE, publishers: 10, rate: 1000, durationMs: 60_000 },
  /** As many as the broker takes. */
  saturation: { ...BASE, rate: 0, batch: 100 },
  /** Every agent is asked at once, now and then. */
  bursts: { ...BASE, rate: 2000, agents: 200, mailboxes: 200, fanOut: 200, batch: 200 },
  /** Many agents, each with a mailbox of its own, over many connections. */
  crowd: { ...BASE, rate: 5000, agents: 2000, mailboxes: 2000, sessions: 50, publishers: 50, batch: 10 },
  /** From small to large, in all priorities. */
  mixed: { ...BASE, payloadBytes: [128, 1024, 16_384, 131_072], mixedPriorities: true },
  /** Connections break all the time. */
  flaky: { ...BASE, sessions: 4, breakMs: 500 },
};

/** Who is concerned with moments: what decides when tasks are due. */
type Schedule = Pick<BenchPlan, 'rate' | 'publishers' | 'fanOut'>;

/** Tasks that are due `ms` milliseconds after the begin. */
export function due(plan: Schedule, publisher: number, ms: number): number {
  // Publishers take turns, so that not all tasks of a moment come at once.
  const perMs = plan.rate / plan.publishers / plan.fanOut / 1000;
  return Math.max(0, Math.floor(ms * perMs - publisher / plan.publishers) + 1) * plan.fanOut;
}

/** When task number `task` of a publisher is due, in milliseconds after the begin: the inverse of {@link due}. */
export function dueAt(plan: Schedule, publisher: number, task: number): number {
  const moment = Math.floor(task / plan.fanOut);
  return ((moment + publisher / plan.publishers) * plan.publishers * plan.fanOut * 1000) / plan.rate;
}
