import { NONE, RECORD_TASKS } from './task-table.ts';

/**
 * The log's records that still hold bytes of a task, by small numbers. The oldest one says how far
 * the log may be cut.
 */
export class Batches {
  private readonly bytesOf: (Uint8Array | undefined)[] = [];
  private readonly sequences: number[] = [];
  private readonly live: number[] = [];
  /** Slots of the tasks in a record: by index in a record of tasks, as they came in an owner's record. */
  private readonly slots: (Uint32Array | number[] | undefined)[] = [];
  /** Records of tasks by their sequences. */
  private readonly bySequence = new Map<number, number>();
  private readonly free: number[] = [];
  /** Batches in the order of their sequences; spent ones are skipped when they come to the front. */
  private queue: number[] = [];
  private head = 0;

  /** Bytes that records with at least one live task keep in memory. */
  retainedBytes = 0;

  /**
   * Opens the record of that sequence; tasks are then added with {@link retain} and {@link place}.
   * `count` is how many tasks a record of tasks has, or 0 for an owner's record.
   */
  open(sequence: number, bytes: Uint8Array, count: number): number {
    const id = this.free.pop() ?? this.bytesOf.length;
    this.bytesOf[id] = bytes;
    this.sequences[id] = sequence;
    this.live[id] = 1;
    this.slots[id] = count > 0 ? new Uint32Array(count).fill(NONE) : [];
    if (count > 0) this.bySequence.set(sequence, id);
    this.queue.push(id);
    this.retainedBytes += bytes.length;
    return id;
  }

  /** Notes where a task of that record is; false if the record is an owner's and its order says nothing. */
  place(id: number, order: number, slot: number): boolean {
    const slots = this.slots[id]!;
    if (Array.isArray(slots)) {
      slots.push(slot);
      return false;
    }
    slots[order % RECORD_TASKS] = slot;
    return true;
  }

  /** Where the task of that record and index was placed, or `NONE`. It may have ended since. */
  slotAt(sequence: number, index: number): number {
    const id = this.bySequence.get(sequence);
    return id === undefined ? NONE : (this.slots[id]![index] ?? NONE);
  }

  /** All slots that were placed in the record; some may hold other tasks by now. */
  placed(id: number): ArrayLike<number> {
    return this.slots[id] ?? [];
  }

  retain(id: number): void {
    this.live[id]!++;
  }

  /** Takes one task, or the opener's own hold, from the record. The last one frees its memory. */
  release(id: number): void {
    if (--this.live[id]! > 0) return;
    this.retainedBytes -= this.bytesOf[id]!.length;
    this.bytesOf[id] = undefined;
    this.slots[id] = undefined;
    this.bySequence.delete(this.sequences[id]!);
  }

  bytes(id: number): Uint8Array {
    const bytes = this.bytesOf[id];
    if (!bytes) throw new RangeError(`no record ${id}`);
    return bytes;
  }

  sequence(id: number): number {
    return this.sequences[id]!;
  }

  /** The records that still hold a task, in the order of their sequences. */
  *inOrder(): Generator<number> {
    for (let at = this.head; at < this.queue.length; at++) {
      const id = this.queue[at]!;
      if (this.bytesOf[id] !== undefined) yield id;
    }
  }

  /** The record with the lowest sequence that still holds a task, or `NONE`. */
  oldest(): number {
    while (this.head < this.queue.length) {
      const id = this.queue[this.head]!;
      if (this.bytesOf[id] !== undefined) return id;
      this.free.push(id);
      this.head++;
      if (this.head > 1024 && this.head * 2 > this.queue.length) {
        this.queue = this.queue.slice(this.head);
        this.head = 0;
      }
    }
    this.queue = [];
    this.head = 0;
    return NONE;
  }
}
