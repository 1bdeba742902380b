import type { Pool } from '../core/pools.ts';
import type { HubError } from '../std/errors.ts';

/** What an acknowledged record survives, weakest first. */
export const DURABILITY = ['memory', 'stored', 'replicated', 'synced'] as const;

/**
 * - `memory`: nothing; it is gone with the process.
 * - `stored`: the death of the process (the operating system holds it).
 * - `replicated`: the loss of a minority of machines.
 * - `synced`: the loss of power (it was flushed to the device before the ack).
 */
export type Durability = (typeof DURABILITY)[number];

/** Who writes a record: any edge enqueues tasks; only the shard's owner writes decisions. */
export type Subject = 'tasks' | 'owner';

/** One append to the log of one shard. */
export interface Append {
  readonly subject: Subject;
  /** The record. The log keeps it; the caller must not write to it again. */
  readonly bytes: Uint8Array;
  /**
   * Owner records only: the append succeeds only if the last owner record of the shard has this
   * sequence (0: there is none). Absent: unconditional, as an Epoch record is.
   */
  readonly expectedOwner?: number;
  /**
   * It settles what is in the log already: decisions, results on their way. Where the limit is only a configured
   * one, it does not apply to them, since without them the log could never become shorter.
   */
  readonly settles?: boolean;
  /** Names this append among all of the last 30 s, so that a retry of it is stored once. */
  readonly id: string;
}

/** Receives a shard's records in the order of their sequences, each exactly once. */
export interface LogReader {
  /** `bytes` belongs to the reader from now on. It must not throw. */
  record(sequence: number, subject: Subject, bytes: Uint8Array): void;
  /** Called once: everything that was durable when reading began has been given. */
  caughtUp(): void;
  /** Reading ended by itself and will not go on, as when a record can't be read any more. */
  failed(error: HubError): void;
}

/** A running {@link ShardLog.read}. */
export interface Reading {
  /** No call reaches the reader after this. */
  stop(): void;
}

/** What a shard's log holds. Sequences count from 1; an empty log has `first = last + 1`. */
export interface Extent {
  readonly first: number;
  readonly last: number;
  /** The sum of the records' lengths. A store that is shared knows only those it appended or has read. */
  readonly bytes: number;
}

/** How the copies of a shard's log fare, when they were last looked at. */
export interface Replication {
  /** False if nobody answered for them: there is no leader, or no quorum. */
  readonly available: boolean;
  /** Copies that are offline or not up to date. */
  readonly behind: number;
  /** The most operations that one of them lags behind. */
  readonly lag: number;
}

/** How full a store is, in bytes. */
export interface Fill {
  readonly taken: number;
  /** What it may take. Decisions and results may have made it more. `Infinity`: nobody has set a limit. */
  readonly limit: number;
}

/**
 * The append-only, ordered, durable record of every shard: the only source of truth.
 *
 * Implementations: `memory.ts`, `file.ts` (embedded), `jetstream.ts` (cluster). All of them pass
 * `test/conformance/log.ts`.
 */
export interface Log {
  /** The level that an acknowledged append has reached. */
  readonly durability: Durability;
  /** They may become more, see {@link grow}. */
  readonly shards: number;
  /**
   * Opens the logs of another pool, whose shards are the next ones, and makes them if nobody has; `done` is called
   * once, later. Absent: this log has the shards that it was made with.
   */
  grow?(pool: Pool, done: (error: HubError | undefined) => void): void;
  /**
   * The name that the log got when it was made, the same for all who use it. It is a secret: the names of task ids
   * depend on it, so that nobody can make two ids that have one name.
   */
  readonly generation: string;
  /**
   * Stores a record at the end of the shard's log and answers with its sequence.
   *
   * `done` is called exactly once, never before `append` has returned; after it the record has
   * reached {@link durability}. Records of one shard get their sequences in the order of their
   * appends, and readers see a record not later than right after its `done`. Errors: `aborted`
   * (another owner has written since; nothing was stored), `exhausted` (the store is full; nothing
   * was stored), `unavailable` (undecided: retry with the same id), `invalid` (too large).
   */
  append(shard: number, append: Append, done: (error: HubError | undefined, sequence: number) => void): void;
  /** Gives all retained records from sequence `from` on, and then every new one once durable. */
  read(shard: number, from: number, reader: LogReader): Reading;
  /**
   * Forgets the records below `before`. It may do so late or in part (after a restart some of them
   * may be seen again), but never more. The last owner record is never forgotten.
   */
  truncate(shard: number, before: number): void;
  extent(shard: number): Extent;
  /** Records that are stored, as far as is known, and that its reader here has not been given yet. Absent: none ever. */
  lag?(shard: number): number;
  /** Absent: there is one copy. */
  replication?(shard: number): Replication;
  /** Bytes that may still be appended before the store is full, or `Infinity`. */
  room(): number;
  /** How full the store is that holds the shard; several shards may share one. It is about right, and costs little. */
  fill(shard: number): Fill;
  /** Whether all shards share one store. */
  readonly shared: boolean;
  /** The configuration key that bounds {@link room}. Default: `data.maxBytes`. */
  readonly bound?: string;
  /** Finishes what was appended, then lets go of the store. Further appends are `unavailable`. */
  close(): Promise<void>;
}
