import type { Cluster, Member, Vitals } from '../cluster/cluster.ts';
import type { LinkListener } from '../cluster/link.ts';
import type { Links } from '../cluster/links.ts';
import type { Peers } from '../cluster/peers.ts';
import { Atlas } from '../core/atlas.ts';
import { idKey } from '../core/id-hash.ts';
import { leastLoaded } from '../core/load.ts';
import { DEFAULT_NAMESPACE } from '../core/namespace.ts';
import type { Balance } from '../core/subscription.ts';
import type { Log } from '../log/log.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Delivery } from './endings.ts';
import { taskHash } from '../wire/envelope.ts';
import { SettlementScan } from '../wire/client-frame.ts';
import { Lease } from '../wire/lease.ts';
import { TextCache } from '../wire/text-cache.ts';
import { Barrier } from './barrier.ts';
import { Guests } from './guests.ts';
import { Ingress, limit } from './ingress.ts';
import { KnownTasks } from './known-tasks.ts';
import { LayoutFollower } from './layout.ts';
import { Owner } from './owner.ts';
import { Cancellations } from './cancellations.ts';
import type { Done } from './question.ts';
import { ProgressDesk } from './progress.ts';
import { ProgressPost } from './progress-post.ts';
import type { PendingSettlement } from './relay.ts';
import { Relay } from './relay.ts';
import type { Seat } from './seat.ts';
import { place } from './seat.ts';
import type { EdgeSession } from './sessions.ts';
import { Router } from './router.ts';
import { Sessions } from './sessions.ts';
import { settle } from './settlement.ts';
import { Shards } from './shards.ts';
import type { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Intake, TaskTraces } from './traces.ts';
import type { Retention, Thrift } from './upkeep.ts';
import { Upkeep } from './upkeep.ts';

const UPKEEP_MS = 1000;

/** While less than this share of the log's room is left, no task is accepted. */
const FULL_SHARE = 0.25;

/** Results of other shards wait while a log takes so many times what it may. */
const OVERFLOW = 2;

/** Mailboxes of which other brokers are told that they are full. */
const FULL_TOLD = 1000;

/** Shards and namespaces of which other brokers are told how many a broadcast reaches. */
const RECIPIENTS_TOLD = 10_000;

/** Bounds of what a broker takes; each names its configuration key when it is met. */
export interface BrokerLimits {
  readonly taskBytes: number;
  readonly batchTasks: number;
  readonly mailboxes: number;
  readonly mailboxDepth: number;
  readonly mailboxBytes: number;
  readonly memoryHighWaterBytes: number;
}

/** What a {@link Broker} is made of. */
export interface BrokerOptions {
  readonly cluster: Cluster;
  /** Default: there are no other brokers. */
  readonly peers?: Peers | undefined;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Bytes of memory that the process has in use. */
  readonly memory: () => number;
  readonly limits: BrokerLimits;
  readonly delivery: Delivery & { readonly balance: Balance };
  readonly retention: Retention;
  readonly graceMs: number;
  /** The links with other brokers, if there can be any: this broker as an edge, and as an owner. */
  readonly links?: ((edge: LinkListener, owner: LinkListener) => Links) | undefined;
  /** Time between an owner's records while it has much to write, in milliseconds. */
  readonly tickMs: number;
  /** Upkeep of a shard happens this often, in milliseconds, the shards one after the other. Default: 1000. */
  readonly upkeepMs?: number;
  readonly thrift?: Partial<Thrift>;
  /** Ids of ended tasks that a shard remembers. Default: 65,536. */
  readonly knownIds?: number;
  /** Default: nothing is traced. */
  readonly traces?: TaskTraces | undefined;
  /** The broker can't go on, as when its log has failed. */
  readonly failed: (error: HubError) => void;
}

/** What a broker is doing. */
export type Phase = 'starting' | 'ready' | 'draining' | 'stopped';

/** One broker: the shards that it owns, the way in to all of them, and the sessions that it serves. */
export class Broker {
  readonly id: string;
  readonly log: Log;
  readonly cluster: Cluster;
  /** Where every mailbox lives. */
  readonly atlas: Atlas;
  readonly shards: Shards;
  readonly ingress: Ingress;
  /** The way in for those who publish. */
  readonly intake: Intake;
  readonly sessions: Sessions;
  readonly progress: ProgressDesk;
  /** The way of its sessions to the owners on other brokers. */
  readonly relay: Relay;
  /** Brings questions about tasks to the brokers that can answer them. */
  readonly router: Router;
  readonly startedAt: number;
  readonly metrics: Metrics;
  private readonly options: BrokerOptions;
  private readonly layout: LayoutFollower;
  private readonly guests: Guests;
  private readonly barrier: Barrier;
  private readonly links: Links | undefined;
  private readonly cancellations: Cancellations;
  private readonly known: KnownTasks;
  private readonly upkeeps = new Map<Owner, Upkeep>();
  private current: Phase = 'starting';
  private whenReady = (): void => {};
  private joined = false;
  /** Brokers that it has a link to, as an edge. */
  private linked: ReadonlySet<string> = new Set();
  private paused = false;
  private readonly watchers: ((phase: Phase) => void)[] = [];
  private upkeepTimer: Timer | undefined;
  private turn = 0;
  private overHighWater = false;
  /** Shards of which tasks have had to wait for room. */
  private readonly starving = new Set<number>();

  constructor(options: BrokerOptions) {
    const { cluster, log, clock, random, metrics, delivery, links } = options;
    this.options = options;
    this.id = cluster.self;
    this.cluster = cluster;
    this.log = log;
    this.startedAt = clock.now();
    const atlas = (this.atlas = Atlas.plain(log.shards));
    this.metrics = metrics;
    this.sessions = new Sessions(
      clock,
      options.graceMs,
      links !== undefined,
      (...gone) => this.sessionGone(...gone),
      metrics.sessionEvents,
    );
    this.progress = new ProgressDesk(this.sessions, (mailbox) => this.ownerOf(mailbox), clock, metrics);
    this.ingress = new Ingress({
      log,
      atlas,
      clock,
      random,
      metrics,
      taskBytes: options.limits.taskBytes,
      batchTasks: options.limits.batchTasks,
      fullness: {
        crammed: (shard, waiting) => this.crammed(shard, waiting),
        full: (shard, mailbox) => this.full(shard, mailbox),
        known: (shard, hashes, answer) => this.known.ask(shard, hashes, answer),
        closed: () => this.closed(),
        recipients: (shard, namespace) => this.recipients(shard, namespace),
        serves: (shard) => this.shards.owner(shard) !== undefined,
      },
    });
    this.intake = options.traces?.over(this.ingress) ?? this.ingress;
    const known = new TextCache();
    this.shards = new Shards({
      cluster,
      clock,
      count: () => log.shards,
      make: (shard) => {
        const owner: Owner = new Owner({
          shard,
          log,
          atlas,
          clock,
          random,
          metrics,
          delivery,
          balance: delivery.balance,
          tickMs: options.tickMs,
          known,
          knownIds: options.knownIds,
          graceMs: options.graceMs,
          traces: options.traces,
          strangersUntil: () => (this.current === 'starting' ? Infinity : this.sessions.strangersUntil),
          logger: options.logger.child({ shard }),
          forward: (destination, source, parcels, done) => {
            // What it sends to itself is what keeps its log from being cut.
            if (destination !== source && this.overflows(destination))
              clock.soon(() => done(limit(this.bound, 'the log takes no more results')));
            else this.ingress.forward(destination, source, parcels, done);
          },
          starved: () => this.starved(shard),
          heardSince: () => cluster.heardSince(),
          isAlive: (session) => this.sessions.isAlive(session),
          lost: (error) => this.shards.lost(owner, error),
        });
        return owner;
      },
      served: (owner) => this.served(owner),
      left: (owner) => this.left(owner),
      failed: (error) => this.fail(error),
    });
    this.relay = new Relay({
      cluster,
      clock,
      shards: () => log.shards,
      replaced: (session, by) => {
        this.sessions.forget(session);
        session.replaced(by);
      },
    });
    const { logger } = options;
    this.layout = new LayoutFollower({
      cluster,
      log,
      atlas,
      clock,
      random,
      logger,
      changed: () => this.layoutChanged(),
    });
    this.barrier = new Barrier(clock);
    this.guests = new Guests({
      clock,
      shards: this.shards,
      sessions: this.sessions,
      progress: this.progress,
      barrier: this.barrier,
    });
    this.links = links?.(this.relay, this.guests);
    this.router = new Router({ cluster, peers: options.peers, clock, shards: this.shards });
    if (options.peers) {
      this.progress.join({
        post: new ProgressPost(this.router, this.progress),
        brokerOf: (mailbox) => cluster.claim(this.shardOf(mailbox))?.broker,
      });
    }
    this.known = new KnownTasks(this.router, (shard) => this.shards.owner(shard));
    this.cancellations = new Cancellations(this.router, this);
  }

  /** The owners that serve here, by shard. */
  get owners(): readonly Owner[] {
    return this.shards.owners;
  }

  /** Links with other brokers that are open, as edge and as owner. */
  get openLinks(): number {
    return this.links?.open ?? 0;
  }

  get phase(): Phase {
    return this.current;
  }

  /** Calls the watcher with every later phase. */
  watch(watcher: (phase: Phase) => void): void {
    this.watchers.push(watcher);
  }

  private enter(phase: Phase): void {
    this.current = phase;
    for (const watcher of this.watchers) watcher(phase);
  }

  /** Joins the cluster and serves what is assigned to it; `ready` is called when it does. */
  start(ready: () => void): void {
    const { cluster, shards } = this;
    this.whenReady = ready;
    cluster.start(
      {
        assignmentChanged: () => {
          shards.review();
          this.settleIn();
        },
        layoutChanged: () => this.layout.review(),
        claimChanged: (shard) => {
          // What its owner here has given out is known before it is told.
          shards.outranked(shard);
          this.relay.claimChanged(shard);
        },
        membersChanged: () => this.linkUp(),
        wanted: (shard) => shards.release(shard),
      },
      (error) => {
        if (error) return this.fail(error);
        this.joined = true;
        this.linkUp();
        this.layout.review();
        shards.review();
        this.settleIn();
      },
    );
  }

  /** Shards or mailboxes have come that this broker knew nothing of. */
  private layoutChanged(): void {
    this.shards.review();
    for (const session of this.sessions.values()) session.reseat();
    for (const owner of this.owners) owner.mover.review();
    this.settleIn();
  }

  /** Ready is who has joined and serves all that is assigned to it. */
  private settleIn(): void {
    if (this.current !== 'starting' || !this.joined || !this.layout.current || this.shards.coming > 0) return;
    this.enter('ready');
    this.upkeep();
    this.whenReady();
  }

  /** A link to every other broker, as long as it is heard. */
  private linkUp(): void {
    const { cluster, links } = this;
    if (!links) return;
    const others = new Set(cluster.members().map(({ id }) => id));
    others.delete(cluster.self);
    for (const id of this.linked) if (!others.has(id)) links.unwant(id);
    for (const id of others) links.want(id);
    this.linked = others;
    this.barrier.live((id) => others.has(id));
  }

  /** Sessions of this broker and of others have their place at the new owner before it delivers. */
  private served(owner: Owner): void {
    const { options, relay } = this;
    this.upkeeps.set(owner, new Upkeep(owner, this.log, options.clock, options.retention, options.thrift));
    relay.served(owner, this.sessions.values(), (settling) => this.settleHere(owner, settling));
    for (const session of this.sessions.values()) {
      for (const seat of session.seats()) {
        if (seat.shard !== owner.shard) continue;
        place(seat, owner);
        relay.placed(seat, session.session);
      }
    }
    this.sessions.remember(owner.state.sessions.values());
    owner.pause(this.paused);
    this.barrier.raise(owner.shard, owner.begun.counter, this.linked, () => owner.deliver());
    this.settleIn();
  }

  /** What its sessions have there waits for another owner, and is told to that. */
  private left(owner: Owner): void {
    this.upkeeps.delete(owner);
    this.guests.left(owner.shard);
    for (const session of this.sessions.values()) {
      for (const seat of session.seats()) {
        if (seat.shard !== owner.shard) continue;
        seat.consumers = [];
        this.relay.attach(seat, session);
      }
    }
    for (const lease of owner.heldLeases()) {
      const session = this.sessions.ours(lease.session);
      if (session) this.relay.hold(session, lease, session.seat(lease.attachment));
    }
    this.relay.left(owner.shard);
  }

  private settleHere(owner: Owner, { session, bytes, start, end, done }: PendingSettlement): void {
    const scan = new SettlementScan();
    const lease = new Lease();
    try {
      scan.read(bytes, start, end);
      lease.read(bytes, scan.leaseStart, scan.leaseEnd);
      owner.settling(this.options.clock.now());
      settle(owner, session.session, lease, scan, bytes);
      owner.settled(() => done(undefined));
    } catch (error) {
      done(toHubError(error));
    }
  }

  /** A session of this broker attaches: `attached` is called when an owner, here or elsewhere, serves it. */
  attach(seat: Seat, session: EdgeSession, attached: () => void): void {
    const owner = this.shards.owner(seat.shard);
    if (!owner) return this.relay.attach(seat, session, attached);
    place(seat, owner);
    attached();
  }

  /** Takes an attachment away. */
  detach(seat: Seat, session: string): void {
    const owner = this.shards.owner(seat.shard);
    if (!owner) return this.relay.detach(seat, session);
    for (const consumer of seat.consumers) owner.detach(consumer);
    seat.consumers = [];
  }

  /** The session's client can take more. */
  resume(seat: Seat): void {
    const owner = this.shards.owner(seat.shard);
    for (const consumer of seat.consumers) owner?.resume(consumer);
  }

  /** What other brokers must know to accept tasks for the shards of this one. */
  vitals(): Pick<Vitals, 'full' | 'recipients' | 'recipientsOf'> {
    const full: (readonly [number, string, string])[] = [];
    const recipients: (readonly [number, number])[] = [];
    const recipientsOf: (readonly [number, string, number])[] = [];
    for (const owner of this.owners) {
      for (const [namespace, count] of owner.recipients()) {
        if (namespace === DEFAULT_NAMESPACE) recipients.push([owner.shard, count]);
        else if (recipientsOf.length < RECIPIENTS_TOLD) recipientsOf.push([owner.shard, namespace, count]);
      }
      if (this.crammed(owner.shard, 0)) full.push([owner.shard, '', this.bound]);
      for (const [mailbox] of this.crowded(owner)) {
        const met = this.full(owner.shard, mailbox)?.limit;
        if (met !== undefined && full.length < FULL_TOLD) full.push([owner.shard, mailbox, met]);
      }
    }
    return { full, recipients, ...(recipientsOf.length === 0 ? {} : { recipientsOf }) };
  }

  /** Mailboxes that may have met a limit. */
  private crowded({ state }: Owner): Iterable<readonly [string, number]> {
    const { limits } = this.options;
    const { mailboxes, tasks, bytes } = state;
    return tasks.count >= limits.mailboxDepth || bytes >= limits.mailboxBytes ? mailboxes.entries() : [];
  }

  /** The session's client wants another window. */
  resize(seat: Seat, session: string): void {
    if (!this.shards.owner(seat.shard)) return this.relay.resize(seat, session);
    for (const consumer of seat.consumers) consumer.resize(seat.window);
    this.resume(seat);
  }

  /** The session's leases go back to their mailboxes, untouched, and do not count as attempts. */
  handBack(session: string): void {
    for (const owner of this.owners) owner.sessionGone(session, false, '');
    this.relay.gone(session, false);
  }

  /**
   * Cancels a task, whoever serves its mailbox; `done` is called once the decision is as durable as the log, or
   * with the error that kept it from being made.
   */
  cancel(mailbox: string, id: string, reason: string, done: Done<CancelOutcome>): void {
    this.cancellations.cancel(mailbox, id, reason, done);
  }

  /** No task and no session is accepted any more; what is in flight may still be settled. */
  drain(): void {
    if (this.current !== 'ready') return;
    this.enter('draining');
    this.cluster.drain(true);
  }

  /** Accepts tasks again after {@link drain}. */
  undrain(): void {
    if (this.current !== 'draining') return;
    this.enter('ready');
    this.cluster.drain(false);
    this.paused = false;
    for (const owner of this.owners) owner.pause(false);
  }

  /**
   * Drains, and asks all sessions to go within that time. Its shards go to other brokers; if there is none, nothing
   * is delivered any more.
   */
  evacuate(reason: string, deadlineMs: number): void {
    this.drain();
    if (this.others().length === 0) this.pause();
    for (const session of this.sessions.values()) session.goAway(reason, deadlineMs, true, this.elsewhere());
  }

  /** Shards that other brokers have yet to take. */
  get shardsToHandOver(): number {
    return this.current === 'draining' && this.others().length > 0 ? this.owners.length : 0;
  }

  /** Brokers that may take what this one has. */
  others(): readonly Member[] {
    return this.cluster.members().filter(({ id, draining }) => id !== this.id && !draining);
  }

  /** Where a session may go: the address of the broker that has least to do, or ''. */
  private elsewhere(): string {
    const candidates = this.others()
      .filter(({ address }) => address !== '')
      .map(({ id, address }) => ({ id, address, loadScore: this.cluster.vitals(id)?.loadScore ?? 1 }));
    return leastLoaded(candidates, this.options.random.float())?.address ?? '';
  }

  /** Stops delivering; used once sessions have been told to go. */
  pause(): void {
    this.paused = true;
    for (const owner of this.owners) owner.pause(true);
  }

  /** Leases that sessions hold. */
  leases(): number {
    return this.owners.reduce((sum, owner) => sum + owner.leases(), 0);
  }

  /** Everything decided is in the log. */
  get settled(): boolean {
    return this.ingress.waitingBytes === 0 && this.owners.every((owner) => owner.journal.idle);
  }

  /** Stops at once. What was acknowledged is in the log; everything else is forgotten. */
  stop(): void {
    if (this.current === 'stopped') return;
    this.enter('stopped');
    this.upkeepTimer?.cancel();
    this.sessions.close();
    this.barrier.close();
    this.layout.stop();
    this.links?.stop();
    this.router.stop();
    this.shards.stop();
  }

  /** The shard that a mailbox lives in. */
  shardOf(mailbox: string): number {
    return this.atlas.shardOf(mailbox);
  }

  /** The mailbox that holds the task of that id: the one that is named, or a part of it if it is split. */
  mailboxOf(mailbox: string, id: string): string {
    if (this.atlas.isPlain) return mailbox;
    const hash = new Uint32Array(4);
    taskHash(idKey(this.log.generation), mailbox, id, hash);
    return this.atlas.laneOf(mailbox, hash[1]!);
  }

  /** The owner of a mailbox, if it is here. */
  ownerOf(mailbox: string): Owner | undefined {
    return this.shards.owner(this.shardOf(mailbox));
  }

  /** The owner of a mailbox. Throws HubError `unavailable` if it is not here. */
  servedHere(mailbox: string): Owner {
    const owner = this.ownerOf(mailbox);
    if (owner) return owner;
    throw new HubError('unavailable', `the shard of ${mailbox} is not served by this broker; try again`, {
      retryAfterMs: 200,
    });
  }

  private fail(error: HubError): void {
    if (this.current === 'stopped') return;
    this.stop();
    this.options.failed(error);
  }

  private sessionGone(session: string, counts: boolean, ours: EdgeSession | undefined): void {
    for (const owner of this.owners) owner.sessionGone(session, counts, 'the session of its worker was lost');
    this.relay.gone(session, counts, ours);
  }

  private closed(): HubError | undefined {
    const { limits } = this.options;
    if (this.current === 'draining')
      return new HubError('unavailable', 'this broker is draining; publish to another one', {
        retryAfterMs: 1000,
      });
    if (this.current !== 'ready')
      return new HubError('unavailable', 'this broker is not ready', { retryAfterMs: 500 });
    if (!this.overHighWater) return undefined;
    return limit(
      'limits.memoryHighWaterBytes',
      `the broker uses more than ${limits.memoryHighWaterBytes} bytes of memory; try again later`,
      1000,
    );
  }

  /**
   * The last quarter of a log is for decisions and results: if tasks took it too, it could only grow while they
   * are settled. What its owner elsewhere said half a second ago counts too.
   */
  private crammed(shard: number, waiting: number): HubError | undefined {
    const { taken, limit: most } = this.log.fill(shard);
    if (most === Infinity || taken + waiting <= most * (1 - FULL_SHARE))
      return this.shards.owner(shard) ? undefined : this.fullElsewhere(shard, '');
    return limit(
      this.bound,
      'the log is three quarters full, the rest is for settling what is in it; add workers, or room',
      1000,
    );
  }

  /** Results are let in beyond the limit, lest two logs wait for each other; but not without end: nobody may want them. */
  private overflows(shard: number): boolean {
    const { taken, limit: most } = this.log.fill(shard);
    return taken > most * OVERFLOW;
  }

  private get bound(): string {
    return this.log.bound ?? 'data.maxBytes';
  }

  private full(shard: number, mailbox: string): HubError | undefined {
    const { limits } = this.options;
    const owner = this.shards.owner(shard);
    if (!owner) return this.fullElsewhere(shard, mailbox);
    const { mailboxes, tasks, bytes } = owner.state;
    const roomy = tasks.count < limits.mailboxDepth && bytes < limits.mailboxBytes;
    const peers = this.atlas.peers(shard);
    if (roomy && mailboxes.size * peers < limits.mailboxes) return undefined;
    const id = mailboxes.find(mailbox);
    if (id < 0) {
      if (mailboxes.size * peers < limits.mailboxes) return undefined;
      return limit('limits.mailboxes', `there are ${limits.mailboxes} mailboxes already; purge some`, 5000);
    }
    if (mailboxes.queued[id]! >= limits.mailboxDepth) {
      return limit(
        'limits.mailboxDepth',
        `the mailbox ${mailbox} holds ${limits.mailboxDepth} tasks already; add workers`,
        1000,
      );
    }
    if (mailboxes.bytes[id]! >= limits.mailboxBytes) {
      return limit(
        'limits.mailboxBytes',
        `the mailbox ${mailbox} holds ${limits.mailboxBytes} bytes already; add workers`,
        1000,
      );
    }
    return undefined;
  }

  /** What the owner at another broker says of it, half a second ago at most. */
  private fullElsewhere(shard: number, mailbox: string): HubError | undefined {
    const claim = this.cluster.claim(shard);
    const full = claim && this.cluster.vitals(claim.broker)?.full;
    const met = full?.find(([of, name]) => of === shard && name === mailbox);
    const what = mailbox === '' ? 'the log of its shard' : `the mailbox ${mailbox}`;
    return met && limit(met[2], `${what} takes no more; add workers`, 1000);
  }

  private recipients(shard: number, namespace: string): number {
    const owner = this.shards.owner(shard);
    if (owner) return owner.recipients().get(namespace) ?? 0;
    const claim = this.cluster.claim(shard);
    const vitals = claim && this.cluster.vitals(claim.broker);
    if (namespace === DEFAULT_NAMESPACE) return vitals?.recipients.find(([of]) => of === shard)?.[1] ?? 0;
    return vitals?.recipientsOf?.find(([of, whose]) => of === shard && whose === namespace)?.[2] ?? 0;
  }

  /** A log that fills up is kept short at once, and who had to wait for room may go on when there is some. */
  private watchRoom(): void {
    for (const [owner, upkeep] of this.upkeeps) {
      const { taken, limit: most } = this.log.fill(owner.shard);
      if (taken > most * (1 - FULL_SHARE)) upkeep.makeRoom();
      if (!this.starving.has(owner.shard) || this.starved(owner.shard)) continue;
      this.starving.delete(owner.shard);
      owner.redispatch();
    }
  }

  /**
   * In the second half of that last quarter no task is delivered, so that what is settled already makes room first.
   * Where that would not be enough, as when the tasks themselves take too much, to wait would be in vain.
   */
  private starved(shard: number): boolean {
    const { log } = this;
    const { taken, limit: most } = log.fill(shard);
    const enough = most * (1 - FULL_SHARE / 2);
    if (taken < enough || most === Infinity) return false;
    let passing = 0;
    for (const [owner, upkeep] of this.upkeeps) {
      if (log.shared || owner.shard === shard) passing += upkeep.passing();
    }
    if (taken - passing >= enough) return false;
    this.starving.add(shard);
    return true;
  }

  /** One shard at a time, so that a turn is short. */
  private upkeep(): void {
    if (this.current === 'stopped') return;
    const { clock, upkeepMs = UPKEEP_MS } = this.options;
    this.upkeepTimer = clock.after(upkeepMs / this.shards.count, () => {
      if (this.turn === 0)
        this.overHighWater = this.options.memory() > this.options.limits.memoryHighWaterBytes;
      this.watchRoom();
      const owner = this.shards.owner(this.turn);
      if (owner) this.upkeeps.get(owner)?.run();
      this.turn = (this.turn + 1) % this.shards.count;
      this.upkeep();
    });
  }
}
