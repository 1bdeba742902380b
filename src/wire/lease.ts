import { orderOf, RECORD_TASKS } from '../core/task-table.ts';
import { HubError } from '../std/errors.ts';
import type { ByteWriter } from './bytes.ts';

/**
 * The name of a lease, opaque to clients:
 * `u16 shard | u16 index | u32 tag | u48 sequence | u16 delivery | u32 epoch`, little-endian.
 */
export const LEASE_BYTES = 20;

/** A lease as it was read. One object is filled again and again. */
export class Lease {
  shard = 0;
  order = 0;
  tag = 0;
  /** Which delivery of the task it is, from 1. */
  delivery = 0;
  epoch = 0;

  /** Reads the lease in `bytes[start, end)`. Throws HubError `invalid` if it can't be one. */
  read(bytes: Uint8Array, start: number, end: number): void {
    if (end - start !== LEASE_BYTES) {
      throw new HubError('invalid', `lease must have ${LEASE_BYTES} bytes, as it was delivered`, {
        field: 'lease',
      });
    }
    this.shard = bytes[start]! | (bytes[start + 1]! << 8);
    this.tag = word(bytes, start + 4);
    const sequence =
      word(bytes, start + 8) + (bytes[start + 12]! | (bytes[start + 13]! << 8)) * 0x1_0000_0000;
    this.order = orderOf(sequence, bytes[start + 2]! | (bytes[start + 3]! << 8));
    this.delivery = bytes[start + 14]! | (bytes[start + 15]! << 8);
    this.epoch = word(bytes, start + 16);
  }
}

/** Writes a lease. */
export function writeLease(
  writer: ByteWriter,
  shard: number,
  order: number,
  tag: number,
  delivery: number,
  epoch: number,
): void {
  writer.u16(shard);
  writer.u16(order % RECORD_TASKS);
  writer.u32(tag);
  writer.u48(Math.floor(order / RECORD_TASKS));
  writer.u16(delivery);
  writer.u32(epoch);
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

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}
