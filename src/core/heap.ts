/** Children per node: flatter than binary, and one node's keys fill half a cache line. */
const ARITY = 4;
const ABSENT = 0;

/**
 * A min-heap of slots (small integers), each with a key and at most once in it: the timers of
 * tasks, where the slot is the task's and the key the time.
 *
 * Among equal keys the smaller `tie` comes first. No objects per entry: 24 bytes in typed arrays,
 * which grow with the number of entries and with the largest slot. Operations take O(log n).
 */
export class SlotHeap {
  /** By place in the heap. */
  private keys = new Float64Array(16);
  private ties = new Float64Array(16);
  private slots = new Uint32Array(16);
  private count = 0;
  /** By slot: its place + 1, or ABSENT. */
  private places = new Uint32Array(16);

  get size(): number {
    return this.count;
  }

  has(slot: number): boolean {
    return slot < this.places.length && this.places[slot] !== ABSENT;
  }

  /** Adds `slot`; moves it if it is there already. `key` may be Infinity but not NaN. */
  push(slot: number, key: number, tie = 0): void {
    if (Number.isNaN(key)) throw new RangeError(`the key of slot ${slot} is not a number`);
    if (this.has(slot)) {
      this.settle(this.places[slot]! - 1, slot, key, tie);
      return;
    }
    if (this.count === this.slots.length) this.grow();
    if (slot >= this.places.length) this.growPlaces(slot);
    this.settle(this.count++, slot, key, tie);
  }

  /** Gives `slot` another key. False, and nothing done, if it is not there. */
  update(slot: number, key: number): boolean {
    if (!this.has(slot)) return false;
    this.push(slot, key, this.ties[this.places[slot]! - 1]);
    return true;
  }

  /** Takes `slot` out. Says whether it was there. */
  remove(slot: number): boolean {
    if (!this.has(slot)) return false;
    const place = this.places[slot]! - 1;
    this.places[slot] = ABSENT;
    const last = --this.count;
    if (place !== last) {
      this.settle(place, this.slots[last]!, this.keys[last]!, this.ties[last]!);
    }
    return true;
  }

  /** The smallest key, or Infinity if the heap is empty. */
  peekKey(): number {
    return this.count === 0 ? Infinity : this.keys[0]!;
  }

  /** The slot with the smallest key, or -1. */
  peek(): number {
    return this.count === 0 ? -1 : this.slots[0]!;
  }

  /** Takes out the slot with the smallest key and answers with it, or -1. */
  pop(): number {
    const slot = this.peek();
    if (slot >= 0) this.remove(slot);
    return slot;
  }

  /** Finds the place for an entry, starting from a place whose former entry may be overwritten. */
  private settle(start: number, slot: number, key: number, tie: number): void {
    let place = start;
    while (place > 0) {
      const parent = Math.floor((place - 1) / ARITY);
      if (!this.precedes(key, tie, parent)) break;
      this.put(place, this.slots[parent]!, this.keys[parent]!, this.ties[parent]!);
      place = parent;
    }
    for (;;) {
      const child = this.firstChild(place);
      if (child < 0 || this.precedes(key, tie, child)) break;
      this.put(place, this.slots[child]!, this.keys[child]!, this.ties[child]!);
      place = child;
    }
    this.put(place, slot, key, tie);
  }

  /** The place of the foremost child of `place`, or -1. */
  private firstChild(place: number): number {
    const start = place * ARITY + 1;
    if (start >= this.count) return -1;
    const end = Math.min(start + ARITY, this.count);
    let first = start;
    for (let child = start + 1; child < end; child++) {
      if (this.precedes(this.keys[child]!, this.ties[child]!, first)) first = child;
    }
    return first;
  }

  private precedes(key: number, tie: number, place: number): boolean {
    const other = this.keys[place]!;
    return key < other || (key === other && tie < this.ties[place]!);
  }

  private put(place: number, slot: number, key: number, tie: number): void {
    this.keys[place] = key;
    this.ties[place] = tie;
    this.slots[place] = slot;
    this.places[slot] = place + 1;
  }

  private grow(): void {
    const length = 2 * this.slots.length;
    const keys = new Float64Array(length);
    const ties = new Float64Array(length);
    const slots = new Uint32Array(length);
    keys.set(this.keys);
    ties.set(this.ties);
    slots.set(this.slots);
    this.keys = keys;
    this.ties = ties;
    this.slots = slots;
  }

  private growPlaces(slot: number): void {
    const places = new Uint32Array(Math.max(2 * this.places.length, slot + 1));
    places.set(this.places);
    this.places = places;
  }
}
