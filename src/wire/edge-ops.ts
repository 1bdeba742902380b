import type { ByteWriter } from './bytes.ts';
import { sessionOf, writeSession } from './entry.ts';
import type { LeaseName } from './lease.ts';
import { Lease, LEASE_BYTES, writeLease } from './lease.ts';
import { SpanReader } from './span-reader.ts';

/**
 * What an edge tells an owner of the sessions that it keeps, as operations one after the other: a code
 * (`u8`), and fields in the order of the arguments. Little-endian; texts and embedded messages after their
 * length, and lists after their count, in 32 bits.
 */
const Op = {
  session: 1,
  attach: 2,
  detach: 3,
  window: 4,
  pause: 5,
  reported: 6,
  settle: 7,
  extend: 8,
  progress: 9,
  reconcile: 10,
  gone: 11,
  taken: 12,
  moved: 13,
} as const;

/** A session's attachment to a mailbox, as its owner needs to know it. */
export interface RelayedAttachment {
  /** The number that the client gave it. */
  readonly number: number;
  readonly mailbox: string;
  /** The shard that the mailbox lives in, as far as the edge knows. */
  readonly shard: number;
  readonly agent: string;
  readonly listener: boolean;
  /** 0: adaptive. */
  readonly window: number;
  readonly maxWindow: number;
  readonly types: readonly string[];
  readonly taskIds: readonly string[];
  /** Unix milliseconds. */
  readonly attachedAt: number;
}

/** A session that an edge keeps. */
export interface RelayedSession {
  /** 16 hexadecimal digits. */
  readonly id: string;
  readonly incarnation: number;
  /** For people: what the client calls itself. */
  readonly client: string;
}

/**
 * Receives what an edge says. `ref` is the number that the edge gave the session when it introduced it on
 * this link. Bytes and leases are valid during the call only.
 */
export interface EdgeVisitor {
  /** The edge keeps that session, and calls it `ref` from now on; or its client has come back. */
  session(ref: number, session: RelayedSession): void;
  attach(ref: number, attachment: RelayedAttachment): void;
  detach(ref: number, number: number): void;
  /** The client wants another window; 0: adaptive. */
  window(ref: number, number: number, window: number): void;
  /** Nothing can be delivered to the session just now, or it can again. */
  pause(ref: number, paused: boolean): void;
  /** The owner of that epoch has been told all that the edge knows of that shard. */
  reported(shard: number, revision: number, counter: number): void;
  /** A serialized `agenthub.v1.Settlement` in `bytes[start, end)`. The answer names the call. */
  settle(ref: number, call: number, bytes: Buffer, start: number, end: number): void;
  /** Renews the running time; 0: as the task says. */
  extend(ref: number, lease: Lease, runMs: number): void;
  /** A serialized `agenthub.v1.ProgressUpdate` in `bytes[start, end)`. */
  progress(ref: number, bytes: Buffer, start: number, end: number): void;
  /**
   * All leases that the session holds in that shard stand one after the other in `bytes[start, end)`: what it was
   * given and is not listed, it never got. The owner answers `OwnerVisitor.reconciled`.
   */
  reconcile(ref: number, shard: number, bytes: Buffer, start: number, end: number): void;
  /** The session has taken so many copies that were delivered through a listener. */
  taken(ref: number, number: number, count: number): void;
  /** The session will not come back, or hands all back: its leases count as attempts, or don't. */
  gone(ref: number, counts: boolean): void;
  /** The session has gone to another edge, which tells of it; until then it counts as lost. */
  moved(ref: number): void;
}

/** Writes what {@link EdgeVisitor} receives, straight into the bytes that leave. */
export class EdgeOps {
  private readonly writer: ByteWriter;

  constructor(writer: ByteWriter) {
    this.writer = writer;
  }

  session(ref: number, { id, incarnation, client }: RelayedSession): void {
    this.op(Op.session, ref);
    writeSession(this.writer, id);
    this.writer.u32(incarnation);
    this.writer.longText(client);
  }

  attach(ref: number, attachment: RelayedAttachment): void {
    const { writer } = this;
    this.op(Op.attach, ref);
    writer.u32(attachment.number);
    writer.longText(attachment.mailbox);
    writer.u16(attachment.shard);
    writer.longText(attachment.agent);
    writer.u8(attachment.listener ? 1 : 0);
    writer.u32(attachment.window);
    writer.u32(attachment.maxWindow);
    this.texts(attachment.types);
    this.texts(attachment.taskIds);
    writer.f64(attachment.attachedAt);
  }

  detach(ref: number, number: number): void {
    this.op(Op.detach, ref);
    this.writer.u32(number);
  }

  window(ref: number, number: number, window: number): void {
    this.op(Op.window, ref);
    this.writer.u32(number);
    this.writer.u32(window);
  }

  pause(ref: number, paused: boolean): void {
    this.op(Op.pause, ref);
    this.writer.u8(paused ? 1 : 0);
  }

  reported(shard: number, revision: number, counter: number): void {
    this.writer.u8(Op.reported);
    this.writer.u16(shard);
    this.writer.u48(revision);
    this.writer.u32(counter);
  }

  settle(ref: number, call: number, bytes: Uint8Array, start: number, end: number): void {
    this.op(Op.settle, ref);
    this.writer.u32(call);
    this.message(bytes, start, end);
  }

  extend(ref: number, lease: LeaseName, runMs: number): void {
    this.op(Op.extend, ref);
    this.lease(lease);
    this.writer.u32(runMs);
  }

  progress(ref: number, bytes: Uint8Array, start: number, end: number): void {
    this.op(Op.progress, ref);
    this.message(bytes, start, end);
  }

  reconcile(ref: number, shard: number, leases: Iterable<LeaseName>): void {
    this.op(Op.reconcile, ref);
    this.writer.u16(shard);
    this.leases(leases);
  }

  taken(ref: number, number: number, count: number): void {
    this.op(Op.taken, ref);
    this.writer.u32(number);
    this.writer.u32(count);
  }

  gone(ref: number, counts: boolean): void {
    this.op(Op.gone, ref);
    this.writer.u8(counts ? 1 : 0);
  }

  moved(ref: number): void {
    this.op(Op.moved, ref);
  }

  private op(code: number, ref: number): void {
    this.writer.u8(code);
    this.writer.u32(ref);
  }

  private lease(lease: LeaseName): void {
    const at = this.writer.claim(LEASE_BYTES);
    writeLease(this.writer.target, at, lease);
  }

  private leases(leases: Iterable<LeaseName>): void {
    const at = this.writer.claim(4);
    let count = 0;
    for (const lease of leases) {
      this.lease(lease);
      count++;
    }
    this.writer.setU32(at, count);
  }

  private message(bytes: Uint8Array, start: number, end: number): void {
    this.writer.u32(end - start);
    this.writer.bytes(bytes, start, end);
  }

  private texts(texts: readonly string[]): void {
    this.writer.u32(texts.length);
    for (const text of texts) this.writer.longText(text);
  }
}

/** Reads what {@link EdgeOps} wrote. One object reads many. */
export class EdgeOpsReader {
  private readonly reader = new SpanReader('what an edge broker says');
  private readonly lease = new Lease();

  /** Calls what `bytes[start, end)` say, in order. Throws HubError `corrupt` at what it can't read. */
  read(bytes: Uint8Array, start: number, end: number, to: EdgeVisitor): void {
    const { reader } = this;
    reader.open(bytes, start, end);
    while (!reader.done) this.next(to);
  }

  private next(to: EdgeVisitor): void {
    const { reader } = this;
    const code = reader.u8();
    if (code === Op.settle) {
      const ref = reader.u32();
      const call = reader.u32();
      const from = this.message();
      return to.settle(ref, call, reader.bytes, from, reader.at);
    }
    if (code === Op.reported) return to.reported(reader.u16(), reader.u48(), reader.u32());
    if (code < Op.session || code > Op.moved) throw reader.corrupt(`has the unknown operation ${code}`);
    const ref = reader.u32();
    switch (code) {
      case Op.session:
        return to.session(ref, {
          id: sessionOf(reader.u32(), reader.u32()),
          incarnation: reader.u32(),
          client: reader.longText(),
        });
      case Op.attach:
        return to.attach(ref, this.attachment());
      case Op.detach:
        return to.detach(ref, reader.u32());
      case Op.window:
        return to.window(ref, reader.u32(), reader.u32());
      case Op.pause:
        return to.pause(ref, reader.u8() === 1);
      case Op.extend: {
        const from = reader.skip(LEASE_BYTES);
        const runMs = reader.u32();
        this.lease.read(reader.bytes, from, from + LEASE_BYTES);
        return to.extend(ref, this.lease, runMs);
      }
      case Op.progress: {
        const from = this.message();
        return to.progress(ref, reader.bytes, from, reader.at);
      }
      case Op.reconcile: {
        const shard = reader.u16();
        const from = this.leases();
        return to.reconcile(ref, shard, reader.bytes, from, reader.at);
      }
      case Op.taken:
        return to.taken(ref, reader.u32(), reader.u32());
      case Op.moved:
        return to.moved(ref);
      default:
        return to.gone(ref, reader.u8() === 1);
    }
  }

  private attachment(): RelayedAttachment {
    const { reader } = this;
    const number = reader.u32();
    const mailbox = reader.longText();
    const shard = reader.u16();
    const agent = reader.longText();
    const listener = reader.u8() === 1;
    return {
      number,
      mailbox,
      shard,
      agent,
      listener,
      window: reader.u32(),
      maxWindow: reader.u32(),
      types: this.texts(),
      taskIds: this.texts(),
      attachedAt: reader.f64(),
    };
  }

  private texts(): string[] {
    const texts: string[] = [];
    for (let left = this.reader.u32(); left > 0; left--) texts.push(this.reader.longText());
    return texts;
  }

  /** Goes past an embedded message; answers where it begins. */
  private message(): number {
    return this.reader.skip(this.reader.u32());
  }

  /** Goes past a list of leases; answers where the first begins. */
  private leases(): number {
    return this.reader.skip(this.reader.u32() * LEASE_BYTES);
  }
}
