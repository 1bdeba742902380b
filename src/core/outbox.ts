/** Something that one shard decided and another one must learn: a result for its requester. */
export interface Parcel {
  /** Counts up from 1 per pair of shards. */
  readonly number: number;
  readonly mailbox: string;
  readonly type: string;
  /** The entry of the destination's record, ready to be copied into it. */
  readonly entry: Uint8Array;
  /** The record of this shard that holds it; the log must not be cut above it. */
  readonly sequence: number;
}

/**
 * What a shard still has to forward, and what it has received from others.
 *
 * Parcels are numbered per pair of shards and forwarded in order; the receiver remembers the last
 * number it took and ignores repeats. So each arrives exactly once, whoever crashes when.
 */
export class Outbox {
  private readonly waiting: Parcel[][] = [];
  private readonly lastIssued: number[] = [];
  private readonly lastForwarded: number[] = [];
  private readonly lastReceived: number[] = [];

  /** For so many shards at first; it grows with those that it hears of. */
  constructor(shards: number) {
    if (shards > 0) this.know(shards - 1);
  }

  /** How many shards it has heard of. */
  get shards(): number {
    return this.waiting.length;
  }

  /** The number of the last parcel for that shard. */
  issued(destination: number): number {
    return this.lastIssued[destination] ?? 0;
  }

  /** Parcels for that shard that have not been forwarded, in order. */
  pending(destination: number): readonly Parcel[] {
    return this.waiting[destination] ?? [];
  }

  get size(): number {
    return this.waiting.reduce((sum, parcels) => sum + parcels.length, 0);
  }

  /** Takes up a parcel; one that has been forwarded already (a replayed record) is ignored. */
  add(destination: number, parcel: Parcel): void {
    this.know(destination);
    if (parcel.number <= this.lastIssued[destination]!) return;
    this.lastIssued[destination] = parcel.number;
    if (parcel.number > this.lastForwarded[destination]!) this.waiting[destination]!.push(parcel);
  }

  /** All parcels up to that number are in the other shard's log. */
  forwarded(destination: number, upTo: number): void {
    this.know(destination);
    if (upTo <= this.lastForwarded[destination]!) return;
    this.lastForwarded[destination] = upTo;
    if (upTo > this.lastIssued[destination]!) this.lastIssued[destination] = upTo;
    const parcels = this.waiting[destination]!;
    let count = 0;
    while (count < parcels.length && parcels[count]!.number <= upTo) count++;
    parcels.splice(0, count);
  }

  /** Whether a parcel from that shard is new. If so it counts as received from now on. */
  receive(source: number, number: number): boolean {
    this.know(source);
    if (number <= this.lastReceived[source]!) return false;
    this.lastReceived[source] = number;
    return true;
  }

  received(source: number): number {
    return this.lastReceived[source] ?? 0;
  }

  /** The lowest sequence that holds a parcel not yet forwarded, or `Infinity`. */
  oldest(): number {
    let oldest = Infinity;
    for (const parcels of this.waiting) {
      if (parcels.length > 0) oldest = Math.min(oldest, parcels[0]!.sequence);
    }
    return oldest;
  }

  /** The marks that the log's cut would forget. */
  marks(): { forwarded: number[]; received: number[] } {
    return { forwarded: [...this.lastForwarded], received: [...this.lastReceived] };
  }

  /** Raises the marks to those of a checkpoint. */
  restore(marks: { forwarded: readonly number[]; received: readonly number[] }): void {
    marks.forwarded.forEach((number, shard) => this.forwarded(shard, number));
    marks.received.forEach((number, shard) => {
      this.know(shard);
      if (number > this.lastReceived[shard]!) this.lastReceived[shard] = number;
    });
  }

  /** There is such a shard, and with it all before. */
  private know(shard: number): void {
    while (this.waiting.length <= shard) {
      this.waiting.push([]);
      this.lastIssued.push(0);
      this.lastForwarded.push(0);
      this.lastReceived.push(0);
    }
  }
}
