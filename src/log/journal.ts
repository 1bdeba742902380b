import type { Clock, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { full } from './admission.ts';
import {
  encodeHeader,
  encodeOverhead,
  type Entry,
  HEADER_BYTES,
  type Identity,
  OVERHEAD,
  segmentName,
  segmentSalt,
} from './segment.ts';
import type { Done, Storage, StorageError, WritableFile } from './storage.ts';

/**
 * When records are flushed to the device.
 *
 * - `always`: before the ack; they survive the loss of power.
 * - `interval`: every so often; the loss of power may take what was acknowledged since.
 * - `none`: when the operating system likes.
 */
export type Sync = 'always' | 'interval' | 'none';

/** A place in a journal. */
export interface Place {
  readonly segment: number;
  readonly offset: number;
}

/** Where a journal was left. */
export interface Left extends Place {
  /** How much of the segment is on the device for certain. */
  readonly synced: number;
}

/** Bytes rewritten at once. */
const REWRITE_BYTES = 1024 * 1024;

/** What a {@link Journal} is made of. */
export interface JournalOptions {
  readonly storage: Storage;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly identity: Identity;
  readonly sync: Sync;
  readonly syncIntervalMs: number;
  readonly segmentBytes: number;
  /** The mark that a new segment begins with. */
  readonly mark: () => Entry;
  /** Called once, when the journal fails. */
  readonly onFailure: (failure: HubError) => void;
}

/**
 * The writing end of the write-ahead log: appends groups of records to the last segment, one group
 * at a time, and begins a new segment when that one is full.
 *
 * Segments are extended with zeros when they are made, and with `sync: always` written through
 * (O_DSYNC): a small commit then needs no change of the file's size, and one system call. Measured
 * on ext4, that halves the latency of a small commit against write + fdatasync on a growing file.
 *
 * A write that fails is cut off again before anything else happens, so half a group never becomes
 * visible. If the disk is full, the journal then goes on. After any other error nobody knows what
 * the device holds (a failed fsync may drop the pages and succeed the next time), so it has failed
 * for good, and says so to every later call.
 */
export class Journal {
  #failure: HubError | undefined;
  #segment = 0;
  #offset = 0;
  #synced = 0;
  /** Where the first record of this segment is, if it was made by this process. */
  #first = 0;
  #salt = 0;
  #file: WritableFile | undefined;
  #timer: Timer | undefined;
  readonly #options: JournalOptions;
  readonly #durable: boolean;

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#durable = options.sync === 'always';
  }

  get end(): Place {
    return { segment: this.#segment, offset: this.#offset };
  }

  /** Why this journal takes nothing any more. */
  get failure(): HubError | undefined {
    return this.#failure;
  }

  /** Goes on where a journal was left, cutting off what follows; or in a first segment. */
  start(left: Left | undefined, done: (failure: HubError | undefined) => void): void {
    if (left === undefined) {
      this.#create(1, done);
      return;
    }
    const { storage, segmentBytes } = this.#options;
    const name = segmentName(left.segment);
    const failed = (error: StorageError): void => done(this.#fail(`${name} can't be opened`, error));
    storage.open(name, this.#durable, (error, file) => {
      if (file === undefined) return failed(error ?? new Error('no file'));
      this.#rewrite(name, file, left.synced, left.offset, (error) => {
        if (error !== undefined) return failed(error);
        file.resize(left.offset, (error) => {
          if (error !== undefined) return failed(error);
          file.resize(Math.max(left.offset, segmentBytes), (error) => {
            if (error !== undefined) return failed(error);
            this.#enter(left.segment, left.offset, file);
            done(undefined);
          });
        });
      });
    });
  }

  /**
   * Writes `entries` one after the other and answers where the first one is; only then may it be
   * called again. With `sync: always` they are durable by then.
   *
   * Errors: `exhausted` (the disk is full; nothing was stored), `unavailable` (for good).
   */
  commit(entries: readonly Entry[], done: (failure: HubError | undefined, at: Place) => void): void {
    let size = 0;
    for (const { bytes } of entries) size += OVERHEAD + bytes.length;
    if (this.#failure !== undefined) {
      done(this.#failure, this.end);
    } else if (this.#offset + size > this.#options.segmentBytes && this.#offset > this.#first) {
      this.#roll((failure) => {
        if (failure === undefined) this.#write(entries, size, done);
        else done(failure, this.end);
      });
    } else {
      this.#write(entries, size, done);
    }
  }

  /** Makes everything durable that was committed. */
  sync(done: (failure: HubError | undefined) => void): void {
    const { clock } = this.#options;
    const file = this.#file;
    const { segment, offset } = this.end;
    if (this.#failure !== undefined || this.#synced >= offset || file === undefined) {
      clock.soon(() => done(this.#failure));
      return;
    }
    file.sync((error) => {
      // Once a flush has failed, the success of another one says nothing.
      if (this.#failure !== undefined) return done(this.#failure);
      if (error !== undefined) return done(this.#fail(`${segmentName(segment)} can't be flushed`, error));
      if (segment === this.#segment) this.#synced = Math.max(this.#synced, offset);
      done(undefined);
    });
  }

  /** Makes everything durable and lets go of the file. */
  close(done: (failure: HubError | undefined) => void): void {
    this.#timer?.cancel();
    this.sync((failure) => {
      const file = this.#file;
      this.#file = undefined;
      if (file === undefined) done(failure);
      else file.close(() => done(failure));
    });
  }

  /**
   * Writes what the last process has left unsynced again. It is about to be acted upon; and if a
   * flush has failed, the system may take it for written, and no other flush would write it.
   */
  #rewrite(name: string, file: WritableFile, from: number, to: number, done: Done): void {
    if (from >= to) return done(undefined);
    this.#options.storage.read(name, from, Math.min(to - from, REWRITE_BYTES), (error, bytes) => {
      if (error !== undefined) return done(error);
      file.write([bytes], from, (error) => {
        if (error !== undefined) done(error);
        else this.#rewrite(name, file, from + bytes.length, to, done);
      });
    });
  }

  #write(
    entries: readonly Entry[],
    size: number,
    done: (failure: HubError | undefined, at: Place) => void,
  ): void {
    const file = this.#file as WritableFile;
    const at = this.end;
    const chunks: Uint8Array[] = [];
    const overheads = Buffer.allocUnsafe(entries.length * OVERHEAD);
    let offset = at.offset;
    for (const entry of entries) {
      const from = (chunks.length / 2) * OVERHEAD;
      const overhead = overheads.subarray(from, from + OVERHEAD);
      encodeOverhead(overhead, entry, this.#salt, offset, this.#synced);
      chunks.push(overhead, entry.bytes);
      offset += OVERHEAD + entry.bytes.length;
    }
    file.write(chunks, at.offset, (error) => {
      if (this.#failure !== undefined) return done(this.#failure, at);
      if (error !== undefined) return this.#cut(file, error, (failure) => done(failure, at));
      this.#offset += size;
      if (this.#durable) this.#synced = this.#offset;
      else this.#syncLater();
      done(undefined, at);
    });
  }

  /** Takes back what a failed write may have left. */
  #cut(file: WritableFile, error: StorageError, done: (failure: HubError) => void): void {
    const name = segmentName(this.#segment);
    file.resize(this.#offset, (cutError) => {
      if (cutError !== undefined)
        done(this.#fail(`${name} can't be cut back after a failed write`, cutError));
      else if (isFull(error)) done(this.#full());
      else done(this.#fail(`${name} can't be written`, error));
    });
  }

  /** Begins a new segment. The old one is made durable first: only a last segment may be torn. */
  #roll(done: (failure: HubError | undefined) => void): void {
    this.sync((failure) => {
      if (failure !== undefined) return done(failure);
      const old = this.#file;
      this.#create(this.#segment + 1, (failure) => {
        if (failure === undefined) old?.close(() => {});
        done(failure);
      });
    });
  }

  #create(segment: number, done: (failure: HubError | undefined) => void): void {
    const { storage, identity, mark, segmentBytes } = this.#options;
    const name = segmentName(segment);
    const first = mark();
    const overhead = Buffer.alloc(OVERHEAD);
    encodeOverhead(overhead, first, segmentSalt(identity.generation, segment), HEADER_BYTES, HEADER_BYTES);
    const start = Buffer.concat([encodeHeader(identity, segment), overhead, first.bytes]);
    storage.create(name, start, segmentBytes, this.#durable, (error, file) => {
      if (file !== undefined) {
        this.#enter(segment, start.length, file);
        this.#first = start.length;
        return done(undefined);
      }
      // Left behind, it would be taken for the last segment, and the present one for a whole one.
      storage.remove([name], (removeError) => {
        const cause = error ?? new Error('no file');
        if (isFull(cause) && removeError === undefined) done(this.#full());
        else done(this.#fail(`${name} can't be made`, removeError ?? cause));
      });
    });
  }

  #enter(segment: number, offset: number, file: WritableFile): void {
    this.#segment = segment;
    this.#offset = offset;
    this.#synced = offset;
    this.#salt = segmentSalt(this.#options.identity.generation, segment);
    this.#file = file;
    this.#first = 0;
  }

  #syncLater(): void {
    const { sync, clock, syncIntervalMs } = this.#options;
    if (sync !== 'interval' || this.#timer !== undefined) return;
    this.#timer = clock.after(syncIntervalMs, () => {
      this.#timer = undefined;
      this.sync(() => {});
    });
  }

  #full(): HubError {
    return full(
      `the disk of ${this.#options.storage.folder} is full; make room on it, or finish tasks so that the log shrinks`,
      'disk',
    );
  }

  #fail(what: string, cause: StorageError): HubError {
    const { logger, storage, onFailure } = this.#options;
    if (this.#failure !== undefined) return this.#failure;
    this.#failure = new HubError(
      'unavailable',
      `the log in ${storage.folder} has stopped: ${what} (${cause.message}); check the disk, then restart the broker`,
      { cause },
    );
    logger.error({ folder: storage.folder, error: cause.message }, this.#failure.message);
    onFailure(this.#failure);
    return this.#failure;
  }
}

function isFull(error: StorageError): boolean {
  return error.code === 'ENOSPC' || error.code === 'EDQUOT';
}
