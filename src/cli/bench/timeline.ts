import type { Histogram } from 'hdr-histogram-js';
import { build } from 'hdr-histogram-js';
import type { Chart } from './svg.ts';

/** What went on in one second of a benchmark; latencies are in milliseconds, from when tasks were due. */
export interface Second {
  /** Seconds since the begin, the warm-up included. */
  readonly at: number;
  readonly ended: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

const SECOND_MS = 1000;

/** What a benchmark did second by second. */
export class Timeline {
  readonly seconds: Second[] = [];
  private readonly histogram: Histogram = build({ numberOfSignificantValueDigits: 2 });
  private begun = -1;
  private index = 0;
  private ended = 0;

  /** A task that was due then has ended now. */
  note(now: number, dueMs: number): void {
    if (this.begun < 0) this.begun = now;
    const index = Math.floor((now - this.begun) / SECOND_MS);
    while (this.index < index) this.turn();
    this.ended++;
    this.histogram.recordValue(Math.max(1, Math.round((now - dueMs) * 1000)));
  }

  /** The lines of a plot: tasks a second, and latencies. */
  charts(): readonly [rate: Chart, latency: Chart] {
    const line = (name: string, value: (second: Second) => number) => ({
      name,
      points: this.seconds.map((second) => [second.at, value(second)] as const),
    });
    return [
      { title: 'Tasks that ended', x: 's', y: 'tasks/s', series: [line('ended', ({ ended }) => ended)] },
      {
        title: 'From due to the end',
        x: 's',
        y: 'ms',
        series: [line('p50', ({ p50 }) => p50), line('p99', ({ p99 }) => p99), line('max', ({ max }) => max)],
      },
    ];
  }

  /** A second is over; the one that has begun last is left out, since it is not whole. */
  private turn(): void {
    const { histogram, index, ended } = this;
    const at = (percent: number): number =>
      ended === 0 ? 0 : histogram.getValueAtPercentile(percent) / 1000;
    const max = ended === 0 ? 0 : histogram.maxValue / 1000;
    this.seconds.push({ at: index + 1, ended, p50: at(50), p99: at(99), max });
    histogram.reset();
    this.ended = 0;
    this.index++;
  }
}
