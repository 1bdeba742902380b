/** How long to load, and when what is done counts. */
export interface Span {
  readonly warmMs: number;
  readonly measureMs: number;
}

/** What was done in the measured time, and what the maker of the load used for it. */
export interface Done {
  readonly tasks: number;
  /** Tasks that were done since the start, the warming up included. */
  readonly all: number;
  readonly ms: number;
  readonly loadCpuUs: number;
  /** Unix milliseconds at which the measured time began and ended. */
  readonly from: number;
  readonly to: number;
}

/** Counts what is done in a span of time, after a while of warming up. */
export class Meter {
  readonly done: Promise<Done>;
  /** The span is over; nothing counts any more. */
  over = false;
  private readonly span: Span;
  private readonly resolve: (done: Done) => void;
  private startedAt = Infinity;
  private tasks = 0;
  private first: { at: number; tasks: number; cpuUs: number } | undefined;

  constructor(span: Span) {
    this.span = span;
    const { promise, resolve } = Promise.withResolvers<Done>();
    this.done = promise;
    this.resolve = resolve;
  }

  /** The warming up begins: all is set up. */
  start(): void {
    this.startedAt = performance.now();
  }

  add(tasks: number): void {
    this.tasks += tasks;
    if (this.over) return;
    const now = performance.now();
    const { first, span } = this;
    if (first === undefined) {
      if (now - this.startedAt >= span.warmMs) this.first = { at: now, tasks: this.tasks, cpuUs: cpuUs() };
      return;
    }
    if (now - first.at < span.measureMs) return;
    this.over = true;
    this.resolve({
      tasks: this.tasks - first.tasks,
      all: this.tasks,
      ms: now - first.at,
      loadCpuUs: cpuUs() - first.cpuUs,
      from: performance.timeOrigin + first.at,
      to: performance.timeOrigin + now,
    });
  }
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}
