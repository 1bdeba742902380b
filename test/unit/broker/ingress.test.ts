import { describe, expect, test } from '@jest/globals';
import { Atlas } from '../../../src/core/atlas.ts';
import { Ingress, limit } from '../../../src/broker/ingress.ts';
import { Ticket } from '../../../src/broker/ticket.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { HubError } from '../../../src/std/errors.ts';
import type { TaskFields } from '../../../src/wire/task.ts';
import { Entry, entryBody } from '../../../src/wire/entry.ts';
import { taskFacts } from '../../../src/wire/envelope.ts';
import { readTasks } from '../../../src/wire/tasks-record.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import type { Done } from '../../../src/broker/question.ts';
import { VirtualClock } from '../../support/clock.ts';
import { HeldLog } from '../../support/held-log.ts';
import { SeededRandom } from '../../support/random.ts';
import { batchOf, taskBytes } from '../../support/tasks.ts';

// With two shards, they live in different ones.
const HERE = 'planner';
const THERE = 'coder';

class Door {
  readonly clock = new VirtualClock();
  readonly log = new HeldLog(2);
  readonly metrics = new Metrics({ clock: this.clock, taskTypes: 10 });
  full: HubError | undefined;
  known = false;
  /** Whether somebody else is asked what is known, who has yet to answer. */
  asks = false;
  readonly asked: Done<readonly boolean[]>[] = [];
  closed: HubError | undefined;
  recipients = [0, 0];
  serves = [true, true];
  readonly ingress = new Ingress({
    log: this.log,
    atlas: Atlas.plain(2),
    clock: this.clock,
    random: new SeededRandom(1),
    metrics: this.metrics,
    taskBytes: 1000,
    batchTasks: 3,
    fullness: {
      crammed: () => undefined,
      full: () => this.full,
      known: (_shard, hashes, answer) => {
        if (this.asks) this.asked.push(answer);
        else
          answer(
            undefined,
            Array.from({ length: hashes.length / 4 }, () => this.known),
          );
      },
      closed: () => this.closed,
      recipients: (shard) => this.recipients[shard]!,
      serves: (shard) => this.serves[shard]!,
    },
  });

  /** Publishes a batch; what is known of it is filled in as it comes. */
  publish(...tasks: readonly Partial<TaskFields>[]) {
    const known: { refused?: string[]; ids: string[]; reached: number[] } = { ids: [], reached: [] };
    const { bytes, ranges } = batchOf(...tasks.map(taskBytes));
    const ticket = new Ticket(tasks.length, ({ refused }) => {
      known.refused = refused.map(
        ({ index, error }) => `${index} ${error.code} ${error.limit ?? error.field ?? ''}`,
      );
    });
    this.ingress.publish(bytes, ranges, {
      origin: '00000000000000a1',
      ticket,
      assigned: (index, id) => (known.ids[index] = id),
      recipients: (index, count) => (known.reached[index] = count),
    });
    this.clock.advance(0);
    return known;
  }

  /** The ids in each record that was appended, with its shard. */
  get appended(): string[] {
    return this.log.appends.map(({ shard, append: { bytes } }) => {
      const ids: string[] = [];
      readTasks(bytes, new Entry(), new TextCache(64), {
        begin() {},
        entry: ({ offset }) => ids.push(taskFacts(entryBody(bytes, offset)).id),
      });
      return `${shard}: ${ids.join(' ')}`;
    });
  }
}

describe('a published task', () => {
  test('has its outcome when the log has it, and not before', () => {
    const door = new Door();
    const known = door.publish({ id: 'a' }, { id: 'b' });
    expect([door.log.waiting, known.refused]).toEqual([1, undefined]);
    expect(door.ingress.waitingBytes).toBeGreaterThan(0);
    door.log.store();
    expect([known.refused, door.ingress.waitingBytes]).toEqual([[], 0]);
  });

  test('waits for its own shard only; a batch, for all of its shards', () => {
    const door = new Door();
    const both = door.publish({ id: 'a', to: HERE }, { id: 'b', to: THERE });
    expect(new Set(door.log.appends.map(({ shard }) => shard))).toEqual(new Set([0, 1]));
    door.log.store();
    expect(both.refused).toBeUndefined();
    door.log.store();
    expect(both.refused).toEqual([]);
  });

  test('leaves at once when nothing is on its way, else with all that came meanwhile', () => {
    const door = new Door();
    for (const id of ['a', 'b', 'c']) door.publish({ id });
    expect(door.log.waiting).toBe(1);
    door.log.store();
    expect(door.appended).toEqual([expect.stringMatching(/: a$/), expect.stringMatching(/: b c$/)]);
  });

  test('without an id gets one, which is told and stands in the log', () => {
    const door = new Door();
    const { ids } = door.publish({}, { id: 'mine' }, {});
    expect(new Set([ids[0], ids[2]]).size).toBe(2);
    expect(ids[1]).toBeUndefined();
    expect(door.appended).toEqual([expect.stringMatching(new RegExp(`: ${ids[0]} mine ${ids[2]}$`))]);
  });

  test('that is refused says what was wrong, and the others of its batch are taken', () => {
    const door = new Door();
    const known = door.publish(
      { id: 'a', to: '' },
      { id: 'b', payload: 'x'.repeat(1000) },
      { id: 'c' },
      { id: 'd' },
    );
    door.log.store();
    expect(known.refused).toEqual([
      '0 invalid task.to',
      '1 exhausted limits.taskBytes',
      '3 exhausted limits.batchTasks',
    ]);
    expect(door.appended).toEqual([expect.stringMatching(/: c$/)]);
    expect(door.metrics.limits.of('limits.taskBytes').value).toBe(1);
  });

  test('for a mailbox that is full, or a broker that takes nothing, never reaches the log', () => {
    const door = new Door();
    door.full = limit('limits.mailboxDepth', 'the mailbox is full', 1000);
    expect(door.publish({ id: 'a' }).refused).toEqual(['0 exhausted limits.mailboxDepth']);
    door.closed = new HubError('unavailable', 'this broker is draining');
    expect(door.publish({ id: 'a' }, { id: 'b' }).refused).toEqual(['0 unavailable ', '1 unavailable ']);
    expect(door.log.appends).toEqual([]);
  });
});

describe('an append', () => {
  test('that is undecided is tried again, the same under the same id, and holds back what came after it', () => {
    const door = new Door();
    const known = door.publish({ id: 'a' });
    door.publish({ id: 'b' });
    door.log.refuse('unavailable');
    door.clock.advance(1000);
    const [first, again] = door.log.appends.map(({ append }) => append);
    expect([door.log.appends.length, again]).toEqual([2, first]);
    expect(known.refused).toBeUndefined();
    door.log.store();
    expect(known.refused).toEqual([]);
    expect(door.log.appends.at(-1)!.append.id).not.toBe(first!.id);
  });

  test('that stays undecided is given up, and what came after it goes on', () => {
    const door = new Door();
    const known = door.publish({ id: 'a' });
    const next = door.publish({ id: 'b' });
    for (let second = 0; second < 20 && !known.refused; second++) {
      door.log.refuse('unavailable');
      door.clock.advance(1000);
    }
    expect(known.refused).toEqual(['0 unavailable ']);
    door.log.store();
    expect(next.refused).toEqual([]);
  });

  test('that is said again is not refused: what was accepted is there', () => {
    const door = new Door();
    door.known = true;
    const again = door.publish({ id: 'a' });
    door.log.refuse('exhausted');
    expect(again.refused).toEqual([]);
    door.full = limit('limits.mailboxDepth', 'the mailbox is full', 1000);
    expect(door.publish({ id: 'a' }).refused).toEqual([]);
  });

  test('is neither refused nor done until it is known whether it was accepted before', () => {
    const door = new Door();
    door.full = limit('limits.mailboxDepth', 'the mailbox is full', 1000);
    door.asks = true;
    const published = door.publish({ id: 'a' }, { id: 'b' }, { id: 'c' });
    expect(published.refused).toBeUndefined();
    const [a, b, c] = door.asked;
    a!(undefined, [true]);
    b!(undefined, [false]);
    c!(new HubError('unavailable', 'the owner is silent'), undefined);
    expect(published.refused).toEqual(['1 exhausted limits.mailboxDepth', '2 unavailable ']);
  });

  test('that finds the log full is refused at once', () => {
    const door = new Door();
    const known = door.publish({ id: 'a' }, { id: 'b' });
    door.log.refuse('exhausted');
    expect(known.refused).toEqual(['0 exhausted ', '1 exhausted ']);
  });
});

describe('a broadcast', () => {
  test('goes once to each shard where somebody listens, under one id, and is done when all have it', () => {
    const door = new Door();
    door.recipients = [2, 3];
    const known = door.publish({ to: '*' });
    expect([known.reached, door.appended]).toEqual([[5], [`0: ${known.ids[0]}`, `1: ${known.ids[0]}`]]);
    door.log.store();
    expect(known.refused).toBeUndefined();
    door.log.store();
    expect(known.refused).toEqual([]);
  });

  test('goes to shards of other brokers in any case: agents may have come to them since they told', () => {
    const door = new Door();
    door.serves = [true, false];
    const known = door.publish({ to: '*' });
    expect([known.reached, door.appended]).toEqual([[0], [`1: ${known.ids[0]}`]]);
  });

  test('that one shard could not take is refused, once', () => {
    const door = new Door();
    door.recipients = [2, 3];
    const known = door.publish({ id: 'news', to: '*' });
    door.log.refuse('exhausted');
    door.log.store();
    expect(known.refused).toEqual(['0 exhausted ']);
    expect(door.metrics.refused.of('exhausted').value).toBe(1);
  });

  test('that reaches nobody says so, and is done', () => {
    const known = new Door().publish({ to: '*' });
    expect([known.reached, known.refused]).toEqual([[0], []]);
  });
});

test('parcels of another shard travel with the tasks, and their sender is told when they are stored', () => {
  const door = new Door();
  const told: unknown[] = [];
  door.publish({ id: 'a', to: HERE });
  const { shard } = door.log.appends[0]!;
  const entry = Buffer.alloc(36);
  entry.writeUInt32LE(36);
  const parcel = { number: 4, mailbox: 'reply:a', type: '', entry, sequence: 1 };
  door.ingress.forward(shard, 1 - shard, [parcel], (error) => told.push(error));
  door.log.store();
  expect(told).toEqual([]);
  door.log.store();
  expect(told).toEqual([undefined]);
});
