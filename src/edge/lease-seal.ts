import type { IdKey } from '../core/id-hash.ts';
import { hashId, idKey } from '../core/id-hash.ts';
import type { Lease, LeaseName } from '../wire/lease.ts';
import { LEASE_BYTES } from '../wire/lease.ts';

const TAG = 4;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Makes the leases of a session worth nothing to others, and those that it was not given impossible to guess.
 *
 * Tasks that were appended together share their tag, so who is given one of them could name its neighbours. On the
 * way to the client the tag is therefore combined with a keyed hash of session, order and delivery, and on the way
 * back it is restored: of a lease that was made up, it comes out wrong. All brokers of a cluster have the key.
 */
export class LeaseSeal {
  private readonly key: IdKey;
  private readonly sealed: Mutable<LeaseName> = {
    shard: 0,
    order: 0,
    tag: 0,
    delivery: 0,
    epoch: 0,
    slot: 0,
  };
  private readonly input = Buffer.alloc(10);
  private readonly output = new Uint32Array(4);

  /** @param secret what brokers of the cluster know, and clients don't. */
  constructor(secret: string, session: string) {
    this.key = idKey(`${secret} leases of ${session}`);
  }

  /** The lease as the client knows it: an object that is used again. */
  seal({ shard, order, tag, delivery, epoch, slot }: LeaseName): LeaseName {
    const { sealed } = this;
    sealed.shard = shard;
    sealed.order = order;
    sealed.tag = (tag ^ this.mask(order, delivery)) >>> 0;
    sealed.delivery = delivery;
    sealed.epoch = epoch;
    sealed.slot = slot;
    return sealed;
  }

  /** Restores a lease that was read as the client knows it. */
  open(lease: Lease): void {
    lease.tag = (lease.tag ^ this.mask(lease.order, lease.delivery)) >>> 0;
  }

  /** Restores the lease in `bytes[start, end)`, where it stands; `lease` is used to read it. */
  openIn(bytes: Uint8Array, start: number, end: number, lease: Lease): void {
    if (end - start !== LEASE_BYTES) return;
    lease.read(bytes, start, end);
    this.open(lease);
    for (let at = 0; at < 4; at++) bytes[start + TAG + at] = lease.tag >>> (8 * at);
  }

  private mask(order: number, delivery: number): number {
    const { input, output } = this;
    input.writeDoubleLE(order, 0);
    input.writeUInt16LE(delivery, 8);
    hashId(input, 0, input.length, this.key, output);
    return output[0]!;
  }
}
