import type { Consumer } from '../../../src/broker/consumer.ts';
import { Holders } from '../../../src/broker/holders.ts';
import type { ShardState } from '../../../src/core/shard-state.ts';
import { Kind } from '../../../src/core/task-table.ts';
import { entryBodyStart } from '../../../src/wire/entry.ts';
import type { LeaseName } from '../../../src/wire/lease.ts';
import { LEASE_BYTES, writeLease } from '../../../src/wire/lease.ts';
import type { ReadTaskFields } from '../../../src/wire/task.ts';
import { TaskReader } from '../../../src/wire/task.ts';
import { leaseName, leaseText } from './frames.ts';

/** An owner has given a task or result to a worker; it may be a while until that leaves the broker, or it never does. */
export interface Decision {
  readonly holders: Holders;
  /** The bytes of the lease as text. */
  readonly lease: string;
  /** The task's name in the log. */
  readonly name: string;
  readonly shard: number;
  readonly order: number;
  readonly delivery: number;
  readonly attempt: number;
  readonly mailbox: string;
  readonly session: string;
  /** Absent: it is a result. */
  readonly task: ReadTaskFields | undefined;
}

let watcher: ((decision: Decision) => void) | undefined;

/** From now on that one sees what owners decide, and nobody else. Worlds run one after the other. */
export function watchDecisions(watch: (decision: Decision) => void): void {
  watcher = watch;
}

const reader = new TaskReader();
const { take } = Holders.prototype;
Holders.prototype.take = function (this: Holders, slot: number, worker: Consumer, now: number): LeaseName {
  const lease = take.call(this, slot, worker, now);
  if (watcher) {
    const { state } = this as unknown as { state: ShardState };
    const { tasks, batches, mailboxes } = state;
    const bytes = batches.bytes(tasks.batch[slot]!);
    const offset = tasks.offset[slot]!;
    const isResult = tasks.kind[slot] === Kind.result;
    const buffer = Buffer.alloc(LEASE_BYTES);
    writeLease(buffer, 0, lease);
    const text = leaseText(buffer);
    const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const from = entryBodyStart(bytes, offset);
    watcher({
      holders: this,
      lease: text,
      name: leaseName(text),
      shard: lease.shard,
      order: lease.order,
      delivery: lease.delivery,
      attempt: tasks.attempts[slot]! + 1,
      mailbox: mailboxes.name(tasks.mailbox[slot]!),
      session: worker.session,
      task: isResult ? undefined : reader.read(body, from, offset + tasks.length[slot]!),
    });
  }
  return lease;
};
