import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { Catalog } from './catalog.ts';
import type { Left } from './journal.ts';
import {
  type Bounds,
  decodeHeader,
  decodeMark,
  HEADER_BYTES,
  type Identity,
  KIND,
  nextCandidate,
  OVERHEAD,
  RecordCursor,
  segmentNumber,
  segmentSalt,
} from './segment.ts';
import { Space } from './space.ts';
import type { Storage, StorageError, StoredFile } from './storage.ts';

/** Bytes read at once. */
const WINDOW = 1024 * 1024;
/** No store has such a hole between two records of a shard; noting it would only cost memory. */
const MAX_HOLE = 1 << 24;

/** What a store held when it was opened. */
export interface Recovered {
  readonly identity: Identity;
  /** What each shard retains. */
  readonly catalogs: readonly Catalog[];
  readonly space: Space;
  /** Where to go on writing; absent if the store has no segment yet. */
  readonly left: Left | undefined;
}

type Verdict = 'zeros' | 'torn' | 'damaged';

/**
 * Reads a whole store once, and notes where the retained records are.
 *
 * Every segment begins with a mark of what was retained by then. The newest of these bounds the
 * catalogs from below, so that dead records in old segments cost no memory. The records of a shard
 * come in their order, except for those that were copied out of an old segment.
 *
 * What can't be read at the end of the last segment, and was never durable, is a torn write: it is
 * left out, and cut off by the journal. Whatever else can't be read is damage, which is refused:
 * going on without it would lose what was acknowledged.
 */
export function recover(
  storage: Storage,
  logger: Logger,
  wanted: Identity,
  done: (error: HubError | undefined, recovered: Recovered | undefined) => void,
): void {
  new Recovery(storage, logger, wanted, done).run();
}

class Recovery {
  readonly #storage: Storage;
  readonly #logger: Logger;
  readonly #done: (error: HubError | undefined, recovered: Recovered | undefined) => void;
  readonly #space = new Space();
  readonly #bounds: Bounds[];
  #identity: Identity;
  #segments: StoredFile[] = [];
  #catalogs: Catalog[] = [];
  #left: Left | undefined;

  constructor(
    storage: Storage,
    logger: Logger,
    wanted: Identity,
    done: (error: HubError | undefined, recovered: Recovered | undefined) => void,
  ) {
    this.#storage = storage;
    this.#logger = logger;
    this.#identity = wanted;
    this.#done = done;
    this.#bounds = Array.from({ length: wanted.shards }, () => ({ first: 1, next: 1 }));
  }

  run(): void {
    this.#storage.list((error, files) => {
      if (error !== undefined) return this.#unreadable(this.#storage.folder, error);
      this.#segments = files
        .filter(({ name }) => segmentNumber(name) !== undefined)
        .sort((a, b) => (a.name < b.name ? -1 : 1));
      this.#begin();
    });
  }

  /** Learns from the last segment who wrote the store, and what it retained. */
  #begin(): void {
    const last = this.#segments.at(-1);
    if (last === undefined) return this.#scan(0);
    this.#read(last, 0, WINDOW, (bytes) => {
      const identity = decodeHeader(bytes, numberOf(last), this.#path(last));
      if (identity instanceof HubError) return this.#fail(identity);
      if (identity === undefined) return this.#discard(last);
      const { shards } = this.#identity;
      if (identity.shards !== shards) {
        return this.#fail(
          new HubError(
            'precondition',
            `${this.#storage.folder} was made with ${identity.shards} shards, not ${shards}: set shards to ${identity.shards}, or use another folder`,
            { field: 'shards' },
          ),
        );
      }
      const record = new RecordCursor(segmentSalt(identity.generation, numberOf(last)));
      if (record.read(bytes, HEADER_BYTES, 0) !== 'whole' || record.kind !== KIND.mark) {
        return this.#discard(last);
      }
      this.#identity = identity;
      this.#mark(bytes.subarray(HEADER_BYTES + OVERHEAD, HEADER_BYTES + record.size));
      this.#scan(0);
    });
  }

  /** A crash may leave a segment that was still being made; it holds no record. */
  #discard(last: StoredFile): void {
    this.#judge(last, HEADER_BYTES + 1, undefined, (verdict) => {
      if (verdict === 'damaged') return this.#damaged(last, 0, 'its header is unreadable');
      this.#logger.warn({ file: this.#path(last) }, 'removing a segment that was never finished');
      this.#storage.remove([last.name], (error) => {
        if (error !== undefined) return this.#unreadable(last.name, error);
        this.#segments.pop();
        this.#begin();
      });
    });
  }

  #scan(index: number): void {
    if (index === 0) this.#catalogs = this.#bounds.map(({ first }) => new Catalog(first));
    const segment = this.#segments[index];
    if (segment === undefined) return this.#finish();
    this.#read(segment, 0, HEADER_BYTES, (bytes) => {
      const identity = decodeHeader(bytes, numberOf(segment), this.#path(segment));
      if (identity instanceof HubError) return this.#fail(identity);
      if (identity === undefined) return this.#damaged(segment, 0, 'its header is unreadable');
      const { generation, shards } = this.#identity;
      if (identity.generation !== generation || identity.shards !== shards) {
        return this.#damaged(segment, 0, 'it belongs to another store than the last segment');
      }
      const cursor = new RecordCursor(segmentSalt(generation, numberOf(segment)));
      this.#records(index, segment, cursor, HEADER_BYTES, WINDOW);
    });
  }

  /** Notes the records from `offset` on. */
  #records(index: number, segment: StoredFile, cursor: RecordCursor, offset: number, window: number): void {
    const number = numberOf(segment);
    this.#read(segment, offset, window, (bytes) => {
      let at = 0;
      let found = cursor.read(bytes, at, offset);
      for (; found === 'whole'; found = cursor.read(bytes, at, offset)) {
        const problem = this.#note(cursor, number, offset + at, bytes, at);
        if (problem !== undefined) return this.#damaged(segment, offset + at, problem);
        at += cursor.size;
      }
      const next = offset + at;
      if (found === 'short' && next + cursor.size <= segment.size) {
        return this.#records(index, segment, cursor, next, Math.max(WINDOW, cursor.size));
      }
      this.#space.extend(number, next);
      this.#left = { segment: number, offset: next, synced: Math.max(HEADER_BYTES, cursor.synced) };
      this.#judge(segment, next, cursor, (verdict) => {
        const last = index === this.#segments.length - 1;
        if (verdict === 'damaged' || (verdict === 'torn' && !last)) {
          return this.#damaged(segment, next, 'a record in the middle of the log is unreadable');
        }
        if (verdict === 'torn') {
          this.#logger.warn(
            { file: this.#path(segment), offset: next },
            'cutting off the last write, which a crash has torn',
          );
        }
        this.#scan(index + 1);
      });
    });
  }

  #note(
    record: RecordCursor,
    segment: number,
    offset: number,
    bytes: Buffer,
    at: number,
  ): string | undefined {
    const { kind, shard, sequence, size } = record;
    if (kind === KIND.mark) {
      this.#mark(bytes.subarray(at + OVERHEAD, at + size));
      return undefined;
    }
    const catalog = this.#catalogs[shard];
    if (catalog === undefined) return `it has a record of shard ${shard}, of ${this.#identity.shards}`;
    if (sequence < catalog.first) return undefined;
    if (sequence - catalog.next > MAX_HOLE) return missing(shard, catalog.next, sequence);
    catalog.put(sequence, segment, offset, size - OVERHEAD);
    if (kind === KIND.owner) catalog.owner = Math.max(catalog.owner, sequence);
    return undefined;
  }

  #mark(body: Buffer): void {
    decodeMark(body).forEach(({ first, next }, shard) => {
      const known = this.#bounds[shard];
      if (known === undefined) return;
      this.#bounds[shard] = { first: Math.max(known.first, first), next: Math.max(known.next, next) };
    });
  }

  #finish(): void {
    for (const [shard, catalog] of this.#catalogs.entries()) {
      const { first, next } = this.#bounds[shard] as Bounds;
      catalog.drop(first);
      let absent: string | undefined = next > catalog.next ? missing(shard, catalog.next, next) : undefined;
      catalog.stretches(catalog.first, catalog.next, (segment, from, records, bytes) => {
        if (segment === 0) absent = missing(shard, from, from + records);
        else this.#space.hold(segment, OVERHEAD * records + bytes, records);
      });
      if (absent !== undefined) return this.#fail(this.#lost(absent));
    }
    const { length } = this.#segments;
    this.#logger.info(
      { folder: this.#storage.folder, segments: length, bytes: this.#space.retained },
      'log recovered',
    );
    this.#done(undefined, {
      identity: this.#identity,
      catalogs: this.#catalogs,
      space: this.#space,
      left: this.#left,
    });
  }

  /**
   * What follows `end`, where no record could be read: nothing but zeros, the rest of a torn write,
   * or, if a later record proves that `end` was durable once, damage. Without a `cursor` every
   * trace of a record is such a proof.
   */
  #judge(
    segment: StoredFile,
    end: number,
    cursor: RecordCursor | undefined,
    done: (verdict: Verdict) => void,
  ): void {
    let zeros = true;
    const look = (offset: number, window: number): void => {
      if (offset >= segment.size) return done(zeros ? 'zeros' : 'torn');
      this.#read(segment, offset, window, (bytes) => {
        zeros &&= bytes.equals(Buffer.alloc(bytes.length));
        for (let at = nextCandidate(bytes, 0); at !== -1; at = nextCandidate(bytes, at + 1)) {
          const found = cursor === undefined ? 'whole' : cursor.read(bytes, at, offset);
          if (found === 'whole' && (cursor === undefined || cursor.synced > end)) return done('damaged');
          if (found === 'short' && cursor !== undefined && offset + at + cursor.size <= segment.size) {
            return look(offset + at, Math.max(WINDOW, cursor.size));
          }
        }
        // The last bytes may be the beginning of a candidate.
        const last = offset + bytes.length >= segment.size;
        look(offset + bytes.length - (last ? 0 : OVERHEAD), WINDOW);
      });
    };
    look(end, WINDOW);
  }

  #read(file: StoredFile, position: number, length: number, done: (bytes: Buffer) => void): void {
    this.#storage.read(file.name, position, length, (error, bytes) => {
      if (error !== undefined) this.#unreadable(file.name, error);
      else done(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
    });
  }

  #path(file: StoredFile): string {
    return `${this.#storage.folder}/${file.name}`;
  }

  #unreadable(what: string, cause: StorageError): void {
    const message = `the log can't be read: ${what} (${cause.message}); check the disk and its permissions`;
    this.#fail(new HubError('unavailable', message, { cause }));
  }

  #damaged(file: StoredFile, offset: number, problem: string): void {
    this.#fail(this.#lost(`${this.#path(file)} is damaged at offset ${offset}: ${problem}`));
  }

  #lost(problem: string): HubError {
    return new HubError(
      'corrupt',
      `${problem}. Restore ${this.#storage.folder} from a backup, or move it away to start with an empty log`,
    );
  }

  #fail(error: HubError): void {
    this.#done(error, undefined);
  }
}

function numberOf(file: StoredFile): number {
  return segmentNumber(file.name) as number;
}

function missing(shard: number, from: number, to: number): string {
  return `records of shard ${shard} are missing (${from} to ${to - 1}); was a segment file deleted?`;
}
