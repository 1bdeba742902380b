import { describe, expect, test } from '@jest/globals';
import { readCapacity, writeCapacity } from '../../../src/wire/capacity.ts';
import type { Capacity } from '../../../src/wire/capacity.ts';
import { HubError } from '../../../src/std/errors.ts';

const capacity: Capacity = {
  broker: 'hub-0.a1b2',
  version: '1.0.0',
  time: 1_760_000_000_000,
  activeAgents: 3,
  activeTasks: 2,
  tasksPerSecond: 1.5,
  resultsPerSecond: 1.25,
  progressPerSecond: 0,
  messagesPerSecond: 2.75,
  cpu: 0.4,
  memory: 100_000_000,
  memoryHighWater: 1_000_000_000,
  eventLoopUtilization: 0.3,
  openConnections: 4,
  backlog: 0,
  oldestTaskAgeSeconds: 0.5,
  draining: false,
  loadScore: 0.35,
  shards: [{ shard: 0, queued: 1, bytes: 150, tasksPerSecond: 1.5 }],
};

function refusal(run: () => unknown): HubError {
  try {
    run();
  } catch (error) {
    if (error instanceof HubError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('the capacity document', () => {
  test('is read as it was written', () => {
    expect(readCapacity(writeCapacity(capacity))).toEqual(capacity);
  });

  test('may come from a newer broker, which says more', () => {
    const [shard] = capacity.shards;
    const newer = { ...capacity, region: 'eu', shards: [{ ...shard, heat: 9 }] };
    expect(readCapacity(JSON.stringify(newer))).toEqual(capacity);
  });

  test('is not written with anything unknown in it', () => {
    const [shard] = capacity.shards;
    for (const wrong of [
      { ...capacity, region: 'eu' },
      { ...capacity, shards: [{ ...shard, heat: 9 }] },
    ]) {
      expect(refusal(() => writeCapacity(wrong as Capacity)).code).toBe('internal');
    }
  });

  test.each<[string, unknown]>([
    ['broker', ''],
    ['time', 0],
    ['activeAgents', -1],
    ['activeTasks', 1.5],
    ['tasksPerSecond', Number.NaN],
    ['cpu', -0.1],
    ['eventLoopUtilization', 1.1],
    ['loadScore', '0.5'],
    ['draining', undefined],
    ['shards', [{ shard: 0 }]],
  ])('is neither written nor read with a wrong %s', (member, value) => {
    const wrong = { ...capacity, [member]: value };
    expect(refusal(() => writeCapacity(wrong as Capacity)).message).toContain(member);
    const error = refusal(() => readCapacity(JSON.stringify(wrong)));
    expect(error.code).toBe('invalid');
    expect(error.field).toContain(member);
  });

  test.each(['', '{', 'null', '[]', '"text"', '<html>'])('is not %j', (text) => {
    expect(refusal(() => readCapacity(text)).code).toBe('invalid');
  });
});
