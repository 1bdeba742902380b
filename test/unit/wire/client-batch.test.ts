import { describe, expect, test } from '@jest/globals';
import { create, fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { PublishWriter, SettleWriter } from '../../../src/wire/client-batch.ts';
import {
  ClientFrameSchema,
  CompletedSchema,
  FailedSchema,
  ReleasedSchema,
  SettlementSchema,
} from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { ClientFrame, Settlement } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import { bytes, headers, lease, longText, task, text } from './arbitrary.ts';

const batch = fc.maxSafeNat();
const read = (frame: Uint8Array): ClientFrame => fromBinary(ClientFrameSchema, frame);

describe('a batch of tasks', () => {
  test('is one field of a frame, and the writer serves the next one', () => {
    const writer = new PublishWriter();
    fc.assert(
      fc.property(
        batch,
        fc.integer({ min: 0, max: 4 }),
        fc.array(task, { maxLength: 5 }),
        (number, durability, tasks) => {
          writer.open(number, durability);
          for (const one of tasks) {
            writer.add({ ...one, deadlineMs: Number(one.deadlineMs), notBeforeMs: Number(one.notBeforeMs) });
          }
          expect(writer.count).toBe(tasks.length);
          const { publish } = read(writer.take());
          expect(publish).toMatchObject([{ batch: BigInt(number), durability }]);
          expect(publish[0]!.tasks).toEqual(tasks);
        },
      ),
    );
  });
});

describe('a batch of settlements', () => {
  const answer = fc.record({
    payload: bytes,
    contentType: longText,
    headers: fc.option(headers, { nil: undefined }),
  });
  const said = fc.oneof(
    fc.record({ kind: fc.constant('empty' as const), lease }),
    fc.record({ kind: fc.constant('completed' as const), lease, answer }),
    fc.record({
      kind: fc.constant('failed' as const),
      lease,
      error: text,
      retryable: fc.boolean(),
      retryAfterMs: fc.integer({ min: 0, max: 0xffff_ffff }),
    }),
    fc.record({ kind: fc.constant('released' as const), lease }),
  );
  type Said = typeof said extends fc.Arbitrary<infer S> ? S : never;

  function say(writer: SettleWriter, one: Said): void {
    const frame = Buffer.concat([Buffer.from([1, 2, 3]), one.lease]);
    if (one.kind === 'empty') writer.completed(frame, 3, undefined);
    else if (one.kind === 'completed') writer.completed(frame, 3, one.answer);
    else if (one.kind === 'failed') writer.failed(frame, 3, one.error, one.retryable, one.retryAfterMs);
    else writer.released(frame, 3);
  }

  function expected(one: Said): Settlement['verdict'] {
    if (one.kind === 'empty') return { case: undefined };
    if (one.kind === 'completed') {
      const { payload, contentType } = one.answer;
      return {
        case: 'completed',
        value: create(CompletedSchema, { payload, contentType, headers: one.answer.headers ?? {} }),
      };
    }
    if (one.kind === 'released') return { case: 'released', value: create(ReleasedSchema) };
    const { error, retryable, retryAfterMs } = one;
    return { case: 'failed', value: create(FailedSchema, { error, retryable, retryAfterMs }) };
  }

  test('says of each lease what its holder said', () => {
    const writer = new SettleWriter();
    fc.assert(
      fc.property(batch, fc.array(said, { maxLength: 6 }), (number, items) => {
        writer.open(number);
        for (const one of items) say(writer, one);
        expect(writer.count).toBe(items.length);
        const { settle } = read(writer.take());
        expect(settle).toMatchObject([{ batch: BigInt(number) }]);
        expect(settle[0]!.settlements).toEqual(
          items.map((one) =>
            create(SettlementSchema, { lease: Buffer.from(one.lease), verdict: expected(one) }),
          ),
        );
      }),
    );
  });
});
