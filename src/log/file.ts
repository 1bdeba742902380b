import type { Clock } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { closed, full, MAX_RECORD_BYTES, refusal } from './admission.ts';
import type { Catalog } from './catalog.ts';
import { Follower } from './follower.ts';
import { Journal, type Sync } from './journal.ts';
import type { Append, Durability, Extent, Fill, Log, LogReader, Reading } from './log.ts';
import { Reclaimer, type Settle } from './reclaimer.ts';
import { recover, type Recovered } from './recovery.ts';
import { Replay } from './replay.ts';
import { badGeneration, encodeMark, type Entry, KIND, OVERHEAD } from './segment.ts';
import type { Space } from './space.ts';
import type { Storage } from './storage.ts';

/** How a {@link FileLog} is opened. */
export interface FileLogOptions {
  /** Where it lives. It belongs to the log from then on, which closes it. */
  readonly storage: Storage;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How many shards there are. A store keeps the number it was made with; another one is refused. */
  readonly shards: number;
  /** The name of a store that is made now, such as a UUID. An existing one keeps its own. */
  readonly generation: string;
  readonly sync: Sync;
  /** With `sync: interval`: milliseconds between a write and its flush. Default: 1000. */
  readonly syncIntervalMs?: number;
  /** Bytes of a segment, the unit in which room is given back; at most 1 GiB. Default: 64 MiB. */
  readonly segmentBytes?: number;
  /** The most bytes the log takes on the disk. Default: as many as there are. */
  readonly maxBytes?: number;
  /** The largest record it takes. Default: 8 MiB. */
  readonly maxRecordBytes?: number;
}

type AppendDone = Parameters<Log['append']>[2];

interface Waiting extends Entry {
  readonly settle: Settle;
  /** Gives it to the readers of its shard. */
  readonly tell?: () => void;
}

interface Shard {
  readonly catalog: Catalog;
  readonly followers: Set<Follower>;
  /** The last sequence given to an append, and to one of an owner record. */
  accepted: number;
  acceptedOwner: number;
}

/**
 * What one commit takes at most: it bounds the time until those that came later get their turn, and
 * fits into one system call, which takes 1024 pieces.
 */
const GROUP_BYTES = 8 * 1024 * 1024;
const GROUP_RECORDS = 500;
/** Offsets are 32-bit numbers. */
const MAX_SEGMENT_BYTES = 1024 * 1024 * 1024;
/** Milliseconds after which the free room of the disk is asked for again. */
const FREE_MS = 1000;

/**
 * A durable log in one folder: one write-ahead log for all shards, committed in groups.
 *
 * What is appended while one group is on its way to the disk leaves with the next one. When a write
 * fails, nothing of its group is stored, nor of what was appended after it, since that may depend
 * on it. An append is thus undecided only when the log has failed for good; a retry with the same
 * id can't reach the same log then, so `Append.id` needs no memory here.
 */
export class FileLog implements Log {
  readonly shared = true;
  readonly durability: Durability;
  readonly shards: number;
  /** The name of this store; it stays the same as long as the store lives. */
  readonly generation: string;
  readonly #storage: Storage;
  readonly #clock: Clock;
  readonly #maxBytes: number;
  readonly #maxRecordBytes: number;
  readonly #segmentBytes: number;
  readonly #shards: readonly Shard[];
  readonly #space: Space;
  readonly #journal: Journal;
  readonly #replay: Replay;
  readonly #reclaimer: Reclaimer;
  /** What waits for its commit, in groups for one commit each. */
  #waiting: Waiting[][] = [];
  #waitingBytes = 0;
  #lastGroupBytes = 0;
  #state: 'idle' | 'woken' | 'committing' = 'idle';
  /** Records were forgotten, and no mark says so yet. */
  #unmarked = false;
  #marks: ((failure: HubError | undefined) => void)[] = [];
  #free = Infinity;
  #freeAskedAt = -Infinity;
  #closed: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;

  /** Opens the log in `options.storage`, or makes one there; see {@link recover} for its errors. */
  static open(options: FileLogOptions): Promise<FileLog> {
    return new Promise((resolve, reject) => {
      FileLog.recover(options, (error, log) => {
        if (error === undefined) resolve(log as FileLog);
        else void options.storage.close().finally(() => reject(error));
      });
    });
  }

  /**
   * As {@link open}, without a promise; on an error the storage stays open.
   *
   * Errors: `corrupt` (the store is damaged), `precondition` (made with other shards or another
   * version), `invalid` (no name for a store), `exhausted` (no room for a first segment), `unavailable` (the disk does not work).
   */
  static recover(
    options: FileLogOptions,
    done: (error: HubError | undefined, log: FileLog | undefined) => void,
  ): void {
    const { storage, logger, shards, generation } = options;
    const bad = badGeneration(generation);
    if (bad !== undefined) return options.clock.soon(() => done(bad, undefined));
    recover(storage, logger, { shards, generation }, (error, recovered) => {
      if (recovered === undefined) return done(error, undefined);
      const log = new FileLog(options, recovered);
      log.#journal.start(recovered.left, (failure) => {
        if (failure !== undefined) return done(failure, undefined);
        log.#grown();
        done(undefined, log);
      });
    });
  }

  private constructor(options: FileLogOptions, recovered: Recovered) {
    const { storage, clock, logger, sync, syncIntervalMs = 1000, segmentBytes = 64 * 1024 * 1024 } = options;
    const { identity, catalogs, space } = recovered;
    this.durability = sync === 'always' ? 'synced' : 'stored';
    this.shards = identity.shards;
    this.generation = identity.generation;
    this.#storage = storage;
    this.#clock = clock;
    this.#maxBytes = options.maxBytes ?? Infinity;
    this.#maxRecordBytes = options.maxRecordBytes ?? MAX_RECORD_BYTES;
    this.#segmentBytes = Math.min(segmentBytes, MAX_SEGMENT_BYTES, Math.ceil(this.#maxBytes / 16));
    this.#space = space;
    this.#shards = catalogs.map((catalog) => ({
      catalog,
      followers: new Set(),
      accepted: catalog.next - 1,
      acceptedOwner: catalog.owner,
    }));
    this.#journal = new Journal({
      storage,
      clock,
      logger,
      identity,
      sync,
      syncIntervalMs,
      segmentBytes: this.#segmentBytes,
      mark: () => encodeMark(catalogs),
      onFailure: (failure) => this.#fail(failure),
    });
    this.#replay = new Replay(storage, clock, space, identity.generation);
    this.#reclaimer = new Reclaimer({
      storage,
      clock,
      logger,
      catalogs,
      space,
      journal: this.#journal,
      generation: identity.generation,
      segmentBytes: this.#segmentBytes,
      maxBytes: this.#maxBytes,
      enqueue: (entry, settle) => this.#enqueue({ ...entry, settle }),
      mark: (settle) => {
        this.#marks.push(settle);
        this.#wake();
      },
      free: () => this.#free,
    });
  }

  append(shard: number, append: Append, done: AppendDone): void {
    const state = this.#shard(shard);
    const { subject, bytes } = append;
    const refused =
      this.#journal.failure ??
      (this.#closed === undefined ? undefined : closed()) ??
      refusal(append, state.acceptedOwner, this.#maxRecordBytes) ??
      (append.settles === true ? undefined : this.#overLimit(bytes));
    if (refused !== undefined) {
      this.#clock.soon(() => done(refused, 0));
      return;
    }
    const sequence = ++state.accepted;
    const owner = subject === 'owner';
    if (owner) state.acceptedOwner = sequence;
    const kind = owner ? KIND.owner : KIND.tasks;
    const settle: Settle = (failure, segment, offset) => {
      if (failure !== undefined) return done(failure, 0);
      state.catalog.put(sequence, segment, offset, bytes.length);
      if (owner) state.catalog.owner = sequence;
      this.#space.hold(segment, OVERHEAD + bytes.length);
      done(undefined, sequence);
    };
    const tell = (): void => {
      for (const follower of state.followers) {
        if (follower.live && follower.next <= sequence) follower.give(sequence, subject, bytes);
      }
    };
    this.#enqueue({ kind, shard, sequence, bytes, settle, tell });
  }

  read(shard: number, from: number, reader: LogReader): Reading {
    const { catalog, followers } = this.#shard(shard);
    const follower = new Follower(reader, from, catalog.next, () => followers.delete(follower));
    followers.add(follower);
    const { failure } = this.#journal;
    if (failure !== undefined) this.#clock.soon(() => follower.fail(failure));
    else if (this.#closed === undefined) this.#replay.add(shard, catalog, follower);
    return follower;
  }

  truncate(shard: number, before: number): void {
    const { catalog } = this.#shard(shard);
    const limit = Math.min(before, catalog.next, catalog.owner === 0 ? Infinity : catalog.owner);
    if (limit <= catalog.first) return;
    catalog.stretches(catalog.first, limit, (segment, _first, records, bytes) => {
      this.#space.release(segment, OVERHEAD * records + bytes, records);
    });
    catalog.drop(limit);
    this.#unmarked = true;
    this.#reclaimer.check();
  }

  extent(shard: number): Extent {
    const { first, next, bytes } = this.#shard(shard).catalog;
    return { first, last: next - 1, bytes };
  }

  room(): number {
    const now = this.#clock.now();
    if (Math.abs(now - this.#freeAskedAt) >= FREE_MS) {
      this.#freeAskedAt = now;
      this.#storage.free((bytes) => {
        this.#free = bytes;
      });
    }
    return Math.max(0, Math.min(this.#maxBytes - this.#space.used, this.#free) - this.#waitingBytes);
  }

  fill(): Fill {
    const taken = this.#space.used + this.#waitingBytes;
    return { taken, limit: Math.min(this.#maxBytes, taken + this.room()) };
  }

  close(): Promise<void> {
    this.#closed ??= new Promise<void>((resolve) => {
      this.#reclaimer.stop(() => {
        this.#whenIdle = resolve;
        if (this.#unmarked) this.#marks.push(() => {});
        this.#wake();
      });
    })
      .then(() => new Promise<void>((resolve) => this.#journal.close(() => resolve())))
      .then(() => this.#storage.close());
    return this.#closed;
  }

  #overLimit(bytes: Uint8Array): HubError | undefined {
    const after = this.#space.used + this.#waitingBytes + OVERHEAD + bytes.length;
    if (after <= this.#maxBytes) return undefined;
    return full(
      `the log in ${this.#storage.folder} has reached its limit of ${this.#maxBytes} bytes; finish tasks, or raise it`,
      'data.maxBytes',
    );
  }

  #enqueue(entry: Waiting): void {
    const size = OVERHEAD + entry.bytes.length;
    const group = this.#waiting.at(-1);
    if (group !== undefined && group.length < GROUP_RECORDS && this.#lastGroupBytes + size <= GROUP_BYTES) {
      group.push(entry);
      this.#lastGroupBytes += size;
    } else {
      this.#waiting.push([entry]);
      this.#lastGroupBytes = size;
    }
    this.#waitingBytes += size;
    this.#wake();
  }

  #wake(): void {
    if (this.#state !== 'idle') return;
    this.#state = 'woken';
    this.#clock.soon(() => this.#flush());
  }

  #flush(): void {
    if (this.#waiting.length === 0 && this.#marks.length === 0) return this.#idle();
    this.#state = 'committing';
    const group = this.#takeGroup();
    this.#journal.commit(group, (failure, { segment, offset }) => {
      if (failure !== undefined) {
        this.#refuse(group, failure);
      } else {
        const size = sizeOf(group);
        this.#free -= size;
        const rolled = !this.#space.has(segment);
        this.#space.extend(segment, offset + size);
        let at = offset;
        for (const { bytes, settle } of group) {
          settle(undefined, segment, at);
          at += OVERHEAD + bytes.length;
        }
        if (rolled) this.#reclaimer.check();
      }
      // Readers take milliseconds: the disk need not wait for them if it has something to do.
      const busy = this.#waiting.length > 0;
      if (busy) this.#flush();
      if (failure === undefined) for (const { tell } of group) tell?.();
      if (!busy) this.#flush();
    });
  }

  #takeGroup(): Waiting[] {
    const group = this.#waiting.shift() ?? [];
    this.#waitingBytes -= sizeOf(group);
    if (this.#unmarked || this.#marks.length > 0) group.push(this.#mark());
    return group;
  }

  #mark(): Waiting {
    const waiting = this.#marks;
    this.#marks = [];
    this.#unmarked = false;
    const entry = encodeMark(this.#shards.map(({ catalog }) => catalog));
    const settle: Settle = (failure) => {
      if (failure !== undefined) this.#unmarked = true;
      for (const done of waiting) done(failure);
    };
    return { ...entry, settle };
  }

  /** Takes back `group` and everything that was accepted after it. */
  #refuse(group: readonly Waiting[], failure: HubError): void {
    const refused = [...group, ...this.#waiting.flat()];
    const marks = this.#marks;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#marks = [];
    this.#freeAskedAt = -Infinity;
    for (const state of this.#shards) {
      state.accepted = state.catalog.next - 1;
      state.acceptedOwner = state.catalog.owner;
    }
    for (const { settle } of refused) settle(failure, 0, 0);
    for (const done of marks) done(failure);
  }

  /** Tells all readers that nothing will come any more. */
  #fail(failure: HubError): void {
    for (const { followers } of this.#shards) {
      for (const follower of followers) follower.fail(failure);
    }
  }

  #idle(): void {
    this.#state = 'idle';
    if (this.#whenIdle === undefined) return;
    for (const { followers } of this.#shards) for (const follower of followers) follower.stop();
    this.#whenIdle();
    this.#whenIdle = undefined;
  }

  /** Notes where the journal ends now, and gives back what the last process left. */
  #grown(): void {
    const { segment, offset } = this.#journal.end;
    this.#space.extend(segment, offset);
    this.#reclaimer.check();
    this.room();
  }

  #shard(shard: number): Shard {
    const state = this.#shards[shard];
    if (state === undefined) throw new RangeError(`shard ${shard} of ${this.shards}`);
    return state;
  }
}

/** Bytes that `group` takes in a segment. */
function sizeOf(group: readonly Entry[]): number {
  let size = 0;
  for (const { bytes } of group) size += OVERHEAD + bytes.length;
  return size;
}
