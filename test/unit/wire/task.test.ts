import { describe, expect, test } from '@jest/globals';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import type { Task } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import type { TaskFields } from '../../../src/wire/task.ts';
import { TaskReader, writeTask } from '../../../src/wire/task.ts';
import { bytes, longText, task } from './arbitrary.ts';

function fieldsOf(message: Task): TaskFields {
  const { $typeName: _name, deadlineMs, notBeforeMs, ...rest } = message;
  return { ...rest, deadlineMs: Number(deadlineMs), notBeforeMs: Number(notBeforeMs) };
}

function written(fields: TaskFields): Buffer {
  const writer = new ByteWriter(16);
  writeTask(writer, fields);
  return writer.take();
}

describe('a task written by hand', () => {
  test('is what protobuf reads', () => {
    fc.assert(
      fc.property(task, (message) => {
        expect(fromBinary(TaskSchema, written(fieldsOf(message)))).toEqual(message);
      }),
    );
  });

  test('and a payload of text is its UTF-8', () => {
    fc.assert(
      fc.property(task, longText, (message, payload) => {
        const read = fromBinary(TaskSchema, written({ ...fieldsOf(message), payload }));
        expect(Buffer.from(read.payload).toString()).toBe(payload);
      }),
    );
  });
});

describe('a task read by hand', () => {
  test('is what protobuf wrote', () => {
    const reader = new TaskReader();
    fc.assert(
      fc.property(task, bytes, (message, before) => {
        const frame = Buffer.concat([before, toBinary(TaskSchema, message), before]);
        const read = reader.read(frame, before.length, frame.length - before.length);
        expect({ ...read, headers: { ...read.headers }, payload: Uint8Array.from(read.payload) }).toEqual(
          fieldsOf(message),
        );
      }),
    );
  });

  test('skips what it does not know', () => {
    const unknown = Buffer.from([
      0xf8, 0x07, 5, 0xfa, 0x07, 2, 1, 2, 0xfd, 0x07, 1, 2, 3, 4, 0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8,
    ]);
    const frame = Buffer.concat([unknown, toBinary(TaskSchema, create(TaskSchema, { id: 'a' })), unknown]);
    expect(new TaskReader().read(frame, 0, frame.length).id).toBe('a');
  });

  test('takes any name of a header for a name', () => {
    const message = create(TaskSchema, { headers: { ['__proto__']: 'x', constructor: 'y' } });
    const { headers } = new TaskReader().read(...whole(toBinary(TaskSchema, message)));
    expect(Object.entries(headers)).toEqual(Object.entries(message.headers));
  });

  test('refuses random bytes as invalid, or reads them', () => {
    const reader = new TaskReader();
    fc.assert(
      fc.property(bytes, (noise) => {
        try {
          reader.read(...whole(noise));
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid' });
        }
      }),
      { numRuns: 2000 },
    );
  });
});

function whole(message: Uint8Array): [Uint8Array, number, number] {
  return [message, 0, message.length];
}
