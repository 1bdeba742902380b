import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { backoff } from '../../../src/std/backoff.ts';

describe('back-off', () => {
  test.each([
    [0, 100],
    [1, 100],
    [2, 200],
    [3, 400],
    [6, 3200],
    [7, 5000],
    [5000, 5000],
  ])('after attempt %d waits at most %d ms', (attempt, longest) => {
    expect(backoff(attempt, { initialMs: 100, maxMs: 5000 }, 0)).toBe(longest);
  });

  test('grows by the factor', () => {
    expect(backoff(3, { initialMs: 10, maxMs: 1000, factor: 3 }, 0)).toBe(90);
  });

  test.each([
    [0, 100],
    [0.5, 75],
    [1, 50],
  ])('leaves its part to chance: a jitter of %d halves what is drawn', (jitter, wait) => {
    expect(backoff(1, { initialMs: 100, maxMs: 1000, jitter }, 0.5)).toBe(wait);
  });

  test('without an initial wait never waits', () => {
    expect(backoff(10_000, { initialMs: 0, maxMs: 1000 }, 0)).toBe(0);
  });

  test('is never negative, never above the maximum, and never shrinks for the same chance', () => {
    const options = fc.record({
      initialMs: fc.nat(10_000),
      maxMs: fc.nat(1_000_000),
      factor: fc.double({ min: 1, max: 10, noNaN: true }),
      jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.nat(3000), options, chance, (attempt, options, random) => {
        const wait = backoff(attempt, options, random);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(options.maxMs);
        expect(backoff(attempt + 1, options, random)).toBeGreaterThanOrEqual(wait);
      }),
    );
  });
});
