import { ByteWriter } from '../../../src/wire/bytes.ts';
import { LEASE_BYTES } from '../../../src/wire/lease.ts';
import { ServerFrameWriter } from '../../../src/wire/server-frame.ts';
import { writeTask } from '../../../src/wire/task.ts';

const ID_DIGITS = 12;
const PLACE = '#'.repeat(ID_DIGITS);

/** The shape of a batch. */
export interface BatchShape {
  readonly tasks: number;
  /** Bytes of one serialized task, all included. */
  readonly taskBytes: number;
  readonly mailboxes: readonly string[];
  /** The agent that wants the results; empty: nobody does. */
  readonly requester: string;
}

/** A batch whose bytes are made once; for each use only the ids of its tasks are filled in. */
export class BatchTemplate {
  readonly tasks: number;
  private readonly body: Buffer;
  private readonly ids: number[] = [];

  constructor({ tasks, taskBytes, mailboxes, requester }: BatchShape) {
    this.tasks = tasks;
    const writer = new ByteWriter(tasks * taskBytes * 2);
    for (let index = 0; index < tasks; index++) {
      const task = taskOf(taskBytes, mailboxes[index % mailboxes.length]!, requester);
      writer.u8(0x12);
      writer.varint(task.length);
      this.ids.push(writer.length + task.indexOf(PLACE));
      writer.bytes(task);
    }
    this.body = writer.take();
  }

  /** The frame of batch number `batch`, whose tasks have the ids `first`, `first + 1` … */
  frame(batch: number, first: number): Buffer {
    const { body, ids } = this;
    const head = headOf(batch, body.length);
    const frame = Buffer.allocUnsafeSlow(head.length + body.length);
    head.copy(frame);
    body.copy(frame, head.length);
    for (let index = 0; index < ids.length; index++)
      writeDigits(frame, head.length + ids[index]!, first + index);
    return frame;
  }
}

/** The number that {@link BatchTemplate} has put into the id at the start of a delivered task. */
export function numberOf(bytes: Uint8Array, bodyStart: number): number {
  let number = 0;
  for (let at = bodyStart + 2; at < bodyStart + 2 + ID_DIGITS; at++) number = number * 10 + bytes[at]! - 48;
  return number;
}

/** What a broker would deliver for such a batch, byte for byte as long. */
export function deliveryFrame(shape: BatchShape): Buffer {
  const writer = new ServerFrameWriter();
  for (let index = 0; index < shape.tasks; index++) {
    const task = taskOf(shape.taskBytes, shape.mailboxes[index % shape.mailboxes.length]!, shape.requester);
    const lease = { shard: 1, slot: index, order: 1e9 + index, tag: 1e9, delivery: 1, epoch: 1 };
    writer.deliver(1, lease, 1, 1_800_000_000_000, false, task, 0, task.length);
  }
  return writer.take();
}

/** As many bytes as the settlements of a batch have. */
export function settleFrame(tasks: number): Buffer {
  return Buffer.alloc(10 + tasks * (4 + LEASE_BYTES), 1);
}

function taskOf(bytes: number, to: string, requester: string): Buffer {
  const writer = new ByteWriter(bytes * 2);
  const write = (payload: number): void =>
    writeTask(writer, {
      id: PLACE,
      to,
      type: 'summarize',
      requester,
      priority: 0,
      deadlineMs: 0,
      notBeforeMs: 0,
      maxAttempts: 0,
      backoffMs: 0,
      maxRunMs: 0,
      contentType: '',
      headers: undefined,
      contextId: '',
      payload: Buffer.alloc(payload, 'x'),
    });
  write(64);
  const around = writer.take().length - 64;
  write(Math.max(0, bytes - around));
  return writer.take();
}

function headOf(batch: number, body: number): Buffer {
  const writer = new ByteWriter(32);
  writer.u8((4 << 3) | 2);
  const number = new ByteWriter(16);
  number.u8(0x08);
  number.varint(batch);
  writer.varint(number.length + body);
  writer.bytes(number.take());
  return writer.take();
}

function writeDigits(bytes: Buffer, at: number, number: number): void {
  let rest = number;
  for (let digit = at + ID_DIGITS - 1; digit >= at; digit--) {
    bytes[digit] = 48 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
}
