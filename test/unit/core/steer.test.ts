import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Berth } from '../../../src/core/steer.ts';
import { homeOf, overflow } from '../../../src/core/steer.ts';

describe('the home of a session', () => {
  test.each([
    ['is the owner of more than half of its attachments', { a: 1, b: 3 }, 'b'],
    ['is nowhere else if this broker owns them', { self: 3, b: 1 }, undefined],
    ['is nowhere if they are spread evenly', { a: 2, b: 2 }, undefined],
    ['is nowhere if it has none', {}, undefined],
  ])('%s', (_, owners, home) => {
    expect(homeOf('self', new Map(Object.entries(owners)))).toBe(home);
  });
});

const berth = (id: string, sessions: number, loadScore = 0): Berth => ({ id, sessions, loadScore });

describe('sessions overflow', () => {
  test('to the broker that has fewest', () => {
    expect(overflow('round-robin', berth('self', 90), [berth('a', 30), berth('b', 0)])).toEqual({
      to: 'b',
      share: 50 / 90,
    });
  });

  test('to the broker with the lowest load, whatever sessions it has', () => {
    const others = [berth('a', 0, 0.5), berth('b', 900, 0.1)];
    expect(overflow('capacity', berth('self', 10, 0.9), others)).toMatchObject({ to: 'b' });
  });

  test('not for small differences, not alone, and not if they shall stay', () => {
    expect(overflow('owner', berth('self', 11), [berth('a', 10)])).toBeUndefined();
    expect(overflow('capacity', berth('self', 10, 0.3), [berth('a', 0, 0.2)])).toBeUndefined();
    expect(overflow('owner', berth('self', 11), [])).toBeUndefined();
    expect(overflow('stay', berth('self', 1000), [berth('a', 0)])).toBeUndefined();
  });

  test('so that in the end all have about as many, and nobody moves any more', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(500), { minLength: 2, maxLength: 8 }), (counts) => {
        const brokers = counts.map((sessions, index) => berth(`b${index}`, sessions));
        for (let round = 0; round < 200; round++) {
          for (let self = 0; self < brokers.length; self++) {
            const others = brokers.filter((_, index) => index !== self);
            const excess = overflow('owner', brokers[self]!, others);
            if (!excess) continue;
            const moving = Math.ceil(brokers[self]!.sessions * excess.share * 0.1);
            const to = brokers.findIndex(({ id }) => id === excess.to);
            brokers[self] = berth(`b${self}`, brokers[self]!.sessions - moving);
            brokers[to] = berth(`b${to}`, brokers[to]!.sessions + moving);
          }
        }
        for (const self of brokers) {
          const others = brokers.filter(({ id }) => id !== self.id);
          expect(overflow('owner', self, others)).toBeUndefined();
        }
      }),
    );
  });
});
