import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Assignable, Assignment } from '../../../src/core/assignment.ts';
import { assign, sameAssignment, UNASSIGNED } from '../../../src/core/assignment.ts';

const broker = (id: string, more: Partial<Assignable> = {}): Assignable => ({
  id,
  version: '1.0.0',
  draining: false,
  ...more,
});
const [a, b, c] = [broker('a'), broker('b'), broker('c')];

const count = ({ owners }: Assignment, id: string): number => owners.filter((owner) => owner === id).length;
const moved = (from: Assignment, to: Assignment): number[] =>
  [...to.owners.keys()].filter((shard) => from.owners[shard] !== to.owners[shard]);

const someBroker = fc.record({
  id: fc.integer({ min: 0, max: 30 }).map((number) => `b${number}`),
  version: fc.constantFrom('1.0.0', '1.1.0'),
  draining: fc.boolean(),
});
const someBrokers = fc.uniqueArray(someBroker, { selector: ({ id }) => id, maxLength: 12 });
const shardCount = fc.integer({ min: 1, max: 40 });

/** An assignment as it may have been left behind. */
const someAssignment = fc.record({
  owners: fc.array(
    fc.integer({ min: -1, max: 30 }).map((number) => (number < 0 ? '' : `b${number}`)),
    { maxLength: 40 },
  ),
  pins: fc.dictionary(
    fc.integer({ min: 0, max: 39 }).map(String),
    fc.integer({ min: 0, max: 30 }).map((number) => `b${number}`),
    { maxKeys: 4 },
  ),
});

describe('the assignment', () => {
  test('of the first broker gives it everything, and the next ones take their part from it', () => {
    const one = assign(UNASSIGNED, [a], { shards: 4 });
    expect(one.owners).toEqual(['a', 'a', 'a', 'a']);
    const two = assign(one, [a, b], { shards: 4 });
    expect(two.owners).toEqual(['a', 'a', 'b', 'b']);
  });

  test('of nobody gives nothing', () => {
    expect(assign({ owners: ['a', 'a'], pins: {} }, [], { shards: 2 }).owners).toEqual(['', '']);
  });

  test('is as even as it can be', () => {
    fc.assert(
      fc.property(someAssignment, someBrokers, shardCount, ({ owners }, members, shards) => {
        const next = assign({ owners, pins: {} }, members, { shards });
        expect(next.owners).toHaveLength(shards);
        const able = members.filter(({ draining }) => !draining);
        fc.pre(able.length > 0);
        const counts = able.map(({ id }) => count(next, id));
        expect(counts.reduce((sum, each) => sum + each, 0)).toBe(shards);
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('moves no more shards than that takes', () => {
    fc.assert(
      fc.property(someAssignment, someBrokers, shardCount, ({ owners }, members, shards) => {
        const previous = { owners, pins: {} };
        const able = members.filter(({ draining }) => !draining);
        fc.pre(able.length > 0);
        const next = assign(previous, members, { shards });
        // The best way leaves floor(mean) to everyone, and one more to those who have it, as far as it goes.
        const held = able.map(({ id }) => owners.slice(0, shards).filter((owner) => owner === id).length);
        const low = Math.floor(shards / able.length);
        const kept = held.map((each) => Math.min(each, low)).reduce((sum, each) => sum + each, 0);
        const extra = Math.min(shards % able.length, held.filter((each) => each > low).length);
        expect(moved({ owners: owners.slice(0, shards), pins: {} }, next)).toHaveLength(
          shards - kept - extra,
        );
      }),
    );
  });

  test('stays what it is while the brokers stay, in whatever order they are named', () => {
    fc.assert(
      fc.property(someAssignment, someBrokers, shardCount, (previous, members, shards) => {
        const next = assign(previous, members, { shards });
        expect(assign(previous, members.toReversed(), { shards })).toEqual(next);
        const again = assign(next, members, { shards });
        expect(again).toEqual(next);
        expect(sameAssignment(again, next)).toBe(true);
      }),
    );
  });

  test('takes everything from a broker that drains, and nothing else', () => {
    const before = assign(UNASSIGNED, [a, b, c], { shards: 9 });
    const after = assign(before, [a, { ...b, draining: true }, c], { shards: 9 });
    expect(count(after, 'b')).toBe(0);
    expect(moved(before, after)).toHaveLength(3);
  });

  test('leaves everything where it is when all drain, and only finds somebody for what is orphaned', () => {
    const before = { owners: ['a', 'a', 'a', 'b', 'gone', ''], pins: {} };
    const all = [a, b].map((each) => ({ ...each, draining: true }));
    expect(assign(before, all, { shards: 6 }).owners).toEqual(['a', 'a', 'a', 'b', 'b', 'b']);
  });

  test('never gives a shard to a broker that drains while another does not', () => {
    fc.assert(
      fc.property(someAssignment, someBrokers, shardCount, (previous, members, shards) => {
        fc.pre(members.some(({ draining }) => !draining));
        const { owners } = assign(previous, members, { shards });
        const able = members.filter(({ draining }) => !draining).map(({ id }) => id);
        expect(owners.filter((owner) => !able.includes(owner))).toEqual([]);
      }),
    );
  });

  test('gives the odd shard of a rolling update to a newer broker', () => {
    const before = assign(UNASSIGNED, [a, b, c], { shards: 4 });
    expect(count(before, 'a')).toBe(2);
    const newer = [b, broker('d', { version: '1.10.0' }), broker('e', { version: '1.9.0' })];
    // a and c are gone: of their three shards two go to the newest.
    const after = assign(before, newer, { shards: 4 });
    expect([count(after, 'b'), count(after, 'd'), count(after, 'e')]).toEqual([1, 2, 1]);
  });

  test('gives a pinned shard to its broker, and evens out the rest', () => {
    const pins = { 0: 'b', 1: 'b', 2: 'b' };
    const next = assign({ owners: Array<string>(8).fill('a'), pins }, [a, b, c], { shards: 8 });
    expect(next.owners.slice(0, 3)).toEqual(['b', 'b', 'b']);
    expect([count(next, 'a'), count(next, 'b'), count(next, 'c')].sort()).toEqual([2, 3, 3]);
    expect(next.pins).toEqual(pins);
  });

  test('gives a pinned shard to others while its broker drains, and then gives it back', () => {
    const pinned = assign({ owners: [], pins: { 0: 'b' } }, [a, b], { shards: 2 });
    const meanwhile = assign(pinned, [a, { ...b, draining: true }], { shards: 2 });
    expect(meanwhile.owners).toEqual(['a', 'a']);
    expect(assign(meanwhile, [a, b], { shards: 2 }).owners).toEqual(['b', 'a']);
  });

  test('forgets a pin when its broker is gone', () => {
    const next = assign({ owners: ['b', 'a'], pins: { 0: 'b' } }, [a], { shards: 2 });
    expect(next).toEqual({ owners: ['a', 'a'], pins: {} });
  });

  test('honours every pin to a broker that can take it', () => {
    fc.assert(
      fc.property(someAssignment, someBrokers, shardCount, (previous, members, shards) => {
        const { owners } = assign(previous, members, { shards });
        const able = members.filter(({ draining }) => !draining).map(({ id }) => id);
        const pins = Object.entries(previous.pins).filter(
          ([shard, id]) => Number(shard) < shards && able.includes(id),
        );
        for (const [shard, id] of pins) expect(owners[Number(shard)]).toBe(id);
        // Whoever has more than the fewest has it by pins alone, but for one.
        fc.pre(able.length > 0);
        const total = able.map((id) => owners.filter((owner) => owner === id).length);
        for (const [index, id] of able.entries()) {
          const pinned = pins.filter(([, by]) => by === id).length;
          expect(total[index]).toBeLessThanOrEqual(Math.max(pinned, Math.min(...total) + 1));
        }
      }),
    );
  });

  test('of a hundred brokers that come and go moves only what it must', () => {
    const shards = 256;
    fc.assert(
      fc.property(fc.array(fc.nat(149), { minLength: 20, maxLength: 40 }), (toggles) => {
        let members = Array.from({ length: 100 }, (_, number) => broker(`b${number}`));
        let now = assign(UNASSIGNED, members, { shards });
        for (const number of toggles) {
          const id = `b${number}`;
          const there = members.some((member) => member.id === id);
          members = there ? members.filter((member) => member.id !== id) : [...members, broker(id)];
          const next = assign(now, members, { shards });
          const share = Math.ceil(shards / Math.min(members.length, members.length + (there ? 1 : -1)));
          expect(moved(now, next).length).toBeLessThanOrEqual(share);
          now = next;
        }
      }),
      { numRuns: 20 },
    );
  });
});
