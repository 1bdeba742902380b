import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { orderOf, RECORD_TASKS, State, TaskTable } from '../../../src/core/task-table.ts';

function take(table: TaskTable, order: number): number {
  const slot = table.take(order);
  table.state[slot] = State.queued;
  return slot;
}

describe('the name of a task in the log', () => {
  test('is one exact number that grows with the sequence, then with the index', () => {
    const last = 2 ** 40 - 1;
    expect(orderOf(last, RECORD_TASKS - 1)).toBe(Number.MAX_SAFE_INTEGER);
    expect(orderOf(8, 0)).toBe(orderOf(7, RECORD_TASKS - 1) + 1);
  });
});

describe('the table of tasks', () => {
  test('keeps what it holds while it grows', () => {
    const table = new TaskTable();
    for (let order = 1; order <= 5000; order++) {
      const slot = take(table, order);
      table.deadline[slot] = order + 0.5;
      table.deliveries[slot] = order;
    }
    const slots = [...table.slots()];
    expect(slots).toHaveLength(5000);
    const kept = (slot: number): boolean => {
      const order = table.order[slot]!;
      return (
        table.deadline[slot] === order + 0.5 && table.deliveries[slot] === order && table.holds(slot, order)
      );
    };
    expect(slots.every(kept)).toBe(true);
    expect(table.capacity).toBeGreaterThanOrEqual(table.end);
  });

  test('says that a slot holds a task only as long as it does', () => {
    const table = new TaskTable();
    const slot = take(table, 42);
    expect([table.holds(slot, 42), table.holds(slot, 43), table.holds(slot + 1, 42)]).toEqual([
      true,
      false,
      false,
    ]);
    table.give(slot);
    expect(table.holds(slot, 42)).toBe(false);
    expect([take(table, 43), table.holds(slot, 42), table.holds(slot, 43)]).toEqual([slot, false, true]);
  });

  test('never gives a slot to two tasks, and none away while old ones are free', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { maxLength: 300 }), (picks) => {
        const table = new TaskTable();
        const held: number[] = [];
        let most = 0;
        picks.forEach((pick, order) => {
          if (pick % 5 < 3) held.push(take(table, order));
          else if (held.length > 0) table.give(held.splice(pick % held.length, 1)[0]!);
          most = Math.max(most, held.length);
          expect([...table.slots()]).toEqual(held.toSorted((a, b) => a - b));
        });
        expect([table.count, table.end]).toEqual([held.length, most]);
      }),
      { numRuns: 50 },
    );
  });
});
