import { expect, test } from '@jest/globals';
import type { Sink } from '../../../src/broker/consumer.ts';
import { Owner } from '../../../src/broker/owner.ts';
import { Atlas } from '../../../src/core/atlas.ts';
import type { Append, Log, LogReader, Reading } from '../../../src/log/log.ts';
import { MemoryLog } from '../../../src/log/memory.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import type { HubError } from '../../../src/std/errors.ts';
import { silent } from '../../../src/std/logger.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { taskBytes, taskRecord } from '../../support/tasks.ts';

/** Longer than anybody takes a silent broker for live. */
const LONG_MS = 5000;

const clock = new VirtualClock();
const random = new SeededRandom(1);

/** The log as a broker sees it that sleeps: what comes meanwhile it reads later, and not at once. */
class Window implements Log {
  readonly durability = 'memory';
  readonly generation: string;
  readonly shards = 1;
  readonly shared = false;
  asleep = false;
  readonly appended: Append[] = [];
  private readonly log: MemoryLog;
  private readonly late: (() => void)[] = [];

  constructor(log: MemoryLog) {
    this.log = log;
    this.generation = log.generation;
  }

  append(...[shard, append, done]: Parameters<Log['append']>): void {
    this.appended.push(append);
    this.log.append(shard, append, done);
  }

  read(shard: number, from: number, reader: LogReader): Reading {
    const later = (run: () => void): void => void (this.asleep ? this.late.push(run) : run());
    return this.log.read(shard, from, {
      record: (...record) => later(() => reader.record(...record)),
      caughtUp: () => later(() => reader.caughtUp()),
      failed: (error) => later(() => reader.failed(error)),
    });
  }

  readOn(): void {
    this.asleep = false;
    for (const run of this.late.splice(0)) run();
  }

  truncate(): void {}

  extent(shard: number) {
    return this.log.extent(shard);
  }

  room(): number {
    return Infinity;
  }

  fill() {
    return { taken: 0, limit: Infinity };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** An owner, what it has delivered, and why it has stopped. */
class Place {
  readonly log: Window;
  readonly owner: Owner;
  /** Since when its broker has been heard without a break. */
  heardSince = -Infinity;
  readonly delivered: string[] = [];
  error: HubError | undefined;

  constructor(log: MemoryLog) {
    this.log = new Window(log);
    this.owner = new Owner({
      shard: 0,
      log: this.log,
      atlas: Atlas.plain(1),
      clock,
      random,
      logger: silent,
      metrics: new Metrics({ clock, taskTypes: 10 }),
      balance: 'round-robin',
      delivery: { maxAttempts: 3, backoffInitialMs: 10, backoffMaxMs: 100 },
      tickMs: 1,
      known: new TextCache(64),
      knownIds: undefined,
      graceMs: 1000,
      strangersUntil: () => 0,
      forward: () => {},
      isAlive: () => true,
      starved: () => false,
      heardSince: () => this.heardSince,
      lost: (error) => (this.error = error),
    });
    this.owner.follow(() => this.owner.begin(0, () => this.owner.deliver()));
    clock.advance(10);
  }

  attach(session: string): void {
    const deliver: Sink['deliver'] = (_consumer, _lease, _attempt, _accepted, _isResult, bytes, start, end) =>
      this.delivered.push(/task-\d/.exec(Buffer.from(bytes.subarray(start, end)).toString())?.[0] ?? '?');
    const sink = {
      session,
      client: '',
      ready: () => true,
      leaseKept() {},
      leaseEnded() {},
      abort() {},
      tell() {},
    };
    this.owner.attach('ann', {
      ...{ number: 1, listener: false, types: new Set<string>(), taskIds: new Set<string>(), agent: '' },
      ...{ sink: { ...sink, deliver }, window: 5, maxWindow: 5, attachedAt: clock.now() },
    });
  }
}

function publish(log: MemoryLog, id: string): void {
  const bytes = taskRecord(clock.now(), taskBytes({ id, to: 'ann', payload: id }));
  log.append(0, { subject: 'tasks', bytes, id: '' }, () => {});
  clock.advance(10);
}

test('who has slept while another broker took its shard delivers nothing by what it knew before', () => {
  const log = new MemoryLog({ clock, shards: 1 });
  const former = new Place(log);
  publish(log, 'task-1');
  former.log.asleep = true;
  former.heardSince = Infinity;
  clock.advance(LONG_MS);
  const next = new Place(log);
  next.attach('000000000000000b');
  expect(next.delivered).toEqual(['task-1']);

  // It wakes, and hears of a worker before it reads in its log what has happened.
  former.attach('000000000000000a');
  former.heardSince = clock.now();
  former.attach('000000000000000c');
  clock.advance(100);
  former.log.readOn();
  clock.advance(100);
  expect(former.delivered).toEqual([]);
  expect(former.error).toMatchObject({ code: 'aborted' });
});

test('who has slept and was not replaced goes on when the log says so', () => {
  const log = new MemoryLog({ clock, shards: 1 });
  const place = new Place(log);
  publish(log, 'task-1');
  place.heardSince = Infinity;
  clock.advance(LONG_MS);
  const before = place.log.appended.length;
  place.attach('000000000000000a');
  expect(place.delivered).toEqual([]);
  clock.advance(10);
  expect(place.delivered).toEqual(['task-1']);
  expect(place.log.appended.length).toBe(before + 1);
  expect(place.error).toBeUndefined();
});

test('who is heard all the time asks nobody, however long it had nothing to do', () => {
  const log = new MemoryLog({ clock, shards: 1 });
  const place = new Place(log);
  place.attach('000000000000000a');
  clock.advance(100 * LONG_MS);
  const before = place.log.appended.length;
  publish(log, 'task-1');
  expect(place.delivered).toEqual(['task-1']);
  expect(place.log.appended.length).toBe(before);
});
