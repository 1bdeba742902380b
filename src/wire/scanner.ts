import { isUtf8 } from 'node:buffer';
import { HubError } from '../std/errors.ts';

/** Shared: even an empty array of its own would cost more than all the rest of a scanner. */
const NOTHING = new Uint8Array(0);

/**
 * Walks over the fields of one protobuf message without decoding it
 * (https://protobuf.dev/programming-guides/encoding/). One object is used again and again.
 *
 * Malformed input throws HubError `invalid`; nothing is read outside of `[at, end)`.
 */
export class Scanner {
  bytes: Uint8Array = NOTHING;
  at = 0;
  end = 0;
  /** Of the field that `next` found. */
  field = 0;
  wireType = 0;
  /** Of a length-delimited field: where it begins and ends. */
  start = 0;
  stop = 0;
  /** Of a varint field; exact up to 2^53. */
  value = 0;

  /** Goes to the first field of the message in `bytes[start, end)`. */
  open(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** Finds the next field; false at the end. */
  next(): boolean {
    if (this.at >= this.end) return false;
    const key = this.varint();
    this.field = Math.floor(key / 8);
    this.wireType = key & 7;
    if (this.field === 0) throw malformed('a field has the number 0');
    switch (this.wireType) {
      case 0:
        this.value = this.varint();
        break;
      case 1:
        this.start = this.at;
        this.skip(8);
        break;
      case 2: {
        const length = this.varint();
        this.start = this.at;
        this.skip(length);
        this.stop = this.at;
        break;
      }
      case 5:
        this.start = this.at;
        this.skip(4);
        break;
      default:
        throw malformed(`field ${this.field} has the wire type ${this.wireType}`);
    }
    return true;
  }

  /** The field must be length-delimited: a string, bytes or a message. */
  expectBytes(name: string): void {
    if (this.wireType !== 2) throw malformed(`${name} has the wrong wire type`, name);
  }

  /** The field must be a number. */
  expectVarint(name: string): void {
    if (this.wireType !== 0) throw malformed(`${name} has the wrong wire type`, name);
  }

  /** The little-endian 32-bit number at `start` of a fixed32 field. */
  fixed32(): number {
    const { bytes, start } = this;
    return (
      (bytes[start]! | (bytes[start + 1]! << 8) | (bytes[start + 2]! << 16) | (bytes[start + 3]! << 24)) >>> 0
    );
  }

  private skip(bytes: number): void {
    this.at += bytes;
    if (this.at > this.end) throw malformed('the message ends in the middle of a field');
  }

  private varint(): number {
    const { bytes } = this;
    let low = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.at >= this.end) throw malformed('the message ends in the middle of a number');
      const byte = bytes[this.at++]!;
      low |= (byte & 127) << shift;
      if (byte < 128) return low;
    }
    let value = low;
    let scale = 0x1000_0000;
    for (let count = 4; count < 10; count++) {
      if (this.at >= this.end) throw malformed('the message ends in the middle of a number');
      const byte = bytes[this.at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
    throw malformed('a number has more than 10 bytes');
  }
}

/** Refuses text that is not well-formed UTF-8, as protobuf asks of strings. */
export function checkUtf8(bytes: Uint8Array, start: number, end: number, field: string): void {
  // Short texts are mostly ASCII, and looking at them here is cheaper than a call into the runtime.
  let at = start;
  if (end - start <= 64) while (at < end && bytes[at]! < 128) at++;
  if (at < end && !isUtf8(bytes.subarray(start, end))) throw malformed(`${field} is not valid UTF-8`, field);
}

/** Refuses an entry of a `map<string, string>` that is not well-formed; `scanner` is used for it. */
export function checkEntry(
  scanner: Scanner,
  bytes: Uint8Array,
  start: number,
  end: number,
  field: string,
): void {
  scanner.open(bytes, start, end);
  while (scanner.next()) {
    if (scanner.field > 2) continue;
    scanner.expectBytes(field);
    checkUtf8(bytes, scanner.start, scanner.stop, field);
  }
}

/** The error for bytes that are no protobuf, or not what they should be. */
export function malformed(what: string, field?: string): HubError {
  return new HubError('invalid', `malformed message: ${what}`, field === undefined ? {} : { field });
}
