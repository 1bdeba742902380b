import { describe, expect, test } from '@jest/globals';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { Flag, Kind } from '../../../src/core/task-table.ts';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import { SettlementScan } from '../../../src/wire/client-frame.ts';
import {
  EchoScan,
  priorityOf,
  rehashed,
  taskFacts,
  taskHash,
  TaskScan,
  withId,
} from '../../../src/wire/envelope.ts';
import { SettlementSchema } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import { encodeResult, writeResult } from '../../../src/wire/result.ts';
import { idKey } from '../../../src/core/id-hash.ts';
import { ResultSchema, TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { bytes, headers, task, text, time } from './arbitrary.ts';

const KEY = idKey('secret');
type Init = MessageInitShape<typeof TaskSchema>;

const encode = (fields: Init): Uint8Array => toBinary(TaskSchema, create(TaskSchema, fields));
const name = fc.stringMatching(/^[a-z][a-z0-9_@.-]{0,20}$/);
const mailbox = fc.oneof(
  name,
  name.map((type) => `type:${type}`),
);
/** Tasks that a broker takes. */
const good: fc.Arbitrary<Init> = fc
  .tuple(
    task,
    mailbox,
    fc.option(name, { nil: '' }),
    fc.option(name, { nil: '' }),
    text,
    fc.string({ maxLength: 300 }),
  )
  .map(([fields, to, type, requester, id, contextId]) => ({ ...fields, to, type, requester, id, contextId }));

describe('the scan of a task', () => {
  test('refuses a context id that would make results larger than a record may be', () => {
    const scan = new TaskScan(KEY);
    const read = (contextId: string) => {
      const encoded = encode({ to: 'a', contextId });
      return () => scan.read(encoded, 0, encoded.length);
    };
    expect(read('x'.repeat(1024))).not.toThrow();
    expect(read('x'.repeat(1025))).toThrow(
      expect.objectContaining({ code: 'invalid', field: 'task.context_id' }),
    );
  });

  test('finds what protobuf finds', () => {
    const scan = new TaskScan(KEY);
    const expectedHash = new Uint32Array(4);
    fc.assert(
      fc.property(good, bytes, (fields, before) => {
        const message = create(TaskSchema, fields);
        const frame = Buffer.concat([before, encode(fields), before]);
        scan.read(frame, before.length, frame.length - before.length);
        expect(scan.mailbox).toBe(message.to);
        expect(scan.type).toBe(message.type);
        expect(scan.requester).toBe(message.requester);
        expect(frame.toString('utf8', scan.idStart, scan.idEnd)).toBe(message.id);
        const { head } = scan;
        expect(head).toMatchObject({
          kind: Kind.task,
          deadline: Number(message.deadlineMs),
          notBefore: Number(message.notBeforeMs),
          maxAttempts: message.maxAttempts,
        });
        expect(priorityOf(head.priority)).toBe(message.priority || 2);
        expect((head.flags & Flag.answers) !== 0).toBe(message.requester !== '');
        expect((head.flags & Flag.runLimit) !== 0).toBe(message.maxRunMs > 0);
        taskHash(KEY, message.to, message.id, expectedHash);
        expect(head.hash).toEqual(expectedHash);
      }),
      { numRuns: 300 },
    );
  });

  test('remembers nothing of the task before', () => {
    const scan = new TaskScan(KEY);
    fc.assert(
      fc.property(good, good, (first, second) => {
        const encoded = encode(second);
        scan.read(encode(first), 0, encode(first).length);
        scan.read(encoded, 0, encoded.length);
        const fresh = new TaskScan(KEY);
        fresh.read(encoded, 0, encoded.length);
        const { mailbox: to, type, requester, head } = fresh;
        expect({
          mailbox: scan.mailbox,
          type: scan.type,
          requester: scan.requester,
          head: scan.head,
        }).toEqual({
          mailbox: to,
          type,
          requester,
          head,
        });
      }),
    );
  });

  test.each<[string, Init, string]>([
    ['no mailbox', {}, 'task.to'],
    ['a mailbox of the broker', { to: 'reply:planner' }, 'task.to'],
    ['dead letters as mailbox', { to: 'dead:planner' }, 'task.to'],
    ['control characters', { to: 'a\nb' }, 'task.to'],
    ['a long mailbox', { to: 'x'.repeat(257) }, 'task.to'],
    ['a long id', { to: 'x', id: 'ü'.repeat(129) }, 'task.id'],
    ['a long type', { to: 'x', type: 'x'.repeat(257) }, 'task.type'],
    ['a requester that is no agent', { to: 'x', requester: 'type:x' }, 'task.requester'],
    ['an unknown priority', { to: 'x', priority: 6 as 0 }, 'task.priority'],
    ['too many attempts', { to: 'x', maxAttempts: 256 }, 'task.max_attempts'],
    ['a deadline before time', { to: 'x', deadlineMs: -1n }, 'task.deadline_ms'],
    ['a time that no clock shows', { to: 'x', notBeforeMs: 2n ** 60n }, 'task.not_before_ms'],
  ])('refuses %s, by its field', (_what, fields, field) => {
    const encoded = encode(fields);
    expect(() => new TaskScan(KEY).read(encoded, 0, encoded.length)).toThrow(
      expect.objectContaining({ code: 'invalid', field }),
    );
  });

  test.each([
    ['task.id', 0x0a],
    ['task.to', 0x12],
    ['task.type', 0x1a],
    ['task.requester', 0x22],
  ])('refuses a %s that is not UTF-8', (field, key) => {
    const encoded = Buffer.concat([encode({ to: 'x' }), Buffer.from([key, 2, 0xc3, 0x28])]);
    expect(() => new TaskScan(KEY).read(encoded, 0, encoded.length)).toThrow(
      expect.objectContaining({ code: 'invalid', field }),
    );
  });

  test('takes damaged bytes for invalid, or for another task', () => {
    const scan = new TaskScan(KEY);
    const damaged = fc.tuple(good, fc.nat(), fc.nat({ max: 255 })).map(([fields, at, value]) => {
      const encoded = Buffer.from(encode(fields));
      encoded[at % encoded.length] = value;
      return encoded;
    });
    fc.assert(
      fc.property(fc.oneof(damaged, bytes), (noise) => {
        try {
          scan.read(noise, 0, noise.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid' });
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('an id', () => {
  test('names another task in another mailbox', () => {
    const [a, b] = [new Uint32Array(4), new Uint32Array(4)];
    fc.assert(
      fc.property(mailbox, mailbox, text, (from, to, id) => {
        taskHash(KEY, from, id, a);
        taskHash(KEY, to, id, b);
        expect(rehashed(a[0]!, from, to)).toBe(b[0]);
        expect(a.subarray(1)).toEqual(b.subarray(1));
        expect(a[0] === b[0]).toBe(from === to);
      }),
    );
  });

  test('can be given to a task that came without', () => {
    fc.assert(
      fc.property(good, name, bytes, (fields, id, before) => {
        const frame = Buffer.concat([before, encode({ ...fields, id: '' }), before]);
        const named = withId(frame, before.length, frame.length - before.length, id);
        expect(fromBinary(TaskSchema, named)).toEqual(fromBinary(TaskSchema, encode({ ...fields, id })));
      }),
    );
  });
});

describe('the facts of a task', () => {
  test('are what protobuf finds', () => {
    fc.assert(
      fc.property(good, (fields) => {
        const { id, to, type, requester, backoffMs, maxRunMs, contextId, contentType } = create(
          TaskSchema,
          fields,
        );
        expect(taskFacts(encode(fields))).toMatchObject({
          id,
          to,
          type,
          requester,
          backoffMs,
          maxRunMs,
          contextId,
          contentType,
        });
      }),
    );
  });
});

describe('a result', () => {
  test('is what protobuf reads', () => {
    const facts = fc.record({
      taskId: text,
      to: text,
      type: text,
      requester: text,
      outcome: fc.integer({ min: 0, max: 5 }),
      executor: text,
      error: text,
      attempts: fc.integer({ min: 0, max: 65535 }),
      finishedAtMs: time,
      contextId: text,
    });
    fc.assert(
      fc.property(facts, (said) => {
        const { finishedAtMs, ...rest } = said;
        const read = fromBinary(ResultSchema, encodeResult(said, undefined));
        expect(read).toEqual(
          create(ResultSchema, { ...rest, outcome: rest.outcome as 0, finishedAtMs: BigInt(finishedAtMs) }),
        );
      }),
    );
  });

  test('repeats what its task says, whether that is decoded on the way or copied', () => {
    const frame = fc.record({ before: bytes, after: bytes });
    fc.assert(
      fc.property(task, text, frame, (fields, executor, { before, after }) => {
        const encoded = encode(fields);
        const { id, type, requester, contextId } = taskFacts(encoded);
        const around = Buffer.concat([before, encoded, after]);
        const echo = new EchoScan();
        echo.read(around, before.length, before.length + encoded.length);
        const ending = { to: 'x', outcome: 1, executor, error: '', attempts: 1, finishedAtMs: 1 };
        const writer = new ByteWriter();
        writeResult(writer, around, echo, ending, undefined);
        const facts = { ...ending, taskId: id, type, requester, contextId };
        const read = fromBinary(ResultSchema, writer.take());
        expect(read).toEqual(fromBinary(ResultSchema, encodeResult(facts, undefined)));
      }),
    );
  });

  test('carries what the worker answered, byte for byte', () => {
    const facts = {
      taskId: 't',
      to: 'x',
      type: '',
      requester: '',
      outcome: 1,
      executor: '',
      error: '',
      attempts: 1,
      finishedAtMs: 1,
      contextId: '',
    };
    const scan = new SettlementScan();
    fc.assert(
      fc.property(bytes, text, headers, (payload, contentType, sent) => {
        const value = { payload, contentType, headers: sent };
        const said = create(SettlementSchema, { verdict: { case: 'completed', value } });
        const frame = toBinary(SettlementSchema, said);
        scan.read(frame, 0, frame.length);
        const read = fromBinary(ResultSchema, encodeResult(facts, { bytes: frame, ...scan }));
        expect(read).toMatchObject({ taskId: 't', contentType, headers: sent });
        expect(Buffer.from(read.payload)).toEqual(Buffer.from(payload));
      }),
    );
  });
});
