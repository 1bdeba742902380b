import { constants, monitorEventLoopDelay, performance, PerformanceObserver } from 'node:perf_hooks';
import type { PerformanceNodeEntry } from 'node:perf_hooks';
import type { Clock } from '../std/clock.ts';
import { Histogram, Rate } from './instruments.ts';
import { PAUSE_BOUNDS } from './table.ts';

/** Seconds that timers ran late. */
export interface Delay {
  readonly median: number;
  readonly p99: number;
  readonly max: number;
}

/** Bytes. */
export interface Memory {
  readonly rss: number;
  readonly heapUsed: number;
  readonly heapTotal: number;
  readonly external: number;
}

/** What the broker reports of the process it runs in. */
export interface ProcessProbe {
  /** Since the Unix epoch. */
  readonly startedAtSeconds: number;
  cpuSeconds(): number;
  /** Cores in use, averaged over about 10 s. */
  cpu(): number;
  /** Share of time that the event loop was busy, 0 to 1, averaged over about 10 s. */
  eventLoopUtilization(): number;
  loopDelay(): Delay;
  memory(): Memory;
  gcPauses(): Iterable<readonly [kind: string, pauses: Histogram]>;
}

/** Milliseconds between two looks at how late the loop is. */
const SAMPLE_MS = 10;
/** Milliseconds for which delays are collected before the next collection begins. */
const WINDOW_MS = 10_000;

/**
 * The real process.
 *
 * Not prom-client's default metrics: those walk all open sockets and files on every scrape, report the
 * sampling period as lag of an idle loop, let two scrapers erase each other's lag, and can't be stopped.
 */
export class NodeProcess implements ProcessProbe {
  readonly startedAtSeconds = performance.timeOrigin / 1000;
  readonly #clock: Clock;
  readonly #cpu: Rate;
  readonly #loopBusy: Rate;
  readonly #delays = monitorEventLoopDelay({ resolution: SAMPLE_MS });
  readonly #pauses = new Map<number, readonly [string, Histogram]>([
    [constants.NODE_PERFORMANCE_GC_MINOR, ['minor', new Histogram(PAUSE_BOUNDS)]],
    [constants.NODE_PERFORMANCE_GC_MAJOR, ['major', new Histogram(PAUSE_BOUNDS)]],
    [constants.NODE_PERFORMANCE_GC_INCREMENTAL, ['incremental', new Histogram(PAUSE_BOUNDS)]],
    [constants.NODE_PERFORMANCE_GC_WEAKCB, ['weakcb', new Histogram(PAUSE_BOUNDS)]],
  ]);
  readonly #collections: PerformanceObserver;
  #windowFrom: number;
  #lastWindow: Delay = { median: 0, p99: 0, max: 0 };

  constructor(clock: Clock) {
    this.#cpu = new Rate(clock, () => this.cpuSeconds());
    this.#loopBusy = new Rate(clock, () => performance.eventLoopUtilization().active / 1000);
    this.#clock = clock;
    this.#windowFrom = clock.now();
    this.#delays.enable();
    this.#collections = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) this.#collected(entry);
    });
    this.#collections.observe({ entryTypes: ['gc'] });
  }

  cpuSeconds(): number {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  }

  cpu(): number {
    return this.#cpu.perSecond();
  }

  eventLoopUtilization(): number {
    return Math.min(1, this.#loopBusy.perSecond());
  }

  loopDelay(): Delay {
    const now = this.#clock.now();
    const window = this.#readDelays();
    if (Math.abs(now - this.#windowFrom) >= WINDOW_MS) {
      this.#windowFrom = now;
      this.#lastWindow = window;
      this.#delays.reset();
      return window;
    }
    return window.max > this.#lastWindow.max ? window : this.#lastWindow;
  }

  memory(): Memory {
    return process.memoryUsage();
  }

  gcPauses(): Iterable<readonly [kind: string, pauses: Histogram]> {
    return this.#pauses.values();
  }

  /** Stops measuring. */
  close(): void {
    this.#collections.disconnect();
    this.#delays.disable();
  }

  #readDelays(): Delay {
    const late = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - SAMPLE_MS / 1000);
    const delays = this.#delays;
    return delays.count === 0
      ? this.#lastWindow
      : { median: late(delays.percentile(50)), p99: late(delays.percentile(99)), max: late(delays.max) };
  }

  #collected(entry: PerformanceEntry): void {
    const { kind } = (entry as PerformanceNodeEntry).detail as { readonly kind: number };
    this.#pauses.get(kind)?.[1].observe(entry.duration / 1000);
  }
}
