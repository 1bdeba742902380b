import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { orderOf, RECORD_TASKS } from '../../../src/core/task-table.ts';
import { ERRORS, HubError } from '../../../src/std/errors.ts';
import type { ErrorCode } from '../../../src/std/errors.ts';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import type { EdgeVisitor, RelayedAttachment, RelayedSession } from '../../../src/wire/edge-ops.ts';
import { EdgeOps, EdgeOpsReader } from '../../../src/wire/edge-ops.ts';
import type { LeaseName } from '../../../src/wire/lease.ts';
import { Lease, LEASE_BYTES } from '../../../src/wire/lease.ts';
import type { OwnerVisitor } from '../../../src/wire/owner-ops.ts';
import { OwnerOps, OwnerOpsReader } from '../../../src/wire/owner-ops.ts';
import { bytes, longText, text, time } from './arbitrary.ts';

/** An operation as a plain value: its name and its arguments. */
type Said = readonly [name: string, ...values: unknown[]];

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const uint16 = fc.integer({ min: 0, max: 0xffff });
const flag = fc.boolean();
const moment = fc.oneof(time, fc.constant(Infinity), fc.double({ noNaN: true, min: 0 }));
const leaseName: fc.Arbitrary<LeaseName> = fc.record({
  shard: uint16,
  order: fc
    .tuple(fc.integer({ min: 0, max: 2 ** 36 }), fc.integer({ min: 0, max: RECORD_TASKS - 1 }))
    .map(([sequence, index]) => orderOf(sequence, index)),
  tag: uint32,
  delivery: uint16,
  epoch: uint32,
  slot: uint32,
});
const leases = fc.array(leaseName, { maxLength: 5 });
const texts = fc.array(text, { maxLength: 3 });
const session: fc.Arbitrary<RelayedSession> = fc.record({
  id: fc.stringMatching(/^[0-9a-f]{16}$/).filter((id) => !/^0+$/.test(id)),
  incarnation: uint32,
  client: longText,
});
const attachment: fc.Arbitrary<RelayedAttachment> = fc.record({
  number: uint32,
  mailbox: longText,
  agent: text,
  listener: flag,
  window: uint32,
  maxWindow: uint32,
  shard: fc.nat(0xffff),
  types: texts,
  taskIds: texts,
  attachedAt: moment,
});
const hubError = fc
  .record({
    code: fc.constantFrom(...(Object.keys(ERRORS) as ErrorCode[])),
    message: longText,
    field: fc.option(text.filter((some) => some !== '')),
    limit: fc.option(text.filter((some) => some !== '')),
    retryAfterMs: fc.option(fc.integer({ min: 1, max: 0xffff_ffff })),
  })
  .map(
    ({ code, message, field, limit, retryAfterMs }) =>
      new HubError(code, message, {
        ...(field === null ? {} : { field }),
        ...(limit === null ? {} : { limit }),
        ...(retryAfterMs === null ? {} : { retryAfterMs }),
      }),
  );
function op<T extends unknown[]>(
  name: string,
  ...values: { [K in keyof T]: fc.Arbitrary<T[K]> }
): fc.Arbitrary<Said> {
  return fc.tuple(...(values as fc.Arbitrary<unknown>[])).map((said) => [name, ...said] as const);
}

const edgeSaid = fc.array(
  fc.oneof(
    op('session', uint32, session),
    op('attach', uint32, attachment),
    op('detach', uint32, uint32),
    op('window', uint32, uint32, uint32),
    op('pause', uint32, flag),
    op('reported', uint16, fc.integer({ min: 0, max: 2 ** 48 - 1 }), uint32),
    op('settle', uint32, uint32, bytes),
    op('extend', uint32, leaseName, uint32),
    op('progress', uint32, bytes),
    op('reconcile', uint32, uint16, leases),
    op('taken', uint32, uint32, uint32),
    op('gone', uint32, flag),
    op('moved', uint32),
  ),
  { maxLength: 12 },
);
const ownerSaid = fc.array(
  fc.oneof(
    op('deliver', uint32, uint32, fc.option(leaseName, { nil: undefined }), uint16, moment, flag, bytes),
    op('reconciled', uint32, uint16),
    op('ended', uint32, leaseName),
    op('kept', uint32, leaseName),
    op('abort', uint32, leaseName, longText),
    op('tell', uint32, bytes),
    op('settled', uint32, uint32),
    op('refused', uint32, hubError),
    op('attached', uint32, uint32),
    op('replaced', uint32, uint32),
  ),
  { maxLength: 12 },
);

/** Lists of leases, which are read in place. */
const LISTS = new Set(['reconcile']);

/** Calls the writer as its user does: embedded messages stand somewhere in other bytes. */
function write(said: readonly Said[], ops: object): void {
  for (const [name, ...values] of said) {
    const last = values.at(-1);
    const call =
      last instanceof Uint8Array
        ? [
            ...values.slice(0, -1),
            Buffer.concat([Buffer.from('ab'), last, Buffer.from('c')]),
            2,
            2 + last.length,
          ]
        : values;
    (ops as Record<string, (...values: unknown[]) => void>)[name]!.apply(ops, call);
  }
}

/** Remembers what it is told, as the plain values that were written. */
function recorder<Visitor>(into: Said[]): Visitor {
  const told = (name: string, values: unknown[]): Said => {
    const at = values.findIndex((value) => Buffer.isBuffer(value));
    if (at < 0) return [name, ...values.map(plain)];
    const [body, start, end] = values.slice(at) as [Buffer, number, number];
    const view = new Uint8Array(body.subarray(start, end));
    return [name, ...values.slice(0, at).map(plain), LISTS.has(name) ? leasesIn(view) : view];
  };
  return new Proxy(
    {},
    {
      get:
        (_, name: string) =>
        (...values: unknown[]) =>
          into.push(told(name, values)),
    },
  ) as Visitor;
}

function plain(value: unknown): unknown {
  return value instanceof Lease ? { ...value } : value;
}

function leasesIn(view: Uint8Array): LeaseName[] {
  const names: LeaseName[] = [];
  const lease = new Lease();
  for (let at = 0; at < view.length; at += LEASE_BYTES) {
    lease.read(view, at, at + LEASE_BYTES);
    names.push({ ...lease });
  }
  return names;
}

interface Side {
  readonly name: string;
  readonly said: fc.Arbitrary<Said[]>;
  readonly encode: (said: readonly Said[]) => Buffer;
  readonly decode: (bytes: Uint8Array, start: number, end: number, into: Said[]) => void;
}

const SIDES: readonly Side[] = [
  {
    name: 'an edge says to an owner',
    said: edgeSaid,
    encode(said) {
      const writer = new ByteWriter(64);
      write(said, new EdgeOps(writer));
      return writer.take();
    },
    decode(from, start, end, into) {
      new EdgeOpsReader().read(from, start, end, recorder<EdgeVisitor>(into));
    },
  },
  {
    name: 'an owner says to an edge',
    said: ownerSaid,
    encode(said) {
      const writer = new ByteWriter(64);
      write(said, new OwnerOps(writer));
      return writer.take();
    },
    decode(from, start, end, into) {
      new OwnerOpsReader().read(from, start, end, recorder<OwnerVisitor>(into));
    },
  },
];

/** What came of it: `read`, or the code of the error. */
function attempt(reading: () => void): string {
  try {
    reading();
    return 'read';
  } catch (error) {
    return error instanceof HubError ? error.code : String(error);
  }
}

describe.each(SIDES)('what $name', ({ said, encode, decode }) => {
  test('is read as it was written, wherever it stands', () => {
    fc.assert(
      fc.property(said, bytes, bytes, (ops, before, after) => {
        const encoded = encode(ops);
        const around = Buffer.concat([before, encoded, after]);
        const read: Said[] = [];
        decode(around, before.length, before.length + encoded.length, read);
        expect(read).toEqual(ops);
      }),
    );
  });

  test('and ends anywhere, is refused after what is whole; what lies behind is not read', () => {
    fc.assert(
      fc.property(said, (ops) => {
        const encoded = encode(ops);
        fc.pre(encoded.length < 600);
        const whole = new Set(ops.map((_, count) => encode(ops.slice(0, count)).length));
        for (let end = 0; end < encoded.length; end++) {
          const read: Said[] = [];
          expect(attempt(() => decode(encoded, 0, end, read))).toBe(whole.has(end) ? 'read' : 'corrupt');
          expect(read.length).toBeLessThan(ops.length);
        }
        const half: Said[] = [];
        attempt(() => decode(encoded, 0, encoded.length >> 1, half));
        expect(half).toEqual(ops.slice(0, half.length));
      }),
      { numRuns: 20 },
    );
  });

  test('and is damaged, is read as something else or refused, and nothing worse', () => {
    const damaged = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.tuple(said, fc.nat(), fc.nat(255)).map(([ops, at, byte]) => {
        const encoded = encode(ops);
        if (encoded.length > 0) encoded[at % encoded.length] = byte;
        return encoded;
      }),
    );
    fc.assert(
      fc.property(damaged, (from) => {
        expect(['read', 'corrupt']).toContain(attempt(() => decode(from, 0, from.length, [])));
      }),
      { numRuns: 1000 },
    );
  });

  test('of an unknown kind is refused', () => {
    for (const kind of [0, 14, 255])
      expect(attempt(() => decode(Buffer.alloc(100, kind), 0, 100, []))).toBe('corrupt');
  });
});
