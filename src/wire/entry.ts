import { Flag } from '../core/task-table.ts';
import { HubError } from '../std/errors.ts';
import type { ByteReader } from './bytes.ts';
import { asBuffer, ByteWriter } from './bytes.ts';

/** The version of the records that this code writes and reads. */
export const RECORD_VERSION = 1;

/**
 * An entry, one task in a record of the log, little-endian, by byte offset:
 * ```
 * 0 u32 length of all | 4 u16 mailbox (a name) | 6 u16 type (a name) | 8 u8 kind | 9 u8 priority |
 * 10 u8 flags | 11 u8 max attempts (0: default) | 12 16 bytes id hash | 28 8 bytes origin session
 * 36 f64 deadline (if Flag.deadline) | f64 not before (if Flag.delay) | the envelope, untouched
 * ```
 */
export const ENTRY_HEADER = 36;

/** The facts of an entry that the broker goes by; the envelope follows them as it came. */
export interface EntryHead {
  kind: number;
  priority: number;
  flags: number;
  maxAttempts: number;
  /** The 128-bit hash of the id. */
  readonly hash: Uint32Array;
  /** The session that published, see `sessionWords`; zeros: none. */
  originHigh: number;
  originLow: number;
  /** Unix milliseconds; 0: none. */
  deadline: number;
  notBefore: number;
}

/** Makes the bytes of one entry whose names are filled in by the record it goes into. */
export function encodeEntry(head: EntryHead, body: Uint8Array): Buffer {
  const writer = new ByteWriter(ENTRY_HEADER + 16 + body.length);
  writeEntry(writer, 0, 0, head, body, 0, body.length);
  return writer.take();
}

/** Writes an entry whose names are those numbers, with the envelope in `body[start, end)`. */
export function writeEntry(
  writer: ByteWriter,
  mailbox: number,
  type: number,
  head: EntryHead,
  body: Uint8Array,
  start: number,
  end: number,
): void {
  const at = beginEntry(writer, mailbox, type, head);
  writer.bytes(body, start, end);
  endEntry(writer, at);
}

/** Begins an entry: what is written next is its envelope, until {@link endEntry} of the answer. */
export function beginEntry(writer: ByteWriter, mailbox: number, type: number, head: EntryHead): number {
  const at = writer.length;
  const flags =
    (head.flags & ~(Flag.deadline | Flag.delay)) |
    (head.deadline > 0 ? Flag.deadline : 0) |
    (head.notBefore > 0 ? Flag.delay : 0);
  writer.u32(0);
  writer.u16(mailbox);
  writer.u16(type);
  writer.u8(head.kind);
  writer.u8(head.priority);
  writer.u8(flags);
  writer.u8(head.maxAttempts);
  writer.u32(head.hash[0]!);
  writer.u32(head.hash[1]!);
  writer.u32(head.hash[2]!);
  writer.u32(head.hash[3]!);
  writer.u32(head.originHigh);
  writer.u32(head.originLow);
  if (head.deadline > 0) writer.f64(head.deadline);
  if (head.notBefore > 0) writer.f64(head.notBefore);
  return at;
}

/** The envelope of the entry that began at `at` is complete. */
export function endEntry(writer: ByteWriter, at: number): void {
  writer.setU32(at, writer.length - at);
}

function bodyOffset(flags: number): number {
  return ENTRY_HEADER + (flags & Flag.deadline ? 8 : 0) + (flags & Flag.delay ? 8 : 0);
}

/** The two 32-bit words of a session id, which is 16 hexadecimal digits or ''. */
export function sessionWords(session: string): { high: number; low: number } {
  if (session === '') return { high: 0, low: 0 };
  return { high: Number.parseInt(session.slice(0, 8), 16), low: Number.parseInt(session.slice(8), 16) };
}

/** Writes a session id as its two words. */
export function writeSession(writer: ByteWriter, session: string): void {
  const { high, low } = sessionWords(session);
  writer.u32(high);
  writer.u32(low);
}

/** The session id of its two words: the inverse of {@link sessionWords}. */
export function sessionOf(high: number, low: number): string {
  if (high === 0 && low === 0) return '';
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
}

/** The envelope of the entry at `offset`: exactly the bytes that the publisher sent. */
export function entryBody(record: Uint8Array, offset: number): Buffer {
  return asBuffer(record).subarray(entryBodyStart(record, offset), offset + entryLength(record, offset));
}

/** Where the envelope of the entry at `offset` begins. */
export function entryBodyStart(record: Uint8Array, offset: number): number {
  return offset + bodyOffset(record[offset + 10]!);
}

/** The length of the entry at `offset`, header included. */
export function entryLength(record: Uint8Array, offset: number): number {
  return (
    (record[offset]! |
      (record[offset + 1]! << 8) |
      (record[offset + 2]! << 16) |
      (record[offset + 3]! << 24)) >>>
    0
  );
}

/** The 128-bit hash of the id in that entry: four words, which are the caller's. */
export function entryHash(record: Uint8Array, offset: number): Uint32Array {
  const reader = asBuffer(record);
  return Uint32Array.from({ length: 4 }, (_, word) => reader.readUInt32LE(offset + 12 + 4 * word));
}

/** Writes that hash into an entry. */
export function setEntryHash(record: Uint8Array, offset: number, hash: Uint32Array): void {
  const writer = asBuffer(record);
  hash.forEach((word, index) => writer.writeUInt32LE(word, offset + 12 + 4 * index));
}

/** Deliveries after which the task of that entry is given up; 0: the default. */
export function entryMaxAttempts(record: Uint8Array, offset: number): number {
  return record[offset + 11]!;
}

/** The session that published the task of that entry, or ''. */
export function entryOrigin(record: Uint8Array, offset: number): string {
  const reader = asBuffer(record);
  return sessionOf(reader.readUInt32LE(offset + 28), reader.readUInt32LE(offset + 32));
}

/** Writes the session that published the task of that entry behind `mark`; nothing if there is none. */
export function writeOrigin(writer: ByteWriter, mark: string, record: Uint8Array, offset: number): void {
  let some = 0;
  for (let at = offset + 28; at < ENTRY_HEADER + offset; at++) some |= record[at]!;
  if (some === 0) return;
  writer.utf8(mark);
  for (const word of [offset + 28, offset + 32])
    for (let at = word + 3; at >= word; at--) writer.u16(HEX_PAIRS[record[at]!]!);
}

/** The two digits of each byte, as they stand in memory. */
const HEX_PAIRS = Uint16Array.from({ length: 256 }, (_, byte) =>
  Buffer.from(byte.toString(16).padStart(2, '0')).readUInt16LE(),
);

/** An entry as it is read. One object is filled again and again. */
export class Entry {
  offset = 0;
  length = 0;
  mailbox = 0;
  type = 0;
  kind = 0;
  priority = 0;
  flags = 0;
  maxAttempts = 0;
  a = 0;
  b = 0;
  c = 0;
  d = 0;
  deadline = 0;
  notBefore = 0;

  read(reader: ByteReader, offset: number): void {
    this.offset = offset;
    this.length = reader.u32At(offset);
    if (offset + this.length > reader.bytes.length || this.length < ENTRY_HEADER)
      throw new RangeError('the entry ends too early');
    this.mailbox = reader.u16At(offset + 4);
    this.type = reader.u16At(offset + 6);
    const { bytes } = reader;
    this.kind = bytes[offset + 8]!;
    this.priority = bytes[offset + 9]!;
    this.flags = bytes[offset + 10]!;
    this.maxAttempts = bytes[offset + 11]!;
    this.a = reader.u32At(offset + 12);
    this.b = reader.u32At(offset + 16);
    this.c = reader.u32At(offset + 20);
    this.d = reader.u32At(offset + 24);
    let at = offset + ENTRY_HEADER;
    this.deadline = 0;
    this.notBefore = 0;
    if (this.flags & Flag.deadline) {
      this.deadline = reader.f64At(at);
      at += 8;
    }
    if (this.flags & Flag.delay) this.notBefore = reader.f64At(at);
  }
}

/** The error for a record that is none, or of a later version. */
export function unreadable(bytes: Uint8Array): HubError {
  return new HubError(
    'corrupt',
    `a record of kind ${bytes[0] ?? -1}, version ${bytes[1] ?? -1} can't be read by this version of AgentHub; ` +
      'run the version that wrote it, or a later one',
  );
}
