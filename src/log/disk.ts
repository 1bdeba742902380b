import {
  close,
  constants,
  fdatasync,
  fsync,
  ftruncate,
  open,
  read,
  readdir,
  stat,
  statfs,
  unlink,
  writev,
} from 'node:fs';
import { mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError } from '../std/errors.ts';
import { type FolderLock, lockFolder } from './lock.ts';
import type { Done, Storage, StorageError, StoredFile, WritableFile } from './storage.ts';

const NOTHING = new Uint8Array(0);
/** Elsewhere the flag is missing, or does not reach the device as fdatasync does. */
const WRITE_THROUGH = process.platform === 'linux' ? constants.O_DSYNC : 0;

/** A folder of the file system, held by this process alone. */
export class DiskStorage implements Storage {
  readonly folder: string;
  readonly #lock: FolderLock;

  /**
   * Takes `folder`, making it if need be.
   *
   * @throws HubError `conflict` if another process holds it, `invalid` if it can't be used.
   */
  static async open(folder: string): Promise<DiskStorage> {
    try {
      await mkdir(folder, { recursive: true });
      const path = await realpath(folder);
      return new DiskStorage(path, await lockFolder(path));
    } catch (cause) {
      if (cause instanceof HubError) throw cause;
      const problem = Error.isError(cause) ? cause.message : String(cause);
      throw new HubError('invalid', `${folder} can't hold the log: ${problem}; choose another folder`, {
        field: 'data.dir',
        cause,
      });
    }
  }

  private constructor(folder: string, lock: FolderLock) {
    this.folder = folder;
    this.#lock = lock;
  }

  list(done: (error: StorageError | undefined, files: readonly StoredFile[]) => void): void {
    readdir(this.folder, (error, names) => {
      if (error !== null) return done(error, []);
      const files: StoredFile[] = [];
      let left = names.length;
      let failure: StorageError | undefined;
      if (left === 0) return done(undefined, files);
      for (const name of names) {
        stat(this.#path(name), (error, stats) => {
          if (error === null) files.push({ name, size: stats.size });
          else if (error.code !== 'ENOENT') failure = error;
          if (--left === 0) done(failure, files);
        });
      }
    });
  }

  read(
    name: string,
    position: number,
    length: number,
    done: (error: StorageError | undefined, bytes: Uint8Array) => void,
  ): void {
    open(this.#path(name), constants.O_RDONLY, (error, fd) => {
      if (error !== null) return done(error, NOTHING);
      const bytes = Buffer.allocUnsafeSlow(length);
      const finish = (error: StorageError | null, count: number): void => {
        close(fd, () => {
          if (error !== null) done(error, NOTHING);
          else done(undefined, bytes.subarray(0, count));
        });
      };
      const from = (at: number): void => {
        read(fd, bytes, at, length - at, position + at, (error, count) => {
          if (error !== null || count === 0 || at + count === length) finish(error, at + count);
          else from(at + count);
        });
      };
      from(0);
    });
  }

  create(
    name: string,
    start: Uint8Array,
    size: number,
    durable: boolean,
    done: (error: StorageError | undefined, file: WritableFile | undefined) => void,
  ): void {
    this.#openFile(name, constants.O_CREAT | constants.O_TRUNC, durable, (error, file) => {
      if (file === undefined) return done(error, undefined);
      const failed = (error: StorageError): void => file.close(() => done(error, undefined));
      file.write([start], 0, (error) => {
        if (error !== undefined) return failed(error);
        file.resize(Math.max(size, start.length), (error) => {
          if (error !== undefined) return failed(error);
          this.#syncFolder((error) => {
            if (error !== undefined) failed(error);
            else done(undefined, file);
          });
        });
      });
    });
  }

  open(
    name: string,
    durable: boolean,
    done: (error: StorageError | undefined, file: WritableFile | undefined) => void,
  ): void {
    this.#openFile(name, 0, durable, done);
  }

  remove(names: readonly string[], done: Done): void {
    const [name, ...rest] = names;
    if (name === undefined) return this.#syncFolder(done);
    unlink(this.#path(name), (error) => {
      if (error !== null && error.code !== 'ENOENT') done(error);
      else this.remove(rest, done);
    });
  }

  free(done: (bytes: number) => void): void {
    statfs(this.folder, (error, stats) => done(error === null ? stats.bavail * stats.bsize : Infinity));
  }

  close(): Promise<void> {
    return this.#lock.release();
  }

  #path(name: string): string {
    return join(this.folder, name);
  }

  #openFile(
    name: string,
    flags: number,
    durable: boolean,
    done: (error: StorageError | undefined, file: WritableFile | undefined) => void,
  ): void {
    const through = durable ? WRITE_THROUGH : 0;
    open(this.#path(name), constants.O_RDWR | flags | through, (error, fd) => {
      if (error !== null) done(error, undefined);
      else done(undefined, new DiskFile(fd, durable && through === 0));
    });
  }

  /** Makes the names in the folder durable. */
  #syncFolder(done: Done): void {
    if (process.platform === 'win32') return done(undefined);
    open(this.folder, constants.O_RDONLY, (error, fd) => {
      if (error !== null) return done(error);
      fsync(fd, (error) => close(fd, () => done(error ?? undefined)));
    });
  }
}

class DiskFile implements WritableFile {
  readonly #fd: number;
  /** Each write is followed by a flush. */
  readonly #flush: boolean;
  #running = 0;
  #onQuiet: (() => void) | undefined;

  constructor(fd: number, flush: boolean) {
    this.#fd = fd;
    this.#flush = flush;
  }

  write(chunks: readonly Uint8Array[], position: number, done: Done): void {
    const finish = this.#begin(done);
    const from = (chunks: readonly Uint8Array[], position: number): void => {
      writev(this.#fd, chunks, position, (error, written) => {
        if (error !== null) return finish(error);
        const rest = without(chunks, written);
        if (rest.length > 0) from(rest, position + written);
        else if (this.#flush) fdatasync(this.#fd, finish);
        else finish(null);
      });
    };
    from(chunks, position);
  }

  sync(done: Done): void {
    fdatasync(this.#fd, this.#begin(done));
  }

  resize(size: number, done: Done): void {
    const finish = this.#begin(done);
    ftruncate(this.#fd, size, (error) => {
      if (error === null) fsync(this.#fd, finish);
      else finish(error);
    });
  }

  close(done: Done): void {
    const run = (): void => close(this.#fd, (error) => done(error ?? undefined));
    if (this.#running === 0) run();
    else this.#onQuiet = run;
  }

  /** Counts an operation until what it returns is called. */
  #begin(done: Done): (error: StorageError | null) => void {
    this.#running++;
    return (error) => {
      this.#running--;
      const onQuiet = this.#running === 0 ? this.#onQuiet : undefined;
      done(error ?? undefined);
      onQuiet?.();
    };
  }
}

/** What is left of `chunks` after `written` bytes. */
function without(chunks: readonly Uint8Array[], written: number): readonly Uint8Array[] {
  let skip = written;
  for (const [index, chunk] of chunks.entries()) {
    if (skip < chunk.length) return [chunk.subarray(skip), ...chunks.slice(index + 1)];
    skip -= chunk.length;
  }
  return [];
}
