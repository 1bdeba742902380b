import type { Clock, Timer } from '../../../src/std/clock.ts';

const NEVER: Timer = { cancel() {} };

/** The time of one process, which dies: from then on nothing that it had planned happens. */
export class Life implements Clock {
  over = false;
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  now(): number {
    return this.clock.now();
  }

  after(ms: number, run: () => void): Timer {
    return this.over ? NEVER : this.clock.after(ms, () => this.live(run));
  }

  soon(run: () => void): void {
    this.clock.soon(() => this.live(run));
  }

  /** The process dies. */
  end(): void {
    this.over = true;
  }

  private live(run: () => void): void {
    if (!this.over) run();
  }
}
