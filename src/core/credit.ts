/** Added to what is in flight on average, so that the window finds out when more would be taken. */
const HEADROOM = 10;
const MIN_WINDOW = 5;
/** A stream without acknowledgements can't say no, and loses what was written when it breaks. */
const MAX_UNACKNOWLEDGED = 100;
const DEFAULT_BOUND = 4096;
const DEFAULT_SMOOTHING_MS = 5_000;

/** What bounds a {@link CreditWindow}, and how fast it follows. */
export interface CreditOptions {
  /** Whether the receiver acknowledges what it has finished. */
  readonly acknowledged: boolean;
  /** The largest window of an acknowledged session. Default 4096. */
  readonly bound?: number;
  /** After how long an observation counts for 1/e. Default 5 s. */
  readonly smoothingMs?: number;
}

/**
 * How many tasks a receiver may have in flight, from how it has done so far.
 *
 * By Little's law (J. D. C. Little, Operations Research 9(3), 1961) a receiver that finishes `rate`
 * tasks a second, `time` seconds after each was delivered, has rate × time of them in flight. The
 * window is that and 10 more, at least 5, and at most 100 without acknowledgements or `bound` with
 * them. A window that holds the receiver back keeps rate × time near itself and so grows, by up to
 * 10 at a time, until the receiver is the one that sets the pace.
 */
export class CreditWindow {
  private readonly bound: number;
  private readonly smoothingMs: number;
  private rate = 0;
  private time = 0;
  private observedAt = NaN;

  constructor(options: CreditOptions) {
    const { acknowledged, bound = DEFAULT_BOUND, smoothingMs = DEFAULT_SMOOTHING_MS } = options;
    this.bound = acknowledged ? Math.max(MIN_WINDOW, bound) : MAX_UNACKNOWLEDGED;
    this.smoothingMs = smoothingMs;
  }

  /**
   * Takes note of the tasks finished per second since the last call, and of the seconds each took
   * from delivery to its end, on average. Both are smoothed exponentially over `now`, in
   * milliseconds; a `now` that goes back counts as no time.
   */
  observe(ratePerSecond: number, processingSeconds: number, now: number): void {
    const first = Number.isNaN(this.observedAt);
    const elapsed = Math.max(0, now - this.observedAt);
    const weight = first ? 1 : 1 - Math.exp(-elapsed / this.smoothingMs);
    this.rate += weight * (ratePerSecond - this.rate);
    this.time += weight * (processingSeconds - this.time);
    this.observedAt = now;
  }

  /** The window now, in tasks; 10 before anything was observed, or what the bound leaves of it. */
  get window(): number {
    const wanted = Math.ceil(this.rate * this.time) + HEADROOM;
    return Math.max(MIN_WINDOW, Math.min(wanted, this.bound));
  }
}
