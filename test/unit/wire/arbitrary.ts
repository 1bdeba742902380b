import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import type { Task } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { Priority, TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { LEASE_BYTES } from '../../../src/wire/lease.ts';

/** Any well-formed text, with every length of UTF-8 sequence in it. */
export const text = fc.string({ unit: 'binary', maxLength: 60 });
/** Text that now and then is longer than one or two bytes of length can say. */
export const longText = fc.oneof(
  { weight: 8, arbitrary: text },
  {
    weight: 1,
    arbitrary: fc
      .tuple(text, fc.integer({ min: 0, max: 9000 }))
      .map(([some, times]) => some.repeat(times % 900)),
  },
);
export const bytes = fc.uint8Array({ maxLength: 300 });
export const lease = fc.uint8Array({ minLength: LEASE_BYTES, maxLength: LEASE_BYTES });
/** Any number of milliseconds that a Date can hold. */
export const time = fc.integer({ min: 0, max: 8.64e15 });
export const headers = fc.dictionary(text, text, { maxKeys: 4 });
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });

/** Any task, as protobuf-es has it. */
export const task: fc.Arbitrary<Task> = fc
  .record({
    id: text,
    to: text,
    type: text,
    requester: text,
    priority: fc.constantFrom(...Object.values(Priority)),
    deadlineMs: time.map(BigInt),
    notBeforeMs: time.map(BigInt),
    maxAttempts: fc.integer({ min: 0, max: 255 }),
    backoffMs: uint32,
    maxRunMs: uint32,
    contentType: text,
    headers,
    contextId: longText,
    payload: bytes,
  })
  .map((fields) => create(TaskSchema, fields));
