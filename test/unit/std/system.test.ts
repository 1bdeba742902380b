import { describe, expect, test } from '@jest/globals';
import { systemClock, systemRandom } from '../../../src/std/system.ts';

const WEEKS_MS = 5 * 7 * 24 * 60 * 60 * 1000;

describe("the machine's clock", () => {
  test('is the wall clock', () => {
    const before = Date.now();
    const now = systemClock.now();
    expect(now).toBeGreaterThan(before - 10);
    expect(now).toBeLessThan(Date.now() + 10);
  });

  test('resolves less than a millisecond', () => {
    const fractions = Array.from({ length: 1000 }, () => systemClock.now() % 1);
    expect(new Set(fractions).size).toBeGreaterThan(10);
  });

  test.each([0, 1, 3.5, 20])('never calls before %d ms have passed', async (ms) => {
    const started = performance.now();
    const called = await new Promise<number>((resolve) => {
      systemClock.after(ms, () => resolve(performance.now()));
    });
    expect(called - started).toBeGreaterThanOrEqual(ms);
  });

  test('does not call what was cancelled, nor mind a second cancel', async () => {
    const calls: string[] = [];
    const timer = systemClock.after(1, () => calls.push('cancelled'));
    timer.cancel();
    timer.cancel();
    await new Promise<void>((resolve) => systemClock.after(5, resolve));
    expect(calls).toEqual([]);
  });

  test('waits for weeks instead of calling at once', async () => {
    const calls: string[] = [];
    const timer = systemClock.after(WEEKS_MS, () => calls.push('too early'));
    await new Promise<void>((resolve) => systemClock.after(5, resolve));
    timer.cancel();
    expect(calls).toEqual([]);
  });

  test('calls soon, but not at once and only once', async () => {
    let calls = 0;
    const called = new Promise<void>((resolve) => {
      systemClock.soon(() => {
        calls++;
        resolve();
      });
    });
    expect(calls).toBe(0);
    await called;
    await new Promise<void>((resolve) => systemClock.soon(resolve));
    expect(calls).toBe(1);
  });
});

describe("the machine's randomness", () => {
  test('gives numbers in [0, 1) from all parts of it', () => {
    const numbers = Array.from({ length: 5000 }, () => systemRandom.float());
    expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
    expect(new Set(numbers.map((number) => Math.floor(number * 16))).size).toBe(16);
  });

  test('gives unsigned 32-bit integers, practically all different', () => {
    const numbers = Array.from({ length: 5000 }, () => systemRandom.uint32());
    expect(numbers.every((number) => number === number >>> 0)).toBe(true);
    expect(new Set(numbers).size).toBeGreaterThan(4990);
  });

  test('gives tokens of the asked length, all different', () => {
    const tokens = Array.from({ length: 100 }, () => systemRandom.token(16));
    expect(tokens.every((token) => /^[0-9a-f]{32}$/.test(token))).toBe(true);
    expect(new Set(tokens).size).toBe(100);
  });
});
