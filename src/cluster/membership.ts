import type { PlacementRules } from '../core/placement.ts';
import type { Layout } from '../core/pools.ts';
import { DEFAULT_POOL } from '../core/pools.ts';
import type { Epoch } from '../core/shard-state.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { writeMember } from '../wire/cluster-documents.ts';
import type { Bus } from './bus.ts';
import type { Assigned, Claim, Cluster, ClusterListener, Member, Vitals } from './cluster.ts';
import { Documents, memberKey } from './documents.ts';
import { Handover } from './handover.ts';
import { Notices } from './notices.ts';
import { Pins } from './pins.ts';
import { Proposer } from './proposer.ts';
import { Pulses } from './pulses.ts';
import { Registration } from './registration.ts';
import type { Store } from './store.ts';

/** How a broker takes part in a cluster. */
export interface MembershipOptions {
  readonly bus: Bus;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** This broker. Its id is new with every start: letters, digits, `-`, `_`, and `.` inside. */
  readonly member: Pick<Member, 'id' | 'address' | 'version' | 'level'>;
  /** Shards of the default pool. */
  readonly shards: number;
  /** The pool whose shards it may own. Default: the default pool. */
  readonly pool?: string;
  /** Shards of that pool, if nobody has made it yet. Default: as many as the default pool has. */
  readonly poolShards?: number;
  /** What it says of itself in each pulse. */
  readonly vitals: () => Vitals;
  /** Between two pulses, in milliseconds. Default 500. */
  readonly pulseMs?: number;
  /** A broker that was silent for longer is dead, in milliseconds; at least three pulses. Default 1750. */
  readonly deadAfterMs?: number;
}

const ID = /^[-_a-zA-Z0-9]+(\.[-_a-zA-Z0-9]+)*$/;
/** Longer than this nobody waits for the store on leaving, in milliseconds. */
const LEAVE_MS = 1500;
/** How often it is said what joining waits for, in milliseconds. */
const COMPLAIN_MS = 5000;

/** A cluster of many brokers, over a {@link Bus} and a {@link Store}. */
export class Membership implements Cluster {
  readonly self: string;
  private readonly options: MembershipOptions;
  private readonly clock: Clock;
  private readonly pulseMs: number;
  private readonly pulses: Pulses;
  private readonly documents: Documents;
  private readonly registration: Registration;
  private readonly proposer: Proposer;
  private readonly handover: Handover;
  private readonly pins: Pins;
  private readonly notices: Notices;
  private readonly joinedAt: number;
  private readonly pool: string;
  private adding = false;
  private draining = false;
  private phase: 'new' | 'joining' | 'joined' | 'stopped' = 'new';
  private listener: ClusterListener | undefined;
  private joined: ((error: HubError | undefined) => void) | undefined;
  private owners: readonly string[] = [];
  private assignedTo: readonly (Assigned | undefined)[] = [];
  private sorted: readonly Member[] | undefined;
  private timer: Timer | undefined;
  private complainedAt: number;

  /** @throws HubError `invalid` if the id can't be part of a subject, or the times make no sense. */
  constructor(options: MembershipOptions) {
    const { bus, store, clock, random, logger, member, shards, vitals } = options;
    const { pulseMs = 500, deadAfterMs = 1750, pool = DEFAULT_POOL } = options;
    if (!ID.test(member.id)) {
      throw new HubError(
        'invalid',
        `the broker's id ${member.id} may have letters, digits, "-" and "_" only`,
      );
    }
    if (deadAfterMs < 3 * pulseMs) {
      throw new HubError(
        'invalid',
        `a broker can't be dead after ${deadAfterMs} ms with ${pulseMs} ms pulses`,
      );
    }
    this.self = member.id;
    this.pool = pool;
    this.options = options;
    this.clock = clock;
    this.pulseMs = pulseMs;
    this.joinedAt = Math.round(clock.now());
    this.complainedAt = this.joinedAt;
    this.notices = new Notices(clock);
    this.pulses = new Pulses({
      self: this.self,
      bus,
      clock,
      logger,
      pulseMs,
      deadAfterMs,
      vitals,
      claimChanged: (shard) => {
        this.notices.claimChanged(shard);
        this.handover.changed(shard);
      },
      lifeChanged: () => this.membersChanged(),
      hearingAgain: () => this.look(),
    });
    this.documents = new Documents(store, logger, shards, {
      memberChanged: (broker, stored) => {
        if (broker === this.self) this.registration.seen(stored);
        else if (stored) this.pulses.expect(broker);
        this.membersChanged();
      },
      assignmentChanged: () => this.assignmentChanged(),
      layoutChanged: () => {
        this.notices.layoutChanged();
        this.look();
      },
      levelChanged: () => this.checkLevel(),
      ready: () => this.look(),
    });
    this.registration = new Registration({
      key: memberKey(this.self),
      store,
      clock,
      random,
      logger,
      registered: () => this.look(),
      refused: (error) => this.refused(error),
    });
    const { self, documents, pulses } = this;
    const isLive = (broker: string): boolean => pulses.isLive(broker);
    this.proposer = new Proposer({ self, store, documents, logger, isLive });
    this.handover = new Handover({
      self,
      bus,
      clock,
      logger,
      documents,
      pulses,
      wanted: (shard, by) => this.notices.wanted(shard, by),
    });
    this.pins = new Pins({ documents, members: () => this.members() });
  }

  members(): readonly Member[] {
    this.sorted ??= [...this.documents.members.values()]
      .map(({ member }) => member)
      .filter(({ id }) => id !== this.self && this.pulses.isLive(id))
      .concat(this.member())
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    return this.sorted;
  }

  isLive(broker: string): boolean {
    return this.pulses.isLive(broker);
  }

  heardSince(): number {
    return this.pulses.heardSince;
  }

  vitals(broker: string): Vitals | undefined {
    return this.pulses.vitals(broker);
  }

  layout(): Layout {
    return this.documents.layout;
  }

  place(rules: PlacementRules, done: (error: HubError | undefined) => void): void {
    const { version } = this.documents.layout.rules;
    const late = (cause?: HubError): HubError =>
      new HubError('aborted', 'the placement rules were changed meanwhile; read them again', { cause });
    if (rules.version !== version) return void this.clock.soon(() => done(late()));
    this.documents.place({ ...rules, version: version + 1 }, (error) =>
      done(error?.code === 'conflict' ? late(error) : error),
    );
  }

  assigned(shard: number): Assigned | undefined {
    return this.assignedTo[shard];
  }

  /** The broker that somebody has chosen by hand for the shard, whether it can have it now or not. */
  pinned(shard: number): string | undefined {
    return this.documents.assignment.pins[shard];
  }

  claim(shard: number): Claim | undefined {
    return this.pulses.claim(shard);
  }

  acquire(shard: number, granted: (revision: number) => void): { cancel(): void } {
    return this.handover.acquire(shard, granted);
  }

  serve(shard: number, epoch: Epoch): void {
    this.handover.reset(shard);
    this.pulses.serve(shard, epoch);
  }

  release(shard: number): void {
    this.handover.reset(shard);
    this.pulses.release(shard);
  }

  drain(draining: boolean): void {
    if (draining === this.draining) return;
    this.draining = draining;
    if (this.phase === 'new' || this.phase === 'stopped') return;
    this.membersChanged();
    this.registration.want(writeMember(this.member()));
  }

  /**
   * Gives the shard to that broker by hand, and pins it there: it stays as long as the broker is live and does
   * not drain. The others change places, so that all have equally many as before.
   *
   * `done` is called once, later: when the assignment says so, which the brokers then follow; or with `invalid`
   * (no such shard), `not_found` (no such broker), `precondition` (it drains), `unavailable` (perhaps written,
   * ask again), `aborted` (others write all the time).
   */
  move(shard: number, broker: string, done: (error: HubError | undefined) => void): void {
    this.pins.move(shard, broker, done);
  }

  /** Ends what {@link move} began: the shard may go to any broker from now on. It moves only if need be. */
  unpin(shard: number, done: (error: HubError | undefined) => void): void {
    this.pins.unpin(shard, done);
  }

  start(listener: ClusterListener, joined: (error: HubError | undefined) => void): void {
    if (this.phase !== 'new') throw new HubError('internal', 'a membership is started once');
    this.phase = 'joining';
    this.listener = listener;
    this.joined = joined;
    this.documents.start();
    this.handover.start();
    this.pulses.start();
    this.registration.want(writeMember(this.member()));
    this.beat();
  }

  stop(left: () => void): void {
    if (this.phase === 'stopped') return this.clock.soon(left);
    const started = this.phase !== 'new';
    const waiting = this.joined;
    this.phase = 'stopped';
    this.joined = undefined;
    this.notices.tell(undefined);
    this.timer?.cancel();
    this.proposer.stop();
    this.handover.stop();
    this.pulses.stop();
    this.documents.stop();
    let over = false;
    const leave = (): void => {
      if (over) return;
      over = true;
      bound.cancel();
      this.registration.stop();
      this.clock.soon(() => {
        waiting?.(new HubError('cancelled', 'the broker stops before it has joined the cluster'));
        left();
      });
    };
    const bound = this.clock.after(LEAVE_MS, leave);
    if (started) this.registration.leave(leave);
    else leave();
  }

  private member(): Member {
    const { id, address, version, level } = this.options.member;
    return { id, address, joinedAt: this.joinedAt, version, level, draining: this.draining, pool: this.pool };
  }

  private beat(): void {
    this.timer = this.clock.after(this.pulseMs, () => {
      this.registration.check(this.documents.members.get(this.self)?.revision);
      this.look();
      this.complain();
      this.beat();
    });
  }

  /** Does what is to be done, now that something may have changed. */
  private look(): void {
    if (this.phase !== 'joining' && this.phase !== 'joined') return;
    if (this.documents.ready && !this.hasPool) this.addPool();
    if (this.pulses.hearing) this.proposer.consider();
    if (this.phase === 'joining' && this.missing() === undefined) this.join();
  }

  private membersChanged(): void {
    this.sorted = undefined;
    this.notices.membersChanged();
    this.look();
  }

  private assignmentChanged(): void {
    const { assignment, revision } = this.documents;
    const { owners } = assignment;
    this.assignedTo = owners.map((broker) => (broker === '' ? undefined : { broker, revision }));
    const former = this.owners;
    this.owners = owners;
    if (owners.length !== former.length || owners.some((owner, shard) => owner !== former[shard])) {
      this.notices.assignmentChanged();
    }
    this.handover.assignmentChanged();
    this.look();
  }

  /** What joining waits for. */
  private missing(): string | undefined {
    const { bus } = this.options;
    if (!this.documents.ready) return 'the store';
    if (!this.registration.current) return 'the store to take this broker in';
    if (!this.pulses.hearing) return bus.connected ? 'its own pulse' : 'a connection to the bus';
    if (!this.hasPool) return `the store to take the pool ${this.pool} in`;
    return this.documents.revision === 0 ? 'an assignment of shards' : undefined;
  }

  private get hasPool(): boolean {
    return this.documents.layout.pools.some(({ name }) => name === this.pool);
  }

  /** The first broker of a pool makes it. Whoever is second finds it when the watch says so. */
  private addPool(): void {
    if (this.adding) return;
    this.adding = true;
    const { poolShards = this.options.shards } = this.options;
    this.documents.addPool(this.pool, poolShards, (error) => {
      this.adding = false;
      if (!error) return this.look();
      this.options.logger.debug({ error: error.message }, 'the pool was not made yet');
      if (error.code === 'exhausted') this.refused(error);
    });
  }

  private join(): void {
    this.phase = 'joined';
    this.clock.soon(() => {
      const { joined, listener } = this;
      if (this.phase !== 'joined' || !listener) return;
      this.joined = undefined;
      this.notices.tell(listener);
      this.notices.membersChanged();
      this.notices.assignmentChanged();
      for (const shard of this.pulses.claimed()) this.notices.claimChanged(shard);
      joined?.(undefined);
    });
  }

  private refused(error: HubError): void {
    if (this.phase !== 'joining') {
      this.options.logger.warn({ error: error.message }, 'the store refuses the document of this broker');
      return;
    }
    const { joined } = this;
    this.joined = undefined;
    this.clock.soon(() => joined?.(error));
  }

  /** A cluster that was raised above what this broker speaks may hold records that it can't read. */
  private checkLevel(): void {
    const { level, version } = this.options.member;
    if (this.documents.level <= level || this.phase !== 'joining') return;
    this.refused(
      new HubError(
        'precondition',
        `the cluster has been raised to level ${this.documents.level}, and version ${version} speaks ${level}: run a ` +
          'version that is not older than those that were in the cluster',
      ),
    );
  }

  private complain(): void {
    const missing = this.missing();
    const now = this.clock.now();
    if (missing === undefined) this.complainedAt = now;
    if (now - this.complainedAt < COMPLAIN_MS) return;
    this.complainedAt = now;
    this.options.logger.warn({ missing }, `the cluster is waiting for ${missing}`);
  }
}
