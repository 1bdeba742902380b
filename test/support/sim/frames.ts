import { fromBinary } from '@bufbuild/protobuf';
import type { PublishAck, ServerFrame, SettleAck } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { Result } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { ResultSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { Lease, LEASE_BYTES } from '../../../src/wire/lease.ts';
import type { DeliveryScan, ServerFrameVisitor } from '../../../src/wire/server-frame.ts';
import { ServerFrameReader } from '../../../src/wire/server-frame.ts';
import type { ReadTaskFields } from '../../../src/wire/task.ts';
import { TaskReader } from '../../../src/wire/task.ts';

/** What a holder says of its lease. */
export interface Settling {
  readonly lease: string;
  readonly verdict: 'completed' | 'failed' | 'rejected' | 'released';
  /** The result, or the error. */
  readonly text: string;
  readonly retryAfterMs: number;
}

/** What a client means by a part of a frame, beside the bytes that say it. */
export type Saying =
  | {
      readonly kind: 'hello';
      readonly sessionId: string;
      readonly incarnation: number;
      readonly inFlight: readonly string[];
    }
  | {
      readonly kind: 'attach';
      readonly attachment: number;
      readonly mailbox: string;
      readonly window: number;
      readonly listener: boolean;
    }
  | { readonly kind: 'detach'; readonly attachment: number }
  | { readonly kind: 'window'; readonly attachment: number; readonly window: number }
  | { readonly kind: 'publish'; readonly batch: number; readonly nonces: readonly string[] }
  | { readonly kind: 'settle'; readonly batch: number; readonly items: readonly Settling[] }
  | { readonly kind: 'extend'; readonly lease: string }
  | { readonly kind: 'cancel'; readonly call: number; readonly to: string; readonly id: string }
  | { readonly kind: 'inFlight'; readonly leases: readonly string[] }
  | { readonly kind: 'goodbye' }
  | { readonly kind: 'other' };

/** A frame of a client on its way. */
export interface ClientFrame {
  readonly bytes: Buffer;
  readonly says: readonly Saying[];
}

/** A task or result as the broker has written it. */
export interface Delivered {
  readonly attachment: number;
  /** The bytes of the lease as text; empty for copies. */
  readonly lease: string;
  /** The task's name in the log: shard, sequence and index, tag. */
  readonly name: string;
  readonly shard: number;
  readonly order: number;
  readonly delivery: number;
  readonly attempt: number;
  readonly task: ReadTaskFields | undefined;
  readonly result: Result | undefined;
}

/** What a broker's frame says, part by part. */
export type Event =
  | { readonly kind: 'published'; readonly ack: PublishAck }
  | { readonly kind: 'settled'; readonly ack: SettleAck }
  | { readonly kind: 'delivery'; readonly delivered: Delivered }
  | { readonly kind: 'control'; readonly frame: ServerFrame };

/** The text that stands for a lease in the simulation. */
export function leaseText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

export function leaseBytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

/** The name in the log of the task that a lease is for. */
export function leaseName(text: string): string {
  const lease = new Lease();
  lease.read(leaseBytes(text), 0, LEASE_BYTES);
  return nameOf(lease);
}

function nameOf({ shard, order, tag }: Lease): string {
  return `${shard}/${order}/${tag}`;
}

/** Takes broker's frames apart. */
export class FrameReader implements ServerFrameVisitor {
  private readonly reader = new ServerFrameReader();
  private readonly tasks = new TaskReader();
  private readonly lease = new Lease();
  private events: Event[] = [];

  read(bytes: Buffer): readonly Event[] {
    this.events = [];
    this.reader.read(bytes, this);
    return this.events;
  }

  published(ack: PublishAck): void {
    this.events.push({ kind: 'published', ack });
  }

  settled(ack: SettleAck): void {
    this.events.push({ kind: 'settled', ack });
  }

  control(frame: ServerFrame): void {
    this.events.push({ kind: 'control', frame });
  }

  delivery(scan: DeliveryScan): void {
    const { lease } = this;
    const leased = scan.leaseEnd > scan.leaseStart;
    if (leased) lease.read(scan.bytes, scan.leaseStart, scan.leaseEnd);
    const { bodyStart, bodyEnd, bytes } = scan;
    const delivered = {
      attachment: scan.attachment,
      lease: leased ? leaseText(bytes.subarray(scan.leaseStart, scan.leaseEnd)) : '',
      name: leased ? nameOf(lease) : '',
      shard: leased ? lease.shard : -1,
      order: leased ? lease.order : -1,
      delivery: leased ? lease.delivery : 0,
      attempt: scan.attempt,
      task: scan.isResult ? undefined : this.tasks.read(bytes, bodyStart, bodyEnd),
      result: scan.isResult ? fromBinary(ResultSchema, bytes.subarray(bodyStart, bodyEnd)) : undefined,
    };
    this.events.push({ kind: 'delivery', delivered });
  }
}
