import type { Heard } from '../../src/cluster/bus.ts';
import type { Store, Stored } from '../../src/cluster/store.ts';
import type { Clock } from '../../src/std/clock.ts';
import { HubError } from '../../src/std/errors.ts';
import type { SeededRandom } from './random.ts';

/** Who gets no answer learns so after this, in milliseconds. */
const PATIENCE_MS = 2000;

type Changed = (key: string, stored: Stored | undefined) => void;

/** The documents that all brokers share, with a network to them that is late or fails when a test says so. */
export class SimStore {
  /** How long each way of the next call takes, in milliseconds. */
  delayMs: () => number;
  /** How long the next change takes until a watch gives it, in milliseconds. */
  watchDelayMs: () => number;
  /** The probability that a call does not arrive. */
  lostCalls = 0;
  /** The probability that a call is carried out, but its answer does not arrive. */
  lostAnswers = 0;
  /** The probability that somebody rewrites what is to be changed just before it is. */
  rivals = 0;
  readonly entries = new Map<string, Stored>();
  /** How often something was written or removed. */
  writes = 0;
  readonly #clock: Clock;
  readonly #random: SeededRandom;
  readonly #ends = new Set<SimStoreEnd>();
  #revision = 0;

  constructor(clock: Clock, random: SeededRandom, delayMs: () => number = () => 0.5 + random.float()) {
    this.#clock = clock;
    this.#random = random;
    this.delayMs = delayMs;
    this.watchDelayMs = delayMs;
  }

  /** The store as one process sees it, which ends with its clock. */
  end(clock: Clock): SimStoreEnd {
    const end = new SimStoreEnd(this, clock);
    this.#ends.add(end);
    return end;
  }

  /** Writes as somebody else would; `undefined` removes. */
  write(key: string, value: string | undefined): void {
    this.#revision++;
    this.writes++;
    const stored = value === undefined ? undefined : { value, revision: this.#revision };
    if (stored) this.entries.set(key, stored);
    else this.entries.delete(key);
    for (const end of this.#ends) end.changed(key, stored);
  }

  /** What it holds now, for {@link restore}. */
  keep(): { readonly entries: ReadonlyMap<string, Stored>; readonly revision: number } {
    return { entries: new Map(this.entries), revision: this.#revision };
  }

  /** It loses what was written since, as a server does whose power fails before it flushes. Nobody must be connected. */
  restore({ entries, revision }: ReturnType<SimStore['keep']>): void {
    this.entries.clear();
    for (const [key, stored] of entries) this.entries.set(key, stored);
    this.#revision = revision;
  }

  /** @internal For ends only. */
  call<T>(end: SimStoreEnd, clock: Clock, run: () => T, answer: (outcome: T | HubError) => void): void {
    if (!end.connected || this.#random.chance(this.lostCalls)) {
      clock.after(PATIENCE_MS, () => answer(unanswered()));
      return;
    }
    this.#clock.after(this.delayMs(), () => {
      const outcome = run();
      const lost = !end.connected || this.#random.chance(this.lostAnswers);
      clock.after(lost ? PATIENCE_MS : this.delayMs(), () => answer(lost ? unanswered() : outcome));
    });
  }

  /** @internal For ends only. */
  change(key: string, value: string | undefined, revision: number): number | HubError {
    const stored = this.entries.get(key);
    if (stored && this.#random.chance(this.rivals)) this.write(key, stored.value);
    const now = this.entries.get(key)?.revision ?? 0;
    if (now !== revision) return new HubError('conflict', `${key} is at ${now}, not at ${revision}`);
    this.write(key, value);
    return this.#revision;
  }
}

/** What one process sees of a {@link SimStore}. */
export class SimStoreEnd implements Store {
  connected = true;
  /** What every change is answered with, if set. */
  refusal: HubError | undefined;
  readonly #store: SimStore;
  readonly #clock: Clock;
  readonly #watches = new Set<SimWatch>();

  constructor(store: SimStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  get(key: string, done: Parameters<Store['get']>[1]): void {
    this.#call(
      () => this.#store.entries.get(key),
      (outcome) => {
        if (outcome instanceof HubError) done(outcome, undefined);
        else done(undefined, outcome);
      },
    );
  }

  put(key: string, value: string, revision: number, done: Parameters<Store['put']>[3]): void {
    this.#call(
      () => this.refusal ?? this.#store.change(key, value, revision),
      (outcome) => {
        if (outcome instanceof HubError) done(outcome, 0);
        else done(undefined, outcome);
      },
    );
  }

  remove(key: string, revision: number, done: Parameters<Store['remove']>[2]): void {
    this.#call(
      () => this.refusal ?? this.#store.change(key, undefined, revision),
      (outcome) => done(outcome instanceof HubError ? outcome : undefined),
    );
  }

  watch(changed: Changed, ready: () => void): Heard {
    const watch = new SimWatch(this.#store, this.#clock, changed, ready);
    this.#watches.add(watch);
    if (this.connected) watch.giveAll();
    return {
      stop: () => {
        watch.stop();
        this.#watches.delete(watch);
      },
    };
  }

  /** Its connection breaks, or is back; then its watches give everything again. */
  connect(connected: boolean): void {
    if (connected === this.connected) return;
    this.connected = connected;
    for (const watch of this.#watches) {
      if (connected) watch.giveAll();
      else watch.drop();
    }
  }

  /** @internal For the store only. */
  changed(key: string, stored: Stored | undefined): void {
    if (this.connected) for (const watch of this.#watches) watch.plan(() => watch.give(key, stored));
  }

  #call<T>(run: () => T, answer: (outcome: T | HubError) => void): void {
    this.#store.call(this, this.#clock, run, answer);
  }
}

class SimWatch {
  readonly #store: SimStore;
  readonly #clock: Clock;
  readonly #changed: Changed;
  readonly #given = new Set<string>();
  #ready: (() => void) | undefined;
  #coming: (() => void)[] = [];
  #last = 0;
  #stopped = false;

  constructor(store: SimStore, clock: Clock, changed: Changed, ready: () => void) {
    this.#ready = ready;
    this.#store = store;
    this.#clock = clock;
    this.#changed = changed;
  }

  plan(give: () => void): void {
    const queue = this.#coming;
    const now = this.#clock.now();
    this.#last = Math.max(this.#last, now + this.#store.watchDelayMs());
    queue.push(give);
    // Timers that are due together run in any order; what they give is in order nevertheless.
    this.#clock.after(this.#last - now, () => {
      if (this.#coming === queue) queue.shift()?.();
    });
  }

  give(key: string, stored: Stored | undefined): void {
    if (this.#stopped) return;
    if (stored) this.#given.add(key);
    else this.#given.delete(key);
    this.#changed(key, stored);
  }

  giveAll(): void {
    const entries = [...this.#store.entries].sort(([, a], [, b]) => a.revision - b.revision);
    for (const [key, stored] of entries) this.plan(() => this.give(key, stored));
    const present = new Set(entries.map(([key]) => key));
    this.plan(() => {
      for (const key of [...this.#given]) if (!present.has(key)) this.give(key, undefined);
      const ready = this.#ready;
      this.#ready = undefined;
      ready?.();
    });
  }

  drop(): void {
    this.#coming = [];
  }

  stop(): void {
    this.#stopped = true;
    this.drop();
  }
}

function unanswered(): HubError {
  return new HubError('unavailable', 'the store does not answer', { retryAfterMs: 500 });
}
