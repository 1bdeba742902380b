import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { JsonValue, MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  RESULT_TYPE,
  TASK_TYPE,
  TaskMessageReader,
  nativeProgress,
  nativeResult,
  readProgress,
  readResult,
  taskMessageOf,
  taskProgressOf,
  taskResultOf,
} from '../../../src/wire/eventbus.ts';
import { Outcome, ResultSchema, TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import {
  Priority,
  PublishTaskProgressRequestSchema,
  PublishTaskRequestSchema,
  PublishTaskResultRequestSchema,
  TaskMessageSchema,
  TaskProgressSchema,
  TaskResultSchema,
  TaskStatus,
} from '../../../src/wire/gen/eventbus/eventbus_pb.ts';
import { task as nativeTask } from './arbitrary.ts';

const name = fc.string({ minLength: 1, maxLength: 40 });
const struct = fc.dictionary(
  fc.string(),
  fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.parse(JSON.stringify(value)) as JsonValue),
  { maxKeys: 4 },
);
const time = fc.record({
  seconds: fc.integer({ min: 1, max: 253_402_300_799 }).map(BigInt),
  nanos: fc.nat(999_999_999),
});
const legacyTask = fc.record({
  taskId: name,
  taskType: name,
  parameters: struct,
  requesterAgentId: name,
  responderAgentId: fc.string({ maxLength: 40 }),
  deadline: time,
  priority: fc.constantFrom(...Object.values(Priority)),
  metadata: struct,
  createdAt: time,
});

type TaskInit = MessageInitShape<typeof TaskMessageSchema>;

function request(task: TaskInit): Buffer {
  return Buffer.from(toBinary(PublishTaskRequestSchema, create(PublishTaskRequestSchema, { task })));
}

describe('a task of the event bus', () => {
  test('travels as the payload of a native task that says what the broker must know, and comes out untouched', () => {
    const reader = new TaskMessageReader();
    fc.assert(
      fc.property(legacyTask, (init) => {
        const envelope = Buffer.from(reader.read(request(init)));
        const native = fromBinary(TaskSchema, envelope);
        const deadlineMs = init.deadline.seconds * 1000n + BigInt(Math.floor(init.deadline.nanos / 1e6));
        expect(native).toMatchObject({
          id: init.taskId,
          to: init.responderAgentId || '*',
          type: init.taskType,
          requester: init.requesterAgentId,
          priority: init.priority,
          deadlineMs,
          contentType: TASK_TYPE,
        });
        const out = taskMessageOf(envelope, 0, envelope.length, 0);
        const sent = toBinary(TaskMessageSchema, create(TaskMessageSchema, init));
        expect(out.equals(sent)).toBe(true);
      }),
    );
  });

  test('is made of any native task, and always one that can be decoded', () => {
    const contentType = fc.constantFrom(
      'application/json',
      'application/x+json',
      'text/plain',
      TASK_TYPE,
      '',
    );
    const payload = fc.oneof(
      fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value))),
      fc.uint8Array({ maxLength: 50 }),
    );
    fc.assert(
      fc.property(nativeTask, contentType, payload, (task, type, bytes) => {
        const native = toBinary(
          TaskSchema,
          create(TaskSchema, { ...task, contentType: type, payload: bytes }),
        );
        const out = fromBinary(TaskMessageSchema, taskMessageOf(native, 0, native.length, 1.5));
        // A payload that happens to be a task message is taken at its word.
        if (type === TASK_TYPE) return;
        expect(out.taskId).toBe(task.id);
        expect(out.parameters === undefined).toBe(bytes.length === 0);
      }),
    );
  });
});

describe('a result of the event bus', () => {
  test.each([
    [TaskStatus.UNSPECIFIED, Outcome.UNSPECIFIED],
    [TaskStatus.PENDING, Outcome.UNSPECIFIED],
    [TaskStatus.IN_PROGRESS, Outcome.UNSPECIFIED],
    [TaskStatus.COMPLETED, Outcome.SUCCEEDED],
    [TaskStatus.FAILED, Outcome.FAILED],
    [TaskStatus.CANCELLED, Outcome.CANCELLED],
  ])('of status %i has outcome %i for sessions, and comes out untouched', (status, outcome) => {
    const result = create(TaskResultSchema, {
      taskId: 't',
      status,
      result: { a: [1] },
      errorMessage: 'e',
      executorAgentId: 'w',
      completedAt: { seconds: 5n, nanos: 7_000_000 },
      executionMetadata: { b: null },
    });
    const report = readResult(
      Buffer.from(
        toBinary(PublishTaskResultRequestSchema, create(PublishTaskResultRequestSchema, { result })),
      ),
    );
    const bytes = nativeResult(report, { to: 'w', type: 'sum', requester: 'r', now: 1 });
    expect(fromBinary(ResultSchema, bytes)).toMatchObject({
      taskId: 't',
      to: 'w',
      type: 'sum',
      requester: 'r',
      outcome,
      executor: 'w',
      error: 'e',
      finishedAtMs: 5007n,
      contentType: RESULT_TYPE,
    });
    expect(fromBinary(TaskResultSchema, taskResultOf(bytes, 0, bytes.length))).toEqual(result);
  });

  test.each([
    [Outcome.SUCCEEDED, TaskStatus.COMPLETED],
    [Outcome.FAILED, TaskStatus.FAILED],
    [Outcome.CANCELLED, TaskStatus.CANCELLED],
    [Outcome.EXPIRED, TaskStatus.FAILED],
    [Outcome.DELIVERED, TaskStatus.COMPLETED],
    [Outcome.UNSPECIFIED, TaskStatus.UNSPECIFIED],
  ])('is made of a native one: outcome %i is status %i', (outcome, status) => {
    const native = create(ResultSchema, {
      taskId: 't',
      outcome,
      executor: 'w',
      error: 'e',
      payload: Buffer.from('{"a":1}'),
      contentType: 'application/json; charset=utf-8',
      headers: { cost: '1' },
      finishedAtMs: 5007n,
    });
    const bytes = toBinary(ResultSchema, native);
    expect(fromBinary(TaskResultSchema, taskResultOf(bytes, 0, bytes.length))).toMatchObject({
      taskId: 't',
      status,
      result: { a: 1 },
      errorMessage: 'e',
      executorAgentId: 'w',
      executionMetadata: { cost: '1' },
      completedAt: { seconds: 5n, nanos: 7_000_000 },
    });
  });
});

describe('progress of the event bus', () => {
  test('comes out untouched, and for sessions stays between 0 and 100 percent', () => {
    for (const [percentage, percent] of [
      [-5, 0],
      [50, 50],
      [1000, 100],
    ] as const) {
      const progress = create(TaskProgressSchema, {
        taskId: 't',
        progressPercentage: percentage,
        progressData: { a: 1 },
      });
      const report = readProgress(
        Buffer.from(
          toBinary(PublishTaskProgressRequestSchema, create(PublishTaskProgressRequestSchema, { progress })),
        ),
      );
      const native = nativeProgress(report, { to: 'w', requester: 'r', now: 9.5 });
      expect(native).toMatchObject({ taskId: 't', to: 'w', requester: 'r', percent, updatedAtMs: 9n });
      expect(fromBinary(TaskProgressSchema, taskProgressOf(native))).toEqual(progress);
    }
  });
});
