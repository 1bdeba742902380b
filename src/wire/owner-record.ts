import type { DeathReason } from '../core/shard-state.ts';
import { DEATHS } from '../core/shard-state.ts';
import { orderOf, RECORD_TASKS } from '../core/task-table.ts';
import { HubError } from '../std/errors.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import type { EntryHead } from './entry.ts';
import { beginEntry, endEntry, RECORD_VERSION, sessionOf, unreadable, writeSession } from './entry.ts';
import type { TextCache } from './text-cache.ts';

/**
 * A record of the owner in a shard's log (subject `owner`), little-endian: `u8 'O' | u8 version | u8 flags |
 * u32 tag | u32 revision | u32 counter | f64 now`, then operations, each a code and its fields; see
 * {@link OwnerOperations}.
 */
const OWNER = 0x4f;
const HEADER = 23;
/** The record begins an epoch: it was appended unconditionally. */
const EPOCH_FLAG = 1;

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
  release(
    order: number,
    tag: number,
    slot: number,
    deliveries: number,
    notBefore: number,
    counts: boolean,
  ): void;
  kill(
    order: number,
    tag: number,
    slot: number,
    deliveries: number,
    reason: DeathReason,
    error: string,
    counts: boolean,
  ): void;
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
  /** It stands first in its record, see {@link checkpointOf}. */
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
  /** Where the entry of the parcel stands that is being written. */
  private parcelAt = 0;

  constructor() {
    this.reset();
  }

  get empty(): boolean {
    return this.writer.length === HEADER;
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

  release(
    order: number,
    tag: number,
    slot: number,
    deliveries: number,
    notBefore: number,
    counts: boolean,
  ): void {
    this.op(Op.release);
    this.name(order, tag, slot);
    this.writer.u16(deliveries);
    this.writer.f64(notBefore);
    this.writer.u8(counts ? 1 : 0);
  }

  kill(
    order: number,
    tag: number,
    slot: number,
    deliveries: number,
    reason: DeathReason,
    error: string,
    counts: boolean,
  ): void {
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

  post({ destination, number, mailbox, type, entry }: Posting): void {
    this.postHead(destination, number, mailbox, type);
    this.writer.bytes(entry);
  }

  /** Begins a parcel: the envelope of its entry is written to the answer, until {@link endPost}. */
  beginPost(destination: number, number: number, mailbox: string, type: string, head: EntryHead): ByteWriter {
    this.postHead(destination, number, mailbox, type);
    this.parcelAt = beginEntry(this.writer, 0, 0, head);
    return this.writer;
  }

  endPost(): void {
    endEntry(this.writer, this.parcelAt);
  }

  private postHead(destination: number, number: number, mailbox: string, type: string): void {
    this.op(Op.post);
    this.writer.u16(destination);
    this.writer.f64(number);
    this.writer.text(mailbox);
    this.writer.text(type);
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
    this.writer.bytes(other.writer.written().subarray(HEADER));
  }

  /** Forgets everything. */
  reset(): void {
    this.runCode = 0;
    this.writer.length = 0;
    this.writer.u8(OWNER);
    this.writer.u8(RECORD_VERSION);
    for (let at = 2; at < HEADER; at++) this.writer.u8(0);
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
  if (bytes.length < HEADER || bytes[0] !== OWNER || bytes[1] !== RECORD_VERSION) throw unreadable(bytes);
  const reader = new ByteReader(bytes, 2);
  const flags = reader.u8();
  const tag = reader.u32();
  const epoch = { revision: reader.u32(), counter: reader.u32() };
  return { tag, epoch, now: reader.f64(), beginsEpoch: (flags & EPOCH_FLAG) !== 0 };
}

/** The checkpoint with which an owner's record begins, if it does. */
export function checkpointOf(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes[HEADER] !== Op.checkpoint) return undefined;
  const reader = new ByteReader(bytes, HEADER + 1);
  return reader.take(reader.u32());
}

/**
 * Calls what the record says, in order; names of parcels that are `known` need no decoding. Throws
 * HubError `corrupt` at an operation it doesn't know.
 */
export function readOwner(bytes: Uint8Array, known: TextCache, to: OwnerOperations): void {
  const reader = new ByteReader(bytes, HEADER);
  const name = (): string => {
    const length = reader.u16();
    const start = reader.at;
    reader.at += length;
    return known.get(bytes, start, reader.at);
  };
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
        for (let left = reader.u32(); left > 0; left--)
          to.lease(session, order(), reader.u32(), reader.u32());
        break;
      }
      case Op.finish: {
        const outcome = reader.u8();
        for (let left = reader.u32(); left > 0; left--)
          to.finish(order(), reader.u32(), reader.u32(), outcome);
        break;
      }
      case Op.drop:
        for (let left = reader.u32(); left > 0; left--) to.drop(order(), reader.u32(), reader.u32());
        break;
      case Op.release:
        to.release(order(), reader.u32(), reader.u32(), reader.u16(), reader.f64(), reader.u8() === 1);
        break;
      case Op.kill:
        to.kill(
          order(),
          reader.u32(),
          reader.u32(),
          reader.u16(),
          DEATHS[reader.u8()]!,
          reader.text(),
          reader.u8() === 1,
        );
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
          mailbox: name(),
          type: name(),
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
