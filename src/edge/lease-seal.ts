import type { IdKey } from '../core/id-hash.ts';
import { idKey } from '../core/id-hash.ts';
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

  /**
   * HalfSipHash-1-3 (J.-P. Aumasson and D. J. Bernstein, https://github.com/veorq/SipHash) of three words, which are
   * at hand here and would have to be written down for `hashId`.
   */
  private mask(order: number, delivery: number): number {
    const { low, high } = this.key;
    let v0 = low | 0;
    let v1 = high | 0;
    let v2 = low ^ 0x6c796765;
    let v3 = high ^ 0x74656462;
    for (let round = 0; round < 6; round++) {
      const word =
        round === 0 ? order | 0 : round === 1 ? (order / 0x1_0000_0000) | 0 : round === 2 ? delivery : 0;
      if (round === 3) v2 ^= 0xff;
      v3 ^= word;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
    }
    return v1 ^ v3;
  }
}
