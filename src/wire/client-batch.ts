import { ByteWriter } from './bytes.ts';
import { LEASE_BYTES } from './lease.ts';
import type { TaskFields } from './task.ts';
import { writeHeaders, writeTask } from './task.ts';

/** What a worker answers. */
export interface Answer {
  readonly payload: Uint8Array;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>> | undefined;
}

/**
 * Writes one batch at a time as the part of an `agenthub.v1.ClientFrame` that it is: parts that
 * stand one after the other are one frame.
 */
class BatchWriter {
  protected readonly writer = new ByteWriter(16 * 1024);
  /** Items so far. */
  count = 0;
  private readonly key: number;
  private length = 0;

  constructor(key: number) {
    this.key = key;
  }

  /** Bytes so far. */
  get bytes(): number {
    return this.writer.length;
  }

  protected begin(batch: number): void {
    const { writer } = this;
    this.count = 0;
    writer.u8(this.key);
    this.length = writer.lengthLater();
    writer.u8(0x08);
    writer.varint(batch);
  }

  /** The batch; the writer is free for the next one. */
  take(): Buffer {
    this.writer.setLength(this.length);
    return this.writer.take();
  }
}

/** Writes batches of tasks: `ClientFrame.publish`. */
export class PublishWriter extends BatchWriter {
  constructor() {
    super((4 << 3) | 2);
  }

  /** @param durability `agenthub.v1.Durability`, the weakest that will do. */
  open(batch: number, durability: number): void {
    this.begin(batch);
    if (durability > 0) {
      this.writer.u8(0x18);
      this.writer.varint(durability);
    }
  }

  /** Adds a task; false if it has more bytes than `most`, and is left out. */
  add(task: TaskFields, most = Infinity): boolean {
    const { writer } = this;
    const before = writer.length;
    writer.u8(0x12);
    const length = writer.lengthLater();
    const start = writer.length;
    writeTask(writer, task);
    if (writer.length - start > most) {
      writer.length = before;
      return false;
    }
    writer.setLength(length);
    this.count++;
    return true;
  }
}

/** Writes batches of settlements: `ClientFrame.settle`. Leases are taken from `bytes` at `lease`. */
export class SettleWriter extends BatchWriter {
  constructor() {
    super((5 << 3) | 2);
  }

  open(batch: number): void {
    this.begin(batch);
  }

  completed(bytes: Uint8Array, lease: number, answer: Answer | undefined): void {
    const { writer } = this;
    if (answer === undefined) {
      // Without a verdict it is completed, with an empty result.
      this.lease(bytes, lease, 0);
      return;
    }
    const { payload, contentType, headers } = answer;
    const start = this.item(bytes, lease, 0x12);
    if (payload.length > 0) {
      writer.u8(0x0a);
      writer.varint(payload.length);
      writer.bytes(payload);
    }
    if (contentType.length > 0) {
      writer.u8(0x12);
      writer.string(contentType);
    }
    if (headers !== undefined) writeHeaders(writer, 0x1a, headers);
    this.done(start);
  }

  /** @param retryAfterMs overrides the back-off; 0: the task's own. */
  failed(bytes: Uint8Array, lease: number, error: string, retryable: boolean, retryAfterMs: number): void {
    const { writer } = this;
    const start = this.item(bytes, lease, 0x1a);
    if (error.length > 0) {
      writer.u8(0x0a);
      writer.string(error);
    }
    if (retryable) {
      writer.u8(0x10);
      writer.u8(1);
    }
    if (retryAfterMs > 0) {
      writer.u8(0x18);
      writer.varint(retryAfterMs);
    }
    this.done(start);
  }

  released(bytes: Uint8Array, lease: number): void {
    this.lease(bytes, lease, 2);
    this.writer.u8(0x22);
    this.writer.u8(0);
  }

  /** Adds a serialized settlement. */
  again(bytes: Uint8Array, start: number, end: number): void {
    this.writer.u8(0x12);
    this.writer.varint(end - start);
    this.writer.bytes(bytes, start, end);
    this.count++;
  }

  /** Begins a settlement of `2 + LEASE_BYTES + more` bytes. */
  private lease(bytes: Uint8Array, lease: number, more: number): void {
    const { writer } = this;
    writer.u8(0x12);
    writer.varint(2 + LEASE_BYTES + more);
    this.name(bytes, lease);
  }

  /** Begins a settlement whose verdict is a message that follows. */
  private item(bytes: Uint8Array, lease: number, verdict: number): { outer: number; inner: number } {
    const { writer } = this;
    writer.u8(0x12);
    const outer = writer.lengthLater();
    this.name(bytes, lease);
    writer.u8(verdict);
    return { outer, inner: writer.lengthLater() };
  }

  private done({ outer, inner }: { outer: number; inner: number }): void {
    this.writer.setLength(inner);
    this.writer.setLength(outer);
  }

  private name(bytes: Uint8Array, lease: number): void {
    const { writer } = this;
    writer.u8(0x0a);
    writer.u8(LEASE_BYTES);
    writer.bytes(bytes, lease, lease + LEASE_BYTES);
    this.count++;
  }
}
