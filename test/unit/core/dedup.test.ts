// For inner loops, where expect() would take most of the time.
import { equal } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Dedup, NOT_LIVE } from '../../../src/core/dedup.ts';
import { hash128 } from '../../../src/core/murmur3.ts';

type Id = readonly [number, number, number, number];

/** They agree in their lowest bits, so that many of them start probing at the same place. */
const id = (number: number): Id => [0, 0, 0xffffffff, Math.imul(number, 32)];
const known = (dedup: Dedup, number: number): boolean => dedup.find(...id(number)) >= 0;

describe('the known task ids', () => {
  test('are the last accepted ones, in the order of acceptance', () => {
    const dedup = new Dedup(3);
    for (let number = 1; number <= 5; number++) dedup.finish(dedup.accept(...id(number), number), number);
    expect([1, 2, 3, 4, 5].map((number) => known(dedup, number))).toEqual([false, false, true, true, true]);
    expect(dedup.size).toBe(3);
    expect(dedup.outcome(dedup.find(...id(4)))).toBe(4);
  });

  test('and the live ones, however old', () => {
    const dedup = new Dedup(2);
    const first = dedup.accept(...id(1), 11);
    for (let number = 2; number <= 9; number++) dedup.finish(dedup.accept(...id(number), number), 1);
    expect(dedup.find(...id(1))).toBe(first);
    expect(dedup.slot(first)).toBe(11);

    dedup.finish(first, 1);
    expect(known(dedup, 1)).toBe(false);
    expect(dedup.size).toBe(2);
  });

  test('a finished id has its outcome and no slot', () => {
    const dedup = new Dedup();
    const entry = dedup.accept(...id(1), 7);
    expect([dedup.slot(entry), dedup.outcome(entry)]).toEqual([7, 0]);
    dedup.move(entry, 8);
    expect(dedup.slot(entry)).toBe(8);
    dedup.finish(entry, 255);
    expect([dedup.slot(entry), dedup.outcome(entry)]).toEqual([NOT_LIVE, 255]);
  });

  test('an id that comes again while it is known changes nothing', () => {
    const dedup = new Dedup(2);
    const first = dedup.admit(...id(1));
    dedup.move(first, 11);
    for (let number = 2; number <= 3; number++) dedup.finish(dedup.accept(...id(number), number), 1);
    expect([1, 2].map((number) => dedup.admit(...id(number)))).toEqual([-1, -1]);
    expect(dedup.slot(first)).toBe(11);
    dedup.finish(first, 4);
    expect([1, 2, 3].map((number) => known(dedup, number))).toEqual([false, true, true]);
  });

  test('an adopted id is known while live, and takes no place in the ring', () => {
    const dedup = new Dedup(1);
    dedup.finish(dedup.accept(...id(1), 1), 9);
    const copied = dedup.adopt(...id(2), 2);
    expect(known(dedup, 1)).toBe(true);
    dedup.finish(copied, 9);
    expect(known(dedup, 2)).toBe(false);
  });

  test('adopting a known id gives it a slot and leaves its place in the ring', () => {
    const dedup = new Dedup(2);
    const entry = dedup.accept(...id(1), 1);
    dedup.accept(...id(2), 2);
    dedup.finish(entry, 5);
    expect(dedup.adopt(...id(1), 3)).toBe(entry);
    expect(dedup.slot(entry)).toBe(3);
    dedup.finish(entry, 6);
    expect([dedup.slot(entry), dedup.outcome(entry)]).toEqual([NOT_LIVE, 6]);
    expect(known(dedup, 1)).toBe(true);
    dedup.accept(...id(3), 3);
    expect(known(dedup, 1)).toBe(false);
  });

  test('detaching ends a life and keeps the outcome of the one before', () => {
    const dedup = new Dedup(2);
    const entry = dedup.accept(...id(1), 1);
    dedup.finish(entry, 5);
    dedup.adopt(...id(1), 2);
    dedup.detach(entry);
    expect([dedup.slot(entry), dedup.outcome(entry)]).toEqual([NOT_LIVE, 5]);

    dedup.detach(dedup.adopt(...id(2), 3));
    expect(known(dedup, 2)).toBe(false);
  });

  test('every word of an id counts', () => {
    const dedup = new Dedup();
    const ids: Id[] = [
      [1, 0, 0, 0],
      [0, 1, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
      [0, 0, 0, 0],
    ];
    const entries = ids.map((words, slot) => dedup.accept(...words, slot));
    expect(new Set(entries).size).toBe(5);
    expect(ids.map((words) => dedup.slot(dedup.find(...words)))).toEqual([0, 1, 2, 3, 4]);
  });

  test('a large ring is exported, imported and goes on evicting in order', () => {
    const dedup = new Dedup(1000);
    const out = new Uint32Array(4);
    const name = (number: number): Id => {
      const bytes = new TextEncoder().encode(`task-${number}`);
      hash128(bytes, 0, bytes.length, 0, out);
      return [out[0]!, out[1]!, out[2]!, out[3]!];
    };
    for (let number = 0; number < 2500; number++) {
      dedup.finish(dedup.accept(...name(number), number), number % 256);
    }
    const copy = new Dedup(1000);
    copy.importRing(dedup.exportRing());
    copy.accept(...name(2500), 1);
    const numbers = Array.from({ length: 2501 }, (_, number) => number);
    const remembered = numbers.filter((number) => copy.find(...name(number)) >= 0);
    expect(remembered).toEqual(numbers.slice(1501));
    expect(copy.outcome(copy.find(...name(2000)))).toBe(2000 % 256);
  });

  test('importing keeps what is live, and drops what only the former ring held', () => {
    const source = new Dedup(4);
    source.finish(source.accept(...id(1), 1), 3);
    source.finish(source.accept(...id(2), 2), 4);

    const dedup = new Dedup(4);
    const live = dedup.accept(...id(2), 22);
    dedup.finish(dedup.accept(...id(8), 8), 1);
    const alsoLive = dedup.accept(...id(9), 9);
    dedup.importRing(source.exportRing());

    expect([1, 2, 8, 9].map((number) => known(dedup, number))).toEqual([true, true, false, true]);
    expect(dedup.find(...id(2))).toBe(live);
    expect([dedup.slot(live), dedup.outcome(live)]).toEqual([22, 4]);
    expect([dedup.slot(alsoLive), dedup.outcome(dedup.find(...id(1)))]).toEqual([9, 3]);
    dedup.finish(alsoLive, 1);
    expect(known(dedup, 9)).toBe(false);
  });

  test('importing more than fits keeps the last ones', () => {
    const source = new Dedup(5);
    for (let number = 1; number <= 5; number++) source.accept(...id(number), number);
    const dedup = new Dedup(2);
    dedup.importRing(source.exportRing());
    expect([3, 4, 5].map((number) => known(dedup, number))).toEqual([false, true, true]);
  });

  test('what is not an exported ring is refused and changes nothing', () => {
    const dedup = new Dedup();
    dedup.accept(...id(1), 1);
    expect(() => dedup.importRing(new Uint8Array(18))).toThrow(expect.objectContaining({ code: 'corrupt' }));
    expect(known(dedup, 1)).toBe(true);
  });

  test('an imported ring may stand anywhere in a buffer', () => {
    const source = new Dedup();
    source.finish(source.accept(...id(7), 1), 2);
    const ring = source.exportRing();
    const buffer = new Uint8Array(ring.length + 5);
    buffer.set(ring, 3);
    const dedup = new Dedup();
    dedup.importRing(buffer.subarray(3, 3 + ring.length));
    expect(dedup.outcome(dedup.find(...id(7)))).toBe(2);
  });

  test('take at most 60 bytes each, and none are leaked by turnover', () => {
    const dedup = new Dedup(20_000);
    for (let number = 0; number < 20_000; number++) {
      dedup.finish(dedup.accept(...id(number), number), 1);
      if (number > 1000 && dedup.byteLength > 60 * dedup.size) throw new Error(`too large at ${number}`);
    }
    const full = dedup.byteLength;
    for (let number = 0; number < 100_000; number++) {
      dedup.finish(dedup.accept(...id(number + 20_000), 1), 1);
    }
    expect(dedup.size).toBe(20_000);
    expect(dedup.byteLength).toBeLessThan(full * 1.3);
  });

  test('leave room for others when they are forgotten, many at a time', () => {
    const dedup = new Dedup(1);
    const wave = () => Array.from({ length: 10_000 }, (_, number) => dedup.adopt(...id(number), number));
    wave().forEach((entry) => dedup.detach(entry));
    const full = dedup.byteLength;
    wave().forEach((entry) => dedup.detach(entry));
    expect([dedup.size, dedup.byteLength]).toEqual([0, full]);
  });

  test.each([0, -1, 1.5, NaN])('a capacity of %d is refused', (capacity) => {
    expect(() => new Dedup(capacity)).toThrow(
      expect.objectContaining({ code: 'invalid', field: 'capacity' }),
    );
  });
});

/** The same promises, kept in the most obvious way. */
class Model {
  readonly live = new Map<number, number>();
  readonly outcomes = new Map<number, number>();
  ring: number[] = [];
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  known(number: number): boolean {
    return this.live.has(number) || this.ring.includes(number);
  }

  accept(number: number, slot: number): void {
    this.live.set(number, slot);
    if (!this.ring.includes(number)) this.ring.push(number);
    this.ring = this.ring.slice(-this.capacity);
  }

  /** A life ends, with an outcome or without; what is in no ring is then forgotten. */
  end(number: number, outcome?: number): void {
    this.live.delete(number);
    if (outcome !== undefined) this.outcomes.set(number, outcome);
  }

  forgetOutcomes(): void {
    for (const number of this.outcomes.keys()) if (!this.known(number)) this.outcomes.delete(number);
  }
}

describe('the known task ids, whatever happens', () => {
  const operation = fc.record({
    act: fc.constantFrom(
      'accept',
      'accept',
      'accept',
      'finish',
      'finish',
      'detach',
      'adopt',
      'move',
      'reload',
    ),
    number: fc.nat(60),
    value: fc.nat(255),
  });

  test('are those of the model, at entries that never change', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.array(operation, { maxLength: 300, size: 'max' }),
        (capacity, operations) => {
          const dedup = new Dedup(capacity);
          const model = new Model(capacity);
          const entries = new Map<number, number>();
          for (const { act, number, value } of operations) {
            const live = model.live.has(number);
            if (act === 'accept') {
              entries.set(number, dedup.accept(...id(number), value));
              model.accept(number, value);
            } else if (act === 'adopt') {
              entries.set(number, dedup.adopt(...id(number), value));
              model.live.set(number, value);
            } else if (act === 'finish' && live) {
              dedup.finish(entries.get(number)!, value);
              model.end(number, value);
            } else if (act === 'detach' && live) {
              dedup.detach(entries.get(number)!);
              model.end(number);
            } else if (act === 'move' && live) {
              dedup.move(entries.get(number)!, value);
              model.live.set(number, value);
            } else if (act === 'reload') {
              const ring = dedup.exportRing();
              dedup.importRing(ring);
              expect(dedup.exportRing()).toEqual(ring);
            }
            model.forgetOutcomes();
            for (let other = 0; other <= 60; other++) {
              const entry = dedup.find(...id(other));
              equal(entry >= 0, model.known(other));
              if (entry < 0) continue;
              const slot = model.live.get(other);
              if (slot !== undefined) equal(entry, entries.get(other));
              equal(dedup.slot(entry), slot ?? NOT_LIVE);
              equal(dedup.outcome(entry), model.outcomes.get(other) ?? 0);
            }
          }
          equal(dedup.size, new Set([...model.live.keys(), ...model.ring]).size);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('stay right at the size of a busy shard', () => {
    const dedup = new Dedup(2000);
    const entries: number[] = [];
    const check = (accepted: number) => {
      for (let number = 0; number < accepted; number++) {
        const expected = number % 3 === 0 || number >= accepted - 2000;
        const entry = dedup.find(...id(number));
        if (expected !== entry >= 0) throw new Error(`${number} is known wrongly`);
        if (expected && entry !== entries[number]) throw new Error(`${number} has moved`);
      }
    };
    for (let number = 0; number < 5000; number++) {
      entries[number] = dedup.accept(...id(number), number);
      if (number % 3 !== 0) dedup.finish(entries[number]!, 1);
      if (number % 100 === 0) check(number + 1);
    }
    expect(dedup.size).toBe(2000 + 1000);
  });
});
