/** How waits grow from one attempt to the next. */
export interface BackoffOptions {
  /** The longest wait after the first attempt, in milliseconds. */
  readonly initialMs: number;
  /** The longest wait of all, in milliseconds. */
  readonly maxMs: number;
  /** By how much the wait grows with each attempt. Default 2. */
  readonly factor?: number;
  /** The part of the wait that is left to chance, 0 (none) to 1 (all of it). Default 0.5. */
  readonly jitter?: number;
}

/**
 * Milliseconds to wait after failed attempt number `attempt` (1 is the first; less counts as 1):
 * min(maxMs, initialMs × factor^(attempt - 1)), of which chance takes away up to the jitter's part,
 * so that many who failed together don't come back together
 * (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 *
 * `random01` is a uniform number in [0, 1).
 */
export function backoff(attempt: number, options: BackoffOptions, random01: number): number {
  const { initialMs, maxMs, factor = 2, jitter = 0.5 } = options;
  if (initialMs <= 0) return 0;
  const longest = Math.min(maxMs, initialMs * factor ** Math.max(0, attempt - 1));
  return longest * (1 - jitter * random01);
}
