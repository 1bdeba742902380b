import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Applied } from '../../../src/broker/apply.ts';
import { Applier } from '../../../src/broker/apply.ts';
import { idKey } from '../../../src/core/id-hash.ts';
import { ShardState } from '../../../src/core/shard-state.ts';
import { Kind } from '../../../src/core/task-table.ts';
import { encodeEntry, type EntryHead } from '../../../src/wire/entry.ts';
import { taskHash } from '../../../src/wire/envelope.ts';
import { OwnerRecordWriter } from '../../../src/wire/owner-record.ts';
import { TasksRecordWriter } from '../../../src/wire/tasks-record.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { History } from '../../support/history.ts';
import { difference, snapshot } from '../../support/sim/snapshot.ts';

const TAG = 7;
const KEY = idKey('');

function head(id: string, kind: number = Kind.task): EntryHead {
  const hash = new Uint32Array(4);
  taskHash(KEY, 'planner', id, hash);
  const times = { deadline: 0, notBefore: 0 };
  return { kind, priority: 1, flags: 0, maxAttempts: 0, hash, originHigh: 0, originLow: 0, ...times };
}

/** A record of tasks for `planner` with these ids. */
function tasks(...ids: readonly string[]): Buffer {
  const writer = new TasksRecordWriter();
  for (const id of ids) writer.add('planner', 'ocr', head(id), Buffer.from(id), 0, id.length);
  return writer.finish(TAG, 1000);
}

function decisions(write: (record: OwnerRecordWriter) => void, counter = 1): Uint8Array {
  const record = new OwnerRecordWriter();
  write(record);
  return record.finishRecord(TAG, { revision: 0, counter }, 1000, false);
}

class Reader {
  readonly state = new ShardState(2);
  readonly applier = new Applier(this.state, new TextCache(64), KEY);
  readonly told: string[] = [];

  /** From now on it is told what follows. */
  live(): void {
    const note =
      (what: string) =>
      (...details: number[]): void => {
        this.told.push([what, ...details].join(' '));
      };
    const applied: Applied = {
      arrived: note('arrived'),
      came: note('came'),
      queued: note('queued'),
      broadcast: note('broadcast'),
      leased: note('leased'),
      died: note('died'),
      ending: note('ending'),
      duplicate: note('duplicate'),
      posted: note('posted'),
      epochBegan: note('epochBegan'),
    };
    this.applier.live(applied);
  }
}

describe('the state of a shard', () => {
  test('follows from the retained log alone, wherever it was cut, copied on, taken over, and however few ids are known', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 150 }), (seed, steps) => {
        const history = new History(seed);
        for (let step = 0; step < steps; step++) history.step();
        const different = difference(snapshot(history.witness.state), snapshot(history.replay()));
        if (different !== undefined) throw new Error(different);
      }),
      { numRuns: 300, endOnFailure: true },
    );
  }, 120_000);

  test('is not changed by what a former owner still writes', () => {
    const { applier, state } = new Reader();
    applier.apply(1, 'tasks', tasks('a'));
    applier.apply(
      2,
      'owner',
      decisions(() => {}, 2),
    );
    applier.apply(
      3,
      'owner',
      decisions((record) => record.finish(1 * 8192, TAG, 0, 1), 1),
    );
    expect([state.tasks.count, state.epoch.counter, state.ownerSequence]).toEqual([1, 2, 3]);
  });

  test('keeps what a record says before the place where it can not be read', () => {
    const { applier, state } = new Reader();
    const record = tasks('a', 'b');
    record.writeUInt32LE(record.length, 24 + record.readUInt32LE(24));
    expect(() => applier.apply(1, 'tasks', record)).toThrow(expect.objectContaining({ code: 'corrupt' }));
    expect([state.tasks.count, state.mailboxes.size, state.sequence]).toEqual([1, 1, 1]);
    applier.apply(2, 'tasks', tasks('b'));
    expect(state.tasks.count).toBe(2);
  });
});

describe('who serves the shard', () => {
  test('is told what follows from a record, and of nothing that is replayed', () => {
    const reader = new Reader();
    reader.applier.apply(1, 'tasks', tasks('a'));
    reader.live();
    reader.applier.apply(2, 'tasks', tasks('b', 'a'));
    const name = [1 * 8192, TAG, 0] as const;
    const { applier } = reader;
    applier.apply(
      3,
      'owner',
      decisions((record) => record.lease('00000000000000a1', ...name)),
    );
    applier.apply(
      4,
      'owner',
      decisions((record) => record.release(...name, 1, 0, true)),
    );
    applier.apply(
      5,
      'owner',
      decisions((record) => record.kill(...name, 1, 'attempts', '', true)),
    );
    applier.apply(
      6,
      'owner',
      decisions((record) => record.revive(...name)),
    );
    applier.apply(
      7,
      'owner',
      decisions((record) => record.finish(...name, 1)),
    );
    expect(reader.told).toEqual([
      'arrived 1',
      `duplicate ${2 * 8192 + 1} ${TAG}`,
      'epochBegan',
      'leased 0',
      'queued 0',
      'died 0',
      'ending 0',
      'queued 0',
      'ending 0',
    ]);
  });

  test('is told of replayed duplicates that its predecessor did not live to drop', () => {
    const reader = new Reader();
    const { applier } = reader;
    applier.apply(1, 'tasks', tasks('a', 'a', 'a'));
    applier.apply(
      2,
      'owner',
      decisions((record) => record.drop(8192 + 1, TAG, 0)),
    );
    reader.live();
    expect(reader.told).toEqual([`duplicate ${8192 + 2} ${TAG}`]);
  });

  test('is told of a parcel once, however often it was forwarded', () => {
    const reader = new Reader();
    reader.live();
    const entry = encodeEntry(head('result', Kind.result), Buffer.from('result'));
    for (let sequence = 1; sequence <= 2; sequence++) {
      const writer = new TasksRecordWriter();
      writer.forward(1, 1, [{ mailbox: 'reply:planner', type: '', entry }]);
      reader.applier.apply(sequence, 'tasks', writer.finish(TAG, 1000));
    }
    expect(reader.told).toEqual(['arrived 0', `duplicate ${2 * 8192} ${TAG}`]);
  });

  test('finds each copy of a broadcast in its mailbox, by the id of the broadcast', () => {
    const { applier, state } = new Reader();
    const broadcast = head('news', Kind.broadcast);
    taskHash(KEY, '*', 'news', broadcast.hash);
    const entry = encodeEntry(broadcast, Buffer.from('news'));
    applier.apply(
      1,
      'owner',
      decisions((record) => record.fanout(['planner', 'coder'], 'ocr', entry)),
    );
    const hash = new Uint32Array(4);
    const slots = ['planner', 'coder'].map((mailbox) => {
      taskHash(KEY, mailbox, 'news', hash);
      return state.dedup.slot(state.dedup.find(hash[0]!, hash[1]!, hash[2]!, hash[3]!));
    });
    expect(slots.map((slot) => state.mailboxes.name(state.tasks.mailbox[slot]!))).toEqual([
      'planner',
      'coder',
    ]);
    expect(slots.map((slot) => state.tasks.kind[slot])).toEqual([Kind.task, Kind.task]);
  });
});
