import { NONE } from './task-table.ts';

/**
 * The log's records that still hold bytes of a task, by small numbers. The oldest one says how far
 * the log may be cut.
 */
export class Batches {
  private readonly bytesOf: (Uint8Array | undefined)[] = [];
  private readonly sequences: number[] = [];
  private readonly live: number[] = [];
  private readonly counts: number[] = [];
  /** Rows of records that are not simple runs of one sequence: copied and fanned-out tasks. */
  private readonly odd = new Map<number, number[]>();
  private readonly free: number[] = [];
  /** Batches in the order of their sequences; spent ones are skipped when they come to the front. */
  private queue: number[] = [];
  private head = 0;

  /** Bytes that records with at least one live task keep in memory. */
  retainedBytes = 0;

  /** Opens the record of that sequence; tasks are then added with `retain`. */
  open(sequence: number, bytes: Uint8Array, count: number): number {
    const id = this.free.pop() ?? this.bytesOf.length;
    this.bytesOf[id] = bytes;
    this.sequences[id] = sequence;
    this.live[id] = 1;
    this.counts[id] = count;
    this.queue.push(id);
    this.retainedBytes += bytes.length;
    return id;
  }

  /** Notes that a row of that record lives in `slot`, where the record is an owner's. */
  note(id: number, slot: number): void {
    const slots = this.odd.get(id);
    if (slots) slots.push(slot);
    else this.odd.set(id, [slot]);
  }

  retain(id: number): void {
    this.live[id]!++;
  }

  /** Takes one task, or the opener's own hold, from the record. The last one frees its memory. */
  release(id: number): void {
    if (--this.live[id]! > 0) return;
    this.retainedBytes -= this.bytesOf[id]!.length;
    this.bytesOf[id] = undefined;
    this.odd.delete(id);
  }

  bytes(id: number): Uint8Array {
    const bytes = this.bytesOf[id];
    if (!bytes) throw new RangeError(`no record ${id}`);
    return bytes;
  }

  sequence(id: number): number {
    return this.sequences[id]!;
  }

  /** How many tasks came with the record. */
  count(id: number): number {
    return this.counts[id]!;
  }

  /** The noted slots of an owner's record; `undefined` for a record of tasks. */
  noted(id: number): readonly number[] | undefined {
    return this.odd.get(id);
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
