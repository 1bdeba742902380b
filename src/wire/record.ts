import { HubError } from '../std/errors.ts';
import type { DeathReason } from '../core/shard-state.ts';
import { DEATHS } from '../core/shard-state.ts';
import { Flag, orderOf, RECORD_TASKS } from '../core/task-table.ts';
import { asBuffer, ByteReader, ByteWriter } from './bytes.ts';
import type { TextCache } from './text-cache.ts';

/**
 * The bytes of a shard's log. Little-endian.
 *
 * A record of tasks (subject `tasks`):
 * ```
 * u8 'T' | u8 version | u16 entries | u32 tag | f64 accepted | u32 offset of names | u16 names | u16 groups
 * entries: see ENTRY
 * names:   u16 length, UTF-8
 * groups:  u16 source shard | u16 first entry | u16 entries | f64 number of the first
 * ```
 * A group says that its entries are parcels that another shard forwarded.
 *
 * A record of the owner (subject `owner`): `u8 'O' | u8 version | u8 flags | u32 tag | u32 revision |
 * u32 counter | f64 now`, then operations, each a code and its fields; see {@link OwnerOperations}.
 */
const TASKS = 0x54;
const OWNER = 0x4f;
const VERSION = 1;
const TASKS_HEADER = 24;
const OWNER_HEADER = 23;
/** The owner record begins an epoch: it was appended unconditionally. */
const EPOCH_FLAG = 1;

/** A record grows to this size, or one task, whichever is more. */
export const RECORD_BYTES = 256 * 1024;

/**
 * ENTRY, one task in a record, by byte offset:
 * ```
 * 0 u32 length of all | 4 u16 mailbox (a name) | 6 u16 type (a name) | 8 u8 kind | 9 u8 priority |
 * 10 u8 flags | 11 u8 max attempts (0: default) | 12 16 bytes id hash | 28 8 bytes origin session
 * 36 f64 deadline (if Flag.deadline) | f64 not before (if Flag.delay) | the envelope, untouched
 * ```
 */
const ENTRY_HEADER = 36;

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

function writeEntry(
  writer: ByteWriter,
  mailbox: number,
  type: number,
  head: EntryHead,
  body: Uint8Array,
  start: number,
  end: number,
): void {
  const flags =
    (head.flags & ~(Flag.deadline | Flag.delay)) |
    (head.deadline > 0 ? Flag.deadline : 0) |
    (head.notBefore > 0 ? Flag.delay : 0);
  writer.u32(bodyOffset(flags) + end - start);
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
  writer.bytes(body, start, end);
}

function bodyOffset(flags: number): number {
  return ENTRY_HEADER + (flags & Flag.deadline ? 8 : 0) + (flags & Flag.delay ? 8 : 0);
}

/** The two 32-bit words of a session id, which is 16 hexadecimal digits or ''. */
export function sessionWords(session: string): { high: number; low: number } {
  if (session === '') return { high: 0, low: 0 };
  return { high: Number.parseInt(session.slice(0, 8), 16), low: Number.parseInt(session.slice(8), 16) };
}

function writeSession(writer: ByteWriter, session: string): void {
  const { high, low } = sessionWords(session);
  writer.u32(high);
  writer.u32(low);
}

function sessionOf(high: number, low: number): string {
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

/** Deliveries after which the task of that entry is given up; 0: the default. */
export function entryMaxAttempts(record: Uint8Array, offset: number): number {
  return record[offset + 11]!;
}

/** The session that published the task of that entry, or ''. */
export function entryOrigin(record: Uint8Array, offset: number): string {
  const reader = asBuffer(record);
  return sessionOf(reader.readUInt32LE(offset + 28), reader.readUInt32LE(offset + 32));
}

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
    this.writer.u8(VERSION);
    for (let at = 2; at < TASKS_HEADER; at += 2) this.writer.u16(0);
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

/** Receives what a record of tasks says. */
export interface TasksVisitor {
  /** Called first. `names` are resolved by the indexes that entries carry. */
  begin(tag: number, accepted: number, entries: number, names: readonly string[]): void;
  /** `source` is -1, or the shard that forwarded the entry as its parcel `number`. */
  entry(entry: Entry, index: number, source: number, number: number): void;
}

/** Reads a record of tasks; names that are `known` need no decoding. Throws HubError `corrupt` if it is none or of a later version. */
export function readTasks(bytes: Uint8Array, entry: Entry, known: TextCache, visitor: TasksVisitor): void {
  if (bytes.length < TASKS_HEADER || bytes[0] !== TASKS || bytes[1] !== VERSION) throw unreadable(bytes);
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
  let offset = TASKS_HEADER;
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

function unreadable(bytes: Uint8Array): HubError {
  return new HubError(
    'corrupt',
    `a record of kind ${bytes[0] ?? -1}, version ${bytes[1] ?? -1} can't be read by this version of AgentHub; ` +
      'run the version that wrote it, or a later one',
  );
}

/** A parcel on its way into the log. */
export interface Posting {
  readonly destination: number;
  readonly number: number;
  readonly mailbox: string;
  readonly type: string;
  readonly entry: Uint8Array;
}

/** A task whose bytes and state an owner writes again, further on in the log. */
export interface CopiedTask {
  readonly order: number;
  readonly tag: number;
  readonly slot: number;
  readonly mailbox: string;
  readonly type: string;
  readonly accepted: number;
  readonly attempts: number;
  readonly deliveries: number;
  readonly notBefore: number;
  readonly deadline: number;
  readonly flags: number;
  /** The holder's session, or ''. */
  readonly session: string;
  /** Set for dead letters. */
  readonly death: { readonly reason: DeathReason; readonly error: string; readonly at: number } | undefined;
}

/**
 * What owners decide. A task is named by its order and tag; the slot says where the owner that wrote
 * it had the task, which spares a look-up when it still has it there.
 */
export interface OwnerOperations {
  lease(session: string, order: number, tag: number, slot: number): void;
  /** It has ended; `outcome` as in `agenthub.v1.Outcome`. */
  finish(order: number, tag: number, slot: number, outcome: number): void;
  /** Its id was known already when it came. */
  drop(order: number, tag: number, slot: number): void;
  release(order: number, tag: number, slot: number, deliveries: number, notBefore: number, counts: boolean): void;
  kill(order: number, tag: number, slot: number, deliveries: number, reason: DeathReason, error: string, counts: boolean): void;
  revive(order: number, tag: number, slot: number): void;
  /** One copy of the entry for each mailbox; they are the tasks 0… of this record. */
  fanout(mailboxes: readonly string[], type: string, entry: Uint8Array): void;
  copy(task: CopiedTask, entry: Uint8Array): void;
  post(posting: Posting): void;
  forwarded(destination: number, upTo: number): void;
  /** It was delivered through a service without acknowledgements; a result may come. */
  expect(id: string, mailbox: string, type: string, requester: string): void;
  /** A result has come for a task that {@link expect} told of: with that outcome it has ended. */
  resolved(id: string, mailbox: string, outcome: number): void;
  checkpoint(checkpoint: Uint8Array): void;
}

/** `u48 sequence | u16 index | u32 tag | u32 slot`: the name of a task in an operation. */
const REFERENCE_BYTES = 16;

const Op = {
  lease: 1,
  finish: 2,
  drop: 3,
  release: 4,
  kill: 5,
  revive: 6,
  fanout: 7,
  copy: 8,
  post: 9,
  forwarded: 10,
  expect: 11,
  resolved: 12,
  checkpoint: 13,
} as const;

/** Collects an owner's decisions into one record. */
export class OwnerRecordWriter implements OwnerOperations {
  private readonly writer = new ByteWriter(16 * 1024);
  /** Where the count of the run of names stands that may still be added to, and which run that is. */
  private runAt = 0;
  private runCode = 0;
  private runOf: string | number = '';
  private runCount = 0;

  constructor() {
    this.reset();
  }

  get empty(): boolean {
    return this.writer.length === OWNER_HEADER;
  }

  get length(): number {
    return this.writer.length;
  }

  /** The record; the writer is empty again. */
  finishRecord(
    tag: number,
    epoch: { revision: number; counter: number },
    now: number,
    beginsEpoch: boolean,
  ): Buffer {
    const { writer } = this;
    writer.setU8(2, beginsEpoch ? EPOCH_FLAG : 0);
    writer.setU32(3, tag);
    writer.setU32(7, epoch.revision);
    writer.setU32(11, epoch.counter);
    writer.setF64(15, now);
    const record = writer.take();
    this.reset();
    return record;
  }

  lease(session: string, order: number, tag: number, slot: number): void {
    if (this.run(Op.lease, session)) {
      writeSession(this.writer, session);
      this.count();
    }
    this.reference(order, tag, slot);
  }

  finish(order: number, tag: number, slot: number, outcome: number): void {
    if (this.run(Op.finish, outcome)) {
      this.writer.u8(outcome);
      this.count();
    }
    this.reference(order, tag, slot);
  }

  drop(order: number, tag: number, slot: number): void {
    if (this.run(Op.drop, '')) this.count();
    this.reference(order, tag, slot);
  }

  release(order: number, tag: number, slot: number, deliveries: number, notBefore: number, counts: boolean): void {
    this.op(Op.release);
    this.name(order, tag, slot);
    this.writer.u16(deliveries);
    this.writer.f64(notBefore);
    this.writer.u8(counts ? 1 : 0);
  }

  kill(order: number, tag: number, slot: number, deliveries: number, reason: DeathReason, error: string, counts: boolean): void {
    this.op(Op.kill);
    this.name(order, tag, slot);
    this.writer.u16(deliveries);
    this.writer.u8(DEATHS.indexOf(reason));
    this.writer.text(error);
    this.writer.u8(counts ? 1 : 0);
  }

  revive(order: number, tag: number, slot: number): void {
    this.op(Op.revive);
    this.name(order, tag, slot);
  }

  fanout(mailboxes: readonly string[], type: string, entry: Uint8Array): void {
    this.op(Op.fanout);
    this.writer.u32(mailboxes.length);
    for (const mailbox of mailboxes) this.writer.text(mailbox);
    this.writer.text(type);
    this.writer.bytes(entry);
  }

  copy(task: CopiedTask, entry: Uint8Array): void {
    const { writer } = this;
    this.op(Op.copy);
    this.name(task.order, task.tag, task.slot);
    writer.text(task.mailbox);
    writer.text(task.type);
    writer.f64(task.accepted);
    writer.u8(task.attempts);
    writer.u16(task.deliveries);
    writer.f64(task.notBefore);
    writer.f64(task.deadline);
    writer.u8(task.flags);
    writeSession(writer, task.session);
    writer.u8(task.death ? DEATHS.indexOf(task.death.reason) + 1 : 0);
    if (task.death) {
      writer.text(task.death.error);
      writer.f64(task.death.at);
    }
    writer.bytes(entry);
  }

  post(posting: Posting): void {
    this.op(Op.post);
    this.writer.u16(posting.destination);
    this.writer.f64(posting.number);
    this.writer.text(posting.mailbox);
    this.writer.text(posting.type);
    this.writer.bytes(posting.entry);
  }

  forwarded(destination: number, upTo: number): void {
    this.op(Op.forwarded);
    this.writer.u16(destination);
    this.writer.f64(upTo);
  }

  expect(id: string, mailbox: string, type: string, requester: string): void {
    this.op(Op.expect);
    this.writer.text(id);
    this.writer.text(mailbox);
    this.writer.text(type);
    this.writer.text(requester);
  }

  resolved(id: string, mailbox: string, outcome: number): void {
    this.op(Op.resolved);
    this.writer.text(id);
    this.writer.text(mailbox);
    this.writer.u8(outcome);
  }

  checkpoint(checkpoint: Uint8Array): void {
    this.op(Op.checkpoint);
    this.writer.u32(checkpoint.length);
    this.writer.bytes(checkpoint);
  }

  /** Adds the operations of another one behind those that are here. */
  append(other: OwnerRecordWriter): void {
    this.runCode = 0;
    this.writer.bytes(other.writer.written().subarray(OWNER_HEADER));
  }

  /** Forgets everything. */
  reset(): void {
    this.runCode = 0;
    this.writer.length = 0;
    this.writer.u8(OWNER);
    this.writer.u8(VERSION);
    for (let at = 2; at < OWNER_HEADER; at++) this.writer.u8(0);
  }

  private op(code: number): void {
    this.runCode = 0;
    this.writer.u8(code);
  }

  /** Begins a run of names under one operation; false if the last one goes on. */
  private run(code: number, of: string | number): boolean {
    if (this.runCode === code && this.runOf === of) return false;
    this.runCode = code;
    this.runOf = of;
    this.writer.u8(code);
    return true;
  }

  private count(): void {
    this.runAt = this.writer.length;
    this.runCount = 0;
    this.writer.u32(0);
  }

  private reference(order: number, tag: number, slot: number): void {
    this.name(order, tag, slot);
    this.writer.setU32(this.runAt, ++this.runCount);
  }

  private name(order: number, tag: number, slot: number): void {
    const at = this.writer.claim(REFERENCE_BYTES);
    const view = this.writer.target;
    const sequence = Math.floor(order / RECORD_TASKS);
    const high = Math.floor(sequence / 0x1_0000_0000);
    const index = order % RECORD_TASKS;
    putWord(view, at, sequence);
    view[at + 4] = high;
    view[at + 5] = high >>> 8;
    view[at + 6] = index;
    view[at + 7] = index >>> 8;
    putWord(view, at + 8, tag);
    putWord(view, at + 12, slot);
  }
}

/** The head of an owner's record. */
export interface OwnerHead {
  readonly tag: number;
  readonly epoch: { readonly revision: number; readonly counter: number };
  /** The owner's clock, in Unix milliseconds. */
  readonly now: number;
  readonly beginsEpoch: boolean;
}

/** Reads the head of an owner's record. Throws HubError `corrupt` if it is none or of a later version. */
export function readOwnerHead(bytes: Uint8Array): OwnerHead {
  if (bytes.length < OWNER_HEADER || bytes[0] !== OWNER || bytes[1] !== VERSION) throw unreadable(bytes);
  const reader = new ByteReader(bytes, 2);
  const flags = reader.u8();
  const tag = reader.u32();
  const epoch = { revision: reader.u32(), counter: reader.u32() };
  return { tag, epoch, now: reader.f64(), beginsEpoch: (flags & EPOCH_FLAG) !== 0 };
}

/** Calls what the record says, in order. Throws HubError `corrupt` at an operation it doesn't know. */
export function readOwner(bytes: Uint8Array, to: OwnerOperations): void {
  const reader = new ByteReader(bytes, OWNER_HEADER);
  const order = (): number => {
    const sequence = reader.u48();
    return orderOf(sequence, reader.u16());
  };
  const entry = (): Buffer => reader.take(reader.u32At(reader.at));
  while (!reader.done) {
    const code = reader.u8();
    switch (code) {
      case Op.lease: {
        const session = sessionOf(reader.u32(), reader.u32());
        for (let left = reader.u32(); left > 0; left--) to.lease(session, order(), reader.u32(), reader.u32());
        break;
      }
      case Op.finish: {
        const outcome = reader.u8();
        for (let left = reader.u32(); left > 0; left--) to.finish(order(), reader.u32(), reader.u32(), outcome);
        break;
      }
      case Op.drop:
        for (let left = reader.u32(); left > 0; left--) to.drop(order(), reader.u32(), reader.u32());
        break;
      case Op.release:
        to.release(order(), reader.u32(), reader.u32(), reader.u16(), reader.f64(), reader.u8() === 1);
        break;
      case Op.kill:
        to.kill(order(), reader.u32(), reader.u32(), reader.u16(), DEATHS[reader.u8()]!, reader.text(), reader.u8() === 1);
        break;
      case Op.revive:
        to.revive(order(), reader.u32(), reader.u32());
        break;
      case Op.fanout: {
        const mailboxes: string[] = [];
        for (let left = reader.u32(); left > 0; left--) mailboxes.push(reader.text());
        to.fanout(mailboxes, reader.text(), entry());
        break;
      }
      case Op.copy: {
        const task = {
          order: order(),
          tag: reader.u32(),
          slot: reader.u32(),
          mailbox: reader.text(),
          type: reader.text(),
          accepted: reader.f64(),
          attempts: reader.u8(),
          deliveries: reader.u16(),
          notBefore: reader.f64(),
          deadline: reader.f64(),
          flags: reader.u8(),
          session: sessionOf(reader.u32(), reader.u32()),
        };
        const reason = reader.u8();
        const death =
          reason === 0 ? undefined : { reason: DEATHS[reason - 1]!, error: reader.text(), at: reader.f64() };
        to.copy({ ...task, death }, entry());
        break;
      }
      case Op.post:
        to.post({
          destination: reader.u16(),
          number: reader.f64(),
          mailbox: reader.text(),
          type: reader.text(),
          entry: entry(),
        });
        break;
      case Op.forwarded:
        to.forwarded(reader.u16(), reader.f64());
        break;
      case Op.expect:
        to.expect(reader.text(), reader.text(), reader.text(), reader.text());
        break;
      case Op.resolved:
        to.resolved(reader.text(), reader.text(), reader.u8());
        break;
      case Op.checkpoint:
        to.checkpoint(reader.take(reader.u32()));
        break;
      default:
        throw new HubError(
          'corrupt',
          `an owner record has the unknown operation ${code}; run a later version of AgentHub`,
        );
    }
  }
}

function putWord(out: Uint8Array, at: number, value: number): void {
  out[at] = value;
  out[at + 1] = value >>> 8;
  out[at + 2] = value >>> 16;
  out[at + 3] = value >>> 24;
}
