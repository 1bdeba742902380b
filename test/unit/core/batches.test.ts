import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Batches } from '../../../src/core/batches.ts';
import { NONE, orderOf } from '../../../src/core/task-table.ts';

describe("the log's records that still hold something", () => {
  test('keep their bytes until the last task has gone', () => {
    const batches = new Batches();
    const id = batches.open(5, new Uint8Array(100), 2);
    batches.retain(id);
    batches.release(id);
    expect([batches.retainedBytes, batches.bytes(id).length, batches.sequence(id)]).toEqual([100, 100, 5]);
    batches.release(id);
    expect(batches.retainedBytes).toBe(0);
    expect(() => batches.bytes(id)).toThrow(RangeError);
  });

  test('say where a task of theirs is, by sequence and index', () => {
    const batches = new Batches();
    const id = batches.open(5, new Uint8Array(9), 3);
    expect(batches.place(id, orderOf(5, 2), 44)).toBe(true);
    expect([batches.slotAt(5, 2), batches.slotAt(5, 1), batches.slotAt(6, 2)]).toEqual([44, NONE, NONE]);
    expect([...Array.from(batches.placed(id))]).toEqual([NONE, NONE, 44]);
    batches.release(id);
    expect(batches.slotAt(5, 2)).toBe(NONE);
  });

  test("of an owner's record, the order of a task says nothing", () => {
    const batches = new Batches();
    const id = batches.open(9, new Uint8Array(9), 0);
    expect(batches.place(id, orderOf(5, 2), 44)).toBe(false);
    expect([batches.slotAt(9, 2), batches.slotAt(5, 2)]).toEqual([NONE, NONE]);
    expect(Array.from(batches.placed(id))).toEqual([44]);
  });

  test('the oldest of them is the one with the lowest sequence, in whatever order they end', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { maxLength: 300 }), (picks) => {
        const batches = new Batches();
        const live = new Map<number, number>();
        let sequence = 0;
        for (const pick of picks) {
          if (pick % 2 === 0) live.set(++sequence, batches.open(sequence, new Uint8Array(3), pick % 3));
          else if (live.size > 0) {
            const [ending, id] = [...live][pick % live.size]!;
            batches.release(id);
            live.delete(ending);
          }
          const oldest = batches.oldest();
          expect(oldest === NONE ? Infinity : batches.sequence(oldest)).toBe(Math.min(...live.keys()));
          expect(batches.retainedBytes).toBe(3 * live.size);
        }
      }),
      { numRuns: 50 },
    );
  });

  test('the numbers of thousands of short-lived ones stay small', () => {
    const batches = new Batches();
    let highest = 0;
    for (let sequence = 1; sequence <= 10_000; sequence++) {
      const id = batches.open(sequence, new Uint8Array(1), 1);
      highest = Math.max(highest, id);
      batches.release(id);
      batches.oldest();
    }
    expect(highest).toBeLessThan(4);
  });
});
