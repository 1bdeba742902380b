import { mix } from './murmur3.ts';

const MIN_CAPACITY = 16;

/**
 * A map from safe non-negative integers (below 2^53) to unsigned 32-bit integers, without an object
 * per entry: it finds a task's slot by its number in the log.
 *
 * Open addressing with linear probing in two typed arrays, 12 bytes a cell, and deletion by
 * backward shift (Knuth, TAOCP 3, 6.4, algorithm R), so that no tombstones gather. It doubles when
 * more than 4/5 full and halves when less than 1/5 full: 15 to 30 bytes per entry while it grows.
 */
export class NumberMap {
  /** Key + 1, so that fresh zeroed memory is empty. */
  private keys = new Float64Array(MIN_CAPACITY);
  private values = new Uint32Array(MIN_CAPACITY);
  private mask = MIN_CAPACITY - 1;
  private count = 0;

  get size(): number {
    return this.count;
  }

  /** The bytes that the map holds in typed arrays. */
  get byteLength(): number {
    return this.keys.byteLength + this.values.byteLength;
  }

  /** The value of `key`, or -1 if there is none. */
  get(key: number): number {
    const cell = this.find(key);
    return this.keys[cell] === 0 ? -1 : this.values[cell]!;
  }

  /** Gives `key` a value, in place of the former one. */
  set(key: number, value: number): void {
    const cell = this.find(key);
    this.values[cell] = value;
    if (this.keys[cell] !== 0) return;
    this.keys[cell] = key + 1;
    this.count++;
    if (this.count * 5 > (this.mask + 1) * 4) this.resize((this.mask + 1) * 2);
  }

  /** Forgets `key`. Says whether it was there. */
  delete(key: number): boolean {
    let hole = this.find(key);
    if (this.keys[hole] === 0) return false;
    const mask = this.mask;
    for (let cell = (hole + 1) & mask; this.keys[cell] !== 0; cell = (cell + 1) & mask) {
      const ideal = hashOf(this.keys[cell]! - 1) & mask;
      // An entry may move back into the hole unless its probing starts behind the hole.
      if (((cell - ideal) & mask) < ((cell - hole) & mask)) continue;
      this.keys[hole] = this.keys[cell]!;
      this.values[hole] = this.values[cell]!;
      hole = cell;
    }
    this.keys[hole] = 0;
    this.count--;
    const capacity = mask + 1;
    if (this.count * 5 < capacity && capacity > MIN_CAPACITY) this.resize(capacity / 2);
    return true;
  }

  /** Calls `visit` for every entry, in no particular order. It must not change the map. */
  forEach(visit: (key: number, value: number) => void): void {
    for (let cell = 0; cell <= this.mask; cell++) {
      if (this.keys[cell] !== 0) visit(this.keys[cell]! - 1, this.values[cell]!);
    }
  }

  /** The cell of `key`, or the empty cell where it would go. */
  private find(key: number): number {
    const stored = key + 1;
    const keys = this.keys;
    const mask = this.mask;
    let cell = hashOf(key) & mask;
    while (keys[cell] !== 0 && keys[cell] !== stored) cell = (cell + 1) & mask;
    return cell;
  }

  private resize(capacity: number): void {
    const keys = this.keys;
    const values = this.values;
    this.keys = new Float64Array(capacity);
    this.values = new Uint32Array(capacity);
    this.mask = capacity - 1;
    for (let from = 0; from < keys.length; from++) {
      if (keys[from] === 0) continue;
      const cell = this.find(keys[from]! - 1);
      this.keys[cell] = keys[from]!;
      this.values[cell] = values[from]!;
    }
  }
}

function hashOf(key: number): number {
  const high = Math.floor(key / 0x1_0000_0000);
  return mix((key >>> 0) ^ Math.imul(high, 0x9e3779b1));
}
