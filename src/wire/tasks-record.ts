import { RECORD_TASKS } from '../core/task-table.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import type { Entry, EntryHead } from './entry.ts';
import { ENTRY_HEADER, RECORD_VERSION, unreadable, writeEntry } from './entry.ts';
import type { TextCache } from './text-cache.ts';

/**
 * A record of tasks in a shard's log (subject `tasks`), little-endian:
 * ```
 * u8 'T' | u8 version | u16 entries | u32 tag | f64 accepted | u32 offset of names | u16 names | u16 groups
 * entries: see `entry.ts`
 * names:   u16 length, UTF-8
 * groups:  u16 source shard | u16 first entry | u16 entries | f64 number of the first
 * ```
 * A group says that its entries are parcels that another shard forwarded.
 */
const TASKS = 0x54;
const HEADER = 24;

/** A record grows to this size, or one task, whichever is more. */
export const RECORD_BYTES = 256 * 1024;

/** Collects tasks for one shard into one record. */
export class TasksRecordWriter {
  private readonly writer = new ByteWriter(64 * 1024);
  private readonly names = new Map<string, number>();
  private groups: { source: number; first: number; count: number; number: number }[] = [];
  /** Entries so far. */
  count = 0;

  constructor() {
    this.reset();
  }

  /** Bytes so far. */
  get length(): number {
    return this.writer.length;
  }

  /** Whether an entry with a body of that size still fits beside what is there. */
  fits(bytes: number): boolean {
    return (
      this.count === 0 ||
      (this.count < RECORD_TASKS && this.writer.length + bytes + ENTRY_HEADER + 16 <= RECORD_BYTES)
    );
  }

  add(mailbox: string, type: string, head: EntryHead, body: Uint8Array, start: number, end: number): void {
    const mailboxName = this.name(mailbox);
    const typeName = this.name(type);
    writeEntry(this.writer, mailboxName, typeName, head, body, start, end);
    this.count++;
  }

  /** Adds parcels that shard `source` forwards, numbered from `number` on. */
  forward(
    source: number,
    number: number,
    parcels: readonly { mailbox: string; type: string; entry: Uint8Array }[],
  ): void {
    this.groups.push({ source, first: this.count, count: parcels.length, number });
    for (const parcel of parcels) {
      const at = this.writer.length;
      this.writer.bytes(parcel.entry);
      this.writer.setU16(at + 4, this.name(parcel.mailbox));
      this.writer.setU16(at + 6, this.name(parcel.type));
      this.count++;
    }
  }

  /** The record; the writer is empty again. */
  finish(tag: number, accepted: number): Buffer {
    const { writer } = this;
    writer.setU16(2, this.count);
    writer.setU32(4, tag);
    writer.setF64(8, accepted);
    writer.setU32(16, writer.length);
    writer.setU16(20, this.names.size);
    writer.setU16(22, this.groups.length);
    for (const name of this.names.keys()) writer.text(name);
    for (const group of this.groups) {
      writer.u16(group.source);
      writer.u16(group.first);
      writer.u16(group.count);
      writer.f64(group.number);
    }
    const record = writer.take();
    this.reset();
    return record;
  }

  private reset(): void {
    this.names.clear();
    this.groups = [];
    this.count = 0;
    this.writer.u8(TASKS);
    this.writer.u8(RECORD_VERSION);
    for (let at = 2; at < HEADER; at += 2) this.writer.u16(0);
  }

  private name(text: string): number {
    let id = this.names.get(text);
    if (id === undefined) {
      id = this.names.size;
      this.names.set(text, id);
    }
    return id;
  }
}

/** Receives what a record of tasks says. */
export interface TasksVisitor {
  /** Called first. `names` are resolved by the indexes that entries carry. */
  begin(tag: number, accepted: number, entries: number, names: readonly string[]): void;
  /** `source` is -1, or the shard that forwarded the entry as its parcel `number`. */
  entry(entry: Entry, index: number, source: number, number: number): void;
}

/** Reads a record of tasks; names that are `known` need no decoding. Throws HubError `corrupt` if it is none or of a later version. */
export function readTasks(bytes: Uint8Array, entry: Entry, known: TextCache, visitor: TasksVisitor): void {
  if (bytes.length < HEADER || bytes[0] !== TASKS || bytes[1] !== RECORD_VERSION) throw unreadable(bytes);
  const reader = new ByteReader(bytes);
  const count = reader.u16At(2);
  reader.at = reader.u32At(16);
  const names: string[] = [];
  for (let left = reader.u16At(20); left > 0; left--) {
    const length = reader.u16();
    names.push(known.get(bytes, reader.at, (reader.at += length)));
  }
  const groups: { source: number; first: number; count: number; number: number }[] = [];
  for (let left = reader.u16At(22); left > 0; left--) {
    groups.push({ source: reader.u16(), first: reader.u16(), count: reader.u16(), number: reader.f64() });
  }
  visitor.begin(reader.u32At(4), reader.f64At(8), count, names);
  let offset = HEADER;
  let group = groups.shift();
  for (let index = 0; index < count; index++) {
    entry.read(reader, offset);
    offset += entry.length;
    while (group && index >= group.first + group.count) group = groups.shift();
    if (group && index >= group.first)
      visitor.entry(entry, index, group.source, group.number + index - group.first);
    else visitor.entry(entry, index, -1, 0);
  }
}
