import { HubError } from '../std/errors.ts';

/** The slot of an id that is known but not live. */
export const NOT_LIVE = 0xffffffff;

const MIN_ENTRIES = 64;
const ENTRY_GROWTH = 1.25;
const ID_BYTES = 16;
const RING_RECORD_BYTES = ID_BYTES + 1;
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * The task ids that a shard knows: those of its live tasks, and the last `capacity` accepted ones.
 *
 * An id has 128 bits, given as four unsigned 32-bit words that are already well mixed (a hash). It
 * is named by its *entry*, a small integer that stays the same for as long as the id is known. A
 * live id has a slot (its task's place in the caller's tables); a finished one has an outcome, a
 * byte of the caller's choice. An id that is neither live nor among the last is forgotten, and its
 * entry is used again.
 *
 * All is in typed arrays, which grow with use and don't shrink: 22 bytes per entry (28 right after
 * growing), 11 to 21 in the hash table and 4 to 8 in the ring: at most 60 bytes per id, counting the
 * most ids that were ever known at a time.
 */
export class Dedup {
  /** How many accepted ids are remembered whether live or not. */
  readonly capacity: number;

  /** By entry: four words. */
  private ids = new Uint32Array(4 * MIN_ENTRIES);
  /** By entry: its slot or {@link NOT_LIVE}; in a free entry the next free one. */
  private slots = new Uint32Array(MIN_ENTRIES);
  /** By entry: the last outcome, or 0. */
  private outcomes = new Uint8Array(MIN_ENTRIES);
  /** By entry: whether the ring holds it. */
  private inRing = new Uint8Array(MIN_ENTRIES);
  /** Entries ever used, and of these the first free one, or {@link NOT_LIVE}. */
  private used = 0;
  private free = NOT_LIVE;
  private count = 0;

  /** Open addressing by id: entry + 1, or 0; then the fold of the id, so that probing reads nothing else. */
  private table = new Uint32Array(4 * MIN_ENTRIES);
  private mask = 2 * MIN_ENTRIES - 1;

  /** Entries in the order of acceptance, from `oldest` on. It wraps only once it has grown fully. */
  private ring: Uint32Array;
  private oldest = 0;
  private ringSize = 0;

  constructor(capacity = 65_536) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new HubError('invalid', 'capacity: must be a positive integer', { field: 'capacity' });
    }
    this.capacity = capacity;
    this.ring = new Uint32Array(Math.min(capacity, MIN_ENTRIES));
  }

  /** How many ids are known. */
  get size(): number {
    return this.count;
  }

  /** The bytes that are held in typed arrays. */
  get byteLength(): number {
    const entries = this.ids.byteLength + this.slots.byteLength;
    const marks = this.outcomes.byteLength + this.inRing.byteLength;
    return entries + marks + this.table.byteLength + this.ring.byteLength;
  }

  /** The entry of an id, or -1 if it is not known. */
  find(a: number, b: number, c: number, d: number): number {
    return this.table[2 * this.cell(a, b, c, d)]! - 1;
  }

  /**
   * Makes an id live with `slot` and the last accepted one; the oldest id leaves the ring if it is
   * full. An id that is already in the ring keeps its place there.
   */
  accept(a: number, b: number, c: number, d: number, slot: number): number {
    const entry = this.adopt(a, b, c, d, slot);
    if (this.inRing[entry] === 0) this.enter(entry);
    return entry;
  }

  /** {@link accept} of an id that is not known, to be made live by {@link move}; else -1, and nothing has changed. */
  admit(a: number, b: number, c: number, d: number): number {
    const before = this.count;
    const entry = this.intern(a, b, c, d);
    if (this.count === before) return -1;
    this.enter(entry);
    return entry;
  }

  /** Makes an id live with `slot`; whether it is in the ring stays as it was. */
  adopt(a: number, b: number, c: number, d: number, slot: number): number {
    const entry = this.intern(a, b, c, d);
    this.slots[entry] = slot;
    return entry;
  }

  /** The slot of a known id, or {@link NOT_LIVE}. */
  slot(entry: number): number {
    return this.slots[entry]!;
  }

  /** Gives a live id another slot. */
  move(entry: number, slot: number): void {
    this.slots[entry] = slot;
  }

  /**
   * Ends the life of an id, with an outcome. Whether it is in the ring stays as it was; if it isn't,
   * the id is forgotten and its entry void.
   */
  finish(entry: number, outcome: number): void {
    this.outcomes[entry] = outcome;
    this.detach(entry);
  }

  /** Ends the life of an id as {@link finish} does, but leaves it the outcome it had before. */
  detach(entry: number): void {
    this.slots[entry] = NOT_LIVE;
    if (this.inRing[entry] === 0) this.forget(entry);
  }

  /** The outcome that {@link finish} last gave to a known id, or 0. */
  outcome(entry: number): number {
    return this.outcomes[entry]!;
  }

  /**
   * The ring, oldest id first: all ids (four little-endian 32-bit words each), then the
   * outcome of each (one byte).
   */
  exportRing(): Uint8Array {
    const count = this.ringSize;
    const bytes = new Uint8Array(count * RING_RECORD_BYTES);
    const words = new Uint32Array(bytes.buffer, 0, count * 4);
    for (let index = 0; index < count; index++) {
      let at = this.oldest + index;
      if (at >= this.ring.length) at -= this.ring.length;
      const entry = this.ring[at]!;
      for (let word = 0; word < 4; word++) words[index * 4 + word] = this.ids[4 * entry + word]!;
      bytes[count * ID_BYTES + index] = this.outcomes[entry]!;
    }
    if (!LITTLE_ENDIAN) Buffer.from(bytes.buffer, 0, count * ID_BYTES).swap32();
    return bytes;
  }

  /**
   * Puts an exported ring in place of this one. Live ids stay live and keep their entries.
   * Of more than {@link capacity} ids the last are taken.
   *
   * @throws HubError `corrupt`, having changed nothing, if `bytes` is not an exported ring.
   */
  importRing(bytes: Uint8Array): void {
    if (bytes.length % RING_RECORD_BYTES !== 0) {
      throw new HubError('corrupt', `a ring of recent task ids can't have ${bytes.length} bytes`);
    }
    while (this.ringSize > 0) this.leave();
    // It may yet have to grow, and must not wrap before.
    this.oldest = 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const count = bytes.length / RING_RECORD_BYTES;
    for (let index = 0; index < count; index++) {
      const at = index * ID_BYTES;
      const a = view.getUint32(at, true);
      const b = view.getUint32(at + 4, true);
      const c = view.getUint32(at + 8, true);
      const d = view.getUint32(at + 12, true);
      const entry = this.intern(a, b, c, d);
      this.outcomes[entry] = bytes[count * ID_BYTES + index]!;
      if (this.inRing[entry] === 0) this.enter(entry);
    }
  }

  private enter(entry: number): void {
    if (this.ringSize === this.capacity) this.leave();
    else if (this.ringSize === this.ring.length) {
      this.ring = grown(this.ring, Math.min(this.capacity, 2 * this.ringSize));
    }
    let at = this.oldest + this.ringSize;
    if (at >= this.ring.length) at -= this.ring.length;
    this.ring[at] = entry;
    this.ringSize++;
    this.inRing[entry] = 1;
  }

  /** The oldest id leaves the ring. */
  private leave(): void {
    const entry = this.ring[this.oldest]!;
    this.oldest = this.oldest + 1 === this.ring.length ? 0 : this.oldest + 1;
    this.ringSize--;
    this.inRing[entry] = 0;
    if (this.slots[entry] === NOT_LIVE) this.forget(entry);
  }

  /** The entry of an id, which is made if the id is not known. */
  private intern(a: number, b: number, c: number, d: number): number {
    const cell = this.cell(a, b, c, d);
    const known = this.table[2 * cell]!;
    if (known !== 0) return known - 1;

    const entry = this.takeEntry();
    const ids = this.ids;
    ids[4 * entry] = a;
    ids[4 * entry + 1] = b;
    ids[4 * entry + 2] = c;
    ids[4 * entry + 3] = d;
    this.slots[entry] = NOT_LIVE;
    this.outcomes[entry] = 0;
    this.inRing[entry] = 0;
    this.table[2 * cell] = entry + 1;
    this.table[2 * cell + 1] = fold(a, b, c, d);
    this.count++;
    if (this.count * 4 > this.mask * 3) this.growTable();
    return entry;
  }

  private takeEntry(): number {
    if (this.free !== NOT_LIVE) {
      const entry = this.free;
      this.free = this.slots[entry]!;
      return entry;
    }
    if (this.used === this.slots.length) {
      const length = Math.ceil(this.used * ENTRY_GROWTH);
      this.ids = grown(this.ids, 4 * length);
      this.slots = grown(this.slots, length);
      this.outcomes = grown(this.outcomes, length);
      this.inRing = grown(this.inRing, length);
    }
    return this.used++;
  }

  /** Takes an id out of the table, by backward shift, and frees its entry. */
  private forget(entry: number): void {
    const table = this.table;
    const mask = this.mask;
    const ids = this.ids;
    const at = 4 * entry;
    let hole = fold(ids[at]!, ids[at + 1]!, ids[at + 2]!, ids[at + 3]!) & mask;
    while (table[2 * hole] !== entry + 1) hole = (hole + 1) & mask;
    for (let cell = (hole + 1) & mask; table[2 * cell] !== 0; cell = (cell + 1) & mask) {
      // An entry may move back into the hole unless its probing starts behind the hole.
      if (((cell - table[2 * cell + 1]!) & mask) < ((cell - hole) & mask)) continue;
      table[2 * hole] = table[2 * cell]!;
      table[2 * hole + 1] = table[2 * cell + 1]!;
      hole = cell;
    }
    table[2 * hole] = 0;
    this.slots[entry] = this.free;
    this.free = entry;
    this.count--;
  }

  private growTable(): void {
    const former = this.table;
    const table = new Uint32Array(2 * former.length);
    this.table = table;
    this.mask = table.length / 2 - 1;
    for (let from = 0; from < former.length; from += 2) {
      if (former[from] === 0) continue;
      let cell = former[from + 1]! & this.mask;
      while (table[2 * cell] !== 0) cell = (cell + 1) & this.mask;
      table[2 * cell] = former[from]!;
      table[2 * cell + 1] = former[from + 1]!;
    }
  }

  /** The cell of an id, or the empty cell where it would go. Words may be signed or unsigned. */
  private cell(a: number, b: number, c: number, d: number): number {
    const table = this.table;
    const ids = this.ids;
    const mask = this.mask;
    const wanted = fold(a, b, c, d);
    let cell = wanted & mask;
    for (; ; cell = (cell + 1) & mask) {
      const stored = table[2 * cell]!;
      if (stored === 0) return cell;
      if (table[2 * cell + 1] !== wanted) continue;
      const at = 4 * (stored - 1);
      if (((ids[at]! ^ a) | (ids[at + 1]! ^ b) | (ids[at + 2]! ^ c) | (ids[at + 3]! ^ d)) === 0) {
        return cell;
      }
    }
  }
}

/** Ids are hashes already, so it suffices that every word has a say. */
function fold(a: number, b: number, c: number, d: number): number {
  return (a ^ b ^ c ^ d) >>> 0;
}

function grown<T extends Uint32Array | Uint8Array>(array: T, length: number): T {
  const copy = new (array.constructor as new (length: number) => T)(length);
  copy.set(array);
  return copy;
}
