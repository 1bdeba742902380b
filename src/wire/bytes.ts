const text = new TextDecoder();
/** Room for the length of a message up to 2^28 bytes, as a varint. */
const LENGTH_BYTES = 4;
const POOLED = 1024;
/** Up to this length, writing text here is cheaper than a call into the runtime: 20 against 80 ns. */
const SHORT = 64;

/** A growing little-endian buffer that is filled, taken, and filled again. */
export class ByteWriter {
  private buffer: Buffer;
  private view: DataView;
  /** Bytes written so far. */
  length = 0;

  constructor(size = 4096) {
    this.buffer = Buffer.allocUnsafeSlow(size);
    this.view = new DataView(this.buffer.buffer, this.buffer.byteOffset, size);
  }

  /** Makes sure that `bytes` more can be written. */
  private room(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
    this.view = new DataView(larger.buffer, larger.byteOffset, larger.length);
  }

  /** Makes room for `bytes` that the caller then writes into {@link target} itself; answers where. */
  claim(bytes: number): number {
    this.room(bytes);
    const at = this.length;
    this.length += bytes;
    return at;
  }

  /** Where claimed bytes are written; valid until the next claim or write. */
  get target(): Buffer {
    return this.buffer;
  }

  u8(value: number): void {
    this.room(1);
    this.buffer[this.length++] = value;
  }

  u16(value: number): void {
    this.room(2);
    this.view.setUint16(this.length, value, true);
    this.length += 2;
  }

  u32(value: number): void {
    this.room(4);
    this.view.setUint32(this.length, value, true);
    this.length += 4;
  }

  f64(value: number): void {
    this.room(8);
    this.view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  /** A number up to 2^48. */
  u48(value: number): void {
    this.room(6);
    this.view.setUint32(this.length, value >>> 0, true);
    this.view.setUint16(this.length + 4, Math.floor(value / 0x1_0000_0000), true);
    this.length += 6;
  }

  /** A protobuf varint of a non-negative number up to 2^53. */
  varint(value: number): void {
    this.room(10);
    let rest = value;
    while (rest > 0x7fff_ffff) {
      this.buffer[this.length++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      this.buffer[this.length++] = (rest & 127) | 0x80;
      rest >>>= 7;
    }
    this.buffer[this.length++] = rest;
  }

  bytes(source: Uint8Array, start = 0, end = source.length): void {
    const count = end - start;
    this.room(count);
    if (count <= 32) {
      const { buffer } = this;
      for (let at = 0; at < count; at++) buffer[this.length + at] = source[start + at]!;
    } else if (start === 0 && end === source.length) {
      this.buffer.set(source, this.length);
    } else {
      asBuffer(source).copy(this.buffer, this.length, start, end);
    }
    this.length += count;
  }

  /** UTF-8 text after its length in 16 bits. */
  text(value: string): void {
    this.room(2 + value.length * 3);
    const count = this.put(value, this.length + 2);
    this.view.setUint16(this.length, count, true);
    this.length += 2 + count;
  }

  /** UTF-8 text after its length in 32 bits. */
  longText(value: string): void {
    const at = this.claim(4);
    this.setU32(at, this.utf8(value));
  }

  /** UTF-8 text without its length; answers how many bytes it took. */
  utf8(value: string): number {
    this.room(value.length * 3);
    const count = this.put(value, this.length);
    this.length += count;
    return count;
  }

  /** Writes text where there is room for it; answers how many bytes it took. */
  private put(value: string, at: number): number {
    const { buffer } = this;
    if (value.length > SHORT) return buffer.write(value, at);
    for (let index = 0; index < value.length; index++) {
      const code = value.charCodeAt(index);
      if (code > 127) return buffer.write(value, at);
      buffer[at + index] = code;
    }
    return value.length;
  }

  /** UTF-8 text after its length as a protobuf varint. */
  string(value: string): void {
    // A character has at most three bytes. The length gets the room it may need, and fills it.
    const most = value.length * 3;
    const size = most < 0x80 ? 1 : most < 0x4000 ? 2 : LENGTH_BYTES;
    this.room(size + most);
    const at = this.length;
    const count = this.put(value, at + size);
    this.length += size + count;
    this.paddedVarint(at, count, size);
  }

  /** Leaves room for the length of a message that follows; to be filled in by {@link setLength}. */
  lengthLater(): number {
    this.room(LENGTH_BYTES);
    const at = this.length;
    this.length += LENGTH_BYTES;
    return at;
  }

  /** Says that the message whose length stands at `at` ends here. */
  setLength(at: number): void {
    this.paddedVarint(at, this.length - at - LENGTH_BYTES, LENGTH_BYTES);
  }

  /** A varint of exactly `size` bytes; protobuf takes more of them than a number needs. */
  private paddedVarint(at: number, value: number, size: number): void {
    const { buffer } = this;
    let rest = value;
    let next = at;
    for (let left = size; left > 1; left--) {
      buffer[next++] = (rest & 127) | 0x80;
      rest >>>= 7;
    }
    buffer[next] = rest;
  }

  /** Writes over four bytes that were written before. */
  setU32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  setU16(at: number, value: number): void {
    this.view.setUint16(at, value, true);
  }

  setU8(at: number, value: number): void {
    this.buffer[at] = value;
  }

  setF64(at: number, value: number): void {
    this.view.setFloat64(at, value, true);
  }

  /** The bytes written so far, valid until the next write. */
  written(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  /** A copy of what was written; the writer is empty again. */
  take(): Buffer {
    // Small ones come from a pool, which is faster; large ones must not hold on to one.
    const copy = this.length < POOLED ? Buffer.allocUnsafe(this.length) : Buffer.allocUnsafeSlow(this.length);
    this.buffer.copy(copy, 0, 0, this.length);
    this.length = 0;
    return copy;
  }
}

/** Reads what {@link ByteWriter} wrote. Reading past the end throws a RangeError. */
export class ByteReader {
  readonly bytes: Buffer;
  private readonly view: DataView;
  at: number;

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = asBuffer(bytes);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = at;
  }

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  u8(): number {
    return this.view.getUint8(this.at++);
  }

  u16(): number {
    this.at += 2;
    return this.view.getUint16(this.at - 2, true);
  }

  u32(): number {
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  f64(): number {
    this.at += 8;
    return this.view.getFloat64(this.at - 8, true);
  }

  u48(): number {
    this.at += 6;
    return this.view.getUint32(this.at - 6, true) + this.view.getUint16(this.at - 2, true) * 0x1_0000_0000;
  }

  u32At(at: number): number {
    return this.view.getUint32(at, true);
  }

  u16At(at: number): number {
    return this.view.getUint16(at, true);
  }

  f64At(at: number): number {
    return this.view.getFloat64(at, true);
  }

  text(): string {
    const length = this.u16();
    return textOf(this.bytes, this.at, (this.at += length));
  }

  /** A view of the next `count` bytes. */
  take(count: number): Buffer {
    if (count > this.bytes.length - this.at) throw new RangeError('the record ends too early');
    return this.bytes.subarray(this.at, (this.at += count));
  }
}

/** The same memory as a Buffer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** UTF-8 text in `bytes[start, end)`. */
export function textOf(bytes: Uint8Array, start: number, end: number): string {
  if (end > bytes.length) throw new RangeError('the record ends too early');
  return Buffer.isBuffer(bytes)
    ? bytes.toString('utf8', start, end)
    : text.decode(bytes.subarray(start, end));
}
