import { describe, expect, test } from '@jest/globals';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { textOf } from '../../../src/wire/bytes.ts';
import type { ClientFrameVisitor, Ranges } from '../../../src/wire/client-frame.ts';
import {
  ClientFrameReader,
  encodeFrame,
  SettlementScan,
  varintSize,
  Verdict,
} from '../../../src/wire/client-frame.ts';
import type { ClientFrame, Settlement } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import {
  AttachSchema,
  CancelCallSchema,
  ClientFrameSchema,
  CompletedSchema,
  DetachSchema,
  ExtendSchema,
  FailedSchema,
  HeartbeatSchema,
  HelloSchema,
  InFlightSchema,
  ProgressUpdateSchema,
  PublishSchema,
  ReleasedSchema,
  SettlementSchema,
  SettleSchema,
  WindowSchema,
} from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import { TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { bytes, headers, lease, task, text } from './arbitrary.ts';

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const few = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(one, { maxLength: 3 });
const number = fc.maxSafeNat().map(BigInt);

const verdict: fc.Arbitrary<Settlement['verdict']> = fc.oneof(
  fc.constant({ case: undefined }),
  fc
    .record({ payload: bytes, contentType: text, headers })
    .map((fields) => ({ case: 'completed' as const, value: create(CompletedSchema, fields) })),
  fc
    .record({ error: text, retryable: fc.boolean(), retryAfterMs: uint32, payload: bytes, contentType: text })
    .map((fields) => ({ case: 'failed' as const, value: create(FailedSchema, fields) })),
  fc.constant({ case: 'released' as const, value: create(ReleasedSchema) }),
);
const settlement = fc.record({ lease, verdict }).map((fields) => create(SettlementSchema, fields));

const frame: fc.Arbitrary<ClientFrame> = fc
  .record(
    {
      hello: fc.record({ sessionId: text, incarnation: uint32, client: text, inFlight: few(lease) }),
      attach: few(
        fc.record({
          attachment: uint32,
          mailbox: text,
          window: uint32,
          types: few(text),
          listener: fc.boolean(),
          agent: text,
        }),
      ),
      detach: few(fc.record({ attachment: uint32 })),
      publish: few(
        fc.record({ batch: number, tasks: few(task), durability: fc.integer({ min: 0, max: 4 }) }),
      ),
      settle: few(fc.record({ batch: number, settlements: few(settlement) })),
      extend: few(fc.record({ lease, runMs: uint32 })),
      progress: few(fc.record({ lease, percent: uint32, message: text, payload: bytes, contentType: text })),
      cancel: few(fc.record({ call: number, mailbox: text, taskId: text, reason: text })),
      window: few(fc.record({ attachment: uint32, window: uint32 })),
      heartbeat: fc.record({ inFlight: uint32, hash: uint32 }),
      inFlight: fc.record({ leases: few(lease) }),
      goodbye: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  .map(({ publish = [], ...rest }) =>
    create(ClientFrameSchema, {
      ...rest,
      publish: publish.map(({ durability, ...more }) =>
        create(PublishSchema, { ...more, durability: durability as 0 }),
      ),
    }),
  );

/** Puts a frame together again from what a reader calls. */
class Collector implements ClientFrameVisitor {
  readonly frame = create(ClientFrameSchema);
  private readonly scan = new SettlementScan();

  hello(message: NonNullable<ClientFrame['hello']>): void {
    this.frame.hello = message;
  }
  attach(message: ClientFrame['attach'][number]): void {
    this.frame.attach.push(message);
  }
  detach(message: ClientFrame['detach'][number]): void {
    this.frame.detach.push(message);
  }
  publish(batch: number, durability: number, source: Uint8Array, tasks: Ranges): void {
    const items = ranges(source, tasks).map((item) => fromBinary(TaskSchema, item));
    this.frame.publish.push(
      create(PublishSchema, { batch: BigInt(batch), durability: durability as 0, tasks: items }),
    );
  }
  settle(batch: number, source: Uint8Array, settlements: Ranges): void {
    const items: Settlement[] = [];
    for (let index = 0; index < settlements.count; index++) {
      this.scan.read(source, settlements.start(index), settlements.end(index));
      items.push(settlementOf(source, this.scan));
    }
    this.frame.settle.push(create(SettleSchema, { batch: BigInt(batch), settlements: items }));
  }
  extend(message: ClientFrame['extend'][number]): void {
    this.frame.extend.push(message);
  }
  progress(message: ClientFrame['progress'][number]): void {
    this.frame.progress.push(message);
  }
  cancel(message: ClientFrame['cancel'][number]): void {
    this.frame.cancel.push(message);
  }
  window(message: ClientFrame['window'][number]): void {
    this.frame.window.push(message);
  }
  heartbeat(message: NonNullable<ClientFrame['heartbeat']>): void {
    this.frame.heartbeat = message;
  }
  inFlight(message: NonNullable<ClientFrame['inFlight']>): void {
    this.frame.inFlight = message;
  }
  goodbye(): void {
    this.frame.goodbye = true;
  }
}

function ranges(source: Uint8Array, list: Ranges): Uint8Array[] {
  return Array.from({ length: list.count }, (_, index) =>
    source.subarray(list.start(index), list.end(index)),
  );
}

/** The scanned settlement. Where nothing was said, the scan says completed, with an empty result. */
function settlementOf(source: Uint8Array, scan: SettlementScan): Settlement {
  const payload = source.slice(scan.payloadStart, scan.payloadEnd);
  const contentType = textOf(source, scan.contentTypeStart, scan.contentTypeEnd);
  const named = { lease: source.slice(scan.leaseStart, scan.leaseEnd) };
  if (scan.verdict === Verdict.released) {
    return create(SettlementSchema, { ...named, verdict: { case: 'released', value: {} } });
  }
  if (scan.verdict === Verdict.failed) {
    const error = textOf(source, scan.errorStart, scan.errorEnd);
    const { retryable, retryAfterMs } = scan;
    const value = create(FailedSchema, { error, retryable, retryAfterMs, payload, contentType });
    return create(SettlementSchema, { ...named, verdict: { case: 'failed', value } });
  }
  const entries = ranges(source, scan.headers).map((entry) => {
    // A map entry is a message like one with two fields of text: a task's id and mailbox will do.
    const { id, to } = fromBinary(TaskSchema, entry);
    return [id, to] as const;
  });
  const value = create(CompletedSchema, { payload, contentType, headers: Object.fromEntries(entries) });
  return create(SettlementSchema, { ...named, verdict: { case: 'completed', value } });
}

/** What the reader can't tell apart: no verdict is an empty completion. */
function normal(one: ClientFrame): ClientFrame {
  for (const { settlements } of one.settle) {
    for (const item of settlements) {
      if (item.verdict.case === undefined)
        item.verdict = { case: 'completed', value: create(CompletedSchema) };
    }
  }
  return plain(one);
}

/** With one kind of byte array, so that they compare. */
function plain(one: ClientFrame): ClientFrame {
  return fromBinary(ClientFrameSchema, toBinary(ClientFrameSchema, one));
}

describe('a frame of a client', () => {
  test('is read as protobuf wrote it', () => {
    const reader = new ClientFrameReader();
    fc.assert(
      fc.property(frame, (sent) => {
        const collector = new Collector();
        reader.read(toBinary(ClientFrameSchema, sent), collector);
        expect(plain(collector.frame)).toEqual(normal(sent));
      }),
      { numRuns: 300 },
    );
  });

  test('may be made of parts, one after the other', () => {
    const parts = [
      encodeFrame({ attach: [{ attachment: 1 }] }),
      encodeFrame({ heartbeat: { inFlight: 1 } }),
      encodeFrame({ attach: [{ attachment: 2 }] }),
    ];
    const collector = new Collector();
    new ClientFrameReader().read(Buffer.concat(parts), collector);
    expect(collector.frame).toEqual(
      create(ClientFrameSchema, {
        attach: [{ attachment: 1 }, { attachment: 2 }],
        heartbeat: { inFlight: 1 },
      }),
    );
  });

  test('of a later version is read as far as it is known', () => {
    const later = Buffer.concat([
      Buffer.from([0xa2, 0x06, 2, 1, 2, 0xa8, 0x06, 1]),
      encodeFrame({ goodbye: true }),
    ]);
    const collector = new Collector();
    new ClientFrameReader().read(later, collector);
    expect(collector.frame.goodbye).toBe(true);
  });

  test('that is damaged is refused as invalid, or read as another one; nothing else happens', () => {
    const reader = new ClientFrameReader();
    const damaged = fc.tuple(frame, fc.nat(), fc.nat({ max: 255 })).map(([sent, at, value]) => {
      const encoded = Buffer.from(toBinary(ClientFrameSchema, sent));
      if (encoded.length > 0) encoded[at % encoded.length] = value;
      return encoded;
    });
    const visitor = new Proxy({} as ClientFrameVisitor, {
      get: (_target, name) => (name === 'settle' ? readAll : () => {}),
    });
    const scan = new SettlementScan();
    function readAll(_batch: number, source: Uint8Array, settlements: Ranges): void {
      for (let index = 0; index < settlements.count; index++) {
        scan.read(source, settlements.start(index), settlements.end(index));
      }
    }
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

  test.each([
    ['hello', HelloSchema, 1],
    ['attach', AttachSchema, 2],
    ['detach', DetachSchema, 3],
    ['extend', ExtendSchema, 6],
    ['progress', ProgressUpdateSchema, 7],
    ['cancel', CancelCallSchema, 8],
    ['window', WindowSchema, 9],
    ['heartbeat', HeartbeatSchema, 10],
    ['in_flight', InFlightSchema, 11],
  ])('%s that its receiver can not do is not called malformed', (_name, schema, field) => {
    const visitor = new Proxy({} as ClientFrameVisitor, {
      get: () => () => {
        throw new RangeError('no');
      },
    });
    const part = Buffer.concat([Buffer.from([(field << 3) | 2, 0]), toBinary(schema, create(schema))]);
    expect(() => new ClientFrameReader().read(part, visitor)).toThrow(RangeError);
  });

  test('the size of a varint is what protobuf takes for it', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const message = toBinary(CancelCallSchema, create(CancelCallSchema, { call: BigInt(value) }));
        expect(varintSize(value)).toBe(value === 0 ? 1 : message.length - 1);
      }),
    );
  });
});
