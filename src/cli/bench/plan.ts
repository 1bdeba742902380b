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
  readonly payloadBytes: number;
  /** Tasks that leave together. */
  readonly batch: number;
  /** Tasks that may be accepted and not completed, if the rate is 0. */
  readonly unfinished: number;
  /** Tasks that an agent may hold; 0: adaptive. */
  readonly window: number;
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
  payloadBytes: 256,
  batch: 1,
  unfinished: 20_000,
  window: 0,
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
};

/** Tasks that are due `ms` milliseconds after the begin. */
export function due(plan: Pick<BenchPlan, 'rate' | 'publishers'>, publisher: number, ms: number): number {
  // Publishers take turns, so that not all tasks of a moment come at once.
  const perMs = plan.rate / plan.publishers / 1000;
  return Math.max(0, Math.floor(ms * perMs - publisher / plan.publishers) + 1);
}

/** When task number `task` of a publisher is due, in milliseconds after the begin: the inverse of {@link due}. */
export function dueAt(plan: Pick<BenchPlan, 'rate' | 'publishers'>, publisher: number, task: number): number {
  return ((task + publisher / plan.publishers) * plan.publishers * 1000) / plan.rate;
}
