import { describe, expect, test } from '@jest/globals';
import type { ErrorCode } from '../../../src/std/errors.ts';
import type { SimMember } from '../../support/sim-cluster.ts';
import { SimCluster } from '../../support/sim-cluster.ts';

/** Moves, and answers how it ended. */
function move(
  world: SimCluster,
  member: SimMember,
  shard: number,
  broker: string,
): ErrorCode | 'done' | undefined {
  let outcome: ErrorCode | 'done' | undefined;
  member.cluster.move(shard, broker, (error) => (outcome = error?.code ?? 'done'));
  expect(outcome).toBeUndefined();
  world.clock.advance(5000);
  return outcome;
}

describe('moving a shard by hand', () => {
  test('gives it to that broker, keeps it there, and evens out the rest', () => {
    const world = new SimCluster({ shards: 8 });
    const [a, b] = world.join('a', 'b');
    expect(move(world, b!, 0, 'b')).toBe('done');
    expect(world.owners[0]).toBe('b');
    expect(world.counts).toEqual({ a: 4, b: 4 });
    expect(a!.cluster.pinned(0)).toBe('b');
    world.join('c');
    expect(world.owners[0]).toBe('b');
  });

  test('holds while the broker is there and does not drain', () => {
    const world = new SimCluster({ shards: 4 });
    const [a, b] = world.join('a', 'b');
    move(world, a!, 0, 'b');
    b!.cluster.drain(true);
    world.clock.advance(100);
    expect(world.owners[0]).toBe('a');
    b!.cluster.drain(false);
    world.clock.advance(100);
    expect(world.owners[0]).toBe('b');
    b!.stop();
    world.clock.advance(100);
    expect(world.owners[0]).toBe('a');
    expect(a!.cluster.pinned(0)).toBeUndefined();
  });

  test('ends with unpin, which moves nothing by itself', () => {
    const world = new SimCluster({ shards: 4 });
    const [a] = world.join('a', 'b');
    move(world, a!, 0, 'b');
    const { owners } = world;
    let done = false;
    a!.cluster.unpin(0, (error) => (done = error === undefined));
    world.clock.advance(100);
    expect(done).toBe(true);
    expect(a!.cluster.pinned(0)).toBeUndefined();
    expect(world.owners).toEqual(owners);
  });

  test('is refused if there is no such shard or broker, or the broker drains', () => {
    const world = new SimCluster({ shards: 4 });
    const [a, b] = world.join('a', 'b');
    b!.cluster.drain(true);
    world.clock.advance(100);
    expect(move(world, a!, 4, 'a')).toBe('invalid');
    expect(move(world, a!, 0.5, 'a')).toBe('invalid');
    expect(move(world, a!, 0, 'x')).toBe('not_found');
    expect(move(world, a!, 0, 'b')).toBe('precondition');
  });

  test('says so if the store does not answer', () => {
    const world = new SimCluster({ shards: 4 });
    const [a] = world.join('a', 'b');
    a!.store.connect(false);
    expect(move(world, a!, 0, 'b')).toBe('unavailable');
  });

  test('by several brokers at once gives each what it wants', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const world = new SimCluster({ seed, shards: 8 });
      const all = world.join('a', 'b', 'c');
      let done = 0;
      all.forEach((member, shard) => {
        member.cluster.move(shard, member.id, (error) => {
          expect(error).toBeUndefined();
          done++;
        });
      });
      world.until(() => done === 3);
      world.clock.advance(1000);
      expect(world.owners.slice(0, 3)).toEqual(['a', 'b', 'c']);
    }
  });
});
