import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Catalog } from './catalog.ts';
import type { Follower } from './follower.ts';
import { KIND, OVERHEAD, RecordCursor, segmentName, segmentSalt } from './segment.ts';
import type { Space } from './space.ts';
import type { Storage } from './storage.ts';

/** Bytes of records given before the loop may turn to something else. */
const WINDOW = 256 * 1024;

interface Pupil {
  readonly shard: number;
  readonly catalog: Catalog;
  readonly follower: Follower;
}

/**
 * Gives followers what they lack, from the disk, until they lack nothing.
 *
 * All shards share one log, so whatever is read for one follower is given to all that wait for a
 * part of it. Followers take turns in choosing what is read next. Those that begin together, as
 * after a restart, thus read the store once, not once per shard; and a late one is not kept waiting.
 */
export class Replay {
  readonly #storage: Storage;
  readonly #clock: Clock;
  readonly #space: Space;
  readonly #generation: string;
  #pupils: Pupil[] = [];
  #running = false;

  constructor(storage: Storage, clock: Clock, space: Space, generation: string) {
    this.#storage = storage;
    this.#clock = clock;
    this.#space = space;
    this.#generation = generation;
  }

  add(shard: number, catalog: Catalog, follower: Follower): void {
    this.#pupils.push({ shard, catalog, follower });
    if (this.#running) return;
    this.#running = true;
    this.#clock.soon(() => this.#turn());
  }

  #turn(): void {
    this.#pupils = this.#pupils.filter((pupil) => this.#lacks(pupil));
    const [first] = this.#pupils;
    if (first === undefined) {
      this.#running = false;
      return;
    }
    this.#pupils.push(...this.#pupils.splice(0, 1));
    const { catalog, follower } = this.#rearmostNear(first);
    const { next } = follower;
    const segment = catalog.segment(next);
    const offset = catalog.offset(next);
    // Nothing behind the end, where a record may be about to be written.
    const there = this.#space.end(segment) - offset;
    const length = Math.min(there, Math.max(WINDOW, OVERHEAD + catalog.length(next)));
    this.#storage.read(segmentName(segment), offset, length, (error, bytes) => {
      // A segment that is gone was emptied meanwhile: its records are elsewhere, or forgotten.
      if (error !== undefined && catalog.segment(next) === segment) {
        follower.fail(unreadable(`${this.#storage.folder}/${segmentName(segment)}: ${error.message}`));
      } else if (error === undefined) {
        this.#give(segment, offset, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
      }
      this.#clock.soon(() => this.#turn());
    });
  }

  /** The one furthest behind of those that wait for the same piece as `pupil`. */
  #rearmostNear(pupil: Pupil): Pupil {
    const segment = pupil.catalog.segment(pupil.follower.next);
    const least = pupil.catalog.offset(pupil.follower.next) - WINDOW / 2;
    let found = pupil;
    let from = least + WINDOW / 2;
    for (const other of this.#pupils) {
      const { next } = other.follower;
      const offset = other.catalog.offset(next);
      if (other.catalog.segment(next) !== segment || offset < least || offset >= from) continue;
      found = other;
      from = offset;
    }
    return found;
  }

  /** Whether there is something to read for it; if not, it is made live. */
  #lacks({ catalog, follower }: Pupil): boolean {
    if (follower.stopped) return false;
    follower.next = Math.max(follower.next, catalog.first);
    follower.settle();
    if (follower.stopped) return false;
    follower.live = follower.next >= catalog.next;
    return !follower.live;
  }

  /** Gives to everyone what it awaits of the piece of `segment` at `offset`. */
  #give(segment: number, offset: number, bytes: Buffer): void {
    const cursor = new RecordCursor(segmentSalt(this.#generation, segment));
    for (const { shard, catalog, follower } of this.#pupils) {
      while (!follower.stopped) {
        const sequence = Math.max(follower.next, catalog.first);
        const at = catalog.offset(sequence) - offset;
        const end = at + OVERHEAD + catalog.length(sequence);
        // What was read begins with a whole record, unless the file has been cut.
        if (catalog.segment(sequence) !== segment || at < 0 || (at > 0 && end > bytes.length)) break;
        const found = cursor.read(bytes, at, offset);
        if (found !== 'whole' || cursor.sequence !== sequence || cursor.shard !== shard) {
          const file = `${this.#storage.folder}/${segmentName(segment)}`;
          follower.fail(unreadable(`${file} has been damaged at offset ${offset + at}`));
          break;
        }
        // A copy, so that a record kept for long does not keep the whole piece.
        const body = Buffer.allocUnsafe(cursor.size - OVERHEAD);
        bytes.copy(body, 0, at + OVERHEAD, end);
        follower.give(sequence, cursor.kind === KIND.owner ? 'owner' : 'tasks', body);
      }
    }
  }
}

function unreadable(what: string): HubError {
  return new HubError(
    'corrupt',
    `a record can't be read any more: ${what}. Check the disk, and restore a backup`,
  );
}
