// For inner loops, where expect() would take most of the time.
import { equal } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SlotHeap } from '../../../src/core/heap.ts';

function drain(heap: SlotHeap): number[] {
  const slots: number[] = [];
  while (heap.size > 0) slots.push(heap.pop());
  return slots;
}

describe('a heap of slots', () => {
  test('gives slots in the order of their keys', () => {
    const heap = new SlotHeap();
    heap.push(7, 30);
    heap.push(1_000_000, 10);
    heap.push(0, 20);
    expect([heap.peek(), heap.peekKey()]).toEqual([1_000_000, 10]);
    expect(drain(heap)).toEqual([1_000_000, 0, 7]);
  });

  test('when empty has no slot, and its next key is never', () => {
    const heap = new SlotHeap();
    expect([heap.peek(), heap.pop(), heap.peekKey(), heap.size]).toEqual([-1, -1, Infinity, 0]);
    expect([heap.has(5), heap.remove(5), heap.update(5, 1)]).toEqual([false, false, false]);
  });

  test('holds a slot once: pushing it again moves it', () => {
    const heap = new SlotHeap();
    heap.push(1, 10);
    heap.push(2, 20);
    heap.push(1, 30);
    expect(heap.size).toBe(2);
    expect(drain(heap)).toEqual([2, 1]);
  });

  test('updates and removes in the middle', () => {
    const heap = new SlotHeap();
    for (let slot = 0; slot < 10; slot++) heap.push(slot, slot);
    expect(heap.update(9, -1)).toBe(true);
    expect(heap.update(0, 99)).toBe(true);
    expect(heap.remove(5)).toBe(true);
    expect(heap.has(5)).toBe(false);
    expect(drain(heap)).toEqual([9, 1, 2, 3, 4, 6, 7, 8, 0]);
  });

  test('gives equal keys in the order of their ties, also after an update', () => {
    const heap = new SlotHeap();
    heap.push(1, 5, 30);
    heap.push(2, 5, 10);
    heap.push(3, 9, 20);
    heap.update(3, 5);
    expect(drain(heap)).toEqual([2, 3, 1]);
  });

  test('takes Infinity as never and refuses what is not a number', () => {
    const heap = new SlotHeap();
    heap.push(1, Infinity);
    heap.push(2, 5);
    expect(() => heap.push(3, NaN)).toThrow(RangeError);
    expect(() => heap.update(2, NaN)).toThrow(RangeError);
    expect(drain(heap)).toEqual([2, 1]);
  });

  test('is always in order, whatever is pushed, updated and removed', () => {
    const operation = fc.record({
      act: fc.constantFrom('push', 'push', 'push', 'update', 'remove', 'pop'),
      slot: fc.nat(40),
      key: fc.oneof(fc.nat(10), fc.double({ noNaN: true })),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 300, size: 'max' }), (operations) => {
        const heap = new SlotHeap();
        const model = new Map<number, number>();
        for (const { act, slot, key } of operations) {
          if (act === 'push') {
            heap.push(slot, key);
            model.set(slot, key);
          } else if (act === 'update') {
            equal(heap.update(slot, key), model.has(slot));
            if (model.has(slot)) model.set(slot, key);
          } else if (act === 'remove') {
            equal(heap.remove(slot), model.delete(slot));
          } else {
            const first = heap.peekKey();
            const popped = heap.pop();
            equal(first, model.get(popped) ?? Infinity);
            model.delete(popped);
          }
          equal(heap.size, model.size);
          equal(heap.has(slot), model.has(slot));
          // Math.min and === agree on keys up to the sign of zero, which orders nothing.
          equal(heap.peekKey() === Math.min(Infinity, ...model.values()), true);
          if (model.size > 0) equal(model.get(heap.peek()) === heap.peekKey(), true);
        }
        const keys = drain(heap).map((slot) => model.get(slot)!);
        equal(
          keys.every((key, index) => index === 0 || keys[index - 1]! <= key),
          true,
        );
        equal(keys.length, model.size);
      }),
      { numRuns: 300 },
    );
  });
});
