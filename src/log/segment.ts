import { crc32 } from 'node:zlib';
import { HubError } from '../std/errors.ts';

/**
 * The bytes of a segment file. Numbers are little-endian.
 *
 * ```
 * segment = header mark record* zeros
 * header  = magic(8) crc(4) version(4) shards(4) hash(4) number(8) generation(40)
 * record  = magic(4) crc(4) length(4) shard(2) kind(2) synced(4) sequence(8) body(length)
 * ```
 *
 * A checksum covers everything after itself. A record's one starts from a number made of the
 * generation, the segment and the offset, so bytes of another place never pass for a record.
 * `synced` says how much of the file was durable when the record was written: what lies below it
 * can't be torn by a crash, so if it is unreadable, it is damaged.
 */

/** Bytes of a segment's header. */
export const HEADER_BYTES = 72;
/** Bytes of a record besides its body. */
export const OVERHEAD = 28;
/** What a record is: a {@link Subject}, or the extents of all shards. */
export const KIND = { tasks: 0, owner: 1, mark: 2 } as const;
/** A number of {@link KIND}. */
export type Kind = (typeof KIND)[keyof typeof KIND];

const VERSION = 1;
/** The function from mailbox to shard: 1 is FNV-1a-32 modulo the number of shards. */
const SHARD_HASH = 1;
const MAGIC = Buffer.from('AGHUBLOG', 'latin1');
const RECORD_MAGIC = Buffer.from([0xa6, 0x4c, 0x52, 0x01]);
const RECORD_MAGIC_NUMBER = RECORD_MAGIC.readUInt32LE(0);
const GENERATION = /^[\w-]{1,40}$/;

/** What all segments of one store have in common. */
export interface Identity {
  /** Names the store among all others; 1 to 40 letters, digits, _ and -. */
  readonly generation: string;
  readonly shards: number;
}

/** The name of the file of segment `number`. */
export function segmentName(number: number): string {
  return `${String(number).padStart(12, '0')}.log`;
}

/** The number of the segment in file `name`, or undefined if it is none. */
export function segmentNumber(name: string): number | undefined {
  const digits = /^(\d{12})\.log$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Why a store can't be named so, or undefined. */
export function badGeneration(generation: string): HubError | undefined {
  if (GENERATION.test(generation)) return undefined;
  const message = `a log can't be named ${JSON.stringify(generation)}: use 1 to 40 letters, digits, _ and -`;
  return new HubError('invalid', message, { field: 'generation' });
}

/** Where the checksums of a segment's records start from; add the record's offset. */
export function segmentSalt(generation: string, number: number): number {
  return crc32(`${generation}/${number}`);
}

/** The header of segment `number`. */
export function encodeHeader({ generation, shards }: Identity, number: number): Uint8Array {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt32LE(VERSION, 12);
  bytes.writeUInt32LE(shards, 16);
  bytes.writeUInt32LE(SHARD_HASH, 20);
  bytes.writeBigUInt64LE(BigInt(number), 24);
  bytes.write(generation, 32, 'latin1');
  bytes.writeUInt32LE(crc32(bytes.subarray(12)), 8);
  return bytes;
}

/**
 * The identity in the header of segment `number`; undefined if there is no whole header; an error
 * (`precondition`) if this program can't read the format, or maps mailboxes to shards differently.
 */
export function decodeHeader(bytes: Buffer, number: number, file: string): Identity | HubError | undefined {
  const header = bytes.subarray(0, HEADER_BYTES);
  if (header.length < HEADER_BYTES || !header.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  if (header.readUInt32LE(8) !== crc32(header.subarray(12))) return undefined;
  const version = header.readUInt32LE(12);
  if (version !== VERSION)
    return foreign(`${file} has log format ${version}, this AgentHub writes ${VERSION}`);
  if (header.readBigUInt64LE(24) !== BigInt(number)) return undefined;
  const hash = header.readUInt32LE(20);
  if (hash !== SHARD_HASH) return foreign(`${file} uses shard function ${hash}, this AgentHub ${SHARD_HASH}`);
  const generation = header.toString('latin1', 32).replaceAll('\0', '');
  return { generation, shards: header.readUInt32LE(16) };
}

function foreign(what: string): HubError {
  return new HubError('precondition', `${what}: start the version of AgentHub that wrote it`);
}

/** A record about to be written, or just read. */
export interface Entry {
  readonly kind: Kind;
  readonly shard: number;
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

/** Writes the overhead of `entry`, which will stand at `offset`, to the start of `into`. */
export function encodeOverhead(
  into: Buffer,
  entry: Entry,
  salt: number,
  offset: number,
  synced: number,
): void {
  into.writeUInt32LE(RECORD_MAGIC_NUMBER, 0);
  into.writeUInt32LE(entry.bytes.length, 8);
  into.writeUInt16LE(entry.shard, 12);
  into.writeUInt16LE(entry.kind, 14);
  into.writeUInt32LE(synced, 16);
  into.writeUInt32LE(entry.sequence >>> 0, 20);
  into.writeUInt32LE(Math.floor(entry.sequence / 2 ** 32), 24);
  const start = crc32(into.subarray(8, OVERHEAD), (salt + offset) >>> 0);
  into.writeUInt32LE(crc32(entry.bytes, start), 4);
}

/**
 * Reads records out of a piece of a segment, without an object per record: after {@link read} has
 * answered `whole`, the fields describe that record.
 */
export class RecordCursor {
  kind: Kind = KIND.tasks;
  shard = 0;
  sequence = 0;
  synced = 0;
  /** Bytes of the whole record, with its overhead. */
  size = 0;
  readonly #salt: number;

  constructor(salt: number) {
    this.#salt = salt;
  }

  /**
   * Looks at the record at `at` in `bytes`, of which `offset` is the place in the segment.
   *
   * - `whole`: there is a record, and its checksum is right.
   * - `short`: there may be one, but `bytes` ends before it does; {@link size} bytes are needed.
   * - `none`: there is none.
   */
  read(bytes: Buffer, at: number, offset: number): 'whole' | 'short' | 'none' {
    const there = bytes.length - at;
    this.size = OVERHEAD;
    if (there < OVERHEAD) return 'short';
    if (bytes.readUInt32LE(at) !== RECORD_MAGIC_NUMBER) return 'none';
    this.size = OVERHEAD + bytes.readUInt32LE(at + 8);
    if (there < this.size) return 'short';
    const start = (this.#salt + offset + at) >>> 0;
    if (bytes.readUInt32LE(at + 4) !== crc32(bytes.subarray(at + 8, at + this.size), start)) return 'none';
    this.kind = bytes.readUInt16LE(at + 14) as Kind;
    this.shard = bytes.readUInt16LE(at + 12);
    this.synced = bytes.readUInt32LE(at + 16);
    this.sequence = bytes.readUInt32LE(at + 20) + bytes.readUInt32LE(at + 24) * 2 ** 32;
    return 'whole';
  }
}

/** Where the next record might begin in `bytes`, from `at` on; -1 if nowhere. */
export function nextCandidate(bytes: Buffer, at: number): number {
  return bytes.indexOf(RECORD_MAGIC, at);
}

/** What a shard retains: the sequences from `first` to before `next`. */
export interface Bounds {
  readonly first: number;
  readonly next: number;
}

/** The mark that carries every shard's bounds. */
export function encodeMark(bounds: readonly Bounds[]): Entry {
  const bytes = Buffer.alloc(bounds.length * 16);
  bounds.forEach(({ first, next }, shard) => {
    bytes.writeDoubleLE(first, shard * 16);
    bytes.writeDoubleLE(next, shard * 16 + 8);
  });
  return { kind: KIND.mark, shard: 0, sequence: 0, bytes };
}

/** The bounds in the body of a mark. */
export function decodeMark(body: Buffer): Bounds[] {
  return Array.from({ length: body.length / 16 }, (_, shard) => ({
    first: body.readDoubleLE(shard * 16),
    next: body.readDoubleLE(shard * 16 + 8),
  }));
}
