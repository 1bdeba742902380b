import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { LeaseSeal } from '../../../src/edge/lease-seal.ts';
import type { LeaseName } from '../../../src/wire/lease.ts';
import { Lease, LEASE_BYTES, writeLease } from '../../../src/wire/lease.ts';

const leases = fc.record({
  shard: fc.nat(1023),
  order: fc.nat(Number.MAX_SAFE_INTEGER),
  tag: fc.nat(0xffff_ffff),
  delivery: fc.nat(65_535),
  epoch: fc.nat(0xffff_ffff),
  slot: fc.nat(0xffff_ffff),
});

function bytesOf(lease: LeaseName): Buffer {
  const bytes = Buffer.alloc(LEASE_BYTES);
  writeLease(bytes, 0, lease);
  return bytes;
}

function read(bytes: Buffer): Lease {
  const lease = new Lease();
  lease.read(bytes, 0, bytes.length);
  return lease;
}

test('what was sealed is opened again, read or where it stands, at any broker that has the secret', () => {
  fc.assert(
    fc.property(leases, fc.string(), (lease, session) => {
      const sealed = bytesOf(new LeaseSeal('secret', session).seal(lease));
      const elsewhere = new LeaseSeal('secret', session);
      const opened = read(sealed);
      elsewhere.open(opened);
      expect(bytesOf(opened)).toEqual(bytesOf(lease));
      const whole = Buffer.concat([Buffer.alloc(3), sealed, Buffer.alloc(2)]);
      elsewhere.openIn(whole, 3, 3 + LEASE_BYTES, new Lease());
      expect(whole).toEqual(Buffer.concat([Buffer.alloc(3), bytesOf(lease), Buffer.alloc(2)]));
    }),
  );
});

test('a lease of another session, of the task beside it, or of another delivery is opened to something else', () => {
  const seal = new LeaseSeal('secret', 'one');
  const mine = { shard: 1, order: 70_000, tag: 0x1234_5678, delivery: 1, epoch: 1, slot: 3 };
  const { tag } = seal.seal(mine);
  const tagOf = (by: LeaseSeal, change: object): number => {
    const lease = read(bytesOf({ ...mine, tag, ...change }));
    by.open(lease);
    return lease.tag;
  };
  expect(tagOf(seal, {})).toBe(mine.tag);
  expect(tagOf(new LeaseSeal('secret', 'two'), {})).not.toBe(mine.tag);
  expect(tagOf(new LeaseSeal('another', 'one'), {})).not.toBe(mine.tag);
  expect(tagOf(seal, { order: mine.order + 1 })).not.toBe(mine.tag);
  expect(tagOf(seal, { order: mine.order + 2 ** 40 })).not.toBe(mine.tag);
  expect(tagOf(seal, { delivery: 2 })).not.toBe(mine.tag);
});

test('what is no lease is left as it is', () => {
  const bytes = Buffer.alloc(5, 1);
  new LeaseSeal('secret', 'one').openIn(bytes, 0, 5, new Lease());
  expect(bytes).toEqual(Buffer.alloc(5, 1));
});
