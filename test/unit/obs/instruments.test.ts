import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Counter, Histogram, Labelled, OTHER, Rate } from '../../../src/obs/instruments.ts';
import { LATENCY_BOUNDS } from '../../../src/obs/table.ts';
import type { Clock } from '../../../src/std/clock.ts';

class SetClock implements Clock {
  ms = 1_000_000;
  now = () => this.ms;
  after = () => ({ cancel: () => undefined });
  soon = () => undefined;
}

describe('a histogram', () => {
  test('counts every value in the first bucket that is not below it', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 100, noNaN: true })), (values) => {
        const histogram = new Histogram(LATENCY_BOUNDS);
        for (const value of values) histogram.observe(value);
        const expected = [...LATENCY_BOUNDS, Infinity].map((le) => values.filter((v) => v <= le).length);
        expect([...histogram.cumulative()]).toEqual(expected);
        expect(histogram.sum).toBeCloseTo(
          values.reduce((sum, value) => sum + value, 0),
          6,
        );
      }),
    );
  });

  test('counts a value many times at once', () => {
    const histogram = new Histogram([1, 2]);
    histogram.observe(1.5, 100);
    expect([...histogram.cumulative()]).toEqual([0, 100, 100]);
    expect(histogram.sum).toBe(150);
  });

  test.each([-5, Number.NaN])('takes %d, as of a clock that was set back, for 0', (value) => {
    const histogram = new Histogram([1]);
    histogram.observe(value);
    expect([...histogram.cumulative()]).toEqual([1, 1]);
    expect(histogram.sum).toBe(0);
  });

  test('resolves latencies from 0.1 ms to 60 s', () => {
    expect([LATENCY_BOUNDS[0], LATENCY_BOUNDS.at(-1)]).toEqual([0.0001, 60]);
    for (const [index, bound] of LATENCY_BOUNDS.entries()) {
      const next = LATENCY_BOUNDS[index + 1] ?? Infinity;
      if (next !== Infinity) expect(next / bound).toBeLessThanOrEqual(3);
    }
  });
});

describe('instruments by label', () => {
  test('are the same for the same value', () => {
    const types = new Labelled(10, () => new Counter());
    expect(types.of('a')).toBe(types.of('a'));
    expect(types.of('a')).not.toBe(types.of('b'));
  });

  test('stay bounded over a million distinct values, and lose no count', () => {
    const types = new Labelled(200, () => new Counter());
    for (let i = 0; i < 1_000_000; i++) types.of(`type-${i}`).add();
    const entries = [...types.entries()];
    expect(entries).toHaveLength(201);
    expect(types.of(OTHER).value).toBe(999_800);
    expect(entries.reduce((sum, [, counter]) => sum + counter.value, 0)).toBe(1_000_000);
  });

  test('go on counting the first values on their own', () => {
    const types = new Labelled(1, () => new Counter());
    types.of('first').add();
    types.of('second').add();
    types.of('first').add(2);
    expect(Array.from(types.entries(), ([name, { value }]) => [name, value])).toEqual([
      ['first', 3],
      [OTHER, 1],
    ]);
  });
});

describe('a rate', () => {
  function setUp() {
    const clock = new SetClock();
    const total = new Counter();
    return { clock, total, rate: new Rate(clock, () => total.value) };
  }

  test('is exact while nothing changes, from the first read on, however often it is read', () => {
    const { clock, total, rate } = setUp();
    for (const step of [1000, 200, 15_000, 100, 60_000]) {
      clock.ms += step;
      total.add(step * 2);
      expect(rate.perSecond()).toBeCloseTo(2000, 6);
    }
  });

  test('is never negative, also if what is counted begins anew', () => {
    const clock = new SetClock();
    let total = 5000;
    const rate = new Rate(clock, () => total);
    total = 100;
    clock.ms += 1000;
    expect(rate.perSecond()).toBeCloseTo(100, 6);
  });

  test('is the same for all who read at one moment, and for reads shortly after', () => {
    const { clock, total, rate } = setUp();
    clock.ms += 1000;
    total.add(500);
    expect(rate.perSecond()).toBeCloseTo(500, 6);
    total.add(500);
    expect(rate.perSecond()).toBeCloseTo(500, 6);
    clock.ms += 50;
    expect(rate.perSecond()).toBeCloseTo(500, 6);
  });

  test('follows a change to 63 % in 10 s and forgets the old value after a minute', () => {
    const { clock, total, rate } = setUp();
    for (let second = 0; second < 120; second++) {
      clock.ms += 1000;
      rate.perSecond();
    }
    const steps = Array.from({ length: 60 }, () => {
      clock.ms += 1000;
      total.add(100);
      return rate.perSecond();
    });
    expect(steps[9]).toBeCloseTo(63.2, 0);
    expect(steps[59]).toBeGreaterThan(99);
  });

  test('is 0 before anything was measured', () => {
    expect(setUp().rate.perSecond()).toBe(0);
  });

  test('survives a clock that is set back', () => {
    const { clock, total, rate } = setUp();
    clock.ms -= 3_600_000;
    expect(rate.perSecond()).toBe(0);
    clock.ms += 1000;
    total.add(10);
    expect(rate.perSecond()).toBeCloseTo(10, 6);
  });
});
