import { describe, expect, test } from '@jest/globals';
import { Journal } from '../../../src/broker/journal.ts';
import type { HubError } from '../../../src/std/errors.ts';
import { silent } from '../../../src/std/logger.ts';
import { readOwnerHead } from '../../../src/wire/owner-record.ts';
import { VirtualClock } from '../../support/clock.ts';
import { HeldLog, operations } from '../../support/held-log.ts';
import { SeededRandom } from '../../support/random.ts';

const SESSION = '00000000000000a1';

class Desk {
  readonly clock = new VirtualClock();
  readonly log = new HeldLog();
  readonly told: string[] = [];
  readonly warnings: string[] = [];
  /** Slots whose leases have ended before they were written. */
  readonly ended = new Set<number>();
  fenced: HubError | undefined;
  applied = 0;
  readonly journal = new Journal({
    log: this.log,
    clock: this.clock,
    random: new SeededRandom(1),
    logger: { ...silent, warn: (fields) => this.warnings.push((fields as { error: string }).error) },
    shard: 1,
    tickMs: 3,
    leaseTag: ({ slot }) => (this.ended.has(slot) ? undefined : 70 + slot),
    applied: () => this.applied,
    fenced: (error) => (this.fenced = error),
  });

  /** Has begun its epoch. */
  static open(): Desk {
    const desk = new Desk();
    desk.journal.open({ revision: 4, counter: 2 }, () => {});
    desk.store();
    return desk;
  }

  store(): void {
    this.applied = this.log.store();
  }

  /** Decides that a task has ended. */
  finish(slot: number): void {
    this.journal.record.finish(slot, 7, slot, 1);
    this.journal.touch();
  }

  waiter(name: string): () => void {
    return () => this.told.push(name);
  }

  /** What the records say that were appended so far. */
  get written(): string[][] {
    return this.log.appends.map(({ append }) => operations(append.bytes));
  }
}

describe('an epoch', () => {
  test('begins with a record that is appended without condition, and is not before it is stored', () => {
    const desk = new Desk();
    desk.journal.open({ revision: 4, counter: 2 }, desk.waiter('began'));
    expect(desk.log.appends[0]).toMatchObject({ shard: 1, append: { subject: 'owner' } });
    expect(desk.log.appends[0]!.append.expectedOwner).toBeUndefined();
    expect(readOwnerHead(desk.log.appends[0]!.append.bytes)).toMatchObject({
      beginsEpoch: true,
      epoch: { revision: 4, counter: 2 },
    });
    expect(desk.told).toEqual([]);
    desk.store();
    expect([desk.told, desk.journal.idle]).toEqual([['began'], true]);
  });

  test('is the condition of all that follows', () => {
    const desk = Desk.open();
    for (let slot = 1; slot <= 2; slot++) {
      desk.finish(slot);
      desk.clock.advance(10);
      desk.store();
    }
    expect(desk.log.appends.map(({ append }) => append.expectedOwner)).toEqual([undefined, 1, 2]);
  });
});

describe('what is decided', () => {
  test('gathers while a record is on its way, and leaves as one record, one in flight', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.clock.advance(10);
    desk.finish(2);
    desk.finish(3);
    desk.clock.advance(1000);
    expect(desk.log.waiting).toBe(1);
    desk.store();
    desk.clock.advance(10);
    expect(desk.written).toEqual([[], ['finish 1 7 1 1'], ['finish 2 7 2 1', 'finish 3 7 3 1']]);
  });

  test('waits for a tick after the last record, not longer', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.clock.advance(2);
    expect(desk.log.waiting).toBe(0);
    desk.clock.advance(1);
    expect(desk.log.waiting).toBe(1);
  });

  test('is never split over two records, however much there is', () => {
    const desk = Desk.open();
    const entry = Buffer.alloc(150_000);
    entry.writeUInt32LE(entry.length);
    for (let number = 1; number <= 5; number++) {
      desk.journal.record.finish(number, 7, number, 1);
      desk.journal.record.post({ destination: 0, number, mailbox: 'reply:a', type: '', entry });
      desk.journal.touch();
    }
    desk.clock.run(() => {
      if (desk.log.waiting > 0) desk.store();
      return desk.journal.idle;
    });
    const records = desk.written.slice(1);
    expect(records.length).toBeGreaterThan(1);
    expect(records.flat()).toEqual(
      [1, 2, 3, 4, 5].flatMap((n) => [`finish ${n} 7 ${n} 1`, `post 0 ${n} reply:a`]),
    );
    for (const record of records) {
      expect(record.filter((one) => one.startsWith('post'))).toHaveLength(record.length / 2);
    }
  });

  test('is told to who waits for it when its record is stored, in order, and not before', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.journal.after(desk.waiter('first'));
    desk.clock.advance(10);
    desk.finish(2);
    desk.journal.after(desk.waiter('second'));
    expect(desk.told).toEqual([]);
    desk.store();
    expect(desk.told).toEqual(['first']);
    desk.clock.advance(10);
    desk.store();
    expect(desk.told).toEqual(['first', 'second']);
  });

  test('before, though nothing since, is told without a record', () => {
    const desk = Desk.open();
    desk.journal.after(desk.waiter('nothing'));
    desk.clock.advance(10);
    expect([desk.told, desk.log.waiting, desk.journal.idle]).toEqual([['nothing'], 0, true]);
  });
});

describe('copies of broadcasts', () => {
  test('go into another record when there are too many of them in one, or too many bytes', () => {
    const desk = Desk.open();
    const { journal } = desk;
    const small = Buffer.alloc(100);
    const large = Buffer.alloc(250_000);
    for (const entry of [small, large]) entry.writeUInt32LE(entry.length);
    for (const [copies, entry] of [
      [5000, small],
      [4000, large],
      [1, small],
    ] as const) {
      journal.reserve(copies);
      journal.record.fanout(['a'], '', entry);
    }
    journal.touch();
    desk.clock.run(() => {
      if (desk.log.waiting > 0) desk.store();
      return journal.idle;
    });
    expect(desk.written.slice(1).map((record) => record.length)).toEqual([1, 1, 1]);
  });
});

describe('a lease', () => {
  test('is written when it is 20 ms old', () => {
    const desk = Desk.open();
    desk.journal.lease(5, 41, 1, SESSION, desk.clock.now());
    expect(desk.journal.pendingLeases(SESSION)).toEqual([5]);
    desk.clock.advance(19);
    expect(desk.log.waiting).toBe(0);
    desk.clock.advance(1);
    expect(desk.written.at(-1)).toEqual([`lease ${SESSION} 41 75 5`]);
    expect(desk.journal.pendingLeases(SESSION)).toEqual([5]);
    expect(desk.journal.pendingLeases('another')).toEqual([]);
  });

  test('that has ended by then is not', () => {
    const desk = Desk.open();
    desk.journal.lease(5, 41, 1, SESSION, desk.clock.now());
    desk.journal.lease(6, 42, 1, SESSION, desk.clock.now());
    desk.ended.add(5);
    desk.clock.advance(100);
    expect(desk.written.at(-1)).toEqual([`lease ${SESSION} 42 76 6`]);
    desk.journal.lease(7, 43, 1, SESSION, desk.clock.now());
    desk.ended.add(7);
    desk.store();
    desk.clock.run();
    expect([desk.log.waiting, desk.journal.idle]).toEqual([0, true]);
  });
});

describe('a prologue', () => {
  test('stands before all decisions, and is written only when the log has been applied up to there', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.clock.advance(10);
    desk.log.store();
    desk.finish(2);
    desk.journal.prologue((record) => record.forwarded(1, 9), desk.waiter('prologue'));
    desk.clock.advance(10);
    expect(desk.written.at(-1)).toEqual(['finish 2 7 2 1']);
    desk.finish(3);
    desk.store();
    desk.clock.advance(10);
    expect(desk.written.at(-1)).toEqual(['forwarded 1 9', 'finish 3 7 3 1']);
    expect(desk.told).toEqual([]);
    desk.store();
    expect(desk.told).toEqual(['prologue']);
  });
});

describe('a record', () => {
  const MIB = 2 ** 20;
  const large = Buffer.alloc(5 * MIB);
  large.writeUInt32LE(large.length);

  /** Stores whatever comes; the lengths of all records. */
  function lengths(desk: Desk): number[] {
    desk.clock.run(() => {
      if (desk.log.waiting > 0) desk.store();
      return desk.journal.idle;
    });
    return desk.log.appends.slice(1).map(({ append }) => append.bytes.length);
  }

  test('is never larger than logs take: a copied task and a result, both as large as may be, are two', () => {
    const desk = Desk.open();
    const posting = { number: 1, mailbox: 'reply:a', type: '', entry: large };
    desk.journal.prologue((record) => record.post({ ...posting, destination: 0 }), desk.waiter('prologue'));
    desk.journal.record.post({ ...posting, destination: 1 });
    desk.journal.after(desk.waiter('posted'));
    const sizes = lengths(desk);
    expect(sizes).toHaveLength(2);
    expect(Math.max(...sizes)).toBeLessThan(8 * MIB);
    expect(desk.told).toEqual(['prologue', 'posted']);
  });

  test('nor are many leases, which have waited for the log to answer again', () => {
    const desk = Desk.open();
    for (let order = 1; order <= 600_000; order++) desk.journal.lease(5, order, 1, SESSION, desk.clock.now());
    const sizes = lengths(desk);
    expect(Math.max(...sizes)).toBeLessThan(MIB);
    expect(sizes.reduce((sum, size) => sum + size)).toBeGreaterThan(9 * MIB);
  });
});

describe('an append', () => {
  test('that the log forbids is tried until it may be made again, and that is reported', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.clock.advance(10);
    for (let attempt = 0; attempt < 3; attempt++) {
      desk.log.refuse('permission');
      desk.clock.advance(1000);
    }
    expect([desk.fenced, desk.warnings]).toEqual([undefined, ['the log says permission']]);
    desk.store();
    expect(desk.journal.idle).toBe(true);
  });

  test.each(['invalid', 'corrupt', 'precondition', 'internal'] as const)(
    'that the log will never take (%s) ends the journal: its owner must not go on as if nothing were',
    (code) => {
      const desk = Desk.open();
      desk.finish(1);
      desk.journal.after(desk.waiter('never'));
      desk.clock.advance(10);
      desk.log.refuse(code);
      desk.clock.run();
      expect([desk.fenced?.code, desk.told, desk.log.waiting]).toEqual([code, [], 0]);
    },
  );

  test('that is undecided or finds the log full is tried again, the same under the same id', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.journal.after(desk.waiter('stored'));
    desk.clock.advance(10);
    for (const code of ['unavailable', 'exhausted', 'unavailable'] as const) {
      desk.log.refuse(code);
      desk.clock.advance(1000);
    }
    const tries = desk.log.appends.slice(1).map(({ append }) => append);
    expect(tries).toHaveLength(4);
    expect(tries.every((one) => one.id === tries[0]!.id && one.bytes === tries[0]!.bytes)).toBe(true);
    expect([desk.told, desk.journal.idle]).toEqual([[], false]);
    desk.store();
    expect(desk.told).toEqual(['stored']);
    desk.finish(2);
    desk.clock.advance(10);
    expect(desk.log.appends.at(-1)!.append.id).not.toBe(tries[0]!.id);
  });

  test('has had no answer since it was first made, however often it was tried', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.clock.advance(3);
    desk.clock.advance(400);
    desk.log.refuse('unavailable');
    desk.clock.advance(400);
    expect(desk.journal.unanswered(desk.clock.now())).toBe(800);
    desk.store();
    expect(desk.journal.unanswered(desk.clock.now())).toBe(0);
  });

  test('of a former owner is refused: it is told, and neither writes nor tells anything more', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.journal.after(desk.waiter('never'));
    desk.clock.advance(10);
    desk.log.refuse('aborted');
    expect(desk.fenced?.code).toBe('aborted');
    desk.finish(2);
    desk.journal.after(desk.waiter('never'));
    desk.clock.run();
    expect([desk.told, desk.log.waiting]).toEqual([[], 0]);
  });

  test('that is answered after the journal was closed tells nobody', () => {
    const desk = Desk.open();
    desk.finish(1);
    desk.journal.after(desk.waiter('never'));
    desk.clock.advance(10);
    desk.journal.close();
    desk.store();
    desk.clock.run();
    expect(desk.told).toEqual([]);
  });
});
