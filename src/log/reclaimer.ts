import type { Clock } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Catalog } from './catalog.ts';
import type { Journal } from './journal.ts';
import { type Entry, OVERHEAD, RecordCursor, segmentName, segmentSalt } from './segment.ts';
import type { Space } from './space.ts';
import type { Storage } from './storage.ts';

/** Called with the place of a record once it is durable, or with why it never will be. */
export type Settle = (failure: HubError | undefined, segment: number, offset: number) => void;

/** What a {@link Reclaimer} works with. */
export interface ReclaimerOptions {
  readonly storage: Storage;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly journal: Journal;
  readonly catalogs: readonly Catalog[];
  readonly space: Space;
  readonly generation: string;
  readonly segmentBytes: number;
  readonly maxBytes: number;
  /** Appends a record that may have a sequence of the past. */
  readonly enqueue: (entry: Entry, settle: Settle) => void;
  /** Appends a mark of what is retained when it is written. */
  readonly mark: (settle: (failure: HubError | undefined) => void) => void;
  /** Bytes that the disk has left. */
  readonly free: () => number;
}

/** Places looked at, bytes and records copied before the loop may turn to something else. */
const LOOK = 20_000;
const BATCH_BYTES = 256 * 1024;
const BATCH_RECORDS = 256;
/** A segment is worth copying if no more of it is retained. */
const SPARSE = 0.75;
/** Above this part of the limit, room is made even if little is wasted. */
const TIGHT = 0.6;

/**
 * Gives the room of forgotten records back to the disk: it removes segments of which nothing is
 * retained. Before, a mark must be durable, so that recovery does not miss their records.
 *
 * One old record, such as a task that nobody takes or the last decision of a quiet shard, would pin
 * a whole segment. So when pinned room adds up, what is retained of the sparsest segment is copied
 * to the end of the log, under its sequence, which leaves the segment with nothing.
 */
export class Reclaimer {
  readonly #options: ReclaimerOptions;
  /** Segments with records that can't be read; whoever needs these will be told. */
  readonly #unreadable = new Set<number>();
  #busy = false;
  #stopped: (() => void) | undefined;

  constructor(options: ReclaimerOptions) {
    this.#options = options;
  }

  /** Begins whatever is worth doing. To be called when records were forgotten or a segment filled. */
  check(): void {
    if (this.#busy || this.#stopped !== undefined) return;
    const { space, journal, segmentBytes, maxBytes, free } = this.#options;
    if (journal.failure !== undefined) return;
    const current = journal.end.segment;
    const dead = space.dead(current);
    if (dead.length > 0) return this.#remove(dead);
    if (space.used <= 2 * space.retained + 4 * segmentBytes && space.used <= TIGHT * maxBytes) return;
    // The limit does not matter: what is copied beyond it is given back right afterwards, and more with it.
    const sparsest = space.sparsest(current, this.#unreadable, SPARSE, free());
    if (sparsest === undefined) return;
    this.#busy = true;
    this.#copy(sparsest, 0, 1);
  }

  /** Begins nothing any more, and answers when what was begun is over. */
  stop(done: () => void): void {
    this.#stopped = done;
    if (!this.#busy) done();
  }

  #remove(dead: readonly number[]): void {
    const { storage, logger, journal, space, mark } = this.#options;
    this.#busy = true;
    mark((failure) => {
      if (failure !== undefined) return this.#rest();
      journal.sync((failure) => {
        if (failure !== undefined) return this.#rest();
        storage.remove(dead.map(segmentName), (error) => {
          if (error === undefined) {
            for (const segment of dead) space.remove(segment);
            this.#rest();
            this.check();
          } else {
            logger.warn({ folder: storage.folder, error: error.message }, 'a log segment can not be removed');
            this.#rest();
          }
        });
      });
    });
  }

  /** Copies what is retained of `segment`, from the record `from` of `shard` on. */
  #copy(segment: number, shard: number, from: number): void {
    const { catalogs, clock } = this.#options;
    const catalog = catalogs[shard];
    if (catalog === undefined || this.#stopped !== undefined || this.#unreadable.has(segment)) {
      this.#rest();
      this.check();
      return;
    }
    const found: number[] = [];
    let bytes = 0;
    let sequence = Math.max(from, catalog.first);
    const end = Math.min(catalog.next, sequence + LOOK);
    for (; sequence < end && bytes < BATCH_BYTES && found.length < BATCH_RECORDS; sequence++) {
      if (catalog.segment(sequence) !== segment) continue;
      found.push(sequence);
      bytes += catalog.length(sequence);
    }
    const goOn = (): void => {
      if (sequence < catalog.next) this.#copy(segment, shard, sequence);
      else this.#copy(segment, shard + 1, 1);
    };
    let left = found.length;
    if (left === 0) return clock.soon(goOn);
    let failed = false;
    for (const sequence of found) {
      this.#copyOne(segment, shard, catalog, sequence, (ok) => {
        failed ||= !ok;
        if (--left > 0) return;
        if (failed) this.#rest();
        else goOn();
      });
    }
  }

  #copyOne(
    segment: number,
    shard: number,
    catalog: Catalog,
    sequence: number,
    done: (ok: boolean) => void,
  ): void {
    const { storage, logger, space, generation, enqueue } = this.#options;
    const from = catalog.offset(sequence);
    const size = OVERHEAD + catalog.length(sequence);
    storage.read(segmentName(segment), from, size, (error, bytes) => {
      const record = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      const cursor = new RecordCursor(segmentSalt(generation, segment));
      if (error !== undefined || cursor.read(record, 0, from) !== 'whole') {
        const file = `${storage.folder}/${segmentName(segment)}`;
        logger.error({ file, offset: from, error: error?.message }, 'a log record can not be read any more');
        this.#unreadable.add(segment);
        return done(true);
      }
      const entry = { kind: cursor.kind, shard, sequence, bytes: record.subarray(OVERHEAD) };
      enqueue(entry, (failure, to, offset) => {
        if (failure === undefined && catalog.segment(sequence) === segment) {
          catalog.put(sequence, to, offset, entry.bytes.length);
          space.release(segment, size);
          space.hold(to, size);
        }
        done(failure === undefined);
      });
    });
  }

  #rest(): void {
    this.#busy = false;
    this.#stopped?.();
  }
}
