import type { Clock, Timer } from '../../../src/std/clock.ts';

const NEVER: Timer = { cancel() {} };

/** The time of one process, which dies: from then on nothing that it had planned happens. */
export class Life implements Clock {
  over = false;
  /** By how much its wall clock is wrong, in milliseconds. */
  skewMs = 0;
  /** The same, with a clock that is never wrong. */
  readonly steady: Clock = {
    now: () => this.clock.now(),
    after: (ms, run) => this.after(ms, run),
    soon: (run) => this.soon(run),
  };
  private readonly clock: Clock;
  /** What was due while the process slept. */
  private held: (() => void)[] | undefined;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  now(): number {
    return this.clock.now() + this.skewMs;
  }

  after(ms: number, run: () => void): Timer {
    if (this.over) return NEVER;
    let cancelled = false;
    const timer = this.clock.after(ms, () =>
      this.live(() => {
        if (!cancelled) run();
      }),
    );
    return {
      cancel() {
        cancelled = true;
        timer.cancel();
      },
    };
  }

  soon(run: () => void): void {
    this.clock.soon(() => this.live(run));
  }

  /** The process dies. */
  end(): void {
    this.over = true;
  }

  get paused(): boolean {
    return this.held !== undefined;
  }

  /** The process does nothing until {@link resume}, as one that is stopped by a signal, or swapped out. */
  pause(): void {
    this.held ??= [];
  }

  /** It does all that was due, and goes on. */
  resume(): void {
    const held = this.held ?? [];
    this.held = undefined;
    for (const run of held) this.soon(run);
  }

  private live(run: () => void): void {
    if (this.over) return;
    if (this.held) this.held.push(run);
    else run();
  }
}
