import { orderOf, RECORD_TASKS } from '../core/task-table.ts';
import { HubError } from '../std/errors.ts';

/**
 * The name of a lease, opaque to clients:
 * `u16 shard | u16 index | u32 tag | u48 sequence | u16 delivery | u32 epoch | u32 slot`, little-endian.
 * The slot only says where the broker that issued it may look first.
 */
export const LEASE_BYTES = 24;

/** A lease as it was read. One object is filled again and again. */
export class Lease {
  shard = 0;
  order = 0;
  tag = 0;
  /** Which delivery of the task it is, from 1. */
  delivery = 0;
  epoch = 0;
  slot = 0;

  /** Reads the lease in `bytes[start, end)`. Throws HubError `invalid` if it can't be one. */
  read(bytes: Uint8Array, start: number, end: number): void {
    if (end - start !== LEASE_BYTES) {
      throw new HubError('invalid', `lease must have ${LEASE_BYTES} bytes, as it was delivered`, {
        field: 'lease',
      });
    }
    this.shard = half(bytes, start);
    this.tag = word(bytes, start + 4);
    const sequence = word(bytes, start + 8) + half(bytes, start + 12) * 0x1_0000_0000;
    this.order = orderOf(sequence, half(bytes, start + 2));
    this.delivery = half(bytes, start + 14);
    this.epoch = word(bytes, start + 16);
    this.slot = word(bytes, start + 20);
  }
}

/** What names a lease. */
export interface LeaseName {
  readonly shard: number;
  readonly order: number;
  readonly tag: number;
  readonly delivery: number;
  readonly epoch: number;
  readonly slot: number;
}

/** Writes a lease into `bytes` at `at`. */
export function writeLease(bytes: Uint8Array, at: number, lease: LeaseName): void {
  const sequence = Math.floor(lease.order / RECORD_TASKS);
  setHalf(bytes, at, lease.shard);
  setHalf(bytes, at + 2, lease.order % RECORD_TASKS);
  setWord(bytes, at + 4, lease.tag);
  setWord(bytes, at + 8, sequence);
  setHalf(bytes, at + 12, sequence / 0x1_0000_0000);
  setHalf(bytes, at + 14, lease.delivery);
  setWord(bytes, at + 16, lease.epoch);
  setWord(bytes, at + 20, lease.slot);
}

/** The lease's part in `Heartbeat.hash`: its first four words, combined by exclusive or. */
export function leaseHash(shard: number, order: number, tag: number, delivery: number): number {
  const sequence = Math.floor(order / RECORD_TASKS);
  const first = shard | ((order % RECORD_TASKS) << 16);
  const last = Math.floor(sequence / 0x1_0000_0000) | (delivery << 16);
  return (first ^ tag ^ (sequence >>> 0) ^ last) >>> 0;
}

/** {@link leaseHash} of the bytes of a lease at `start`. */
export function leaseHashOf(bytes: Uint8Array, start: number): number {
  let hash = 0;
  for (let at = start; at < start + 16; at += 4) hash ^= word(bytes, at);
  return hash >>> 0;
}

function half(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

function setHalf(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

function setWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}
