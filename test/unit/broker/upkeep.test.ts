import { describe, expect, test } from '@jest/globals';
import { Atlas } from '../../../src/core/atlas.ts';
import { Owner } from '../../../src/broker/owner.ts';
import { type Retention, type Thrift, Upkeep } from '../../../src/broker/upkeep.ts';
import { State } from '../../../src/core/task-table.ts';
import { MemoryLog } from '../../../src/log/memory.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { silent } from '../../../src/std/logger.ts';
import type { TaskFields } from '../../../src/wire/task.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { resultRecord, taskBytes, taskRecord } from '../../support/tasks.ts';

const DAY = 86_400_000;
const RETENTION: Retention = {
  taskMs: 7 * DAY,
  resultMs: DAY,
  deadLetterMs: 14 * DAY,
  deadPerMailbox: 2,
  resultsPerMailbox: 2,
};
/** Everything pays at once. */
const EAGER: Partial<Thrift> = { checkpointBytes: 1, checkpointShare: 0, wasteBytes: 1 };
const NEVER: Partial<Thrift> = { checkpointBytes: Infinity, wasteBytes: Infinity };

/** One shard, its owner, and the upkeep of it. */
class Shard {
  readonly clock = new VirtualClock();
  readonly log = new MemoryLog({ clock: this.clock, shards: 2 });
  /** Forwarded, and not yet in the other shard's log. */
  readonly forwarding: (() => void)[] = [];
  private readonly thrift: Partial<Thrift>;
  owner: Owner;
  upkeep: Upkeep;
  private results = 0;

  constructor(thrift: Partial<Thrift>) {
    this.thrift = thrift;
    this.owner = this.start();
    this.upkeep = new Upkeep(this.owner, this.log, this.clock, RETENTION, thrift);
  }

  private start(): Owner {
    const { clock } = this;
    const owner = new Owner({
      shard: 0,
      log: this.log,
      atlas: Atlas.plain(2),
      clock,
      random: new SeededRandom(1),
      logger: silent,
      metrics: new Metrics({ clock, taskTypes: 10 }),
      balance: 'round-robin',
      delivery: { maxAttempts: 3, backoffInitialMs: 10, backoffMaxMs: 100 },
      tickMs: 1,
      known: new TextCache(64),
      knownIds: undefined,
      graceMs: 1000,
      strangersUntil: () => 0,
      forward: (_destination, _source, _parcels, done) => this.forwarding.push(() => done(undefined)),
      isAlive: () => false,
      starved: () => false,
      lost: (error) => {
        throw error;
      },
    });
    owner.follow(() => owner.begin(0, () => owner.deliver()));
    clock.advance(100);
    return owner;
  }

  /** Another broker takes over, from what the log retains. */
  restart(): void {
    this.owner.stop();
    this.owner = this.start();
    this.upkeep = new Upkeep(this.owner, this.log, this.clock, RETENTION, this.thrift);
  }

  private append(bytes: Uint8Array): void {
    this.log.append(0, { subject: 'tasks', bytes, id: '' }, () => {});
    this.clock.advance(100);
  }

  publish(...tasks: readonly Partial<TaskFields>[]): void {
    this.append(taskRecord(this.clock.now(), ...tasks.map(taskBytes)));
  }

  result(mailbox: string): void {
    this.append(resultRecord(this.clock.now(), mailbox, ++this.results));
  }

  turns(count = 1): void {
    for (let turn = 0; turn < count; turn++) {
      this.upkeep.run();
      this.clock.advance(1000);
    }
  }

  /** Slots by task id, in the order of acceptance. */
  get tasks(): Map<string, number> {
    const { tasks } = this.owner.state;
    const slots = [...tasks.slots()].sort((a, b) => tasks.order[a]! - tasks.order[b]!);
    return new Map(slots.map((slot) => [this.owner.endings.facts(slot).id, slot]));
  }

  cancel(...ids: readonly string[]): void {
    for (const id of ids) this.owner.cancel(this.tasks.get(id)!, '', () => {});
    this.clock.advance(100);
  }

  kill(id: string): void {
    this.owner.expire(this.tasks.get(id)!, 'deadline', 'too late');
    this.clock.advance(100);
  }

  /** Orders of what waits in that mailbox. */
  orders(mailbox: string): number[] {
    const { tasks, mailboxes } = this.owner.state;
    const slots = [...tasks.slots()].filter((slot) => mailboxes.name(tasks.mailbox[slot]!) === mailbox);
    return slots.map((slot) => tasks.order[slot]!).sort((a, b) => a - b);
  }

  get first(): number {
    return this.log.extent(0).first;
  }
}

describe('the log', () => {
  test('is not cut as long as no checkpoint repeats what the cut would forget', () => {
    const shard = new Shard(NEVER);
    shard.publish({ id: 'a' });
    shard.cancel('a');
    shard.turns(10);
    expect(shard.first).toBe(1);
  });

  test('is cut below the oldest task that lives, and moves on when that ends', () => {
    const shard = new Shard({ ...EAGER, wasteBytes: Infinity });
    shard.publish({ id: 'a' });
    shard.publish({ id: 'b' });
    const { order } = shard.owner.state.tasks;
    const record = Math.floor(order[shard.tasks.get('b')!]! / 8192);
    shard.cancel('a');
    shard.turns(10);
    expect(shard.first).toBe(record);
    shard.cancel('b');
    shard.turns(10);
    expect(shard.first).toBeGreaterThan(record);
  });

  test('is not cut above a result that was not forwarded', () => {
    const shard = new Shard({ ...EAGER, wasteBytes: Infinity });
    shard.publish({ id: 'a', requester: 'asker' });
    shard.cancel('a');
    const { outbox } = shard.owner.state;
    const record = outbox.oldest();
    shard.turns(10);
    expect([shard.first, outbox.size]).toEqual([record, 1]);
    for (const done of shard.forwarding) done();
    shard.clock.advance(100);
    shard.turns(10);
    expect([shard.first > record, outbox.size]).toEqual([true, 0]);
  });

  test('does not grow for one old task: it is copied forward, and is the same for who reads the rest', () => {
    const shard = new Shard(EAGER);
    shard.publish({ id: 'old', type: 'ocr', priority: 5 }, { id: 'dead', type: 'ocr' });
    shard.kill('dead');
    for (let number = 0; number < 20; number++) {
      shard.publish({ id: `${number}`, payload: 'x'.repeat(1000) });
      shard.cancel(`${number}`);
    }
    const ordered = shard.orders('planner');
    shard.turns(20);
    expect(shard.first).toBeGreaterThan(40);
    shard.restart();
    expect([shard.orders('planner'), shard.orders('dead:planner')]).toEqual([ordered, [ordered[0]! + 1]]);
    const { state, ready } = shard.owner;
    expect(ready.peek(state.mailboxes.find('planner'))).toBe(shard.tasks.get('old'));
    expect(state.deaths.get(shard.tasks.get('dead')!)?.error).toBe('too late');
  });

  test('becomes short also when nothing more comes: what held it has ended, and a checkpoint alone makes room', () => {
    const shard = new Shard({ checkpointBytes: Infinity, wasteBytes: 1000 });
    shard.publish({ id: 'a', payload: 'x'.repeat(5000) });
    shard.cancel('a');
    shard.turns(5);
    expect(shard.first).toBeGreaterThan(2);
  });

  test('becomes short also when a checkpoint frees little: it lets the old tasks behind it be copied', () => {
    const shard = new Shard({ checkpointBytes: Infinity, wasteBytes: 2000 });
    shard.publish({ id: 'gone' });
    shard.publish({ id: 'old' });
    shard.cancel('gone');
    for (let number = 0; number < 20; number++) {
      shard.publish({ id: `${number}`, payload: 'x'.repeat(1000) });
      shard.cancel(`${number}`);
    }
    shard.turns(20);
    expect(shard.log.extent(0).bytes).toBeLessThan(5000);
    expect([...shard.tasks.keys()]).toEqual(['old']);
  });

  test('is short again after tasks have come and gone while it was copied', () => {
    const shard = new Shard({ checkpointBytes: 2000, checkpointShare: 0, wasteBytes: 2000, copyBytes: 500 });
    for (let number = 0; number < 40; number++) {
      shard.publish({ id: `old ${number}`, payload: 'x'.repeat(200) });
      shard.publish({ id: `${number}`, payload: 'x'.repeat(1000) });
      shard.cancel(`${number}`);
      shard.turns();
    }
    shard.turns(100);
    const { bytes } = shard.log.extent(0);
    expect(bytes).toBeLessThan(5 * shard.owner.state.bytes);
    const { last } = shard.log.extent(0);
    shard.turns(50);
    expect(shard.log.extent(0).last).toBe(last);
  });

  test('of a shard at rest is not written on: old tasks are copied once', () => {
    const shard = new Shard({ checkpointBytes: 200, checkpointShare: 0, wasteBytes: 200 });
    for (let number = 0; number < 20; number++) {
      shard.publish({ id: `${number}`, payload: 'x'.repeat(500) });
      shard.publish({ id: `gone ${number}`, payload: 'x'.repeat(500) });
      shard.cancel(`gone ${number}`);
    }
    shard.turns(200);
    const { last } = shard.log.extent(0);
    shard.turns(50);
    expect([shard.log.extent(0).last, shard.tasks.size]).toEqual([last, 20]);
  });

  test('that was cut does not forget ids: what comes again is still no new task', () => {
    const shard = new Shard(EAGER);
    shard.publish({ id: 'a' });
    shard.cancel('a');
    shard.turns(10);
    expect(shard.first).toBeGreaterThan(2);
    shard.restart();
    shard.publish({ id: 'a' }, { id: 'b' });
    expect([...shard.tasks.keys()]).toEqual(['b']);
    shard.turns(10);
    shard.restart();
    expect([...shard.tasks.keys()]).toEqual(['b']);
  });
});

describe('what nobody asks for', () => {
  test('is kept for its time: a task, then its dead letter', () => {
    const shard = new Shard(NEVER);
    shard.publish({ id: 'a' });
    shard.clock.advance(RETENTION.taskMs - 200);
    shard.turns();
    expect(shard.orders('planner')).toHaveLength(1);
    shard.turns(2);
    const slot = shard.tasks.get('a')!;
    expect([shard.orders('planner'), shard.owner.state.tasks.state[slot]]).toEqual([[], State.dead]);
    expect(shard.owner.state.deaths.get(slot)?.reason).toBe('retention');
    shard.clock.advance(RETENTION.deadLetterMs);
    shard.turns();
    expect(shard.tasks.size).toBe(0);
  });

  test('is kept for its time: a result', () => {
    const shard = new Shard(NEVER);
    shard.result('reply:asker');
    shard.clock.advance(RETENTION.resultMs - 200);
    shard.turns();
    expect(shard.orders('reply:asker')).toHaveLength(1);
    shard.turns(2);
    expect(shard.orders('reply:asker')).toEqual([]);
  });

  test('is kept as long as it was to be delayed', () => {
    const shard = new Shard(NEVER);
    const notBeforeMs = shard.clock.now() + 2 * RETENTION.taskMs;
    shard.publish({ id: 'a', notBeforeMs });
    shard.clock.advance(RETENTION.taskMs + DAY);
    shard.turns(3);
    expect(shard.orders('planner')).toHaveLength(1);
  });

  test('makes room for the latest results of its mailbox, and of no other', () => {
    const shard = new Shard(NEVER);
    // Slots that are used again do not say which is older.
    for (const mailbox of ['reply:asker', 'reply:other', 'reply:asker']) shard.result(mailbox);
    shard.owner.purge([...shard.owner.state.tasks.slots()][0]!);
    shard.clock.advance(100);
    for (let number = 0; number < 3; number++) shard.result('reply:asker');
    const before = shard.orders('reply:asker');
    shard.turns(5);
    expect(shard.orders('reply:asker')).toEqual(before.slice(-2));
    expect(shard.orders('reply:other')).toHaveLength(1);
  });

  test('makes room for the latest dead letters of its mailbox, by the time of their deaths', () => {
    const shard = new Shard(NEVER);
    shard.publish({ id: 'a' }, { id: 'b' }, { id: 'c' }, { id: 'd' });
    for (const id of ['d', 'b', 'a', 'c']) shard.kill(id);
    shard.turns(5);
    expect([...shard.tasks.keys()]).toEqual(['a', 'c']);
  });
});
