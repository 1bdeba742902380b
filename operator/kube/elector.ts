import type { Clock, Random, Timer } from '../../src/std/clock.ts';
import type { Logger } from '../../src/std/logger.ts';
import type { ObjectName } from '../api/object.ts';
import { isConflict, isNotFound } from './errors.ts';
import type { Kube } from './kube.ts';
import type { Lease, LeaseSpec } from './lease.ts';
import { LEASE, microTime } from './lease.ts';

/** What an elector is made of. */
export interface ElectorOptions {
  readonly kube: Kube;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** The Lease that all candidates share. */
  readonly lease: Required<ObjectName>;
  /** Who we are: the pod's name and something that no former process of it had. */
  readonly identity: string;
  /** How long others must see no renewal before they take over. Default: 15 s. */
  readonly leaseMs?: number;
  /** How long a leader goes on without a renewal; well below `leaseMs`. Default: 10 s. */
  readonly renewWithinMs?: number;
  /** Between two attempts; well below `renewWithinMs`. Default: 2 s. */
  readonly retryMs?: number;
  /** We lead now. */
  lead(): void;
  /**
   * We don't lead any more: stop all work. When the elector is stopped, the lease is released only after
   * this has ended.
   */
  lost(): void | Promise<void>;
}

type State = 'stopped' | 'waiting' | 'leading';

/**
 * Leader election by a Lease, as client-go does it, so that one of several operators acts.
 *
 * Nobody compares clocks: a candidate takes over only when it has itself seen the same renewal for as long
 * as the lease says. A leader stops by itself before that, even if a request hangs: its time counts from
 * before its last successful renewal was sent. Errors of the API server are survived; who has lost
 * stands again. It is no fence: a process that was suspended acts until it finds out, so all that a leader
 * writes must bear that.
 */
export class Elector {
  readonly #options: ElectorOptions;
  readonly #leaseMs: number;
  readonly #renewWithinMs: number;
  readonly #retryMs: number;
  #state: State = 'stopped';
  #leader: string | undefined;
  /** The Lease as we last saw it; whether it has been the same for longer than it holds. */
  #seen: Lease | undefined;
  #seenExpired = false;
  #seenTimer: Timer | undefined;
  /** The next attempt. */
  #next: Timer | undefined;
  /** The end of our leadership, unless it is renewed before; and its wall time, as a suspended machine stops timers. */
  #end: Timer | undefined;
  #endsAt = 0;
  #calls = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** The end of the work of our last leadership. */
  #ended: Promise<void> = Promise.resolve();

  constructor(options: ElectorOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? 15_000;
    this.#renewWithinMs = options.renewWithinMs ?? 10_000;
    this.#retryMs = options.retryMs ?? 2_000;
  }

  get leading(): boolean {
    return this.#state === 'leading';
  }

  /** Who leads, as far as is known. */
  get leader(): string | undefined {
    return this.#leader;
  }

  /** Begins to stand. */
  start(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'waiting';
    this.#calls = new AbortController();
    this.#attempt();
  }

  /** Stops to stand; a leader ends its work and releases the lease, so that another leads at once. */
  async stop(): Promise<void> {
    const led = this.#state === 'leading';
    this.#state = 'stopped';
    this.#next?.cancel();
    this.#end?.cancel();
    this.#seenTimer?.cancel();
    this.#calls.abort();
    await this.#running;
    if (led) this.#tellLost();
    await this.#ended;
    if (led) await this.#release();
  }

  #stopped(): boolean {
    return this.#state === 'stopped';
  }

  #attempt(): void {
    this.#running = this.#try().then(() => {
      if (this.#stopped()) return;
      const { clock, random } = this.#options;
      // Others who stand don't come all at once; a leader keeps its pace.
      const waitMs = this.#retryMs * (this.leading ? 1 : 1 + random.float());
      this.#next = clock.after(waitMs, () => this.#attempt());
    });
  }

  async #try(): Promise<void> {
    const { clock, logger } = this.#options;
    // The machine may have slept.
    if (this.leading && clock.now() >= this.#endsAt) this.#lose('the machine stood still');
    const begun = clock.now();
    try {
      const won = await this.#acquire();
      if (this.#stopped()) return;
      if (!won) this.#lose('another one has taken the lease');
      else {
        // No work begins before that of our former leadership has ended.
        if (!this.leading) await this.#ended;
        if (!this.#stopped()) this.#hold(begun);
      }
    } catch (error) {
      if (this.#stopped()) return;
      logger.warn(
        { error: (error as Error).message, leading: this.leading },
        'can not renew or get the lease',
      );
    }
  }

  /** Writes that we hold the lease, if we may. Answers whether we do. */
  async #acquire(): Promise<boolean> {
    const { kube, lease, identity } = this.#options;
    // A leader that was not disturbed knows the lease; everybody else reads it first.
    let known = this.leading && this.#seen?.spec?.holderIdentity === identity;
    for (let tries = 1; ; tries++) {
      if (!known) await this.#look();
      if (!this.#mayHold()) return false;
      const seen = this.#seen;
      const spec = this.#claim(seen?.spec);
      try {
        const { apiVersion, kind } = LEASE;
        const written =
          seen === undefined
            ? await kube.create(LEASE, { apiVersion, kind, metadata: lease, spec }, this.#limits())
            : await kube.patch(
                LEASE,
                lease,
                { metadata: { resourceVersion: seen.metadata.resourceVersion }, spec },
                this.#limits(),
              );
        this.#see(written);
        return true;
      } catch (error) {
        // Somebody else was faster, or our own former write was done though its answer was lost.
        if (tries === 2 || !(isConflict(error) || isNotFound(error))) throw error;
        known = false;
      }
    }
  }

  #mayHold(): boolean {
    const holder = this.#seen?.spec?.holderIdentity ?? '';
    return holder === '' || holder === this.#options.identity || this.#seenExpired;
  }

  #claim(before: LeaseSpec = {}): LeaseSpec {
    const { clock, identity } = this.#options;
    const now = microTime(clock.now());
    const same = before.holderIdentity === identity;
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(this.#leaseMs / 1000),
      renewTime: now,
      acquireTime: same ? (before.acquireTime ?? now) : now,
      leaseTransitions:
        (before.leaseTransitions ?? 0) + (same || before.holderIdentity === undefined ? 0 : 1),
    };
  }

  async #look(): Promise<void> {
    const { kube, lease } = this.#options;
    try {
      this.#see(await kube.get(LEASE, lease, this.#limits()));
    } catch (error) {
      if (!isNotFound(error)) throw error;
      this.#see(undefined);
    }
  }

  /** Takes note of the lease; if it has changed, its holder has its full time again. */
  #see(lease: Lease | undefined): void {
    const { clock, logger } = this.#options;
    const before = this.#seen?.metadata;
    this.#seen = lease;
    const holder = lease?.spec?.holderIdentity ?? '';
    if (holder !== (this.#leader ?? '')) {
      this.#leader = holder === '' ? undefined : holder;
      if (holder !== '') logger.info({ leader: holder }, 'the operator that leads');
    }
    if (before?.resourceVersion === lease?.metadata.resourceVersion && before?.uid === lease?.metadata.uid)
      return;
    this.#seenTimer?.cancel();
    this.#seenExpired = false;
    const holdsMs = (lease?.spec?.leaseDurationSeconds ?? 0) * 1000;
    this.#seenTimer = clock.after(holdsMs, () => (this.#seenExpired = true));
  }

  /** The lease is ours, from before the request was sent. */
  #hold(begun: number): void {
    const { clock } = this.#options;
    this.#end?.cancel();
    this.#endsAt = begun + this.#renewWithinMs;
    const leftMs = Math.min(this.#endsAt - clock.now(), this.#renewWithinMs);
    if (leftMs <= 0) return this.#lose(`a renewal took ${this.#renewWithinMs} ms`);
    this.#end = clock.after(leftMs, () => this.#lose(`no renewal within ${this.#renewWithinMs} ms`));
    if (this.leading) return;
    this.#state = 'leading';
    this.#options.lead();
  }

  #lose(reason: string): void {
    if (!this.leading) return;
    this.#state = 'waiting';
    this.#end?.cancel();
    this.#options.logger.error({ reason }, 'this operator does not lead any more');
    this.#tellLost();
  }

  #tellLost(): void {
    const { logger } = this.#options;
    this.#ended = (async () => this.#options.lost())().catch((error: unknown) => {
      logger.error({ error }, 'the work of the leader did not end well');
    });
  }

  async #release(): Promise<void> {
    const { kube, lease, clock, logger, identity } = this.#options;
    const limits = { timeoutMs: this.#retryMs };
    try {
      // An answer may have been cut off by the stop, so what we saw last may be old.
      const { metadata, spec } = await kube.get(LEASE, lease, limits);
      if (spec?.holderIdentity !== identity) return;
      const free = { holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime(clock.now()) };
      const patch = { metadata: { resourceVersion: metadata.resourceVersion }, spec: free };
      await kube.patch(LEASE, lease, patch, limits);
    } catch (error) {
      logger.warn(
        { error: (error as Error).message },
        'the lease was not released; another takes over when it ends',
      );
    }
  }

  #limits(): { readonly signal: AbortSignal; readonly timeoutMs: number } {
    return { signal: this.#calls.signal, timeoutMs: Math.max(1000, this.#renewWithinMs / 2) };
  }
}
