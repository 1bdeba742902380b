import { describe, expect, test } from '@jest/globals';
import { DirtySet } from '../../../src/core/dirty-set.ts';

function drained(set: DirtySet, visit: (id: number) => void = () => {}): number[] {
  const ids: number[] = [];
  set.drain((id) => {
    ids.push(id);
    visit(id);
  });
  return ids;
}

describe('what is to be looked at', () => {
  test('comes once, in the order in which it was first added, however large its number', () => {
    const set = new DirtySet();
    for (const id of [7, 100_000, 7, 0, 100_000, 64]) set.add(id);
    expect(drained(set)).toEqual([7, 100_000, 0, 64]);
    expect(drained(set)).toEqual([]);
  });

  test('includes what is added while looking, and what has been looked at and changed again', () => {
    const set = new DirtySet();
    set.add(1);
    const added = [2, 1];
    expect(drained(set, () => added.splice(0).forEach((id) => set.add(id)))).toEqual([1, 2, 1]);
  });
});
