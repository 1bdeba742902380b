import type { Epoch } from '../core/shard-state.ts';
import { outranks } from '../core/shard-state.ts';
import type { Clock, Timer } from '../std/clock.ts';
import { toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Pulse } from '../wire/cluster-documents.ts';
import { readPulse, writePulse } from '../wire/cluster-documents.ts';
import type { Bus, Heard } from './bus.ts';
import type { Claim, Vitals } from './cluster.ts';

/** The subject of the {@link Bus} on which every broker tells that it lives. */
const PULSE = 'pulse';
/** How often silence is looked for, by pulse. */
const LOOKS = 4;
/** Pulses of its own that a broker may miss before it distrusts its ears. */
const OWN_MISSED = 2;
/** Pulses on their way that are remembered. */
const SENT = 64;
/** Brokers that are gone are remembered that long, so that a late pulse does not bring them back. */
const FORGET_MS = 600_000;

/** How {@link Pulses} are told and heard. */
export interface PulsesOptions {
  readonly self: string;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Between two pulses, in milliseconds. */
  readonly pulseMs: number;
  /** A broker that was silent for longer is dead, in milliseconds. */
  readonly deadAfterMs: number;
  /** What this broker says of itself. */
  readonly vitals: () => Vitals;
  /** The best claim of the shard is another one now, or none. */
  readonly claimChanged: (shard: number) => void;
  /** The broker is live now, or is not any more. */
  readonly lifeChanged: (broker: string) => void;
  /** This broker hears itself again, and may judge others from now on. */
  readonly hearingAgain: () => void;
}

interface Peer {
  readonly id: string;
  live: boolean;
  heardAt: number;
  /** Of the last pulse heard; 0: none yet. */
  n: number;
  claims: ReadonlyMap<number, Epoch>;
  vitals: Vitals | undefined;
}

/**
 * Who lives and who serves which shard, by the pulses of all brokers.
 *
 * Who does not hear its own pulse judges nobody: it may be deaf, or have slept. When it hears itself again,
 * everybody has as much time as at the beginning.
 */
export class Pulses {
  private readonly options: PulsesOptions;
  private readonly peers = new Map<string, Peer>();
  private readonly own = new Map<number, Epoch>();
  /** The best claim by shard. */
  private readonly best = new Map<number, Claim>();
  private subscription: Heard | undefined;
  private timer: Timer | undefined;
  private ownHeardAt = -Infinity;
  /** When pulses that have not come back were sent, by their numbers. */
  private readonly sent = new Map<number, number>();
  /** When the last pulse that came back was sent, and since when each has come before the next was missed. */
  private confirmedAt = -Infinity;
  private unbrokenSince = Infinity;
  private n = 0;
  private telling = false;
  private stopped = false;

  constructor(options: PulsesOptions) {
    this.options = options;
    const { self } = options;
    this.peers.set(self, { id: self, live: true, heardAt: 0, n: 0, claims: this.own, vitals: undefined });
  }

  start(): void {
    const { bus } = this.options;
    this.subscription = bus.subscribe(PULSE, (bytes) => this.hear(bytes));
    bus.watch((connected) => {
      if (this.stopped) return;
      if (connected) this.tell();
      else this.ownHeardAt = this.confirmedAt = -Infinity;
    });
    this.beat(0);
  }

  /** Tells all others that this broker leaves, and is silent from then on. */
  stop(): void {
    if (this.stopped) return;
    this.own.clear();
    if (this.subscription) this.publish(true);
    this.stopped = true;
    this.subscription?.stop();
    this.timer?.cancel();
  }

  /** Whether this broker hears itself, and so may judge others. */
  get hearing(): boolean {
    return this.inTime(this.options.clock.now() - this.ownHeardAt);
  }

  /** See `Cluster.heardSince`. */
  get heardSince(): number {
    return this.inTime(this.options.clock.now() - this.confirmedAt) ? this.unbrokenSince : Infinity;
  }

  isLive(broker: string): boolean {
    return this.peers.get(broker)?.live === true;
  }

  vitals(broker: string): Vitals | undefined {
    const peer = this.peers.get(broker);
    return peer?.live === true ? peer.vitals : undefined;
  }

  claim(shard: number): Claim | undefined {
    return this.best.get(shard);
  }

  /** Every shard that somebody claims. */
  claimed(): IterableIterator<number> {
    return this.best.keys();
  }

  /** Whether every live broker has said what it serves. */
  get complete(): boolean {
    for (const { id, live, n } of this.peers.values()) {
      if (live && n === 0 && id !== this.options.self) return false;
    }
    return true;
  }

  /** Whether this broker serves the shard. */
  serves(shard: number): boolean {
    return this.own.has(shard);
  }

  serve(shard: number, epoch: Epoch): void {
    this.own.set(shard, epoch);
    this.rank(shard);
    this.tell();
  }

  release(shard: number): void {
    if (!this.own.delete(shard)) return;
    this.rank(shard);
    this.tell();
  }

  /** There is a broker of that name, which counts as live until it has had time to be heard. */
  expect(broker: string): void {
    if (this.peers.has(broker)) return;
    const heardAt = this.options.clock.now();
    this.peers.set(broker, { id: broker, live: true, heardAt, n: 0, claims: new Map(), vitals: undefined });
    this.options.lifeChanged(broker);
  }

  /** Tells all others what this broker serves, at the end of this turn. */
  tell(): void {
    if (this.telling || this.stopped) return;
    this.telling = true;
    this.options.clock.soon(() => {
      this.telling = false;
      if (!this.stopped && this.subscription) this.publish(false);
    });
  }

  private beat(look: number): void {
    const { clock, pulseMs } = this.options;
    if (look % LOOKS === 0) this.publish(false);
    this.judge(clock.now());
    this.timer = clock.after(pulseMs / LOOKS, () => this.beat(look + 1));
  }

  private publish(leaving: boolean): void {
    const { bus, self, clock, vitals } = this.options;
    const claims = [...this.own].map(([shard, { revision, counter }]) => [shard, revision, counter] as const);
    this.sent.set(++this.n, clock.now());
    this.sent.delete(this.n - SENT);
    bus.publish(PULSE, writePulse({ id: self, n: this.n, leaving, claims, vitals: vitals() }));
  }

  private hear(bytes: Buffer): void {
    const { self, clock, logger } = this.options;
    if (this.stopped) return;
    let pulse: Pulse;
    try {
      pulse = readPulse(bytes);
    } catch (error) {
      logger.debug({ error: toHubError(error).message }, 'a pulse that is none was ignored');
      return;
    }
    const now = clock.now();
    if (pulse.id === self) this.hearSelf(pulse, now);
    else this.hearOther(pulse, now);
  }

  private hearSelf({ n, vitals }: Pulse, now: number): void {
    this.confirm(n, now);
    this.peers.get(this.options.self)!.vitals = vitals;
    const deaf = !this.inTime(now - this.ownHeardAt);
    this.ownHeardAt = now;
    if (!deaf) return;
    for (const peer of this.peers.values()) if (peer.live) peer.heardAt = now;
    this.options.hearingAgain();
  }

  /** A pulse that has come back says that this broker was heard when it was sent, not when it came. */
  private confirm(n: number, now: number): void {
    const at = this.sent.get(n) ?? -Infinity;
    for (const [former] of this.sent) if (former <= n) this.sent.delete(former);
    if (at < this.confirmedAt) return;
    if (!this.inTime(now - this.confirmedAt)) this.unbrokenSince = now;
    this.confirmedAt = at;
  }

  private hearOther({ id, n, leaving, claims, vitals }: Pulse, now: number): void {
    let peer = this.peers.get(id);
    if (peer === undefined) {
      peer = { id, live: false, heardAt: now, n: 0, claims: new Map(), vitals: undefined };
      this.peers.set(id, peer);
    }
    if (n <= peer.n) return;
    // A newcomer need not wait for the next pulse to know who serves what.
    if (peer.n === 0) this.tell();
    peer.n = n;
    peer.heardAt = now;
    peer.vitals = vitals;
    if (leaving) return this.lose(peer);
    const came = !peer.live;
    peer.live = true;
    this.setClaims(peer, new Map(claims.map(([shard, revision, counter]) => [shard, { revision, counter }])));
    if (came) this.options.lifeChanged(id);
  }

  private judge(now: number): void {
    const { self, deadAfterMs, logger } = this.options;
    if (!this.hearing) return;
    for (const peer of this.peers.values()) {
      const silence = now - peer.heardAt;
      // The wall clock was set back.
      if (silence < 0) peer.heardAt = now;
      if (peer.id === self) continue;
      if (!peer.live) {
        if (silence > FORGET_MS) this.peers.delete(peer.id);
      } else if (silence > deadAfterMs) {
        logger.warn({ broker: peer.id, silentMs: Math.round(silence) }, 'a broker is not heard any more');
        this.lose(peer);
      }
    }
  }

  private lose(peer: Peer): void {
    if (!peer.live) return;
    peer.live = false;
    this.setClaims(peer, new Map());
    this.options.lifeChanged(peer.id);
  }

  private setClaims(peer: Peer, claims: ReadonlyMap<number, Epoch>): void {
    const former = peer.claims;
    peer.claims = claims;
    for (const shard of former.keys()) if (!claims.has(shard)) this.rank(shard);
    for (const [shard, epoch] of claims) {
      const before = former.get(shard);
      if (before?.revision !== epoch.revision || before.counter !== epoch.counter) this.rank(shard);
    }
  }

  /** Finds the best claim of a shard anew. */
  private rank(shard: number): void {
    let best: Claim | undefined;
    for (const { id, claims } of this.peers.values()) {
      const epoch = claims.get(shard);
      if (epoch && (!best || outranks(epoch, best.epoch))) best = { broker: id, epoch };
    }
    const former = this.best.get(shard);
    if (best) this.best.set(shard, best);
    else this.best.delete(shard);
    const same =
      former?.broker === best?.broker &&
      former?.epoch.revision === best?.epoch.revision &&
      former?.epoch.counter === best?.epoch.counter;
    if (!same) this.options.claimChanged(shard);
  }

  private inTime(silence: number): boolean {
    return silence >= 0 && silence <= OWN_MISSED * this.options.pulseMs;
  }
}
