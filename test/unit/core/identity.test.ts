// For inner loops, where expect() would take most of the time.
import { equal } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { NumberMap } from '../../../src/core/identity.ts';

describe('a map of numbers', () => {
  test('holds the smallest and the largest key and value', () => {
    const map = new NumberMap();
    map.set(0, 0);
    map.set(Number.MAX_SAFE_INTEGER, 0xffffffff);
    expect(map.get(0)).toBe(0);
    expect(map.get(Number.MAX_SAFE_INTEGER)).toBe(0xffffffff);
    expect(map.get(Number.MAX_SAFE_INTEGER - 1)).toBe(-1);
    expect(map.size).toBe(2);
  });

  test('tells apart keys that differ only above 32 bits', () => {
    const map = new NumberMap();
    for (let high = 0; high < 1000; high++) map.set(high * 2 ** 32 + 7, high);
    for (let high = 0; high < 1000; high++) expect(map.get(high * 2 ** 32 + 7)).toBe(high);
    expect(map.get(7 + 1000 * 2 ** 32)).toBe(-1);
  });

  test('takes at most 30 bytes per entry while it grows, and gives memory back', () => {
    const map = new NumberMap();
    for (let key = 0; key < 200_000; key++) {
      map.set(key * 1024, key);
      if (key >= 1000 && map.byteLength > 30 * map.size) throw new Error(`too large at ${key}`);
    }
    const full = map.byteLength;
    for (let key = 0; key < 199_990; key++) map.delete(key * 1024);
    expect(map.byteLength).toBeLessThan(full / 1000);
    expect(map.get(199_990 * 1024)).toBe(199_990);
    expect(map.size).toBe(10);
  });

  test('behaves as Map does', () => {
    const key = fc.oneof(
      fc.nat(40),
      fc.nat(40).map((low) => low * 2 ** 32),
      fc.nat(40).map((low) => Number.MAX_SAFE_INTEGER - low),
    );
    const value = fc.nat(0xffffffff);
    const operation = fc.oneof(
      { weight: 3, arbitrary: fc.tuple(fc.constant('set' as const), key, value) },
      { weight: 2, arbitrary: fc.tuple(fc.constant('delete' as const), key, value) },
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 400, size: 'max' }), (operations) => {
        const map = new NumberMap();
        const model = new Map<number, number>();
        for (const [act, key, value] of operations) {
          if (act === 'set') {
            map.set(key, value);
            model.set(key, value);
          } else {
            equal(map.delete(key), model.delete(key));
          }
          equal(map.get(key), model.get(key) ?? -1);
          equal(map.size, model.size);
        }
        const entries = new Map<number, number>();
        map.forEach((key, value) => entries.set(key, value));
        expect(entries).toEqual(model);
        for (const [key, value] of model) equal(map.get(key), value);
      }),
      { numRuns: 300 },
    );
  });

  test('keeps every entry through growth and shrinking', () => {
    const map = new NumberMap();
    for (let round = 0; round < 3; round++) {
      for (let key = 0; key < 10_000; key++) map.set(key, key + round);
      for (let key = 0; key < 10_000; key += 2) map.delete(key);
      for (let key = 0; key < 10_000; key++) {
        if (map.get(key) !== (key % 2 === 0 ? -1 : key + round)) throw new Error(`wrong at ${key}`);
      }
      expect(map.size).toBe(5_000);
    }
  });
});
