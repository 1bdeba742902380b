import { backoff } from '../std/backoff.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import { retryable } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Store, Stored } from './store.ts';

/** Between attempts to write. */
const RETRY = { initialMs: 100, maxMs: 5000 };
/** Between a removal by somebody else and coming back: two who don't hear each other must not keep the store busy. */
const RETURN = { initialMs: 50, maxMs: 30_000, factor: 4 };
/** What the watch does not confirm within this time is asked for, in milliseconds. */
const CONFIRM_MS = 3000;
/** A removal after so long is a new trouble, in milliseconds. */
const CALM_MS = 120_000;

/** How a {@link Registration} is kept. */
export interface RegistrationOptions {
  readonly key: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** The store holds what it is to hold. */
  readonly registered: () => void;
  /** The store does not take it, and will not unless somebody puts that right. It is tried again nevertheless. */
  readonly refused: (error: HubError) => void;
}

/**
 * Keeps the document of this broker in the store as it is to be, whatever becomes of it there, until
 * {@link leave}.
 */
export class Registration {
  private readonly options: RegistrationOptions;
  private wanted: string | undefined;
  private known: Stored | undefined;
  /** Whether `known` may not be what the store holds. */
  private doubt = false;
  private busy = false;
  private stopped = false;
  private failures = 0;
  private removals = 0;
  private removedAt = -Infinity;
  private confirmedAt: number;
  private timer: Timer | undefined;
  private left: (() => void) | undefined;

  constructor(options: RegistrationOptions) {
    this.options = options;
    this.confirmedAt = options.clock.now();
  }

  /** Whether the store holds what it is to hold, as far as is known. */
  get current(): boolean {
    return !this.doubt && this.wanted !== undefined && this.known?.value === this.wanted;
  }

  /** From now on the store is to hold that. */
  want(value: string): void {
    this.wanted = value;
    this.step();
  }

  /** The watch says that the store holds that. */
  seen(stored: Stored | undefined): void {
    const { clock, random } = this.options;
    if (stored) {
      if (stored.revision <= (this.known?.revision ?? 0)) return;
      if (stored.value === this.wanted) this.known = stored;
      else this.doubt = true;
      return this.step();
    }
    if (!this.known) return;
    this.doubt = true;
    const now = clock.now();
    this.removals = now - this.removedAt > CALM_MS ? 1 : this.removals + 1;
    this.removedAt = now;
    this.stepAfter(backoff(this.removals, RETURN, random.float()));
  }

  /**
   * Asks the store if the watch has not given for a while what was written: it is not told of a removal of what
   * it has never given. `watched` is the revision that it gave last.
   */
  check(watched: number | undefined): void {
    const now = this.options.clock.now();
    if (!this.current || this.busy || watched === this.known?.revision) {
      this.confirmedAt = now;
    } else if (now - this.confirmedAt > CONFIRM_MS) {
      this.confirmedAt = now;
      this.doubt = true;
      this.step();
    }
  }

  /** Removes it. `left` is called when the store says that it is gone. */
  leave(left: () => void): void {
    this.wanted = undefined;
    this.left = left;
    this.timer?.cancel();
    this.timer = undefined;
    this.step();
  }

  /** Does nothing any more. */
  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private step(): void {
    const { key, store } = this.options;
    const { wanted, known } = this;
    if (this.busy || this.timer || this.stopped) return;
    if (this.doubt) {
      this.busy = true;
      this.doubt = false;
      store.get(key, (error, stored) => {
        if (!error) this.known = stored;
        this.answered(error);
      });
    } else if (wanted === undefined) {
      if (!known) return this.left?.();
      this.busy = true;
      store.remove(key, known.revision, (error) => {
        if (!error) this.known = undefined;
        this.answered(error);
      });
    } else if (known?.value !== wanted) {
      this.busy = true;
      store.put(key, wanted, known?.revision ?? 0, (error, revision) => {
        if (!error) this.known = { value: wanted, revision };
        this.answered(error);
      });
    } else {
      this.options.registered();
    }
  }

  private answered(error: HubError | undefined): void {
    const { random, logger } = this.options;
    this.busy = false;
    if (this.stopped) return;
    if (!error) {
      this.failures = 0;
      return this.step();
    }
    // Undecided, or somebody else has changed it: only the store knows.
    this.doubt = true;
    this.failures++;
    logger.debug({ error: error.message }, 'this broker is not registered yet');
    if (!retryable(error) && error.code !== 'conflict') this.options.refused(error);
    this.stepAfter(backoff(this.failures, RETRY, random.float()));
  }

  private stepAfter(ms: number): void {
    this.timer ??= this.options.clock.after(ms, () => {
      this.timer = undefined;
      this.step();
    });
  }
}
