import type { Clock } from '../std/clock.ts';
import type { Metrics } from './metrics.ts';

/** How long something took, in milliseconds; `max` is the upper bound of the slowest ones' bucket. */
export interface Latency {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly count: number;
}

const WINDOW_MS = 60_000;

interface Sample {
  readonly at: number;
  readonly counts: Float64Array;
}

/** What a histogram has seen in about the last minute: it only ever counts up, so the difference is it. */
class Recent {
  private readonly bounds: Float64Array;
  private readonly cumulative: () => Float64Array;
  private samples: Sample[] = [];

  constructor(bounds: Float64Array, cumulative: () => Float64Array) {
    this.bounds = bounds;
    this.cumulative = cumulative;
  }

  note(now: number): void {
    this.samples.push({ at: now, counts: this.cumulative() });
    while (this.samples.length > 1 && this.samples[1]!.at <= now - WINDOW_MS) this.samples.shift();
  }

  read(): Latency {
    const before = this.samples[0]?.counts;
    const counts = this.cumulative().map((count, index) => count - (before?.[index] ?? 0));
    const count = counts.at(-1) ?? 0;
    return {
      p50: this.quantile(counts, 0.5),
      p90: this.quantile(counts, 0.9),
      p99: this.quantile(counts, 0.99),
      max: this.quantile(counts, 1),
      count,
    };
  }

  /** As `histogram_quantile` of Prometheus has it: values are spread evenly within their bucket. */
  private quantile(counts: Float64Array, share: number): number {
    const total = counts.at(-1) ?? 0;
    if (total === 0) return 0;
    const rank = share * total;
    const bucket = counts.findIndex((count) => count >= rank);
    const last = this.bounds.length - 1;
    const upper = this.bounds[Math.min(bucket, last)]!;
    if (bucket > last) return upper * 1000;
    const lower = bucket === 0 ? 0 : this.bounds[bucket - 1]!;
    const below = bucket === 0 ? 0 : counts[bucket - 1]!;
    return (lower + ((upper - lower) * (rank - below)) / (counts[bucket]! - below)) * 1000;
  }
}

/** The latencies of about the last minute, as long as {@link note} is called every few seconds. */
export class RecentLatencies {
  private readonly clock: Clock;
  private readonly recent: {
    readonly routing: Recent;
    readonly processing: Recent;
    readonly endToEnd: Recent;
    readonly append: Recent;
  };

  constructor(clock: Clock, metrics: Metrics) {
    const { routing, endToEnd, appendSeconds, taskTypes } = metrics;
    const durations = (): Float64Array => {
      const sum = new Float64Array(routing.bounds.length + 1);
      for (const [, { duration }] of taskTypes.entries()) {
        for (const [index, count] of duration.cumulative().entries()) sum[index]! += count;
      }
      return sum;
    };
    this.clock = clock;
    this.recent = {
      routing: new Recent(routing.bounds, () => routing.cumulative()),
      processing: new Recent(routing.bounds, durations),
      endToEnd: new Recent(endToEnd.bounds, () => endToEnd.cumulative()),
      append: new Recent(appendSeconds.bounds, () => appendSeconds.cumulative()),
    };
  }

  /** Notes how things stand. */
  note(): void {
    const now = this.clock.now();
    for (const recent of Object.values(this.recent)) recent.note(now);
  }

  read(): { routing: Latency; processing: Latency; endToEnd: Latency; append: Latency } {
    const { routing, processing, endToEnd, append } = this.recent;
    return {
      routing: routing.read(),
      processing: processing.read(),
      endToEnd: endToEnd.read(),
      append: append.read(),
    };
  }
}
