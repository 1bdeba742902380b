import { describe, expect, test } from '@jest/globals';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { orderOf, RECORD_TASKS } from '../../../src/core/task-table.ts';
import type { Delivery, ServerFrame } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import {
  DeliverySchema,
  PublishAckSchema,
  ServerFrameSchema,
  SettleAckSchema,
} from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import { ResultSchema, TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { Lease, LEASE_BYTES, leaseHash, leaseHashOf, writeLease } from '../../../src/wire/lease.ts';
import type { LeaseName } from '../../../src/wire/lease.ts';
import type { ServerFrameVisitor } from '../../../src/wire/server-frame.ts';
import { ServerFrameReader, ServerFrameWriter } from '../../../src/wire/server-frame.ts';
import { bytes, lease, task, text, time } from './arbitrary.ts';

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const uint16 = fc.integer({ min: 0, max: 0xffff });
const few = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(one, { maxLength: 3 });

const leaseName: fc.Arbitrary<LeaseName> = fc.record({
  shard: uint16,
  order: fc
    .tuple(fc.integer({ min: 0, max: 2 ** 40 - 1 }), fc.integer({ min: 0, max: RECORD_TASKS - 1 }))
    .map(([sequence, index]) => orderOf(sequence, index)),
  tag: uint32,
  delivery: uint16,
  epoch: uint32,
  slot: uint32,
});

function leaseBytes(name: LeaseName): Buffer {
  const out = Buffer.alloc(LEASE_BYTES);
  writeLease(out, 0, name);
  return out;
}

describe('a lease', () => {
  test('is read as it was written, wherever it stands', () => {
    const read = new Lease();
    fc.assert(
      fc.property(leaseName, bytes, (name, before) => {
        const frame = Buffer.concat([before, leaseBytes(name), before]);
        read.read(frame, before.length, before.length + LEASE_BYTES);
        expect({ ...read }).toEqual(name);
      }),
    );
  });

  test('has the same hash as a name and as bytes', () => {
    fc.assert(
      fc.property(leaseName, (name) => {
        const { shard, order, tag, delivery } = name;
        expect(leaseHashOf(leaseBytes(name), 0)).toBe(leaseHash(shard, order, tag, delivery));
      }),
    );
  });

  test('of another length is none', () => {
    fc.assert(
      fc.property(
        bytes.filter(({ length }) => length !== LEASE_BYTES),
        (other) => {
          expect(() => new Lease().read(other, 0, other.length)).toThrow(
            expect.objectContaining({ code: 'invalid', field: 'lease' }),
          );
        },
      ),
    );
  });
});

describe('a frame of the broker', () => {
  test('is written as protobuf reads it', () => {
    const writer = new ServerFrameWriter();
    const delivery = fc.record({
      attachment: uint32,
      lease: fc.option(leaseName, { nil: undefined }),
      attempt: fc.integer({ min: 1, max: 255 }),
      acceptedMs: time.map((ms) => ms + 0.25),
      body: task,
    });
    fc.assert(
      fc.property(few(delivery), fc.maxSafeNat(), bytes, (deliveries, batch, before) => {
        for (const one of deliveries) {
          const encoded = toBinary(TaskSchema, one.body);
          const record = Buffer.concat([before, encoded, before]);
          const [start, end] = [before.length, before.length + encoded.length];
          writer.deliver(one.attachment, one.lease, one.attempt, one.acceptedMs, false, record, start, end);
        }
        writer.published(batch, 4);
        writer.settled(batch);
        writer.control({ listInFlight: true });
        const frame = fromBinary(ServerFrameSchema, writer.take());
        expect(frame.delivery).toEqual(
          deliveries.map((one) =>
            create(DeliverySchema, {
              attachment: one.attachment,
              lease: one.lease ? leaseBytes(one.lease) : Buffer.alloc(0),
              attempt: one.attempt,
              acceptedAtMs: BigInt(Math.floor(one.acceptedMs)),
              task: one.body,
            }),
          ),
        );
        expect(frame.publishAck).toEqual([create(PublishAckSchema, { batch: BigInt(batch), durability: 4 })]);
        expect(frame.settleAck).toEqual([create(SettleAckSchema, { batch: BigInt(batch) })]);
        expect(frame.listInFlight).toBe(true);
        expect(writer.empty).toBe(true);
      }),
    );
  });

  const delivered: fc.Arbitrary<Delivery> = fc
    .record({
      attachment: uint32,
      lease,
      attempt: uint32,
      acceptedAtMs: time.map(BigInt),
      task,
      isResult: fc.boolean(),
    })
    .map(({ isResult, task: body, ...rest }) =>
      create(
        DeliverySchema,
        isResult ? { ...rest, result: { taskId: body.id, payload: body.payload } } : { ...rest, task: body },
      ),
    );
  const refusal = fc.record({
    index: uint32,
    code: uint32,
    message: text,
    field: text,
    limit: text,
    retryAfterMs: uint32,
  });
  const batch = fc.maxSafeNat().map(BigInt);
  const sent: fc.Arbitrary<ServerFrame> = fc
    .record({
      welcome: fc.record({
        sessionId: text,
        resumed: fc.boolean(),
        limits: fc.record({ taskBytes: uint32 }),
      }),
      attached: few(fc.record({ attachment: uint32, refusal })),
      publishAck: few(
        fc.record({
          batch,
          refused: few(refusal),
          recipients: few(fc.record({ index: uint32, count: uint32 })),
        }),
      ),
      settleAck: few(fc.record({ batch, refused: few(refusal) })),
      abort: few(fc.record({ lease, reason: text })),
      delivery: few(delivered),
      cancel: few(fc.record({ call: batch })),
      goAway: fc.record({ reason: text, address: text, deadlineMs: uint32, draining: fc.boolean() }),
    })
    .map((fields) => create(ServerFrameSchema, fields));

  test('is read as protobuf wrote it, in the order of its parts', () => {
    const reader = new ServerFrameReader();
    fc.assert(
      fc.property(few(sent), (parts) => {
        const read: ServerFrame[] = [];
        const add = (frame: Parameters<typeof create<typeof ServerFrameSchema>>[1]): void => {
          read.push(create(ServerFrameSchema, frame));
        };
        const visitor: ServerFrameVisitor = {
          published: (ack) => add({ publishAck: [ack] }),
          settled: (ack) => add({ settleAck: [ack] }),
          control: (frame) => add(frame),
          delivery: (scan) => {
            const { attachment, attempt, acceptedMs, isResult } = scan;
            const body = scan.bytes.subarray(scan.bodyStart, scan.bodyEnd);
            add({
              delivery: [
                {
                  attachment,
                  attempt,
                  lease: scan.bytes.slice(scan.leaseStart, scan.leaseEnd),
                  acceptedAtMs: BigInt(acceptedMs),
                  ...(isResult
                    ? { result: fromBinary(ResultSchema, body) }
                    : { task: fromBinary(TaskSchema, body) }),
                },
              ],
            });
          },
        };
        const encoded = parts.map((part) => toBinary(ServerFrameSchema, part));
        reader.read(Buffer.concat(encoded), visitor);
        // Parts one after the other are one message: what was called must be, too.
        const again = Buffer.concat(read.map((part) => toBinary(ServerFrameSchema, part)));
        expect(fromBinary(ServerFrameSchema, again)).toEqual(
          fromBinary(ServerFrameSchema, Buffer.concat(encoded)),
        );
      }),
      { numRuns: 200 },
    );
  });

  test('a welcome is heard before what follows it', () => {
    const heard: string[] = [];
    const visitor: ServerFrameVisitor = {
      published: () => heard.push('published'),
      settled: () => heard.push('settled'),
      delivery: () => heard.push('delivery'),
      control: ({ welcome, goAway }) => heard.push(welcome ? 'welcome' : goAway ? 'go away' : 'other'),
    };
    const frame = { welcome: {}, publishAck: [{}], settleAck: [{}], delivery: [{}], goAway: {} };
    new ServerFrameReader().read(toBinary(ServerFrameSchema, create(ServerFrameSchema, frame)), visitor);
    expect(heard).toEqual(['welcome', 'published', 'settled', 'delivery', 'go away']);
  });

  test('that is damaged is invalid, or read as another one', () => {
    const reader = new ServerFrameReader();
    const visitor = { published() {}, settled() {}, delivery() {}, control() {} };
    const damaged = fc.tuple(sent, fc.nat(), fc.nat({ max: 255 })).map(([frame, at, value]) => {
      const encoded = Buffer.from(toBinary(ServerFrameSchema, frame));
      encoded[at % encoded.length] = value;
      return encoded;
    });
    fc.assert(
      fc.property(fc.oneof(damaged, bytes), (noise) => {
        try {
          reader.read(noise, visitor);
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid' });
        }
      }),
      { numRuns: 1000 },
    );
  });
});
