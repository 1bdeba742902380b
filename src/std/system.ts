import { randomBytes, randomFillSync } from 'node:crypto';
import type { Clock, Random, Timer } from './clock.ts';

/** The longest delay that setTimeout takes; anything above it would run at once. */
const MAX_DELAY_MS = 0x7fffffff;
/** How far the monotonic clock may be from the wall clock before it is set anew. */
const MAX_DRIFT_MS = 5;
const POOLED_WORDS = 1024;

/**
 * The machine's clock.
 *
 * Its timers keep the process alive: who waits for a retry wants to see it, and who doesn't cancels.
 */
export const systemClock: Clock = createSystemClock();

/** The machine's randomness, cryptographically strong. */
export const systemRandom: Random = createSystemRandom();

function createSystemClock(): Clock {
  // performance.now() has microseconds but stands still while a laptop sleeps, and knows nothing of
  // corrections by NTP; Date.now() has only milliseconds.
  let origin = performance.timeOrigin;
  return {
    now() {
      const elapsed = performance.now();
      const wall = Date.now();
      if (Math.abs(wall - (origin + elapsed)) > MAX_DRIFT_MS) origin = wall - elapsed;
      return origin + elapsed;
    },
    after(ms, run) {
      return startTimer(ms, run);
    },
    soon(run) {
      setImmediate(run);
    },
  };
}

function startTimer(ms: number, run: () => void): Timer {
  const due = performance.now() + ms;
  let timeout: NodeJS.Timeout;
  // Node may fire up to a millisecond early, and can't wait for more than 24 days at a time.
  const wait = (): void => {
    const left = due - performance.now();
    if (left > 0) timeout = setTimeout(wait, Math.min(Math.ceil(left), MAX_DELAY_MS));
    else run();
  };
  timeout = setTimeout(wait, Math.min(Math.ceil(ms), MAX_DELAY_MS));
  return {
    cancel() {
      clearTimeout(timeout);
    },
  };
}

function createSystemRandom(): Random {
  // Filled 4 KiB at a time: a call into the generator for every number would cost microseconds.
  const pool = new Uint32Array(POOLED_WORDS);
  let next = POOLED_WORDS;
  const uint32 = (): number => {
    if (next === POOLED_WORDS) {
      randomFillSync(pool);
      next = 0;
    }
    return pool[next++]!;
  };
  return {
    uint32,
    float: () => ((uint32() >>> 5) * 0x400_0000 + (uint32() >>> 6)) / 0x20_0000_0000_0000,
    token: (bytes) => randomBytes(bytes).toString('hex'),
  };
}
