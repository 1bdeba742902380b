import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Catalog } from '../../../src/log/catalog.ts';

interface Place {
  readonly segment: number;
  readonly offset: number;
  readonly length: number;
}

describe('Catalog', () => {
  test('agrees with a map, whatever is noted, moved and forgotten', () => {
    const place = fc.record({
      segment: fc.integer({ min: 1, max: 5 }),
      offset: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      length: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
    });
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ add: place, times: fc.integer({ min: 1, max: 700 }) }) },
      { weight: 2, arbitrary: fc.record({ move: place, at: fc.float({ min: 0, max: 1, noNaN: true }) }) },
      { weight: 2, arbitrary: fc.record({ drop: fc.float({ min: 0, max: 1, noNaN: true }) }) },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 40 }), fc.array(step, { maxLength: 30 }), (start, steps) => {
        const catalog = new Catalog(start);
        const model = new Map<number, Place>();
        let first = start;
        let next = start;
        for (const step of steps) {
          if ('add' in step) {
            for (let i = 0; i < step.times; i++) {
              const { segment, offset, length } = step.add;
              catalog.put(next, segment, offset, length);
              model.set(next++, step.add);
            }
          } else if ('move' in step) {
            if (next === first) continue;
            const sequence = first + Math.floor(step.at * (next - first - 1));
            const moved = { ...step.move, length: model.get(sequence)?.length ?? 0 };
            catalog.put(sequence, moved.segment, moved.offset, moved.length);
            model.set(sequence, moved);
          } else {
            const before = first + Math.floor(step.drop * (next - first));
            catalog.drop(before);
            for (; first < before; first++) model.delete(first);
          }
        }
        const seen = [...model.keys()].map((sequence) => ({
          segment: catalog.segment(sequence),
          offset: catalog.offset(sequence),
          length: catalog.length(sequence),
        }));
        expect(seen).toEqual([...model.values()]);
        expect({ first: catalog.first, next: catalog.next }).toEqual({ first, next });
        expect(catalog.bytes).toBe([...model.values()].reduce((sum, { length }) => sum + length, 0));
        expect(catalog.segment(first - 1)).toBe(0);
        expect(catalog.segment(next)).toBe(0);
        const counts = new Map<number, number>();
        catalog.stretches(first, next, (segment, _first, records) => {
          counts.set(segment, (counts.get(segment) ?? 0) + records);
        });
        for (const { segment } of model.values()) counts.set(segment, (counts.get(segment) ?? 0) - 1);
        expect([...counts.values()].every((count) => count === 0)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('of a shard that was forgotten as a whole begins where it goes on', () => {
    const catalog = new Catalog(1);
    for (let sequence = 1; sequence <= 5000; sequence++) catalog.put(sequence, 1, sequence, 10);
    catalog.drop(5001);
    expect(catalog).toMatchObject({ first: 5001, next: 5001, bytes: 0 });
    catalog.drop(9000);
    catalog.put(9000, 2, 0, 7);
    expect(catalog).toMatchObject({ first: 9000, next: 9001, bytes: 7 });
  });

  test('knows what is absent', () => {
    const catalog = new Catalog(1);
    catalog.put(3, 7, 0, 5);
    const stretches: number[][] = [];
    catalog.stretches(1, 4, (...stretch) => stretches.push(stretch));
    expect(stretches).toEqual([
      [0, 1, 2, 0],
      [7, 3, 1, 5],
    ]);
  });
});
