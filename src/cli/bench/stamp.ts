/** What a task of a benchmark carries: who sent it, its number there, and when it was due. */
export interface Stamp {
  readonly publisher: number;
  readonly number: number;
  /** Milliseconds, on the clock of this process. */
  readonly dueMs: number;
}

/** The length of a stamp; a payload is at least as long. */
export const STAMP_BYTES = 16;

/** Writes a stamp at the begin of `payload`. */
export function writeStamp(payload: Buffer, publisher: number, number: number, dueMs: number): void {
  payload.writeUInt32LE(publisher, 0);
  payload.writeUInt32LE(number, 4);
  payload.writeDoubleLE(dueMs, 8);
}

/** Reads the stamp that begins at `at`. */
export function readStamp(bytes: Uint8Array, at: number): Stamp {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, STAMP_BYTES);
  return {
    publisher: view.getUint32(0, true),
    number: view.getUint32(4, true),
    dueMs: view.getFloat64(8, true),
  };
}
