import { create, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { asBuffer } from './bytes.ts';
import { decode } from './decode.ts';
import type {
  Attach,
  CancelCall,
  Detach,
  Extend,
  Heartbeat,
  Hello,
  InFlight,
  ProgressUpdate,
  Window,
} from './gen/agenthub/v1/session_pb.ts';
import {
  AttachSchema,
  CancelCallSchema,
  ClientFrameSchema,
  DetachSchema,
  ExtendSchema,
  HeartbeatSchema,
  HelloSchema,
  InFlightSchema,
  ProgressUpdateSchema,
  WindowSchema,
} from './gen/agenthub/v1/session_pb.ts';
import { checkEntry, checkUtf8, Scanner } from './scanner.ts';

/** Field numbers of `agenthub.v1.ClientFrame`. */
const Field = {
  hello: 1,
  attach: 2,
  detach: 3,
  publish: 4,
  settle: 5,
  extend: 6,
  progress: 7,
  cancel: 8,
  window: 9,
  heartbeat: 10,
  inFlight: 11,
  goodbye: 12,
} as const;

/** Where the items of a batch stand in its frame: start and end, alternating. */
export class Ranges {
  private list = new Uint32Array(256);
  /** Items. */
  count = 0;

  clear(): void {
    this.count = 0;
  }

  add(start: number, end: number): void {
    if (this.count * 2 === this.list.length) {
      const longer = new Uint32Array(this.list.length * 2);
      longer.set(this.list);
      this.list = longer;
    }
    this.list[this.count * 2] = start;
    this.list[this.count * 2 + 1] = end;
    this.count++;
  }

  start(index: number): number {
    return this.list[index * 2]!;
  }

  end(index: number): number {
    return this.list[index * 2 + 1]!;
  }
}

/** Receives what a client's frame says. Ranges are valid during the call only. */
export interface ClientFrameVisitor {
  hello(hello: Hello): void;
  attach(attach: Attach): void;
  detach(detach: Detach): void;
  /** Serialized tasks in `bytes`. */
  publish(batch: number, durability: number, bytes: Uint8Array, tasks: Ranges): void;
  /** Serialized settlements in `bytes`, for {@link SettlementScan}. */
  settle(batch: number, bytes: Uint8Array, settlements: Ranges): void;
  extend(extend: Extend): void;
  progress(progress: ProgressUpdate): void;
  cancel(cancel: CancelCall): void;
  window(window: Window): void;
  heartbeat(heartbeat: Heartbeat): void;
  inFlight(inFlight: InFlight): void;
  goodbye(): void;
}

/** Reads serialized `agenthub.v1.ClientFrame`s: batches by scanning, the seldom rest by decoding. */
export class ClientFrameReader {
  private readonly frame = new Scanner();
  private readonly inner = new Scanner();
  private readonly ranges = new Ranges();

  /** @throws HubError `invalid` if the bytes are malformed. */
  read(bytes: Uint8Array, visitor: ClientFrameVisitor): void {
    const { frame } = this;
    frame.open(bytes, 0, bytes.length);
    while (frame.next()) {
      if (frame.field === Field.goodbye) {
        if (frame.wireType === 0 && frame.value !== 0) visitor.goodbye();
        continue;
      }
      if (frame.field > Field.goodbye) continue;
      frame.expectBytes(`frame field ${frame.field}`);
      switch (frame.field) {
        case Field.publish:
          this.publish(bytes, frame.start, frame.stop, visitor);
          break;
        case Field.settle:
          this.settle(bytes, frame.start, frame.stop, visitor);
          break;
        default:
          control(frame.field, bytes.subarray(frame.start, frame.stop), visitor);
      }
    }
  }

  private publish(bytes: Uint8Array, start: number, end: number, visitor: ClientFrameVisitor): void {
    const { inner, ranges } = this;
    let batch = 0;
    let durability = 0;
    ranges.clear();
    inner.open(bytes, start, end);
    while (inner.next()) {
      if (inner.field === 1) batch = inner.value;
      else if (inner.field === 3) durability = inner.value;
      else if (inner.field === 2) {
        inner.expectBytes('publish.tasks');
        ranges.add(inner.start, inner.stop);
      }
    }
    visitor.publish(batch, durability, bytes, ranges);
  }

  private settle(bytes: Uint8Array, start: number, end: number, visitor: ClientFrameVisitor): void {
    const { inner, ranges } = this;
    let batch = 0;
    ranges.clear();
    inner.open(bytes, start, end);
    while (inner.next()) {
      if (inner.field === 1) batch = inner.value;
      else if (inner.field === 2) {
        inner.expectBytes('settle.settlements');
        ranges.add(inner.start, inner.stop);
      }
    }
    visitor.settle(batch, bytes, ranges);
  }
}

function control(field: number, bytes: Uint8Array, visitor: ClientFrameVisitor): void {
  switch (field) {
    case Field.hello:
      return visitor.hello(decode(HelloSchema, bytes));
    case Field.attach:
      return visitor.attach(decode(AttachSchema, bytes));
    case Field.detach:
      return visitor.detach(decode(DetachSchema, bytes));
    case Field.extend:
      return visitor.extend(decode(ExtendSchema, bytes));
    case Field.progress:
      return visitor.progress(decode(ProgressUpdateSchema, bytes));
    case Field.cancel:
      return visitor.cancel(decode(CancelCallSchema, bytes));
    case Field.window:
      return visitor.window(decode(WindowSchema, bytes));
    case Field.heartbeat:
      return visitor.heartbeat(decode(HeartbeatSchema, bytes));
    case Field.inFlight:
      return visitor.inFlight(decode(InFlightSchema, bytes));
    default:
  }
}

/** What a holder says of its lease. */
export const Verdict = { completed: 0, failed: 1, released: 2 } as const;

/** Reads a serialized `agenthub.v1.Settlement`. One object is used again and again. */
export class SettlementScan {
  leaseStart = 0;
  leaseEnd = 0;
  verdict = 0;
  payloadStart = 0;
  payloadEnd = 0;
  contentTypeStart = 0;
  contentTypeEnd = 0;
  errorStart = 0;
  errorEnd = 0;
  retryable = false;
  retryAfterMs = 0;
  /** Serialized entries of the result's headers. */
  readonly headers = new Ranges();
  private readonly outer = new Scanner();
  private readonly inner = new Scanner();
  private readonly entry = new Scanner();

  /** @throws HubError `invalid` if the bytes are malformed. */
  read(bytes: Uint8Array, start: number, end: number): void {
    const { outer } = this;
    this.leaseStart = 0;
    this.leaseEnd = 0;
    this.verdict = Verdict.completed;
    this.payloadStart = 0;
    this.payloadEnd = 0;
    this.contentTypeStart = 0;
    this.contentTypeEnd = 0;
    this.errorStart = 0;
    this.errorEnd = 0;
    this.retryable = false;
    this.retryAfterMs = 0;
    this.headers.clear();
    outer.open(bytes, start, end);
    while (outer.next()) {
      if (outer.field < 1 || outer.field > 4) continue;
      outer.expectBytes(`settlement field ${outer.field}`);
      if (outer.field === 1) {
        this.leaseStart = outer.start;
        this.leaseEnd = outer.stop;
      } else if (outer.field === 2) this.completed(bytes, outer.start, outer.stop);
      else if (outer.field === 3) this.failed(bytes, outer.start, outer.stop);
      else this.verdict = Verdict.released;
    }
  }

  private completed(bytes: Uint8Array, start: number, end: number): void {
    const { inner } = this;
    this.verdict = Verdict.completed;
    inner.open(bytes, start, end);
    while (inner.next()) {
      if (inner.field === 1) {
        inner.expectBytes('completed.payload');
        this.payloadStart = inner.start;
        this.payloadEnd = inner.stop;
      } else if (inner.field === 2) {
        inner.expectBytes('completed.content_type');
        checkUtf8(bytes, inner.start, inner.stop, 'completed.content_type');
        this.contentTypeStart = inner.start;
        this.contentTypeEnd = inner.stop;
      } else if (inner.field === 3) {
        inner.expectBytes('completed.headers');
        checkEntry(this.entry, bytes, inner.start, inner.stop, 'completed.headers');
        this.headers.add(inner.start, inner.stop);
      }
    }
  }

  private failed(bytes: Uint8Array, start: number, end: number): void {
    const { inner } = this;
    this.verdict = Verdict.failed;
    inner.open(bytes, start, end);
    while (inner.next()) {
      if (inner.field === 1) {
        inner.expectBytes('failed.error');
        this.errorStart = inner.start;
        this.errorEnd = inner.stop;
      } else if (inner.field === 2) this.retryable = inner.value !== 0;
      else if (inner.field === 3) this.retryAfterMs = inner.value;
      else if (inner.field === 4) {
        inner.expectBytes('failed.payload');
        this.payloadStart = inner.start;
        this.payloadEnd = inner.stop;
      } else if (inner.field === 5) {
        inner.expectBytes('failed.content_type');
        checkUtf8(bytes, inner.start, inner.stop, 'failed.content_type');
        this.contentTypeStart = inner.start;
        this.contentTypeEnd = inner.stop;
      }
    }
  }
}

/**
 * Makes a serialized part of an `agenthub.v1.ClientFrame`, for what is said seldom. In protobuf, parts
 * one after the other are one message. The batches have their own writers in `client-batch.ts`.
 */
export function encodeFrame(frame: MessageInitShape<typeof ClientFrameSchema>): Buffer {
  return asBuffer(toBinary(ClientFrameSchema, create(ClientFrameSchema, frame)));
}

/** The length of a protobuf varint, in bytes. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size++;
  return size;
}
