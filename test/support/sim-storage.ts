import type { Clock } from '../../src/std/clock.ts';
import type { Done, Storage, StorageError, StoredFile, WritableFile } from '../../src/log/storage.ts';
import type { SeededRandom } from './random.ts';

/** What a crash may tear apart. */
const SECTOR = 512;

/** A change of one file. */
type Change = { readonly position: number; readonly bytes: Uint8Array } | { readonly size: number };

/** What can be made to fail. */
export type Operation = 'list' | 'read' | 'create' | 'open' | 'write' | 'sync' | 'resize' | 'remove';

/** How a {@link SimStorage} behaves. */
export interface SimStorageOptions {
  /** How long the next operation takes, in milliseconds; 0: until the clock's `soon`. Default: 0. */
  readonly delayMs?: (operation: Operation) => number;
  /** Bytes that may be written before it is full. Default: no limit. */
  readonly capacity?: number;
}

class SimFile {
  /** What reading gives. */
  content: Buffer = Buffer.alloc(0);
  /** What is on the device for certain. */
  synced: Buffer = Buffer.alloc(0);
  /** Completed changes that may be on the device or not. */
  unsynced: Change[] = [];
  /** Changes in progress. */
  readonly running = new Set<Change>();
  /** Bytes that were ever written; beyond are only zeros. */
  written = 0;
  /** Bytes that were ever on the device for certain. */
  durable = 0;
}

/**
 * A disk in memory that knows what a loss of power would leave of it.
 *
 * It outlives the logs on it: after {@link kill} or {@link crash} nothing that the dead process had
 * begun answers any more, and another log can be opened on the same disk.
 */
export class SimStorage implements Storage {
  readonly folder = 'sim';
  capacity: number;
  /** How often each operation has been begun. */
  readonly counts = new Map<Operation, number>();
  readonly #clock: Clock;
  readonly #random: SeededRandom;
  readonly #delayMs: (operation: Operation) => number;
  readonly #files = new Map<string, SimFile>();
  /** Names whose removal or making is not durable yet. */
  readonly #removing = new Map<string, SimFile>();
  readonly #making = new Set<string>();
  readonly #failures: { operation: Operation; code: string }[] = [];
  /** Counts the processes that have used it. */
  #life = 0;

  constructor(clock: Clock, random: SeededRandom, options: SimStorageOptions = {}) {
    this.#clock = clock;
    this.#random = random;
    this.#delayMs = options.delayMs ?? (() => 0);
    this.capacity = options.capacity ?? Infinity;
  }

  /** Makes the next `operation` that begins fail with `code`, once for every call of this. */
  failNext(operation: Operation, code: string): void {
    this.#failures.push({ operation, code });
  }

  /** The process dies: what it had written stays; what it was writing, in part. */
  kill(): void {
    this.#life++;
    this.#failures.length = 0;
    for (const file of this.#files.values()) {
      for (const change of file.running) {
        const part = this.#part(change, file.written);
        if (part !== undefined) this.#apply(file, part);
      }
      file.running.clear();
    }
    this.#removing.clear();
    this.#making.clear();
  }

  /** The power fails: of what was not durable, any part may be left. */
  crash(): void {
    for (const [name, file] of this.#removing) if (this.#random.chance(0.5)) this.#files.set(name, file);
    const making = [...this.#making];
    this.kill();
    for (const name of making) if (this.#random.chance(0.5)) this.#files.delete(name);
    for (const file of this.#files.values()) {
      file.content = file.synced;
      file.written = file.durable;
      const changes = file.unsynced;
      file.unsynced = [];
      if (this.#random.chance(0.5)) {
        // The device has written sectors in any order.
        for (const change of changes) for (const part of this.#sectors(change)) this.#apply(file, part);
      } else {
        // It has written them in order, up to some point; there it has written rubbish, perhaps.
        const count = this.#random.below(changes.length + 1);
        for (const change of changes.slice(0, count)) this.#apply(file, change);
        const torn = changes[count];
        const part = torn === undefined ? undefined : this.#part(torn, file.durable);
        if (part !== undefined) this.#apply(file, part);
      }
      file.synced = file.content;
      file.durable = file.written;
      file.unsynced = [];
    }
  }

  /** The content of `name` as it would be read, for tests that look at it or damage it. */
  content(name: string): Buffer {
    return Buffer.from(this.#file(name).content);
  }

  /** Replaces the content of `name`, durably. */
  replace(name: string, content: Uint8Array): void {
    const file = this.#files.get(name) ?? new SimFile();
    file.content = file.synced = Buffer.from(content);
    file.unsynced = [];
    file.written = file.durable = content.length;
    this.#files.set(name, file);
  }

  names(): string[] {
    return [...this.#files.keys()].sort();
  }

  delete(name: string): void {
    this.#files.delete(name);
  }

  list(done: (error: StorageError | undefined, files: readonly StoredFile[]) => void): void {
    this.#run('list', (error) => {
      done(
        error,
        error === undefined
          ? this.names().map((name) => ({ name, size: this.#file(name).content.length }))
          : [],
      );
    });
  }

  read(
    name: string,
    position: number,
    length: number,
    done: (error: StorageError | undefined, bytes: Uint8Array) => void,
  ): void {
    // What is written meanwhile may be seen or not.
    const before = this.#random.chance(0.5) ? this.#files.get(name)?.content : undefined;
    this.#run('read', (error) => {
      const content = before ?? this.#files.get(name)?.content;
      if (error !== undefined) done(error, Buffer.alloc(0));
      else if (content === undefined) done(failure('ENOENT'), Buffer.alloc(0));
      else done(undefined, Buffer.from(content.subarray(position, position + length)));
    });
  }

  create(
    name: string,
    start: Uint8Array,
    size: number,
    durable: boolean,
    done: (error: StorageError | undefined, file: WritableFile | undefined) => void,
  ): void {
    const file = new SimFile();
    const changes: Change[] = [{ position: 0, bytes: start }, { size: Math.max(size, start.length) }];
    for (const change of changes) file.running.add(change);
    this.#files.set(name, file);
    this.#making.add(name);
    this.#run('create', (error) => {
      this.#making.delete(name);
      file.running.clear();
      const lack = this.#lack(file, 0, start.length);
      const failed = error ?? (lack > 0 ? failure('ENOSPC') : undefined);
      // The last thing done is to make the name durable, which can fail after all else is done.
      const part = failed === undefined || this.#random.chance(0.5) ? changes : changes.slice(1);
      for (const change of part) this.#apply(file, change);
      if (failed !== undefined) return done(failed, undefined);
      this.#settle(file, file.unsynced);
      done(undefined, this.#handle(file, durable));
    });
  }

  open(
    name: string,
    durable: boolean,
    done: (error: StorageError | undefined, file: WritableFile | undefined) => void,
  ): void {
    this.#run('open', (error) => {
      const file = this.#files.get(name);
      if (error !== undefined || file === undefined) done(error ?? failure('ENOENT'), undefined);
      else done(undefined, this.#handle(file, durable));
    });
  }

  remove(names: readonly string[], done: Done): void {
    for (const name of names) {
      const file = this.#files.get(name);
      if (file !== undefined) this.#removing.set(name, file);
      this.#files.delete(name);
    }
    this.#run('remove', (error) => {
      for (const name of names) {
        const file = this.#removing.get(name);
        if (error !== undefined && file !== undefined) this.#files.set(name, file);
        this.#removing.delete(name);
      }
      done(error);
    });
  }

  free(done: (bytes: number) => void): void {
    const life = this.#life;
    this.#clock.soon(() => {
      if (life === this.#life) done(Math.max(0, this.capacity - this.#used()));
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #handle(file: SimFile, durable: boolean): WritableFile {
    return {
      write: (chunks, position, done) => {
        const bytes = Buffer.concat(chunks);
        const lack = this.#lack(file, position, bytes.length);
        const change: Change = { position, bytes: lack > 0 ? bytes.subarray(0, bytes.length - lack) : bytes };
        file.running.add(change);
        this.#run('write', (error) => {
          file.running.delete(change);
          const part = error === undefined ? change : this.#part(change, file.written);
          if (part !== undefined) this.#apply(file, part);
          if (error === undefined && lack === 0 && durable) this.#settle(file, [change]);
          done(error ?? (lack > 0 ? failure('ENOSPC') : undefined));
        });
      },
      sync: (done) => {
        const changes = [...file.unsynced];
        this.#run('sync', (error) => {
          // A failed flush forgets what it could not write; the next one says that all is well.
          if (error === undefined) this.#settle(file, changes);
          else file.unsynced = file.unsynced.filter((change) => !changes.includes(change));
          done(error);
        });
      },
      resize: (size, done) => {
        const change: Change = { size };
        file.running.add(change);
        this.#run('resize', (error) => {
          file.running.delete(change);
          if (error === undefined) {
            this.#apply(file, change);
            this.#settle(file, file.unsynced);
          }
          done(error);
        });
      },
      close: (done) => this.#run(undefined, done),
    };
  }

  /** Answers an operation after its time, unless the process is dead by then. */
  #run(operation: Operation | undefined, done: Done): void {
    const life = this.#life;
    const answer = (error: StorageError | undefined): void => {
      if (life === this.#life) done(error);
    };
    if (operation === undefined) return this.#clock.soon(() => answer(undefined));
    this.counts.set(operation, (this.counts.get(operation) ?? 0) + 1);
    const index = this.#failures.findIndex((failure) => failure.operation === operation);
    const [injected] = index === -1 ? [] : this.#failures.splice(index, 1);
    const error = injected === undefined ? undefined : failure(injected.code);
    const delay = this.#delayMs(operation);
    if (delay === 0) this.#clock.soon(() => answer(error));
    else this.#clock.after(delay, () => answer(error));
  }

  #apply(file: SimFile, change: Change): void {
    file.content = applied(file.content, change);
    file.unsynced.push(change);
    if ('bytes' in change) file.written = Math.max(file.written, change.position + change.bytes.length);
    else file.written = Math.min(file.written, change.size);
  }

  #settle(file: SimFile, changes: readonly Change[]): void {
    for (const change of changes) {
      if (!file.unsynced.includes(change)) continue;
      file.synced = applied(file.synced, change);
      if ('bytes' in change) file.durable = Math.max(file.durable, change.position + change.bytes.length);
      else file.durable = Math.min(file.durable, change.size);
    }
    file.unsynced = file.unsynced.filter((change) => !changes.includes(change));
  }

  /**
   * Some beginning of a change, perhaps with rubbish behind it. But what is written over, below `solid`, holds
   * what it held or what was to be written: disks promise as much of a sector.
   */
  #part(change: Change, solid: number): Change | undefined {
    if ('size' in change) return this.#random.chance(0.5) ? change : undefined;
    const { position, bytes } = change;
    const length = this.#random.below(bytes.length + 1);
    const part = Buffer.from(bytes.subarray(0, Math.min(bytes.length, length + SECTOR)));
    if (this.#random.chance(0.5) || position + length < solid) {
      return { position, bytes: part.subarray(0, length) };
    }
    for (let at = length; at < part.length; at++) part[at] = this.#random.below(256);
    return { position, bytes: part };
  }

  /** Any of the sectors of a change. */
  #sectors(change: Change): Change[] {
    if ('size' in change) return this.#random.chance(0.5) ? [change] : [];
    const parts: Change[] = [];
    const { position, bytes } = change;
    for (let at = 0; at < bytes.length;) {
      const end = Math.min(bytes.length, at + SECTOR - ((position + at) % SECTOR));
      if (this.#random.chance(0.5)) parts.push({ position: position + at, bytes: bytes.subarray(at, end) });
      at = end;
    }
    return parts;
  }

  /** How many of `length` bytes at `position` do not fit any more. */
  #lack(file: SimFile, position: number, length: number): number {
    const grows = Math.max(0, position + length - file.written);
    return Math.min(length, Math.max(0, this.#used() + grows - this.capacity));
  }

  #used(): number {
    let used = 0;
    for (const file of this.#files.values()) used += file.written;
    return used;
  }

  #file(name: string): SimFile {
    const file = this.#files.get(name);
    if (file === undefined) throw new Error(`no file ${name}`);
    return file;
  }
}

function applied(content: Buffer, change: Change): Buffer {
  if ('size' in change) {
    const resized = Buffer.alloc(change.size);
    content.copy(resized, 0, 0, Math.min(content.length, change.size));
    return resized;
  }
  const { position, bytes } = change;
  const result = Buffer.alloc(Math.max(content.length, position + bytes.length));
  content.copy(result);
  result.set(bytes, position);
  return result;
}

function failure(code: string): StorageError {
  return Object.assign(new Error(`${code}: simulated`), { code });
}
