import { describe, expect, test } from '@jest/globals';
import { FairShare } from '../../../src/edge/fair-share.ts';
import { VirtualClock } from '../../support/clock.ts';

const KIB = 1024;

/** Parties that ask for more than can be done, and what is done of it. */
class Bench {
  readonly clock = new VirtualClock();
  divided = true;
  congested = false;
  readonly done: string[] = [];
  readonly fair = new FairShare({
    clock: this.clock,
    divided: () => this.divided,
    congested: () => this.congested,
  });
  private readonly parties = new Map<string, { weight: number }>();

  party(name: string, weight = 1): void {
    this.parties.set(name, { weight });
  }

  ask(name: string, count: number, bytes = KIB): void {
    const party = this.parties.get(name)!;
    for (let asked = 0; asked < count; asked++) this.fair.run(party, bytes, () => this.done.push(name));
  }

  /** How often each was served among the first so many. */
  counts(among = this.done.length): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const name of this.done.slice(0, among)) counts[name] = (counts[name] ?? 0) + 1;
    return counts;
  }
}

describe('shares', () => {
  test('nobody waits while there is one party', () => {
    const bench = new Bench();
    bench.divided = false;
    bench.party('only');
    bench.ask('only', 3);
    expect(bench.done).toHaveLength(3);
  });

  test('who asks for a hundred times as much gets no more than its half', () => {
    const bench = new Bench();
    bench.party('greedy');
    bench.party('modest');
    bench.ask('greedy', 100_000);
    bench.ask('modest', 1000);
    bench.clock.advance(0);
    const until = bench.done.lastIndexOf('modest') + 1;
    const { greedy = 0, modest = 0 } = bench.counts(until);
    expect(modest).toBe(1000);
    // One round is 64 KiB of each.
    expect(Math.abs(greedy - modest)).toBeLessThanOrEqual(64);
  });

  test('follow weights', () => {
    const bench = new Bench();
    bench.party('three', 3);
    bench.party('one', 1);
    bench.ask('three', 9000);
    bench.ask('one', 3000);
    bench.clock.advance(0);
    const { three = 0, one = 0 } = bench.counts(8000);
    expect(three / one).toBeGreaterThan(2.8);
    expect(three / one).toBeLessThan(3.2);
  });

  test('are of bytes: who sends large things gets fewer of them done', () => {
    const bench = new Bench();
    bench.party('large');
    bench.party('small');
    bench.ask('large', 500, 64 * KIB);
    bench.ask('small', 50_000, KIB);
    bench.clock.advance(0);
    const { large = 0, small = 0 } = bench.counts(10_000);
    const ratio = (large * (64 * KIB + 256)) / (small * (KIB + 256));
    expect(ratio).toBeGreaterThan(0.9);
    expect(ratio).toBeLessThan(1.1);
  });

  test('that one does not need are for the others: everything is done in the end, and as soon', () => {
    const bench = new Bench();
    bench.party('a');
    bench.party('b');
    bench.ask('a', 10);
    bench.ask('b', 5000);
    bench.clock.advance(0);
    expect(bench.counts()).toEqual({ a: 10, b: 5000 });
  });

  test('something larger than a share is done, too', () => {
    const bench = new Bench();
    bench.party('huge');
    bench.party('b');
    bench.ask('huge', 2, 8 * KIB * KIB);
    bench.ask('b', 10);
    bench.clock.advance(0);
    expect(bench.counts()).toEqual({ huge: 2, b: 10 });
  });
});

test('what one party asks for is done in the order of asking', () => {
  const bench = new Bench();
  const party = { weight: 1 };
  const seen: number[] = [];
  for (let number = 0; number < 1000; number++) bench.fair.run(party, KIB, () => seen.push(number));
  bench.divided = false;
  bench.fair.run(party, KIB, () => seen.push(1000));
  bench.clock.advance(0);
  expect(seen).toEqual(Array.from({ length: 1001 }, (_, number) => number));
});

test('nothing is done while the log takes no more, and all of it afterwards', () => {
  const bench = new Bench();
  bench.party('a');
  bench.congested = true;
  bench.ask('a', 10);
  bench.clock.advance(20);
  expect(bench.done).toEqual([]);
  bench.congested = false;
  bench.clock.advance(20);
  expect(bench.done).toHaveLength(10);
});
