import type { HubError } from '../std/errors.ts';
import { LEASE_BYTES, leaseHashOf } from '../wire/lease.ts';
import type { DeliveryScan } from '../wire/server-frame.ts';

/** Who gets what is delivered to an attachment. Nothing of it may throw. */
export interface Receiver {
  /** Deliveries of one frame, in order. */
  deliver(deliveries: Delivery[]): void;
  /** The lease is not held any more: the work is of no use. */
  aborted(delivery: Delivery, reason: string): void;
  /** The session is over, or the broker does not take the attachment any more: nothing will come. */
  lost(error: HubError): void;
}

/**
 * What was delivered: a serialized `agenthub.v1.Task` or `Result` in `frame[start, end)`, and the
 * lease under which it is held. The frame lives as long as one of its deliveries.
 */
export class Delivery {
  readonly frame: Uint8Array;
  /** Where the task begins. */
  readonly start: number;
  /** Where it ends. */
  readonly end: number;
  /** Where the lease stands in the frame; -1 for copies, which are held by nobody. */
  readonly lease: number;
  readonly isResult: boolean;
  /** 1 for the first delivery. */
  readonly attempt: number;
  /** Unix milliseconds at which it was accepted. */
  readonly acceptedAtMs: number;
  /** Whom it came for; undefined: an attachment that is gone. */
  readonly receiver: Receiver | undefined;
  /** Its place among the held ones; -1: it is not held (any more). */
  place = -1;
  /** Its end was told. */
  settled = false;

  constructor(scan: DeliveryScan, receiver: Receiver | undefined) {
    this.receiver = receiver;
    this.frame = scan.bytes;
    this.start = scan.bodyStart;
    this.end = scan.bodyEnd;
    this.lease = scan.leaseEnd - scan.leaseStart === LEASE_BYTES ? scan.leaseStart : -1;
    this.isResult = scan.isResult;
    this.attempt = scan.attempt;
    this.acceptedAtMs = scan.acceptedMs;
  }

  /** Whether the lease is held: not settled, and not aborted by the broker. */
  get held(): boolean {
    return this.place >= 0;
  }
}

/** The leases that a session holds. */
export class Leases {
  private readonly held: Delivery[] = [];

  get count(): number {
    return this.held.length;
  }

  /** Holds a delivery that came with a lease. */
  add(delivery: Delivery): void {
    delivery.place = this.held.length;
    this.held.push(delivery);
  }

  /** Lets go; false if it was not held. */
  remove(delivery: Delivery): boolean {
    const { place } = delivery;
    if (place < 0) return false;
    const last = this.held.pop()!;
    if (last !== delivery) {
      this.held[place] = last;
      last.place = place;
    }
    delivery.place = -1;
    return true;
  }

  /** Lets go of those that are named, and answers with them. */
  take(leases: readonly Uint8Array[]): Delivery[] {
    if (leases.length === 0) return [];
    const names = new Set(leases.map((lease) => nameOf(lease, 0)));
    const taken = this.held.filter(({ frame, lease }) => names.has(nameOf(frame, lease)));
    for (const delivery of taken) this.remove(delivery);
    return taken;
  }

  /** Lets go of all of them, and answers with them. */
  takeAll(): Delivery[] {
    const taken = this.held.splice(0);
    for (const delivery of taken) delivery.place = -1;
    return taken;
  }

  /** The leases themselves. */
  list(): Uint8Array[] {
    return this.held.map(({ frame, lease }) => frame.subarray(lease, lease + LEASE_BYTES));
  }

  /** As `agenthub.v1.Heartbeat.hash` wants it. */
  hash(): number {
    let hash = 0;
    for (const { frame, lease } of this.held) hash ^= leaseHashOf(frame, lease);
    return hash >>> 0;
  }
}

function nameOf(bytes: Uint8Array, start: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, LEASE_BYTES).toString('latin1');
}
