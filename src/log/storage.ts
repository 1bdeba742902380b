/** An error of the storage, with the code the operating system gave it: `ENOSPC`, `EIO`, `ENOENT`. */
export interface StorageError extends Error {
  readonly code?: string | undefined;
}

/** The end of an operation of the storage. */
export type Done = (error: StorageError | undefined) => void;

/** A file of a {@link Storage}, as {@link Storage.list} saw it. */
export interface StoredFile {
  readonly name: string;
  readonly size: number;
}

/** A file opened for writing. Its operations may overlap; each answers exactly once, never at once. */
export interface WritableFile {
  /**
   * Writes all of `chunks` at `position`, growing the file as needed. After an error, any part of
   * them may have been written. The chunks must not change before `done`.
   */
  write(chunks: readonly Uint8Array[], position: number, done: Done): void;
  /** Everything written before this call survives the loss of power, once answered. */
  sync(done: Done): void;
  /** Cuts the file, or extends it with zeros; durable once answered, as is all that was written. */
  resize(size: number, done: Done): void;
  /** Lets go of the file, after the operations in progress. */
  close(done: Done): void;
}

/**
 * One flat folder of files: all that the file log asks of a disk.
 *
 * It has callbacks instead of promises so that a simulated disk can run whole logs synchronously
 * from a seed. Implementations: `disk.ts`, and the one of the simulation.
 */
export interface Storage {
  /** What the user knows this storage by, for messages. */
  readonly folder: string;
  list(done: (error: StorageError | undefined, files: readonly StoredFile[]) => void): void;
  /** Up to `length` bytes from `position`; fewer only at the end of the file. The bytes are the caller's. */
  read(
    name: string,
    position: number,
    length: number,
    done: (error: StorageError | undefined, bytes: Uint8Array) => void,
  ): void;
  /**
   * Makes a new file that starts with `start` and is extended by zeros to `size`. Both the file and
   * its name are durable once answered. `durable`: its writes are, too, without a sync.
   */
  create(
    name: string,
    start: Uint8Array,
    size: number,
    durable: boolean,
    done: (error: StorageError | undefined, file: WritableFile | undefined) => void,
  ): void;
  /** Opens an existing file. `durable`: its writes survive the loss of power without a sync. */
  open(
    name: string,
    durable: boolean,
    done: (error: StorageError | undefined, file: WritableFile | undefined) => void,
  ): void;
  /** Removes files; those that don't exist are no error. Durable once answered. */
  remove(names: readonly string[], done: Done): void;
  /** Bytes that the device can still take, `Infinity` if unknown. */
  free(done: (bytes: number) => void): void;
  /** Lets go of the folder, so that another process can take it. */
  close(): Promise<void>;
}
