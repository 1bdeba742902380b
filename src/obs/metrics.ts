import type { Clock } from '../std/clock.ts';
import { Counter, Histogram, Labelled, Rate } from './instruments.ts';
import { BATCH_BOUNDS, LATENCY_BOUNDS } from './table.ts';

/** Reasons and limits come from our own code; the bound only guards against a mistake in it. */
const REASONS = 100;

/** Namespaces with figures of their own, if nothing else is said. */
const NAMESPACES = 100;

/** What a {@link Metrics} needs. */
export interface MetricsOptions {
  readonly clock: Clock;
  /** How many task types get figures of their own; all others count as `other`. */
  readonly taskTypes: number;
  /** How many namespaces do. Default 100. */
  readonly namespaces?: number;
}

/** The figures of one task type. Keep it beside what you know of the type instead of asking for it again. */
export class TaskTypeMetrics {
  /** Acknowledged to the publisher. */
  readonly accepted = new Counter();
  readonly completed = new Counter();
  /** Its worker said that it failed for good. */
  readonly failed = new Counter();
  readonly cancelled = new Counter();
  /** Its deadline passed. */
  readonly expired = new Counter();
  /** Given up: a dead letter. */
  readonly dead = new Counter();
  /** Seconds from the delivery to the worker until that worker settled it. */
  readonly duration = new Histogram(LATENCY_BOUNDS);
}

/** The figures of one namespace beside the default one. */
export class NamespaceMetrics {
  /** Acknowledged to the publisher. */
  readonly accepted = new Counter();
  /** Tasks and copies of tasks that were written to its sessions. */
  readonly delivered = new Counter();
  /** What it was refused because of a limit of its own. */
  readonly refused = {
    agents: new Counter(),
    sessions: new Counter(),
    queued: new Counter(),
    queuedBytes: new Counter(),
    tasksPerSecond: new Counter(),
  };
}

/** Per second, averaged over about 10 s. */
export interface Rates {
  readonly tasksPerSecond: number;
  readonly resultsPerSecond: number;
  readonly progressPerSecond: number;
  readonly messagesPerSecond: number;
}

/**
 * Everything that the broker measures; `table.ts` says what each metric means.
 *
 * The instruments are the public fields: the hot path calls `add` and `observe` on them, which allocate
 * nothing. All that one task needs of them was measured to take 75 ns. Latencies are in seconds.
 */
export class Metrics {
  readonly routing = new Histogram(LATENCY_BOUNDS);
  readonly endToEnd = new Histogram(LATENCY_BOUNDS);
  readonly delivered = new Counter();
  readonly redelivered = new Counter();
  readonly results = new Counter();
  readonly progress = new Counter();
  readonly duplicates = new Counter();
  readonly copiesDropped = new Counter();
  /** By error code. */
  readonly refused = new Labelled(REASONS, () => new Counter());
  /** By configuration key. */
  readonly limits = new Labelled(REASONS, () => new Counter());
  /** Connections that their clients have broken, by reason: protocol, tls. */
  readonly connectionsBroken = new Labelled(REASONS, () => new Counter());
  /** Changes of certificates, by result: reloaded, refused. */
  readonly tlsReloads = new Labelled(REASONS, () => new Counter());
  /** By reason. */
  readonly dead = new Labelled(REASONS, () => new Counter());
  /** Acts that were written down, by what they are. */
  readonly audited = new Labelled(REASONS, () => new Counter());
  /** Callers who were not let in, or not allowed something, by error code. */
  readonly denied = new Labelled(REASONS, () => new Counter());
  /** Tasks in one record. */
  readonly appendTasks = new Histogram(BATCH_BOUNDS);
  readonly appendSeconds = new Histogram(LATENCY_BOUNDS);
  readonly decisionSeconds = new Histogram(LATENCY_BOUNDS);
  readonly appendBytes = new Counter();
  /** By error code. */
  readonly appendFailures = new Labelled(REASONS, () => new Counter());
  readonly replaySeconds = new Histogram(LATENCY_BOUNDS);
  readonly replayBytes = new Counter();
  /** `taken`, `released`, `lost`. */
  readonly ownership = named(['taken', 'released', 'lost'], () => new Counter());
  /** `release`, `take`. */
  readonly handover = named(['release', 'take'], () => new Histogram(LATENCY_BOUNDS));
  /** `opened`, `resumed`, `lost`, `expired`, `closed`. */
  readonly sessionEvents = named(['opened', 'resumed', 'lost', 'expired', 'closed'], () => new Counter());
  readonly stalls = new Counter();

  /** By task type; beyond the bound all share the figures of `other`. */
  readonly taskTypes: Labelled<TaskTypeMetrics>;

  /** By namespace, without the default one; beyond the bound all share the figures of `other`. */
  readonly namespaces: Labelled<NamespaceMetrics>;

  readonly #tasksPerSecond: Rate;
  readonly #resultsPerSecond: Rate;
  readonly #progressPerSecond: Rate;

  constructor({ clock, taskTypes, namespaces = NAMESPACES }: MetricsOptions) {
    this.taskTypes = new Labelled(taskTypes, () => new TaskTypeMetrics());
    this.namespaces = new Labelled(namespaces, () => new NamespaceMetrics());
    this.#tasksPerSecond = new Rate(clock, () => this.accepted);
    this.#resultsPerSecond = new Rate(clock, () => this.results.value);
    this.#progressPerSecond = new Rate(clock, () => this.progress.value);
  }

  /** Tasks accepted, of all types. */
  get accepted(): number {
    let sum = 0;
    for (const [, { accepted }] of this.taskTypes.entries()) sum += accepted.value;
    return sum;
  }

  /** Tasks, results and progress reports accepted. */
  get messages(): number {
    return this.accepted + this.results.value + this.progress.value;
  }

  rates(): Rates {
    const tasksPerSecond = this.#tasksPerSecond.perSecond();
    const resultsPerSecond = this.#resultsPerSecond.perSecond();
    const progressPerSecond = this.#progressPerSecond.perSecond();
    const messagesPerSecond = tasksPerSecond + resultsPerSecond + progressPerSecond;
    return { tasksPerSecond, resultsPerSecond, progressPerSecond, messagesPerSecond };
  }
}

/** Instruments that are there from the start, so that a first event is seen as an increase. */
function named<T>(values: readonly string[], make: () => T): Labelled<T> {
  const labelled = new Labelled(values.length, make);
  for (const value of values) labelled.of(value);
  return labelled;
}
