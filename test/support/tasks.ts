import { idKey } from '../../src/core/id-hash.ts';
import { Kind } from '../../src/core/task-table.ts';
import { ByteWriter } from '../../src/wire/bytes.ts';
import { Ranges } from '../../src/wire/client-frame.ts';
import { encodeEntry } from '../../src/wire/entry.ts';
import { TaskScan } from '../../src/wire/envelope.ts';
import { type TaskFields, writeTask } from '../../src/wire/task.ts';
import { TasksRecordWriter } from '../../src/wire/tasks-record.ts';

const TAG = 7;

/** A serialized task; to `planner`, unless something else is said. */
export function taskBytes(fields: Partial<TaskFields> = {}): Buffer {
  const writer = new ByteWriter(256);
  writeTask(writer, {
    id: '',
    to: 'planner',
    type: '',
    requester: '',
    priority: 0,
    deadlineMs: 0,
    notBeforeMs: 0,
    maxAttempts: 0,
    backoffMs: 0,
    maxRunMs: 0,
    contentType: '',
    headers: undefined,
    contextId: '',
    payload: '',
    ...fields,
  });
  return writer.take();
}

/** Serialized tasks one after the other, and where each stands, as a frame has them. */
export function batchOf(...tasks: readonly Uint8Array[]): { bytes: Buffer; ranges: Ranges } {
  const ranges = new Ranges();
  let at = 0;
  for (const task of tasks) ranges.add(at, (at += task.length));
  return { bytes: Buffer.concat(tasks), ranges };
}

/** A record of tasks, as an ingress writes it. */
export function taskRecord(accepted: number, ...tasks: readonly Uint8Array[]): Buffer {
  const writer = new TasksRecordWriter();
  const scan = new TaskScan(idKey(''));
  for (const task of tasks) {
    scan.read(task, 0, task.length);
    writer.add(scan.mailbox, scan.type, scan.head, task, 0, task.length);
  }
  return writer.finish(TAG, accepted);
}

/** A record with one result for `mailbox`: parcel `number` of shard 1. */
export function resultRecord(accepted: number, mailbox: string, number: number): Buffer {
  const writer = new TasksRecordWriter();
  const head = {
    kind: Kind.result,
    priority: 2,
    flags: 0,
    maxAttempts: 0,
    hash: Uint32Array.of(1, 2, 3, number),
    originHigh: 0,
    originLow: 0,
    deadline: 0,
    notBefore: 0,
  };
  writer.forward(1, number, [{ mailbox, type: '', entry: encodeEntry(head, Buffer.alloc(0)) }]);
  return writer.finish(TAG, accepted);
}
