import { LEASE_BYTES } from '../wire/lease.ts';
import { encodeFrame } from '../wire/client-frame.ts';
import type { Delivery } from './delivery.ts';
import { encodePayload } from './messages.ts';
import type { Outbox } from './outbox.ts';

interface Update {
  readonly percent: number;
  readonly message: string;
  readonly payload: Uint8Array;
  readonly contentType: string;
}

/** What holders of leases say in between: progress, of which the newest in a turn counts, and extensions. */
export class Notes {
  private readonly outbox: Outbox;
  private readonly updates = new Map<Delivery, Update>();
  private readonly extensions = new Map<Delivery, number>();

  constructor(outbox: Outbox) {
    this.outbox = outbox;
  }

  /** Best effort: without a connection it is not told. @throws HubError `invalid` if `data` is not JSON. */
  progress(delivery: Delivery, percent: number, message: string, data: unknown): void {
    const { payload, contentType } = encodePayload(data, 'progress.data');
    if (!this.outbox.connected) return;
    this.updates.set(delivery, {
      percent: Math.min(100, Math.max(0, Math.round(percent) || 0)),
      message,
      payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
      contentType,
    });
    this.outbox.wake();
  }

  /** Asks for `ms` milliseconds more, from now on. Without a connection it is told with the next one. */
  extend(delivery: Delivery, ms: number): void {
    this.extensions.set(delivery, Math.max(0, Math.ceil(ms)));
    this.outbox.wake();
  }

  /** Says what has gathered, of leases that are still held. */
  speak(): void {
    for (const [delivery, update] of this.updates) {
      if (delivery.held)
        this.outbox.say(encodeFrame({ progress: [{ ...update, lease: leaseOf(delivery) }] }));
    }
    this.updates.clear();
    for (const [delivery, runMs] of this.extensions) {
      if (delivery.held) this.outbox.say(encodeFrame({ extend: [{ lease: leaseOf(delivery), runMs }] }));
    }
    this.extensions.clear();
  }
}

function leaseOf({ frame, lease }: Delivery): Uint8Array {
  return frame.subarray(lease, lease + LEASE_BYTES);
}
