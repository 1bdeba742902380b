import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { CreditWindow } from '../../../src/core/credit.ts';

const MINUTE = 60_000;

describe('the credit window', () => {
  test('is 10 before anything was observed', () => {
    expect(new CreditWindow({ acknowledged: true }).window).toBe(10);
    expect(new CreditWindow({ acknowledged: false }).window).toBe(10);
  });

  test.each([
    [true, 1000, 0.5, 510],
    [true, 0.1, 3, 11],
    [true, 1_000_000, 1, 4096],
    [true, 0, 0, 10],
    [false, 20, 0.5, 20],
    [false, 1000, 0.5, 100],
    [false, 0, 0, 10],
  ])(
    'is rate × time + 10, within bounds (acknowledged %j, %d/s, %d s → %d)',
    (acknowledged, rate, time, window) => {
      const credit = new CreditWindow({ acknowledged });
      credit.observe(rate, time, 0);
      expect(credit.window).toBe(window);
    },
  );

  test('keeps to its bound, but never below 5', () => {
    const small = new CreditWindow({ acknowledged: true, bound: 7 });
    const tiny = new CreditWindow({ acknowledged: true, bound: 1 });
    for (const credit of [small, tiny]) credit.observe(1000, 1, 0);
    expect([small.window, tiny.window]).toEqual([7, 5]);
  });

  test('follows a change smoothly, by the time that has passed', () => {
    const credit = new CreditWindow({ acknowledged: true, smoothingMs: 1000 });
    credit.observe(100, 1, 0);
    credit.observe(200, 1, 1000);
    expect(credit.window).toBe(Math.ceil(200 - 100 / Math.E) + 10);
    credit.observe(200, 1, MINUTE);
    expect(credit.window).toBe(210);
  });

  test('does not care into how many observations the same time is cut', () => {
    const once = new CreditWindow({ acknowledged: true });
    const often = new CreditWindow({ acknowledged: true });
    for (const credit of [once, often]) credit.observe(0, 1, 0);
    once.observe(1000, 1, 2000);
    for (let now = 100; now <= 2000; now += 100) often.observe(1000, 1, now);
    expect(Math.abs(often.window - once.window)).toBeLessThanOrEqual(1);
  });

  test('ignores a clock that goes back', () => {
    const credit = new CreditWindow({ acknowledged: true });
    credit.observe(100, 1, MINUTE);
    credit.observe(1000, 1, 0);
    expect(credit.window).toBe(110);
  });

  test('grows until a receiver, and not the window, sets the pace', () => {
    // 200 tasks at a time, 0.1 s each: whatever the window allows, up to 200, is in flight.
    const credit = new CreditWindow({ acknowledged: true });
    for (let second = 1; second <= 600; second++) {
      const inFlight = Math.min(credit.window, 200);
      credit.observe(inFlight / 0.1, 0.1, second * 1000);
    }
    expect(credit.window).toBeGreaterThanOrEqual(200);
    expect(credit.window).toBeLessThanOrEqual(211);
  });

  test('is always a whole number within its bounds', () => {
    const amount = fc.double({ min: 0, max: 1e6, noNaN: true });
    const observation = fc.tuple(amount, amount, fc.nat(10 * MINUTE));
    fc.assert(
      fc.property(fc.boolean(), fc.array(observation), (acknowledged, observations) => {
        const credit = new CreditWindow({ acknowledged });
        for (const [rate, time, now] of observations) {
          credit.observe(rate, time, now);
          expect(Number.isInteger(credit.window)).toBe(true);
          expect(credit.window).toBeGreaterThanOrEqual(5);
          expect(credit.window).toBeLessThanOrEqual(acknowledged ? 4096 : 100);
        }
      }),
    );
  });
});
