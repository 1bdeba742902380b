import type { Clock } from '../std/clock.ts';
import { closed, full, MAX_RECORD_BYTES, refusal } from './admission.ts';
import { Follower } from './follower.ts';
import type { Append, Extent, Fill, Log, LogReader, Reading, Subject } from './log.ts';

/** How a {@link MemoryLog} is made. */
export interface MemoryLogOptions {
  readonly clock: Clock;
  readonly shards: number;
  /** The most bytes of records it retains. Default: no limit. */
  readonly maxBytes?: number;
  /** See `Log.generation`. Default: none, which is no secret. */
  readonly generation?: string;
  /** The largest record it takes. Default: 8 MiB. */
  readonly maxRecordBytes?: number;
}

type AppendDone = Parameters<Log['append']>[2];

interface Stored {
  readonly subject: Subject;
  readonly bytes: Uint8Array;
}

interface Accepted extends Stored {
  readonly shard: number;
  readonly sequence: number;
  readonly done: AppendDone;
}

/** Records given to a reader before the loop may turn to something else. */
const SLICE = 256;

/** What one shard retains: `records[0]` has the sequence `first`. */
class Shard {
  first = 1;
  records: Stored[] = [];
  bytes = 0;
  /** The last accepted sequence; records from `next` on are accepted, but not acknowledged yet. */
  accepted = 0;
  acceptedOwner = 0;
  owner = 0;
  readonly followers = new Set<Follower>();

  get next(): number {
    return this.first + this.records.length;
  }
}

/**
 * A log that is gone with its process: for tests, simulations and brokers that need no durability.
 *
 * It is deterministic: what it does depends only on its calls and on the order in which the clock
 * runs deferred ones. An append is never undecided, so a retry of one can't happen and `Append.id`
 * needs no memory here. Records are handed to readers as they came, without a copy.
 */
export class MemoryLog implements Log {
  readonly durability = 'memory';
  readonly shared = true;
  readonly shards: number;
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly generation: string;
  readonly #maxRecordBytes: number;
  readonly #shards: Shard[];
  #waiting: Accepted[] = [];
  #bytes = 0;
  #closed = false;
  #whenIdle: (() => void)[] = [];

  constructor(options: MemoryLogOptions) {
    this.shards = options.shards;
    this.generation = options.generation ?? '';
    this.#clock = options.clock;
    this.#maxBytes = options.maxBytes ?? Infinity;
    this.#maxRecordBytes = options.maxRecordBytes ?? MAX_RECORD_BYTES;
    this.#shards = Array.from({ length: options.shards }, () => new Shard());
  }

  append(shard: number, append: Append, done: AppendDone): void {
    const state = this.#shard(shard);
    const { subject, bytes } = append;
    const refused = this.#closed
      ? closed()
      : (refusal(append, state.acceptedOwner, this.#maxRecordBytes) ??
        (append.settles !== true && bytes.length > this.room()
          ? full('the log is full; finish tasks or raise the limit', 'data.maxBytes')
          : undefined));
    if (refused !== undefined) {
      this.#clock.soon(() => done(refused, 0));
      return;
    }
    const sequence = ++state.accepted;
    if (subject === 'owner') state.acceptedOwner = sequence;
    this.#bytes += bytes.length;
    this.#waiting.push({ shard, sequence, subject, bytes, done });
    if (this.#waiting.length === 1) this.#clock.soon(() => this.#commit());
  }

  read(shard: number, from: number, reader: LogReader): Reading {
    const state = this.#shard(shard);
    const follower = new Follower(reader, from, state.next, () => state.followers.delete(follower));
    state.followers.add(follower);
    this.#clock.soon(() => this.#replay(state, follower));
    return follower;
  }

  truncate(shard: number, before: number): void {
    const state = this.#shard(shard);
    const limit = Math.min(before, state.next, state.owner === 0 ? Infinity : state.owner);
    if (limit <= state.first) return;
    const forgotten = state.records.splice(0, limit - state.first);
    state.first = limit;
    for (const { bytes } of forgotten) {
      state.bytes -= bytes.length;
      this.#bytes -= bytes.length;
    }
  }

  extent(shard: number): Extent {
    const { first, next, bytes } = this.#shard(shard);
    return { first, last: next - 1, bytes };
  }

  room(): number {
    return Math.max(0, this.#maxBytes - this.#bytes);
  }

  fill(): Fill {
    return { taken: this.#bytes, limit: this.#maxBytes };
  }

  close(): Promise<void> {
    this.#closed = true;
    return new Promise((resolve) => {
      this.#whenIdle.push(() => {
        for (const { followers } of this.#shards) for (const follower of followers) follower.stop();
        resolve();
      });
      if (this.#waiting.length === 0) this.#idle();
    });
  }

  #commit(): void {
    const group = this.#waiting;
    this.#waiting = [];
    for (const record of group) {
      const state = this.#shard(record.shard);
      state.records.push({ subject: record.subject, bytes: record.bytes });
      state.bytes += record.bytes.length;
      if (record.subject === 'owner') state.owner = record.sequence;
      record.done(undefined, record.sequence);
      for (const follower of state.followers) if (follower.live) this.#give(state, follower);
    }
    if (this.#waiting.length === 0) this.#idle();
  }

  /** Gives a slice of what `follower` lacks, and makes it live once it lacks nothing. */
  #replay(state: Shard, follower: Follower): void {
    for (let left = SLICE; left > 0 && !follower.stopped && follower.next < state.next; left--) {
      this.#give(state, follower);
    }
    follower.settle();
    if (follower.stopped) return;
    if (follower.next < state.next) this.#clock.soon(() => this.#replay(state, follower));
    else follower.live = true;
  }

  #give(state: Shard, follower: Follower): void {
    const sequence = Math.max(follower.next, state.first);
    follower.next = sequence;
    const record = state.records[sequence - state.first];
    if (record !== undefined) follower.give(sequence, record.subject, record.bytes);
  }

  #idle(): void {
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const run of waiting) run();
  }

  #shard(shard: number): Shard {
    const state = this.#shards[shard];
    if (state === undefined) throw new RangeError(`shard ${shard} of ${this.shards}`);
    return state;
  }
}
