import { HubError } from '../std/errors.ts';
import { asBuffer } from './bytes.ts';

const NOTHING = Buffer.alloc(0);

/**
 * Reads what `ByteWriter` wrote out of `bytes[at, end)`, which other brokers sent. One object is used again
 * and again. Whatever would lie outside throws HubError `corrupt`, and nothing there is read.
 */
export class SpanReader {
  bytes: Buffer = NOTHING;
  at = 0;
  end = 0;
  /** What is read, for people. */
  private readonly what: string;

  constructor(what: string) {
    this.what = what;
  }

  open(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = asBuffer(bytes);
    this.at = start;
    this.end = Math.min(end, bytes.length);
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  /** Goes past the next `count` bytes; answers where they begin. */
  skip(count: number): number {
    const { at } = this;
    if (count > this.end - at) throw this.corrupt('ends too early');
    this.at = at + count;
    return at;
  }

  u8(): number {
    return this.bytes[this.skip(1)]!;
  }

  u16(): number {
    return this.bytes.readUInt16LE(this.skip(2));
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.skip(4));
  }

  u48(): number {
    return this.bytes.readUIntLE(this.skip(6), 6);
  }

  f64(): number {
    return this.bytes.readDoubleLE(this.skip(8));
  }

  /** UTF-8 text after its length in 32 bits. */
  longText(): string {
    const length = this.u32();
    const start = this.skip(length);
    return this.bytes.toString('utf8', start, start + length);
  }

  /** The error that says what is wrong with the bytes. */
  corrupt(problem: string): HubError {
    return new HubError('corrupt', `${this.what} ${problem}; run the same version of AgentHub everywhere`);
  }
}
