import { expect, test } from '@jest/globals';
import { Owner } from '../../../src/broker/owner.ts';
import { Atlas } from '../../../src/core/atlas.ts';
import { MemoryLog } from '../../../src/log/memory.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { silent } from '../../../src/std/logger.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { taskBytes, taskRecord } from '../../support/tasks.ts';

test('an owner whose last words take long to write does not turn in circles when a task becomes due meanwhile', () => {
  const clock = new VirtualClock();
  const log = new MemoryLog({ clock, shards: 1 });
  const notBeforeMs = clock.now() + 1000;
  const bytes = taskRecord(
    clock.now(),
    taskBytes({ id: 'late', to: 'ann', notBeforeMs }),
    taskBytes({ id: 'waits', to: 'bob' }),
  );
  log.append(0, { subject: 'tasks', bytes, id: '' }, () => {});
  clock.advance(100);

  let answers = true;
  const { append } = log;
  log.append = (shard, record, done) => {
    if (answers) append.call(log, shard, record, done);
  };
  const owner = new Owner({
    shard: 0,
    log,
    atlas: Atlas.plain(1),
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
    strangersUntil: () => clock.now(),
    forward: () => {},
    isAlive: () => true,
    starved: () => false,
    lost: (error) => {
      throw error;
    },
  });
  owner.follow(() => owner.begin(0, () => owner.deliver()));
  clock.advance(100);
  expect(owner.serving).toBe(true);

  answers = false;
  let slot = -1;
  for (const each of owner.state.tasks.slots()) if (owner.endings.facts(each).id === 'waits') slot = each;
  owner.cancel(slot, 'so that there is something to write', () => {});
  owner.handOver(() => {});
  const until = clock.now() + 2000;
  // Throws after so many calls.
  clock.run(() => clock.now() >= until, 1000);
  expect(owner.serving).toBe(false);
});
