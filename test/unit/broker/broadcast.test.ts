import { expect, test } from '@jest/globals';
import type { Sink } from '../../../src/broker/consumer.ts';
import { Atlas } from '../../../src/core/atlas.ts';
import { Owner } from '../../../src/broker/owner.ts';
import { MemoryLog } from '../../../src/log/memory.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { silent } from '../../../src/std/logger.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { taskBytes, taskRecord } from '../../support/tasks.ts';

const GRACE = 1000;

/** A session that notes what it gets. */
function sinkOf(session: string, got: string[]): Sink {
  return {
    session,
    client: '',
    ready: () => true,
    deliver: (_consumer, _lease, _attempt, _accepted, _isResult, bytes, start, end) =>
      got.push(`${session} ${Buffer.from(bytes.subarray(start, end)).includes('hello') ? 'hello' : '?'}`),
    leaseKept() {},
    leaseEnded() {},
    abort() {},
    tell() {},
  };
}

test('a broadcast that was acknowledged before the broker died reaches those who come back', () => {
  const clock = new VirtualClock();
  const log = new MemoryLog({ clock, shards: 1 });
  const bytes = taskRecord(clock.now(), taskBytes({ id: 'b', to: '*', payload: 'hello' }));
  log.append(0, { subject: 'tasks', bytes, id: '' }, () => {});
  clock.advance(100);

  // Another shard takes longer.
  const readyAt = clock.now() + 2.5 * GRACE;
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
    graceMs: GRACE,
    strangersUntil: () => readyAt + GRACE,
    forward: () => {},
    isAlive: () => true,
    starved: () => false,
    lost: (error) => {
      throw error;
    },
  });
  owner.follow(() => owner.begin(0, () => owner.deliver()));
  clock.advance(3 * GRACE);

  const got: string[] = [];
  const spec = { number: 1, listener: false, types: new Set(''), taskIds: new Set(''), agent: '' };
  for (const [mailbox, session] of [
    ['ann', '000000000000000a'],
    ['bob', '000000000000000b'],
  ] as const) {
    owner.attach(mailbox, {
      ...spec,
      sink: sinkOf(session, got),
      window: 5,
      maxWindow: 5,
      attachedAt: clock.now(),
    });
  }
  clock.advance(GRACE);
  expect(got.sort()).toEqual(['000000000000000a hello', '000000000000000b hello']);
});
