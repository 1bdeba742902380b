import { fromBinary } from '@bufbuild/protobuf';
import { silent } from '../../../src/std/logger.ts';
import { describe, expect, test } from '@jest/globals';
import { Atlas } from '../../../src/core/atlas.ts';
import { Applier } from '../../../src/broker/apply.ts';
import { Endings } from '../../../src/broker/endings.ts';
import { Decided, Holds } from '../../../src/broker/holds.ts';
import { Journal } from '../../../src/broker/journal.ts';
import { idKey } from '../../../src/core/id-hash.ts';
import { Outcome, ShardState } from '../../../src/core/shard-state.ts';
import { Flag } from '../../../src/core/task-table.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { entryBody } from '../../../src/wire/entry.ts';
import { ResultSchema, type Result } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import type { Posting } from '../../../src/wire/owner-record.ts';
import type { TaskFields } from '../../../src/wire/task.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { VirtualClock } from '../../support/clock.ts';
import { HeldLog, operations, postings } from '../../support/held-log.ts';
import { SeededRandom } from '../../support/random.ts';
import { resultRecord, taskBytes, taskRecord } from '../../support/tasks.ts';

const NOW = 5000;
const SHARDS = 2;

class Desk {
  readonly clock = new VirtualClock();
  readonly log = new HeldLog(SHARDS);
  readonly state = new ShardState(SHARDS);
  readonly holds = new Holds();
  readonly metrics = new Metrics({ clock: this.clock, taskTypes: 10 });
  private readonly applier = new Applier(this.state, new TextCache(64), idKey(''));
  private readonly journal = new Journal({
    log: this.log,
    clock: this.clock,
    random: new SeededRandom(1),
    logger: silent,
    shard: 0,
    tickMs: 1,
    leaseTag: () => undefined,
    applied: () => this.state.ownerSequence,
    fenced: (error) => {
      throw error;
    },
  });
  readonly endings = new Endings({
    shard: 0,
    atlas: Atlas.plain(SHARDS),
    state: this.state,
    journal: this.journal,
    holds: this.holds,
    delivery: { maxAttempts: 2, backoffInitialMs: 100, backoffMaxMs: 1000 },
    metrics: this.metrics,
    random: { float: () => 0, uint32: () => 7, token: () => '' },
    known: new TextCache(64),
  });
  private sequence = 0;

  constructor() {
    this.journal.open({ revision: 0, counter: 1 }, () => {});
    this.log.store();
  }

  task(fields: Partial<TaskFields> = {}): number {
    return this.apply(taskRecord(1000, taskBytes({ id: 'a', type: 'ocr', ...fields })));
  }

  result(): number {
    return this.apply(resultRecord(1000, 'reply:asker', 1));
  }

  private apply(record: Uint8Array): number {
    this.applier.apply(++this.sequence, 'tasks', record);
    this.holds.fit(this.state.tasks.capacity);
    return [...this.state.tasks.slots()].at(-1)!;
  }

  /** The records that were written since. */
  written(): Uint8Array[] {
    const before = this.log.appends.length;
    this.clock.run(() => {
      if (this.log.waiting > 0) this.log.store();
      return false;
    });
    return this.log.appends.slice(before).map(({ append }) => append.bytes);
  }

  /** The names of the operations in each of these records. */
  said(): string[] {
    return this.written().map((record) =>
      operations(record)
        .map((one) => one.split(' ')[0])
        .join(' '),
    );
  }
}

/** The results that these records post, and where to. */
function posted(records: readonly Uint8Array[]): { posting: Posting; result: Result }[] {
  return records
    .flatMap(postings)
    .map((posting) => ({ posting, result: fromBinary(ResultSchema, entryBody(posting.entry, 0)) }));
}

describe('a task that comes back for ever', () => {
  test('is given up before a lease of a new delivery is called like one of a former one', () => {
    const desk = new Desk();
    const slot = desk.task({ requester: 'asker' });
    desk.state.tasks.deliveries[slot] = 0xfffe;
    desk.endings.giveBack(slot, NOW);
    expect(desk.said()).toEqual(['release']);
    desk.holds.clear(slot);
    desk.state.tasks.deliveries[slot] = 0xffff;
    desk.endings.giveBack(slot, NOW);
    const [posting] = posted(desk.written());
    expect(posting?.result).toMatchObject({
      outcome: Outcome.failed,
      error: expect.stringContaining('65535'),
    });
  });

  test('does so also if it is a result, which nobody takes', () => {
    const desk = new Desk();
    const slot = desk.result();
    desk.state.tasks.deliveries[slot] = 0xffff;
    desk.endings.retry(slot, '', 0, NOW);
    expect(desk.said()).toEqual(['finish']);
  });
});

describe('a task that was completed', () => {
  test('ends, and its requester gets the result, in one record', () => {
    const desk = new Desk();
    const slot = desk.task({ requester: 'asker', contextId: 'talk' });
    const payload = {
      bytes: Buffer.from('done!'),
      payloadStart: 0,
      payloadEnd: 4,
      contentTypeStart: 0,
      contentTypeEnd: 0,
    };
    desk.endings.succeed(slot, 'worker', { ...payload, headers: undefined }, NOW);
    expect(desk.holds.decided[slot]).toBe(Decided.ending);
    const records = desk.written();
    expect(records.map((record) => operations(record).map((one) => one.split(' ')[0]))).toEqual([
      ['finish', 'post'],
    ]);
    const [{ posting, result }] = posted(records) as [ReturnType<typeof posted>[0]];
    expect(posting).toMatchObject({ number: 1, mailbox: 'reply:asker', type: 'ocr' });
    expect(result).toMatchObject({
      taskId: 'a',
      to: 'planner',
      requester: 'asker',
      outcome: Outcome.succeeded,
      executor: 'worker',
      attempts: 1,
      finishedAtMs: BigInt(NOW),
      contextId: 'talk',
    });
    expect(Buffer.from(result.payload).toString()).toBe('done');
  });

  test('ends silently if nobody asked for a result', () => {
    const desk = new Desk();
    desk.endings.succeed(desk.task(), 'worker', undefined, NOW);
    expect(desk.said()).toEqual(['finish']);
  });

  test('has a result whose number follows the last one, also those on their way', () => {
    const desk = new Desk();
    desk.state.outbox.forwarded(0, 8);
    desk.state.outbox.forwarded(1, 8);
    desk.endings.restart();
    for (const id of ['a', 'b']) desk.endings.cancel(desk.task({ id, requester: 'asker' }), 'why', NOW);
    expect(
      posted(desk.written()).map(({ posting, result }) => [posting.number, result.taskId, result.error]),
    ).toEqual([
      [9, 'a', 'why'],
      [10, 'b', 'why'],
    ]);
  });
});

describe('a delivery that failed', () => {
  test('is tried again after a pause that grows, or that the worker has asked for', () => {
    const desk = new Desk();
    const slot = desk.task({ maxAttempts: 9 });
    const release = (attempts: number, asked: number): string => {
      desk.state.tasks.attempts[slot] = attempts;
      desk.endings.retry(slot, 'it broke', asked, NOW);
      return operations(desk.written()[0]!)[0]!;
    };
    const { order } = desk.state.tasks;
    expect(release(0, 0)).toBe(`release ${order[slot]} 7 ${slot} 0 ${NOW + 100}`);
    expect(release(1, 0)).toContain(` ${NOW + 200}`);
    expect(release(7, 0)).toContain(` ${NOW + 1000}`);
    expect(release(0, 77)).toContain(` ${NOW + 77}`);
    expect(desk.holds.decided[slot]).toBe(Decided.returning);
  });

  test('of the last attempt makes it a dead letter, and tells its requester, in one record', () => {
    const desk = new Desk();
    const slot = desk.task({ requester: 'asker' });
    desk.state.tasks.attempts[slot] = 1;
    desk.endings.retry(slot, 'it broke', 0, NOW);
    const records = desk.written();
    expect(operations(records[0]!)[0]).toContain('attempts it broke');
    expect(records).toHaveLength(1);
    expect(posted(records)[0]!.result).toMatchObject({
      outcome: Outcome.failed,
      error: 'it broke',
      attempts: 2,
    });
    expect([desk.metrics.dead.of('attempts').value, desk.metrics.taskTypes.of('ocr').failed.value]).toEqual([
      1, 1,
    ]);
  });

  test("of a broadcast's copy is not tried again, and makes no dead letter", () => {
    const desk = new Desk();
    const slot = desk.task({ maxAttempts: 9, requester: 'asker' });
    desk.state.tasks.flags[slot] = desk.state.tasks.flags[slot]! | Flag.once;
    desk.endings.retry(slot, 'it broke', 0, NOW);
    expect(desk.said()).toEqual(['finish post']);
  });

  test('of a result is always tried again', () => {
    const desk = new Desk();
    const slot = desk.result();
    desk.state.tasks.attempts[slot] = 200;
    desk.endings.retry(slot, 'it broke', 0, NOW);
    expect(desk.said()).toEqual(['release']);
  });

  test('counts the delivery whose record is on its way', () => {
    const desk = new Desk();
    const slot = desk.task();
    desk.holds.decided[slot] = Decided.leasing;
    desk.endings.giveBack(slot, NOW);
    expect(operations(desk.written()[0]!)[0]).toBe(`release ${desk.state.tasks.order[slot]} 7 ${slot} 1 0`);
  });
});

describe('a task whose time has passed', () => {
  test('is a dead letter, and its requester learns that it was never tried', () => {
    const desk = new Desk();
    desk.endings.giveUp(desk.task({ requester: 'asker' }), 'deadline', 'too late', NOW);
    const [{ result }] = posted(desk.written()) as [ReturnType<typeof posted>[0]];
    expect(result).toMatchObject({ outcome: Outcome.expired, attempts: 0, error: 'too late' });
    expect(desk.metrics.taskTypes.of('ocr').expired.value).toBe(1);
  });

  test('if it is a result, is gone without a word', () => {
    const desk = new Desk();
    desk.endings.giveUp(desk.result(), 'retention', '', NOW);
    expect(desk.said()).toEqual(['finish']);
  });
});

describe('a task that was written to listeners only', () => {
  test('is done; who asked for it is remembered until the last result has come', () => {
    const desk = new Desk();
    desk.endings.delivered(desk.task({ requester: 'asker' }));
    const awaited = { mailbox: 'planner', type: 'ocr', requester: 'asker' };
    expect([desk.endings.awaited('a'), desk.endings.awaited('a', 'coder')]).toEqual([awaited, undefined]);
    desk.endings.resolve('a', awaited, 0, Buffer.alloc(0));
    expect(desk.endings.awaited('a', 'planner')).toEqual(awaited);
    desk.endings.resolve('a', awaited, Outcome.succeeded, Buffer.alloc(0));
    expect(desk.endings.awaited('a')).toBeUndefined();
    expect(desk.said()).toEqual(['expect finish post resolved post']);
  });

  test('is simply done if nobody wants its result', () => {
    const desk = new Desk();
    desk.endings.delivered(desk.task());
    expect([desk.endings.awaited('a'), desk.said()]).toEqual([undefined, ['finish']]);
  });
});
