import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Ledger } from '../../../src/cli/bench/ledger.ts';
import { due, dueAt, SCENARIOS } from '../../../src/cli/bench/plan.ts';
import { verdictOf } from '../../../src/cli/bench/report.ts';
import { readStamp, STAMP_BYTES, writeStamp } from '../../../src/cli/bench/stamp.ts';
import { drawAll } from '../../../src/cli/bench/svg.ts';
import { Timeline } from '../../../src/cli/bench/timeline.ts';
import { Timings } from '../../../src/cli/bench/timings.ts';
import { VirtualClock } from '../../support/clock.ts';

const plans = fc.record({
  rate: fc.integer({ min: 1, max: 1_000_000 }),
  publishers: fc.integer({ min: 1, max: 1000 }),
  fanOut: fc.integer({ min: 1, max: 50 }),
});

describe('an open load', () => {
  test('so many tasks are due as the rate says, whatever the number of publishers', () => {
    fc.assert(
      fc.property(plans, fc.integer({ min: 0, max: 100_000 }), (plan, ms) => {
        let sum = 0;
        for (let publisher = 0; publisher < plan.publishers; publisher++) sum += due(plan, publisher, ms);
        // The first ones are due at once.
        const { fanOut } = plan;
        expect(sum % fanOut).toBe(0);
        expect(Math.abs(sum - (plan.rate * ms) / 1000 - fanOut)).toBeLessThanOrEqual(1.01 * fanOut);
      }),
    );
  });

  test('a task is due when it is counted as due, and not before', () => {
    fc.assert(
      fc.property(plans, fc.nat(10_000), (plan, task) => {
        const publisher = plan.publishers - 1;
        const at = dueAt(plan, publisher, task);
        expect(due(plan, publisher, at + 1e-3)).toBeGreaterThan(task);
        expect(due(plan, publisher, at - 1e-3)).toBeLessThanOrEqual(task);
      }),
    );
  });

  test('the seed scenario is the load test of the first AgentHub', () => {
    expect(SCENARIOS['seed']).toMatchObject({ publishers: 10, rate: 1000, durationMs: 60_000 });
  });
});

test('a stamp is read as it was written', () => {
  const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
  fc.assert(
    fc.property(uint32, uint32, fc.double({ noNaN: true }), (publisher, number, dueMs) => {
      const bytes = Buffer.alloc(STAMP_BYTES + 3);
      writeStamp(bytes.subarray(3), publisher, number, dueMs);
      expect(readStamp(bytes, 3)).toEqual({ publisher, number, dueMs });
    }),
  );
});

describe('a timeline', () => {
  const timeline = new Timeline();
  for (const [now, due] of [
    [1000, 990],
    [1500, 1480],
    // A second in which nothing ends.
    [3100, 3000],
    [4000, 3000],
  ])
    timeline.note(now!, due!);

  test('says of each whole second what ended in it, and how late', () => {
    expect(timeline.seconds.map(({ at, ended, max }) => [at, ended, Math.round(max)])).toEqual([
      [1, 2, 20],
      [2, 0, 0],
      [3, 1, 100],
    ]);
  });

  test('is drawn as one picture of two charts', () => {
    const picture = drawAll(timeline.charts());
    expect(picture.match(/<svg /g)).toHaveLength(3);
    expect(picture.match(/<polyline/g)).toHaveLength(4);
    for (const part of ['Tasks that ended (tasks/s)', 'From due to the end (ms)', 'p99'])
      expect(picture).toContain(part);
  });
});

describe('the ledger', () => {
  test('keeps order within each of several priorities', () => {
    const ledger = new Ledger(1, 1, false, 5);
    // By priority: 4 9, 0 5, 3 8.
    for (const task of [4, 9, 0, 5, 3, 8]) ledger.deliver(0, task, 0);
    expect(ledger.sums().disordered).toBe(0);
    ledger.deliver(0, 17, 0);
    ledger.deliver(0, 12, 0);
    expect(ledger.sums().disordered).toBe(1);
  });

  test('finds nothing wrong with what goes well', () => {
    const ledger = new Ledger(2, 1, true);
    ledger.send(2);
    for (const publisher of [0, 1]) {
      ledger.deliver(publisher, 0, 0);
      ledger.complete(publisher, 0);
      // The ack may come last.
      ledger.accept(publisher, 0);
    }
    expect(ledger.open).toBe(0);
    expect(ledger.sums()).toEqual({
      ...{ accepted: 2, ended: 2, lost: 0 },
      ...{ refused: 0, undecided: 0, redelivered: 0, doubled: 0, disordered: 0 },
    });
    expect(verdictOf(ledger.sums())).toBe('');
  });

  test('counts what is lost, doubled and out of order', () => {
    const ledger = new Ledger(1, 2, true);
    ledger.send(5000);
    for (let task = 0; task < 5000; task++) ledger.accept(0, task);
    ledger.deliver(0, 4000, 0);
    ledger.deliver(0, 3999, 0);
    // Another agent's deliveries come on their own.
    ledger.deliver(0, 3998, 1);
    ledger.deliver(0, 3998, 1);
    ledger.complete(0, 4000);
    ledger.complete(0, 4000);
    expect(ledger.open).toBe(4999);
    expect(ledger.sums()).toMatchObject({
      ...{ accepted: 5000, ended: 1, lost: 4999 },
      ...{ redelivered: 1, doubled: 1, disordered: 1 },
    });
    expect(verdictOf(ledger.sums())).toBe(
      '4,999 accepted tasks lost, 1 results doubled, 1 tasks out of order',
    );
  });

  test('what was refused or never answered is not lost, and not on its way', () => {
    const ledger = new Ledger(1, 1, true);
    ledger.send(3);
    ledger.refuse(0, 0);
    ledger.doubt(0, 1);
    ledger.doubt(0, 2);
    ledger.complete(0, 2);
    expect(ledger.open).toBe(0);
    expect(ledger.sums()).toMatchObject({ accepted: 0, refused: 1, undecided: 2, ended: 1, lost: 0 });
  });

  test('without results a delivery is the end', () => {
    const ledger = new Ledger(1, 1, false);
    ledger.send(1);
    ledger.accept(0, 0);
    expect(ledger.sums().lost).toBe(1);
    ledger.deliver(0, 0, 0);
    expect(ledger.open).toBe(0);
    expect(ledger.sums()).toMatchObject({ ended: 1, lost: 0 });
  });
});

describe('timings', () => {
  test('count from when a task was due, and only what was due after the warm-up', () => {
    const clock = new VirtualClock({ start: 1000 });
    const timings = new Timings(clock);
    timings.acknowledged(1010, 1000);
    timings.begin();
    timings.acknowledged(1500, 999);
    timings.acknowledged(1500, 1000);
    timings.acknowledged(1002, 1001.5);
    const { ack, delivered } = timings.percentiles();
    expect(ack.count).toBe(2);
    // Three digits are exact.
    expect(ack.max).toBeCloseTo(500, -1);
    expect(ack.p50).toBeCloseTo(0.5, 2);
    expect(delivered.count).toBe(0);
  });
});
