import { describe, expect, test } from '@jest/globals';
import { LeaseQueue } from '../../../src/broker/lease-queue.ts';

function taken(queue: LeaseQueue, until: number): string[] {
  const leases: string[] = [];
  queue.take(until, Infinity, ({ slot, order, delivery, session }) =>
    leases.push(`${slot} ${order} ${delivery} ${session}`),
  );
  return leases;
}

describe('leases that are not written yet', () => {
  test('are taken out when they are old enough, oldest first, each once', () => {
    const queue = new LeaseQueue();
    queue.push(1, 10, 1, 'a', 100);
    queue.push(2, 20, 3, 'b', 105);
    queue.push(3, 30, 1, 'a', 110);
    expect([queue.size, queue.oldest]).toEqual([3, 100]);
    expect(taken(queue, 99)).toEqual([]);
    expect(taken(queue, 105)).toEqual(['1 10 1 a', '2 20 3 b']);
    expect([queue.size, queue.oldest, queue.slotsOf('a'), queue.slotsOf('b')]).toEqual([1, 110, [3], []]);
    expect(taken(queue, Infinity)).toEqual(['3 30 1 a']);
    expect([queue.size, queue.oldest]).toEqual([0, Infinity]);
  });

  test('are not mixed up when thousands have gone through', () => {
    const queue = new LeaseQueue();
    const seen: number[] = [];
    for (let slot = 0; slot < 10_000; slot++) {
      queue.push(slot, slot, 1, slot % 2 ? 'odd' : 'even', slot);
      queue.take(slot - 100, Infinity, (lease) => seen.push(lease.slot));
    }
    expect(seen).toEqual(Array.from({ length: 9900 }, (_, slot) => slot));
    expect(queue.slotsOf('odd')).toEqual(Array.from({ length: 50 }, (_, index) => 9901 + 2 * index));
  });
});
