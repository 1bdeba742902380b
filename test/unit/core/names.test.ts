// For inner loops, where expect() would take most of the time.
import { equal } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Names } from '../../../src/core/names.ts';

describe('names', () => {
  test('the same string has the same id until its last reference is released', () => {
    const names = new Names();
    const planner = names.acquire('planner');
    const coder = names.acquire('coder');
    expect(names.acquire('planner')).toBe(planner);
    expect(coder).not.toBe(planner);

    names.release(planner);
    expect(names.text(planner)).toBe('planner');
    names.release(planner);
    expect(names.size).toBe(1);
    expect(names.find('planner')).toBe(-1);
    expect(names.find('coder')).toBe(coder);
  });

  test('ids are dense and a freed one is used again', () => {
    const names = new Names();
    const ids = ['a', 'b', 'c'].map((text) => names.acquire(text));
    expect(ids).toEqual([0, 1, 2]);
    names.release(1);
    expect(names.acquire('d')).toBe(1);
    expect(names.text(1)).toBe('d');
    expect(names.acquire('e')).toBe(3);
  });

  test.each([
    ['text', (names: Names, id: number) => names.text(id)],
    ['retain', (names: Names, id: number) => names.retain(id)],
    ['release', (names: Names, id: number) => names.release(id)],
  ])('%s of an id that is not in use is an error', (_, act) => {
    const names = new Names();
    names.release(names.acquire('a'));
    expect(() => act(names, 0)).toThrow('not in use');
    expect(() => act(names, 1)).toThrow('not in use');
    expect(() => act(names, -1)).toThrow('not in use');
    expect(names.size).toBe(0);
  });

  test('any sequence of calls leaves exactly the names that are still referred to', () => {
    const operation = fc.record({ act: fc.constantFrom('acquire', 'retain', 'release'), text: fc.nat(8) });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200, size: 'max' }), (operations) => {
        const names = new Names();
        const model = new Map<string, { id: number; references: number }>();
        for (const { act, text: number } of operations) {
          const text = `agent-${number}`;
          const known = model.get(text);
          if (act === 'acquire') {
            const id = names.acquire(text);
            if (known) equal(id, known.id);
            model.set(text, { id, references: (known?.references ?? 0) + 1 });
          } else if (known && act === 'retain') {
            names.retain(known.id);
            known.references++;
          } else if (known) {
            names.release(known.id);
            if (--known.references === 0) model.delete(text);
          }
          equal(names.size, model.size);
          const ids = [...model.values()].map((name) => name.id);
          equal(new Set(ids).size, ids.length);
          equal(Math.max(0, ...ids) < 9, true);
          for (const [name, { id }] of model) {
            equal(names.text(id), name);
            equal(names.find(name), id);
          }
        }
      }),
    );
  });
});
