import type { Clock, Timer } from '../../src/std/clock.ts';

interface Pending {
  readonly at: number;
  /** Orders what is due at the same time. */
  readonly turn: number;
  readonly run: () => void;
}

/** Where virtual time starts unless told otherwise: a round number that looks like a wall time. */
const START = 1_000_000_000_000;

/**
 * Time that passes only when a test says so, for whole brokers in one thread.
 *
 * Deferred calls run in the order in which they were made. Timers due at the same millisecond do,
 * too, or in an order drawn from `random`.
 */
export class VirtualClock implements Clock {
  #now: number;
  #turns = 0;
  #soon: (() => void)[] = [];
  #soonFrom = 0;
  /** Ordered by what is due last. */
  readonly #timers: Pending[] = [];
  readonly #random: (() => number) | undefined;

  constructor(options: { start?: number; random?: () => number } = {}) {
    this.#now = options.start ?? START;
    this.#random = options.random;
  }

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): Timer {
    const turn = this.#random?.() ?? this.#turns++;
    const timer: Pending = { at: this.#now + Math.max(0, ms), turn, run };
    let low = 0;
    let high = this.#timers.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBefore(timer, this.#timers[middle] as Pending)) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
    return {
      cancel: () => {
        const index = this.#timers.indexOf(timer);
        if (index !== -1) this.#timers.splice(index, 1);
      },
    };
  }

  soon(run: () => void): void {
    this.#soon.push(run);
  }

  /** Deferred calls and timers that have not run yet. */
  get pending(): number {
    return this.#soon.length - this.#soonFrom + this.#timers.length;
  }

  /** When the next timer is due, `Infinity` if there is none. */
  get nextTimer(): number {
    return this.#timers.at(-1)?.at ?? Infinity;
  }

  /** Runs one call that is due now. Answers whether there was one. */
  tick(): boolean {
    const run = this.#soon[this.#soonFrom];
    if (run !== undefined) {
      if (++this.#soonFrom === this.#soon.length) {
        this.#soon = [];
        this.#soonFrom = 0;
      }
      run();
      return true;
    }
    const timer = this.#timers.at(-1);
    if (timer === undefined || timer.at > this.#now) return false;
    this.#timers.pop();
    timer.run();
    return true;
  }

  /** Runs one call, letting time pass until the next timer if none is due. */
  step(): boolean {
    if (this.tick()) return true;
    if (this.#timers.length === 0) return false;
    this.#now = this.nextTimer;
    return this.tick();
  }

  /** Lets `ms` pass, and runs all that becomes due. */
  advance(ms: number): void {
    const until = this.#now + ms;
    for (;;) {
      while (this.tick());
      if (this.nextTimer > until) break;
      this.#now = this.nextTimer;
    }
    this.#now = until;
  }

  /**
   * Runs everything that is due, and lets time pass, until nothing is left or `until` holds.
   *
   * @throws Error after `limit` calls: something keeps itself busy.
   */
  run(until: () => boolean = () => false, limit = 1_000_000): void {
    for (let calls = 0; !until() && this.step(); calls++) {
      if (calls === limit) throw new Error(`still busy after ${limit} calls`);
    }
  }

  /** Drops everything that is pending, as the death of the process does. */
  clear(): void {
    this.#soon = [];
    this.#soonFrom = 0;
    this.#timers.length = 0;
  }
}

function isBefore(a: Pending, b: Pending): boolean {
  return a.at < b.at || (a.at === b.at && a.turn < b.turn);
}
