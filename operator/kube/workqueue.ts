import type { BackoffOptions } from '../../src/std/backoff.ts';
import { backoff } from '../../src/std/backoff.ts';
import type { Random } from '../../src/std/clock.ts';

/** What a queue tells about itself, in the terms of controller-runtime's metrics. All are optional. */
export interface WorkQueueHooks {
  /** A key became ready that was not. */
  added?(): void;
  /** A key was taken, this long after it became ready. */
  taken?(waitedMs: number): void;
  /** A key is done, this long after it was taken. */
  finished?(workedMs: number): void;
  /** A key waits for its next attempt, number `attempt`. */
  retried?(delayMs: number, attempt: number): void;
}

/** What a queue is made of. */
export interface WorkQueueOptions {
  /** Waits between failed attempts of one key. Default: 0.5 s doubling to 5 min, half of it left to chance. */
  readonly backoff?: BackoffOptions;
  readonly random: Random;
  readonly hooks?: WorkQueueHooks;
}

const BACKOFF: BackoffOptions = { initialMs: 500, maxMs: 300_000 };

/**
 * Which key is to be worked on next: each at most once at a time, as often as needed and no oftener.
 *
 * A key is idle, waiting (until a time), ready, or taken. Adding it makes it ready; while it is taken that
 * is remembered until {@link done}. Keys are taken in the order in which they became ready. A waiting key
 * has one due time, the earliest asked for. Taking it forgets that time: whoever works on a key sees the
 * whole state anew, and says again what it waits for.
 *
 * Pure: time comes in as milliseconds of any clock; one that is put back delays nothing. Whoever drives it calls
 * {@link take} until it has nothing, then waits until {@link nextDue} or the next {@link add}.
 */
export class WorkQueue {
  readonly #backoff: BackoffOptions;
  readonly #random: Random;
  readonly #hooks: WorkQueueHooks;
  /** Since when, in order. */
  readonly #ready = new Map<string, number>();
  /** Until when. A few hundred keys at most, so they are in no order. */
  readonly #waiting = new Map<string, number>();
  /** Since when, and when it is due again. */
  readonly #taken = new Map<string, { readonly since: number; againAt: number }>();
  readonly #attempts = new Map<string, number>();
  /** Times in here never go back: what they are ahead of those that come in, and the latest. */
  #ahead = 0;
  #latest = -Infinity;

  constructor({ backoff: options = BACKOFF, random, hooks = {} }: WorkQueueOptions) {
    this.#backoff = options;
    this.#random = random;
    this.#hooks = hooks;
  }

  /** Keys that are ready. */
  get depth(): number {
    return this.#ready.size;
  }

  /** Keys that wait for their time. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Keys that are being worked on. */
  get taken(): number {
    return this.#taken.size;
  }

  /** Milliseconds that the longest running work has taken so far; 0 if there is none. */
  longestMs(now: number): number {
    const at = this.#timeAt(now);
    let since = at;
    for (const work of this.#taken.values()) since = Math.min(since, work.since);
    return at - since;
  }

  /** Makes a key ready; if it is taken, once more after {@link done}. */
  add(key: string, now: number): void {
    this.addAfter(key, 0, now);
  }

  /** Makes a key ready `delayMs` from now, unless it becomes ready earlier. */
  addAfter(key: string, delayMs: number, now: number): void {
    const at = this.#timeAt(now);
    const due = at + Math.max(0, delayMs);
    const work = this.#taken.get(key);
    if (work !== undefined) work.againAt = Math.min(work.againAt, due);
    else this.#schedule(key, due, at);
  }

  /**
   * Makes a key ready after its back-off, which grows with every call until {@link forget}, and at least
   * `atLeastMs` from now. Answers that delay.
   */
  retry(key: string, now: number, atLeastMs = 0): number {
    const attempt = this.attempts(key) + 1;
    this.#attempts.set(key, attempt);
    const delayMs = Math.max(atLeastMs, backoff(attempt, this.#backoff, this.#random.float()));
    this.#hooks.retried?.(delayMs, attempt);
    this.addAfter(key, delayMs, now);
    return delayMs;
  }

  /** Calls of {@link retry} since the last {@link forget}. */
  attempts(key: string): number {
    return this.#attempts.get(key) ?? 0;
  }

  /** The key has succeeded, or is gone: its next back-off is the first again. */
  forget(key: string): void {
    this.#attempts.delete(key);
  }

  /** The next key to work on, if any; it stays taken until {@link done}. */
  take(now: number): string | undefined {
    const at = this.#timeAt(now);
    this.#wake(at);
    for (const [key, since] of this.#ready) {
      this.#ready.delete(key);
      this.#taken.set(key, { since: at, againAt: Infinity });
      this.#hooks.taken?.(at - since);
      return key;
    }
    return undefined;
  }

  /** The work on a key has ended, well or not. */
  done(key: string, now: number): void {
    const work = this.#taken.get(key);
    if (work === undefined) return;
    const at = this.#timeAt(now);
    this.#taken.delete(key);
    this.#hooks.finished?.(at - work.since);
    if (work.againAt !== Infinity) this.#schedule(key, work.againAt, at);
  }

  /** When {@link take} may have something: now or earlier if a key is ready, `Infinity` if nothing waits. */
  nextDue(now: number): number {
    if (this.#ready.size > 0) return now;
    let due = Infinity;
    const at = this.#timeAt(now);
    for (const until of this.#waiting.values()) due = Math.min(due, until);
    return now + (due - at);
  }

  #timeAt(now: number): number {
    this.#ahead = Math.max(this.#ahead, this.#latest - now);
    this.#latest = now + this.#ahead;
    return this.#latest;
  }

  #schedule(key: string, due: number, now: number): void {
    if (this.#ready.has(key)) return;
    const before = this.#waiting.get(key) ?? Infinity;
    if (due <= now) {
      this.#waiting.delete(key);
      this.#ready.set(key, now);
      this.#hooks.added?.();
    } else if (due < before) this.#waiting.set(key, due);
  }

  #wake(now: number): void {
    const due = [...this.#waiting].filter(([, at]) => at <= now).sort(([, a], [, b]) => a - b);
    for (const [key, at] of due) {
      this.#waiting.delete(key);
      this.#ready.set(key, at);
      this.#hooks.added?.();
    }
  }
}
