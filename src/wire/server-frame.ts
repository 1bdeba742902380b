import { create, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { asBuffer, ByteWriter } from './bytes.ts';
import { varintSize } from './client-frame.ts';
import { decode } from './decode.ts';
import type { ServerFrame } from './gen/agenthub/v1/session_pb.ts';
import { PublishAckSchema, ServerFrameSchema, SettleAckSchema } from './gen/agenthub/v1/session_pb.ts';
import type { PublishAck, SettleAck } from './gen/agenthub/v1/session_pb.ts';
import type { LeaseName } from './lease.ts';
import { LEASE_BYTES, writeLease } from './lease.ts';
import { Scanner } from './scanner.ts';

/** Field numbers of `agenthub.v1.ServerFrame`. */
const Field = { publishAck: 3, settleAck: 4, delivery: 6 } as const;

/** Makes `agenthub.v1.ServerFrame`s; tasks are copied, not encoded. */
export class ServerFrameWriter {
  private readonly writer = new ByteWriter(4 * 1024);
  private acceptedMs = NaN;
  /** The field `accepted_at_ms`: tasks that were accepted together share it. */
  private readonly accepted = new ByteWriter(16);

  get empty(): boolean {
    return this.writer.length === 0;
  }

  get length(): number {
    return this.writer.length;
  }

  /** Adds everything but deliveries and simple acks. In protobuf, messages one after the other merge. */
  control(frame: MessageInitShape<typeof ServerFrameSchema>): void {
    this.writer.bytes(toBinary(ServerFrameSchema, create(ServerFrameSchema, frame)));
  }

  /** Says that all of a batch was accepted. */
  published(batch: number, durability: number): void {
    const { writer } = this;
    writer.u8((Field.publishAck << 3) | 2);
    writer.varint(3 + varintSize(batch));
    writer.u8(0x08);
    writer.varint(batch);
    writer.u8(0x10);
    writer.varint(durability);
  }

  /** Says that all of a batch was settled. */
  settled(batch: number): void {
    const { writer } = this;
    writer.u8((Field.settleAck << 3) | 2);
    writer.varint(1 + varintSize(batch));
    writer.u8(0x08);
    writer.varint(batch);
  }

  /**
   * Adds a delivery of the task, or result, that stands serialized in `bytes[start, end)`.
   *
   * @param lease absent for copies to listeners.
   */
  deliver(
    attachment: number,
    lease: LeaseName | undefined,
    attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    if (acceptedMs !== this.acceptedMs) this.setAccepted(acceptedMs);
    const { accepted } = this;
    const body = end - start;
    const length =
      3 +
      varintSize(attachment) +
      (lease ? 2 + LEASE_BYTES : 0) +
      varintSize(attempt) +
      accepted.length +
      varintSize(body) +
      body;
    const { writer } = this;
    let at = writer.claim(1 + varintSize(length) + length);
    const out = writer.target;
    out[at++] = (Field.delivery << 3) | 2;
    at = putVarint(out, at, length);
    out[at++] = 0x08;
    at = putVarint(out, at, attachment);
    if (lease) {
      out[at++] = 0x12;
      out[at++] = LEASE_BYTES;
      writeLease(out, at, lease);
      at += LEASE_BYTES;
    }
    out[at++] = 0x18;
    at = putVarint(out, at, attempt);
    for (let index = 0; index < accepted.length; index++) out[at++] = accepted.target[index]!;
    out[at++] = isResult ? 0x32 : 0x2a;
    at = putVarint(out, at, body);
    asBuffer(bytes).copy(out, at, start, end);
  }

  private setAccepted(acceptedMs: number): void {
    const { accepted } = this;
    this.acceptedMs = acceptedMs;
    accepted.length = 0;
    accepted.u8(0x20);
    accepted.varint(Math.floor(acceptedMs));
  }

  /** Forgets what was added. */
  clear(): void {
    this.writer.length = 0;
  }

  /** What was added so far, valid until something else is. */
  written(): Buffer {
    return this.writer.written();
  }

  /** The frame; the writer is empty again. */
  take(): Buffer {
    return this.writer.take();
  }
}

/** Receives what a broker's frame says. */
export interface ServerFrameVisitor {
  published(ack: PublishAck): void;
  settled(ack: SettleAck): void;
  /** One object is filled again and again; its bytes belong to the frame. */
  delivery(delivery: DeliveryScan): void;
  /** All else, decoded as one message. */
  control(frame: ServerFrame): void;
}

/** A delivery as it was read. */
export class DeliveryScan {
  bytes: Uint8Array = new Uint8Array(0);
  attachment = 0;
  leaseStart = 0;
  leaseEnd = 0;
  attempt = 0;
  acceptedMs = 0;
  isResult = false;
  bodyStart = 0;
  bodyEnd = 0;
  private readonly scanner = new Scanner();

  read(bytes: Uint8Array, start: number, end: number): void {
    const { scanner } = this;
    this.bytes = bytes;
    this.attachment = 0;
    this.leaseStart = 0;
    this.leaseEnd = 0;
    this.attempt = 0;
    this.acceptedMs = 0;
    this.isResult = false;
    this.bodyStart = 0;
    this.bodyEnd = 0;
    scanner.open(bytes, start, end);
    while (scanner.next()) {
      const { field } = scanner;
      if (field === 2 || field === 5 || field === 6) scanner.expectBytes('delivery');
      switch (field) {
        case 1:
          this.attachment = scanner.value;
          break;
        case 2:
          this.leaseStart = scanner.start;
          this.leaseEnd = scanner.stop;
          break;
        case 3:
          this.attempt = scanner.value;
          break;
        case 4:
          this.acceptedMs = scanner.value;
          break;
        case 5:
        case 6:
          this.isResult = field === 6;
          this.bodyStart = scanner.start;
          this.bodyEnd = scanner.stop;
          break;
        default:
      }
    }
  }
}

/** Reads serialized `agenthub.v1.ServerFrame`s: deliveries by scanning, the rest by decoding. */
export class ServerFrameReader {
  private readonly scanner = new Scanner();
  private readonly delivery = new DeliveryScan();

  /**
   * Calls what the frame says, in the order of its bytes.
   *
   * @throws HubError `invalid` if the bytes are malformed.
   */
  read(bytes: Uint8Array, visitor: ServerFrameVisitor): void {
    const { scanner, delivery } = this;
    let rest: Uint8Array[] = [];
    const control = (): void => {
      if (rest.length === 0) return;
      const frame = decode(ServerFrameSchema, Buffer.concat(rest));
      rest = [];
      visitor.control(frame);
    };
    scanner.open(bytes, 0, bytes.length);
    for (let at = 0; scanner.next(); at = scanner.at) {
      const { field, start, stop } = scanner;
      if (field !== Field.delivery && field !== Field.publishAck && field !== Field.settleAck) {
        rest.push(bytes.subarray(at, scanner.at));
        continue;
      }
      scanner.expectBytes(`frame field ${field}`);
      control();
      if (field === Field.delivery) {
        delivery.read(bytes, start, stop);
        visitor.delivery(delivery);
      } else if (field === Field.publishAck) {
        visitor.published(decode(PublishAckSchema, bytes.subarray(start, stop)));
      } else visitor.settled(decode(SettleAckSchema, bytes.subarray(start, stop)));
    }
    control();
  }
}

/** Writes a varint below 2^31; answers where it ends. */
function putVarint(out: Uint8Array, at: number, value: number): number {
  let rest = value;
  let next = at;
  while (rest > 127) {
    out[next++] = (rest & 127) | 0x80;
    rest >>>= 7;
  }
  out[next++] = rest;
  return next;
}
