import type { HubError } from '../std/errors.ts';
import type { ByteWriter } from './bytes.ts';
import { readError, writeError } from './error-record.ts';
import type { LeaseName } from './lease.ts';
import { Lease, LEASE_BYTES, writeLease } from './lease.ts';
import { SpanReader } from './span-reader.ts';

/**
 * What an owner tells an edge, as operations one after the other: a code (`u8`), and fields in the order of
 * the arguments. Little-endian; texts and embedded messages after their length in 32 bits.
 */
const Op = {
  deliver: 1,
  reconciled: 2,
  ended: 3,
  kept: 4,
  abort: 5,
  tell: 6,
  settled: 7,
  refused: 8,
  attached: 9,
  replaced: 10,
} as const;

const Flag = { lease: 1, result: 2 } as const;

/**
 * Receives what an owner says. `ref` is the number that the edge gave the session. Bytes and leases are
 * valid during the call only.
 */
export interface OwnerVisitor {
  /** A task or result stands serialized in `bytes[start, end)`; without a lease it is a copy. */
  deliver(
    ref: number,
    attachment: number,
    lease: Lease | undefined,
    attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Buffer,
    start: number,
    end: number,
  ): void;
  /** What the session said of its leases in that shard counts: deliveries that were said before do not. */
  reconciled(ref: number, shard: number): void;
  /** The session's lease has ended. */
  ended(ref: number, lease: Lease): void;
  /** The session holds that lease from before, which the owner confirms. */
  kept(ref: number, lease: Lease): void;
  /** The holder shall stop: the lease is not its any more. */
  abort(ref: number, lease: Lease, reason: string): void;
  /** A serialized `agenthub.v1.Progress` in `bytes[start, end)`, of a task that the session's agent asked for. */
  tell(ref: number, bytes: Buffer, start: number, end: number): void;
  /** `count` settlements, those with the calls from `first` on, are as durable as the log. */
  settled(first: number, count: number): void;
  /** A settlement was not taken. */
  refused(call: number, error: HubError): void;
  attached(ref: number, attachment: number): void;
  /** A later incarnation of the session is known: this one is void. */
  replaced(ref: number, incarnation: number): void;
}

/** Writes what {@link OwnerVisitor} receives, straight into the bytes that leave. */
export class OwnerOps {
  private readonly writer: ByteWriter;

  constructor(writer: ByteWriter) {
    this.writer = writer;
  }

  deliver(
    ref: number,
    attachment: number,
    lease: LeaseName | undefined,
    attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    const { writer } = this;
    this.op(Op.deliver, ref);
    writer.u32(attachment);
    writer.u8((lease ? Flag.lease : 0) | (isResult ? Flag.result : 0));
    writer.u16(attempt);
    writer.f64(acceptedMs);
    if (lease) this.lease(lease);
    this.message(bytes, start, end);
  }

  reconciled(ref: number, shard: number): void {
    this.op(Op.reconciled, ref);
    this.writer.u16(shard);
  }

  ended(ref: number, lease: LeaseName): void {
    this.op(Op.ended, ref);
    this.lease(lease);
  }

  kept(ref: number, lease: LeaseName): void {
    this.op(Op.kept, ref);
    this.lease(lease);
  }

  abort(ref: number, lease: LeaseName, reason: string): void {
    this.op(Op.abort, ref);
    this.lease(lease);
    this.writer.longText(reason);
  }

  tell(ref: number, bytes: Uint8Array, start = 0, end = bytes.length): void {
    this.op(Op.tell, ref);
    this.message(bytes, start, end);
  }

  settled(first: number, count: number): void {
    this.writer.u8(Op.settled);
    this.writer.u32(first);
    this.writer.u32(count);
  }

  refused(call: number, error: HubError): void {
    this.writer.u8(Op.refused);
    this.writer.u32(call);
    writeError(this.writer, error);
  }

  attached(ref: number, attachment: number): void {
    this.op(Op.attached, ref);
    this.writer.u32(attachment);
  }

  replaced(ref: number, incarnation: number): void {
    this.op(Op.replaced, ref);
    this.writer.u32(incarnation);
  }

  private op(code: number, ref: number): void {
    this.writer.u8(code);
    this.writer.u32(ref);
  }

  private lease(lease: LeaseName): void {
    const at = this.writer.claim(LEASE_BYTES);
    writeLease(this.writer.target, at, lease);
  }

  private message(bytes: Uint8Array, start: number, end: number): void {
    this.writer.u32(end - start);
    this.writer.bytes(bytes, start, end);
  }
}

/** Reads what {@link OwnerOps} wrote. One object reads many. */
export class OwnerOpsReader {
  private readonly reader = new SpanReader('what an owner broker says');
  private readonly lease = new Lease();

  /** Calls what `bytes[start, end)` say, in order. Throws HubError `corrupt` at what it can't read. */
  read(bytes: Uint8Array, start: number, end: number, to: OwnerVisitor): void {
    const { reader } = this;
    reader.open(bytes, start, end);
    while (!reader.done) this.next(to);
  }

  private next(to: OwnerVisitor): void {
    const { reader } = this;
    const code = reader.u8();
    switch (code) {
      case Op.deliver:
        return this.deliver(to);
      case Op.reconciled:
        return to.reconciled(reader.u32(), reader.u16());
      case Op.ended:
        return to.ended(reader.u32(), this.readLease());
      case Op.kept:
        return to.kept(reader.u32(), this.readLease());
      case Op.abort:
        return to.abort(reader.u32(), this.readLease(), reader.longText());
      case Op.tell: {
        const ref = reader.u32();
        const from = this.message();
        return to.tell(ref, reader.bytes, from, reader.at);
      }
      case Op.settled:
        return to.settled(reader.u32(), reader.u32());
      case Op.refused:
        return to.refused(reader.u32(), readError(reader));
      case Op.attached:
        return to.attached(reader.u32(), reader.u32());
      case Op.replaced:
        return to.replaced(reader.u32(), reader.u32());
      default:
        throw reader.corrupt(`has the unknown operation ${code}`);
    }
  }

  private deliver(to: OwnerVisitor): void {
    const { reader } = this;
    const ref = reader.u32();
    const attachment = reader.u32();
    const flags = reader.u8();
    const attempt = reader.u16();
    const acceptedMs = reader.f64();
    const lease = (flags & Flag.lease) !== 0 ? this.readLease() : undefined;
    const from = this.message();
    const isResult = (flags & Flag.result) !== 0;
    to.deliver(ref, attachment, lease, attempt, acceptedMs, isResult, reader.bytes, from, reader.at);
  }

  private readLease(): Lease {
    const from = this.reader.skip(LEASE_BYTES);
    this.lease.read(this.reader.bytes, from, from + LEASE_BYTES);
    return this.lease;
  }

  /** Goes past an embedded message; answers where it begins. */
  private message(): number {
    return this.reader.skip(this.reader.u32());
  }
}
