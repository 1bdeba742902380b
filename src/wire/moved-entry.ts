import type { Death } from '../core/shard-state.ts';
import { DEATHS } from '../core/shard-state.ts';
import { Kind } from '../core/task-table.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import type { EntryHead } from './entry.ts';
import { beginEntry, endEntry, entryBodyStart, setEntryHash } from './entry.ts';

/** What a task takes along when it moves to another shard, beside its entry. */
export interface MovedTask {
  readonly kind: number;
  readonly flags: number;
  readonly priority: number;
  readonly attempts: number;
  readonly deliveries: number;
  /** Unix milliseconds, as the others. */
  readonly accepted: number;
  readonly notBefore: number;
  readonly deadline: number;
  /** Set for dead letters. */
  readonly death: Death | undefined;
}

/**
 * Makes the entry of a task that moves to another shard: one around that of the task, of the kind `moved`. `hash` is
 * the name of the task where it goes.
 *
 * Before the task's own entry stands `u8 kind | u8 flags | u8 attempts | u16 deliveries | f64 accepted | f64 not
 * before | f64 deadline | u8 reason of its death, counted from 1 (0: it lives), text error, f64 when`.
 */
export function movedEntry(task: MovedTask, hash: Uint32Array, entry: Uint8Array): Buffer {
  const writer = new ByteWriter(entry.length + 128);
  const head: EntryHead = {
    kind: Kind.moved,
    priority: task.priority,
    flags: 0,
    maxAttempts: 0,
    hash,
    originHigh: 0,
    originLow: 0,
    deadline: 0,
    notBefore: 0,
  };
  const at = beginEntry(writer, 0, 0, head);
  writer.u8(task.kind);
  writer.u8(task.flags);
  writer.u8(task.attempts);
  writer.u16(task.deliveries);
  writer.f64(task.accepted);
  writer.f64(task.notBefore);
  writer.f64(task.deadline);
  writer.u8(task.death ? DEATHS.indexOf(task.death.reason) + 1 : 0);
  if (task.death) {
    writer.text(task.death.error);
    writer.f64(task.death.at);
  }
  const inner = writer.length;
  writer.bytes(entry);
  endEntry(writer, at);
  const whole = writer.take();
  // Copies of a broadcast share its entry, and are named by it and their mailbox.
  if (task.kind === entry[8]) setEntryHash(whole, inner, hash);
  return whole;
}

/** Reads the {@link movedEntry} that stands at `offset` of a record, and where the task's own entry begins. */
export function readMoved(record: Uint8Array, offset: number): { task: MovedTask; start: number } {
  const reader = new ByteReader(record, entryBodyStart(record, offset));
  const kind = reader.u8();
  const flags = reader.u8();
  const attempts = reader.u8();
  const deliveries = reader.u16();
  const accepted = reader.f64();
  const notBefore = reader.f64();
  const deadline = reader.f64();
  const reason = reader.u8();
  const death =
    reason === 0 ? undefined : { reason: DEATHS[reason - 1]!, error: reader.text(), at: reader.f64() };
  const priority = record[offset + 9]!;
  return {
    task: { kind, flags, priority, attempts, deliveries, accepted, notBefore, deadline, death },
    start: reader.at,
  };
}
