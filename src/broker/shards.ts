import type { Cluster } from '../cluster/cluster.ts';
import { outranks } from '../core/shard-state.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Owner } from './owner.ts';

/** Until a shard that was lost, though it is still this broker's, is taken again, in milliseconds. */
const AGAIN_MS = 500;

/** What {@link Shards} are made of. */
export interface ShardsOptions {
  readonly cluster: Cluster;
  readonly clock: Clock;
  /** How many there are: more and more, perhaps. */
  readonly count: () => number;
  /** An owner that does not run yet. Should it end by itself, it tells {@link Shards.lost}. */
  readonly make: (shard: number) => Owner;
  /** The owner serves from now on, and delivers when it is told to. */
  readonly served: (owner: Owner) => void;
  /** The owner, which has served, has stopped. */
  readonly left: (owner: Owner) => void;
  /** An owner can't go on, and another one could not either. */
  readonly failed: (error: HubError) => void;
}

interface Holding {
  readonly owner: Owner;
  /** Its turn to serve, while it is waited for. */
  request: { cancel(): void } | undefined;
  served: boolean;
}

/**
 * The shards of this broker: takes those that the cluster assigns to it, and lets go of those that another
 * one is ready to take.
 *
 * A shard is taken by following its log first, while its former owner still serves; so the time in which nobody
 * does is that of two appends.
 */
export class Shards {
  /** Those that serve, by shard. */
  owners: readonly Owner[] = [];
  private readonly options: ShardsOptions;
  private readonly holdings: (Holding | undefined)[] = [];
  private stopped = false;

  constructor(options: ShardsOptions) {
    this.options = options;
  }

  /** Shards of the whole cluster whose logs can be used here. */
  get count(): number {
    return this.options.count();
  }

  /** The owner that serves the shard here, or `undefined`. */
  owner(shard: number): Owner | undefined {
    const owner = this.holdings[shard]?.owner;
    return owner?.serving === true ? owner : undefined;
  }

  /** The owner of the shard here, whatever it is doing. */
  at(shard: number): Owner | undefined {
    return this.holdings[shard]?.owner;
  }

  /** Whether the shard's owner here is writing its last words: it still has all leases, and answers nobody. */
  isLeaving(shard: number): boolean {
    const holding = this.holdings[shard];
    return holding?.served === true && !holding.owner.serving;
  }

  /** Shards that are assigned to this broker and are not served yet. */
  get coming(): number {
    const { cluster } = this.options;
    let count = 0;
    for (let shard = 0; shard < this.count; shard++) {
      if (cluster.assigned(shard)?.broker === cluster.self && !this.owner(shard)) count++;
    }
    return count;
  }

  /** Looks what the cluster assigns to this broker now. */
  review(): void {
    if (this.stopped) return;
    const { cluster } = this.options;
    for (let shard = 0; shard < this.count; shard++) {
      const mine = cluster.assigned(shard)?.broker === cluster.self;
      const holding = this.holdings[shard];
      if (mine && !holding) this.take(shard);
      else if (!mine && holding && !holding.served) this.abandon(shard, holding);
    }
  }

  /** Another broker is ready to take the shard over. */
  release(shard: number): void {
    const holding = this.holdings[shard];
    if (holding?.owner.serving !== true) return;
    holding.owner.handOver(() => this.drop(holding.owner));
    this.list();
  }

  /** If another broker serves the shard in a later epoch, the log refuses the owner here: it need not try. */
  outranked(shard: number): void {
    const claim = this.options.cluster.claim(shard);
    const owner = this.owner(shard);
    if (!owner || !claim || !outranks(claim.epoch, owner.begun)) return;
    owner.stop(new HubError('aborted', `shard ${shard} is served by ${claim.broker} now`));
  }

  /** The owner has ended by itself. */
  lost(owner: Owner, error: HubError): void {
    const { clock, failed } = this.options;
    const fenced = error.code === 'aborted';
    this.drop(owner);
    if (!fenced) failed(error);
    // If the cluster still wants it here, it was a mistake of whoever took it, or one of ours.
    else clock.after(AGAIN_MS, () => this.review());
  }

  /** Stops all owners at once. */
  stop(): void {
    this.stopped = true;
    for (const holding of this.holdings) {
      holding?.request?.cancel();
      holding?.owner.stop();
    }
    this.owners = [];
  }

  private take(shard: number): void {
    const { cluster, make } = this.options;
    const owner = make(shard);
    const holding: Holding = { owner, request: { cancel() {} }, served: false };
    this.holdings[shard] = holding;
    owner.follow(() => {
      if (this.holdings[shard] !== holding || this.stopped) return;
      holding.request = cluster.acquire(shard, (revision) => {
        if (this.holdings[shard] !== holding || this.stopped) return;
        holding.request = undefined;
        owner.begin(revision, () => this.serves(holding));
      });
    });
  }

  private serves(holding: Holding): void {
    const { cluster, served } = this.options;
    const { owner } = holding;
    holding.served = true;
    this.list();
    cluster.serve(owner.shard, owner.begun);
    served(owner);
  }

  private abandon(shard: number, holding: Holding): void {
    holding.request?.cancel();
    holding.owner.stop();
    this.holdings[shard] = undefined;
  }

  private drop(owner: Owner): void {
    const { cluster, left, clock } = this.options;
    const { shard } = owner;
    const holding = this.holdings[shard];
    if (holding?.owner !== owner || this.stopped) return;
    holding.request?.cancel();
    this.holdings[shard] = undefined;
    this.list();
    if (holding.served) {
      cluster.release(shard);
      left(owner);
    }
    clock.soon(() => this.review());
  }

  private list(): void {
    this.owners = this.holdings.flatMap((holding) =>
      holding?.owner.serving === true ? [holding.owner] : [],
    );
  }
}
