import type { Awaited } from '../core/awaiting.ts';
import type { ShardState } from '../core/shard-state.ts';
import { ByteReader, ByteWriter } from '../wire/bytes.ts';

/** What cutting the log would forget, as of a sequence: known ids, duplicates, marks of the outbox, requesters. */
export interface Checkpoint {
  readonly sequence: number;
  /** Tasks that lived then stand in this record or later ones. */
  readonly cut: number;
  readonly ring: Uint8Array;
  /** Order and tag of duplicates that came and were not dropped yet. */
  readonly undropped: readonly (readonly [number, number])[];
  readonly forwarded: readonly number[];
  readonly received: readonly number[];
  readonly awaiting: readonly (readonly [string, Awaited])[];
}

/** About as many bytes as a checkpoint of the state would have now. */
export function checkpointBytes({ dedup, awaiting }: ShardState): number {
  return dedup.size * 17 + awaiting.size * 100;
}

/**
 * Serializes a checkpoint of the state as it is now:
 * `f64 sequence | f64 cut | u32 length, ring | u32 count, (f64 order, u32 tag) of each duplicate | u16 shards, f64 forwarded, f64 received of each | u32 count,
 * (id, mailbox, type, requester) of each awaited result`.
 */
export function writeCheckpoint(state: ShardState): Uint8Array {
  const ring = state.dedup.exportRing();
  const writer = new ByteWriter(ring.length + 16 * 1024);
  const marks = state.outbox.marks();
  writer.f64(state.sequence);
  writer.f64(state.floor);
  writer.u32(ring.length);
  writer.bytes(ring);
  writer.u32(state.undropped.size);
  for (const [order, tag] of state.undropped) {
    writer.f64(order);
    writer.u32(tag);
  }
  writer.u16(marks.forwarded.length);
  for (const number of marks.forwarded) writer.f64(number);
  for (const number of marks.received) writer.f64(number);
  writer.u32(state.awaiting.size);
  for (const [id, { mailbox, type, requester }] of state.awaiting.entries()) {
    writer.text(id);
    writer.text(mailbox);
    writer.text(type);
    writer.text(requester);
  }
  return writer.take();
}

/** Reads what {@link writeCheckpoint} wrote. Throws a RangeError if it is cut short. */
export function readCheckpoint(bytes: Uint8Array): Checkpoint {
  const reader = new ByteReader(bytes);
  const sequence = reader.f64();
  const cut = reader.f64();
  const ring = reader.take(reader.u32());
  const undropped: [number, number][] = [];
  for (let left = reader.u32(); left > 0; left--) undropped.push([reader.f64(), reader.u32()]);
  const shards = reader.u16();
  const forwarded = Array.from({ length: shards }, () => reader.f64());
  const received = Array.from({ length: shards }, () => reader.f64());
  const awaiting: [string, Awaited][] = [];
  for (let left = reader.u32(); left > 0; left--) {
    const id = reader.text();
    awaiting.push([id, { mailbox: reader.text(), type: reader.text(), requester: reader.text() }]);
  }
  return { sequence, cut, ring, undropped, forwarded, received, awaiting };
}
