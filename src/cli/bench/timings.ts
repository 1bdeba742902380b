import type { Histogram } from 'hdr-histogram-js';
import { build } from 'hdr-histogram-js';
import type { Clock } from '../../std/clock.ts';

/** Percentiles of one measure, in milliseconds. */
export interface Percentiles {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

const HOUR_US = 3_600_000_000;

/** Records how long it takes what is due after {@link begin}. */
export class Timings {
  private readonly clock: Clock;
  private readonly ack = histogram();
  private readonly delivery = histogram();
  private readonly completion = histogram();
  private begun = 0;
  private ended = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** The warm-up is over. */
  begin(): void {
    this.begun = this.clock.now();
  }

  /** Nothing is published any more. */
  end(): void {
    this.ended = this.clock.now();
  }

  /** Seconds between begin and end. */
  get seconds(): number {
    return this.begun === 0 ? 0 : ((this.ended || this.clock.now()) - this.begun) / 1000;
  }

  /** A task that was due then is acknowledged now. */
  acknowledged(now: number, dueMs: number): void {
    this.record(this.ack, now, dueMs);
  }

  /** A task that was due then is delivered now. */
  delivered(now: number, dueMs: number): void {
    this.record(this.delivery, now, dueMs);
  }

  /** The result of a task that was due then is there now. */
  completed(now: number, dueMs: number): void {
    this.record(this.completion, now, dueMs);
  }

  /** What was recorded. */
  percentiles(): {
    readonly ack: Percentiles;
    readonly delivered: Percentiles;
    readonly completed: Percentiles;
  } {
    return {
      ack: percentilesOf(this.ack),
      delivered: percentilesOf(this.delivery),
      completed: percentilesOf(this.completion),
    };
  }

  private record(into: Histogram, now: number, dueMs: number): void {
    // What was due in the warm-up is slow for reasons of its own.
    if (this.begun === 0 || dueMs < this.begun) return;
    into.recordValue(Math.min(HOUR_US, Math.max(1, Math.round((now - dueMs) * 1000))));
  }
}

function histogram(): Histogram {
  return build({ highestTrackableValue: HOUR_US, numberOfSignificantValueDigits: 3 });
}

function percentilesOf(recorded: Histogram): Percentiles {
  const at = (percent: number): number => recorded.getValueAtPercentile(percent) / 1000;
  const { totalCount: count, maxValue } = recorded;
  return { count, p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: maxValue / 1000 };
}
