import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';

/** What a process has used since it began, and what it holds now. */
export interface Usage {
  /** CPU time of all its threads, in microseconds. */
  readonly cpuUs: number;
  readonly rssBytes: number;
  /** Live objects, and buffers beside them. */
  readonly heapBytes: number;
  readonly bufferBytes: number;
  /** Pauses of the garbage collector, in milliseconds. */
  readonly pauses: {
    readonly count: number;
    readonly totalMs: number;
    readonly longestMs: number;
    readonly longestMajorMs: number;
  };
}

/** Watches the garbage collector of this process. */
export class UsageProbe {
  private count = 0;
  private totalMs = 0;
  private longestMs = 0;
  private longestMajorMs = 0;

  constructor() {
    const observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const { duration, detail } = entry as PerformanceEntry & { readonly detail: unknown };
        this.count++;
        this.totalMs += duration;
        this.longestMs = Math.max(this.longestMs, duration);
        const { kind } = detail as { kind: number };
        if (kind === constants.NODE_PERFORMANCE_GC_MAJOR)
          this.longestMajorMs = Math.max(this.longestMajorMs, duration);
      }
    });
    observer.observe({ entryTypes: ['gc'] });
  }

  /** What is used now; with `collect`, after garbage was collected (needs `--expose-gc`). */
  read({ collect }: { readonly collect: boolean }): Usage {
    if (collect) for (let round = 0; round < 3; round++) globalThis.gc?.();
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed, external } = process.memoryUsage();
    const { count, totalMs, longestMs, longestMajorMs } = this;
    return {
      cpuUs: user + system,
      rssBytes: rss,
      heapBytes: heapUsed,
      bufferBytes: external,
      pauses: { count, totalMs, longestMs, longestMajorMs },
    };
  }

  /** Forgets the pauses so far. */
  reset(): void {
    this.count = 0;
    this.totalMs = 0;
    this.longestMs = 0;
    this.longestMajorMs = 0;
  }
}
