/** No slot, no entry, no session. */
export const NONE = 0xffffffff;

/** Tasks per record at most; so that sequence and index make one exact 53-bit number. */
export const RECORD_TASKS = 8192;

/** Deliveries of one task at most: 16 bits of a lease say which one it is of. */
export const MOST_DELIVERIES = 0xffff;

/** What a slot holds, as the log tells it. */
export const State = { free: 0, queued: 1, leased: 2, dead: 3 } as const;

/** What travels through mailboxes; `moved` is an entry around one of the others, see `wire/moved-entry.ts`. */
export const Kind = { task: 0, result: 1, broadcast: 2, moved: 3 } as const;

/** Marks on a task that most tasks don't have, so that the rare cases cost the usual ones one test. */
export const Flag = {
  /** Its requester wants the result. */
  answers: 1,
  /** It has a deadline. */
  deadline: 2,
  /** It has a time before which it must not be delivered. */
  delay: 4,
  /** It has a longest running time. */
  runLimit: 8,
  /** A copy of a broadcast: failing, it is counted and not retried. */
  once: 16,
} as const;

/** The name of a task in the log: its first record's sequence, and its index in there. */
export function orderOf(sequence: number, index: number): number {
  return sequence * RECORD_TASKS + index;
}

/**
 * All tasks of a shard, as columns of numbers. A task is a slot, a row of the columns.
 *
 * Objects would cost 280 bytes a task and long pauses of the garbage collector; the columns cost
 * about 90 and none.
 */
export class TaskTable {
  state = new Uint8Array(0);
  kind = new Uint8Array(0);
  priority = new Uint8Array(0);
  flags = new Uint8Array(0);
  /** Failed or expired deliveries: those that count against `max_attempts`. */
  attempts = new Uint8Array(0);
  /** All deliveries, also those handed back untouched, {@link MOST_DELIVERIES} at most; part of the lease's name. */
  deliveries = new Uint16Array(0);
  mailbox = new Uint32Array(0);
  type = new Uint32Array(0);
  /** The record that holds the bytes, see `Batches`. */
  batch = new Uint32Array(0);
  offset = new Uint32Array(0);
  length = new Uint32Array(0);
  /** The entry in `Dedup`. */
  entry = new Uint32Array(0);
  /** The random number of the record it came with: with `order`, it names a task for ever. */
  tag = new Uint32Array(0);
  /** The session that holds the lease. */
  session = new Uint32Array(0);
  /** Links of the one list the task is in: a queue, or the leases of a session. */
  next = new Uint32Array(0);
  prev = new Uint32Array(0);
  /** Sequence and index of its first record: identity, and place in the order of acceptance. */
  order = new Float64Array(0);
  /** Unix milliseconds. */
  accepted = new Float64Array(0);
  notBefore = new Float64Array(0);
  deadline = new Float64Array(0);

  /** Slots in use. */
  count = 0;
  private freeHead = NONE;
  private fresh = 0;

  /** Slots that have ever been in use: columns beside this table need as many rows. */
  get capacity(): number {
    return this.state.length;
  }

  /** Takes a slot for the task of that order. Its columns hold garbage until they are set. */
  take(order: number): number {
    let slot = this.freeHead;
    if (slot !== NONE) {
      this.freeHead = this.next[slot]!;
    } else {
      if (this.fresh === this.state.length) this.grow();
      slot = this.fresh++;
    }
    this.order[slot] = order;
    this.count++;
    return slot;
  }

  /** Gives the slot back. */
  give(slot: number): void {
    this.state[slot] = State.free;
    this.next[slot] = this.freeHead;
    this.freeHead = slot;
    this.count--;
  }

  /** Whether the slot holds the task of that order. */
  holds(slot: number, order: number): boolean {
    return slot < this.fresh && this.order[slot] === order && this.state[slot] !== State.free;
  }

  /** Slots in use, in no useful order. */
  *slots(): Generator<number> {
    for (let slot = 0; slot < this.fresh; slot++) if (this.state[slot] !== State.free) yield slot;
  }

  /** One more than the highest slot ever used. */
  get end(): number {
    return this.fresh;
  }

  private grow(): void {
    const size = Math.max(
      64,
      this.state.length < 65_536 ? this.state.length * 2 : Math.ceil(this.state.length * 1.5),
    );
    this.state = grown(this.state, new Uint8Array(size));
    this.kind = grown(this.kind, new Uint8Array(size));
    this.priority = grown(this.priority, new Uint8Array(size));
    this.flags = grown(this.flags, new Uint8Array(size));
    this.attempts = grown(this.attempts, new Uint8Array(size));
    this.deliveries = grown(this.deliveries, new Uint16Array(size));
    this.mailbox = grown(this.mailbox, new Uint32Array(size));
    this.type = grown(this.type, new Uint32Array(size));
    this.batch = grown(this.batch, new Uint32Array(size));
    this.offset = grown(this.offset, new Uint32Array(size));
    this.length = grown(this.length, new Uint32Array(size));
    this.entry = grown(this.entry, new Uint32Array(size));
    this.tag = grown(this.tag, new Uint32Array(size));
    this.session = grown(this.session, new Uint32Array(size));
    this.next = grown(this.next, new Uint32Array(size));
    this.prev = grown(this.prev, new Uint32Array(size));
    this.order = grown(this.order, new Float64Array(size));
    this.accepted = grown(this.accepted, new Float64Array(size));
    this.notBefore = grown(this.notBefore, new Float64Array(size));
    this.deadline = grown(this.deadline, new Float64Array(size));
  }
}

/** Copies a column into a longer one. */
export function grown<T extends Uint8Array | Uint16Array | Uint32Array | Float64Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
