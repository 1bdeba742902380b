import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Atlas } from '../../../src/core/atlas.ts';
import { assignPools, UNASSIGNED } from '../../../src/core/assignment.ts';
import { fnv1aText } from '../../../src/core/fnv1a.ts';
import type { PlacementRule } from '../../../src/core/placement.ts';
import type { Pools } from '../../../src/core/pools.ts';
import { MAX_SHARDS, poolOf, shardsOf, withPool } from '../../../src/core/pools.ts';
import { shardOf } from '../../../src/core/shard.ts';

const POOLS: Pools = [
  { name: 'default', first: 0, shards: 16 },
  { name: 'eu-west', first: 16, shards: 4 },
  { name: 'hot', first: 20, shards: 8 },
];

function atlas(...rules: PlacementRule[]): Atlas {
  return new Atlas({ pools: POOLS, rules: { version: 1, defaultPool: 'default', rules } });
}

describe('where mailboxes live', () => {
  test('is the shard of their hash while there are no rules, however it is asked for', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^(reply:|dead:|type:)?[a-z]{1,9}$/), (mailbox) => {
        const plain = Atlas.plain(16);
        expect(plain.shardOf(mailbox)).toBe(shardOf(mailbox, 16));
        expect(plain.shardOfBytes(Buffer.from(mailbox), mailbox)).toBe(shardOf(mailbox, 16));
        expect(atlas().shardOf(mailbox)).toBe(shardOf(mailbox, 16));
        const homely = /^type:/.test(mailbox) || !mailbox.includes(':');
        if (homely) expect(plain.shardOfHash(mailbox, fnv1aText(mailbox))).toBe(shardOf(mailbox, 16));
      }),
    );
  });

  test('is among the shards of the pool that the rules say, with their replies and dead letters', () => {
    const some = atlas({ pool: 'eu-west', region: 'eu-west' }, { pool: 'hot', taskTypes: 'ocr*' });
    const poolAt = (mailbox: string) => poolOf(POOLS, some.shardOf(mailbox))?.name;
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z]{1,9}$/), (name) => {
        expect(poolAt(name)).toBe('default');
        for (const mailbox of [`${name}@eu-west`, `reply:${name}@eu-west`, `dead:reply:${name}@eu-west#1`]) {
          expect(poolAt(mailbox)).toBe('eu-west');
          expect(some.shardOf(mailbox)).toBe(some.shardOf(`${name}@eu-west`));
        }
        expect(poolAt(`dead:type:ocr${name}`)).toBe('hot');
      }),
    );
  });

  test('is the default pool if a rule names one of which nobody has heard', () => {
    expect(atlas({ pool: 'mars', agents: '*' }).shardOf('planner')).toBe(shardOf('planner', 16));
  });

  test('is another one once the layout has changed', () => {
    const one = Atlas.plain(16);
    expect(one.isUntouched).toBe(true);
    one.change(atlas({ pool: 'hot', agents: 'planner' }).layout);
    expect([one.isUntouched, one.place('planner').pool]).toEqual([false, 'hot']);
  });

  test('of the parts of a split capability are as many shards as there can be, and each task has one of them', () => {
    const split = atlas({ pool: 'hot', taskTypes: 'ocr', spread: 8 });
    const lanes = split.lanes('type:ocr');
    expect(lanes).toEqual(Array.from({ length: 8 }, (_, number) => `type:ocr~${number}`));
    expect(new Set(lanes.map((lane) => split.shardOf(lane))).size).toBe(8);
    expect(split.lanes('type:ocr~3')).toEqual(['type:ocr~3']);
    expect(split.lanes('dead:type:ocr')).toEqual(['dead:type:ocr']);
    expect(split.lanes('planner')).toEqual(['planner']);
    expect(split.shardOf('dead:type:ocr~3')).toBe(split.shardOf('type:ocr~3'));
    fc.assert(
      fc.property(fc.nat(0xffffffff), (word) => {
        expect(split.laneOf('type:ocr', word)).toBe(`type:ocr~${word % 8}`);
        expect(split.laneOf('planner', word)).toBe('planner');
      }),
    );
  });
});

describe('pools', () => {
  test('stand one behind the other, and only ever grow', () => {
    const two = withPool(POOLS.slice(0, 1), 'eu-west', 4);
    expect(withPool(two, 'hot', 8)).toEqual(POOLS);
    expect(withPool(two, 'eu-west', 99)).toBe(two);
    expect(shardsOf(POOLS)).toBe(28);
    expect([15, 16, 19, 20, 27].map((shard) => poolOf(POOLS, shard)?.name)).toEqual([
      'default',
      'eu-west',
      'eu-west',
      'hot',
      'hot',
    ]);
    expect(poolOf(POOLS, 28)).toBeUndefined();
  });

  test('have no more shards than numbers', () => {
    expect(() => withPool(POOLS, 'huge', MAX_SHARDS - 27)).toThrow(/ 65507 left/);
    expect(shardsOf(withPool(POOLS, 'huge', MAX_SHARDS - 28))).toBe(MAX_SHARDS);
  });

  test('give their shards to their own brokers, as equally as they can', () => {
    const broker = fc.record({
      id: fc.stringMatching(/^[a-z]{3}$/),
      pool: fc.constantFrom('default', 'eu-west', 'hot'),
      version: fc.constant('1.0.0'),
      draining: fc.constant(false),
    });
    fc.assert(
      fc.property(fc.uniqueArray(broker, { selector: ({ id }) => id, maxLength: 9 }), (brokers) => {
        const assignment = assignPools(UNASSIGNED, brokers, POOLS);
        expect(assignment.owners).toHaveLength(28);
        for (const { name, first, shards } of POOLS) {
          const own = brokers.filter(({ pool }) => pool === name).map(({ id }) => id);
          const owners = assignment.owners.slice(first, first + shards);
          const counts = own.map((id) => owners.filter((owner) => owner === id).length);
          expect(owners.every((owner) => (own.length === 0 ? owner === '' : own.includes(owner)))).toBe(true);
          if (own.length > 0) expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
        }
        expect(assignPools(assignment, brokers, POOLS)).toEqual(assignment);
      }),
    );
  });

  test('keep the pins of their shards, and leave those alone of pools that are not known yet', () => {
    const member = (id: string, pool: string) => ({ id, pool, version: '1', draining: false });
    const members = [member('a', 'eu-west'), member('b', 'eu-west'), member('c', 'default')];
    const before = assignPools(UNASSIGNED, members, POOLS);
    const pinned = assignPools({ ...before, pins: { 17: 'b', 18: 'b', 19: 'b' } }, members, POOLS);
    expect(pinned.pins).toEqual({ 17: 'b', 18: 'b', 19: 'b' });
    expect(pinned.owners.slice(16, 20)).toEqual(['a', 'b', 'b', 'b']);
    const partly = assignPools({ owners: Array(28).fill('x'), pins: {} }, members, POOLS.slice(0, 2));
    expect(partly.owners.slice(20)).toEqual(Array(8).fill('x'));
  });
});
