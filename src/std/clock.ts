/** A pending call made by {@link Clock.after}. */
export interface Timer {
  /** Prevents the call if it has not run yet. Calling it twice does no harm. */
  cancel(): void;
}

/**
 * The only source of time and of deferred calls above the adapters.
 *
 * Whole brokers run on a virtual implementation of it in the simulation, so nothing outside
 * `std/system.ts` may read the machine's clock or set its timers.
 */
export interface Clock {
  /** Wall time in milliseconds since the Unix epoch. It may jump; it is never used for safety. */
  now(): number;
  /** Calls `run` once, not before `ms` milliseconds have passed. */
  after(ms: number, run: () => void): Timer;
  /** Calls `run` once, after what is already waiting to be read has been read. */
  soon(run: () => void): void;
}

/** The only source of chance above the adapters. */
export interface Random {
  /** A uniform number in [0, 1). */
  float(): number;
  /** A uniform unsigned 32-bit integer. */
  uint32(): number;
  /** `2 × bytes` lower-case hexadecimal digits, hard to guess. */
  token(bytes: number): string;
}
