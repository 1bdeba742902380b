import type { Atlas } from '../core/atlas.ts';
import type { Awaited } from '../core/awaiting.ts';
import type { IdKey } from '../core/id-hash.ts';
import { idKey } from '../core/id-hash.ts';
import type { Balance } from '../core/subscription.ts';
import { Subscriptions } from '../core/subscription.ts';
import { isDue, isOverdue, ReadyQueues } from '../core/ready.ts';
import type { Epoch } from '../core/shard-state.ts';
import { Outcome, outranks, ShardState } from '../core/shard-state.ts';
import { isIn, namespaceOf } from '../core/namespace.ts';
import { Flag, Kind, MOST_DELIVERIES, NONE, State } from '../core/task-table.ts';
import type { Log, Reading, Subject } from '../log/log.ts';
import type { Metrics, TaskTypeMetrics } from '../obs/metrics.ts';
import type { Clock, Random } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { entryLength } from '../wire/entry.ts';
import type { Lease, LeaseName } from '../wire/lease.ts';
import type { ResultPayload } from '../wire/result.ts';
import type { TextCache } from '../wire/text-cache.ts';
import type { Applied } from './apply.ts';
import { Applier } from './apply.ts';
import { Alarms } from './alarms.ts';
import { Dispatcher } from './dispatcher.ts';
import type { Answer, Delivery } from './endings.ts';
import { Endings } from './endings.ts';
import type { Forward } from './forwarder.ts';
import { Forwarder } from './forwarder.ts';
import { Holders } from './holders.ts';
import { Decided, Holds } from './holds.ts';
import type { Waiter } from './journal.ts';
import { Journal } from './journal.ts';
import { Mover } from './mover.ts';
import type { TaskTraces } from './traces.ts';
import { Standing } from './standing.ts';
import type { ConsumerSpec, Sink } from './consumer.ts';
import { Consumer } from './consumer.ts';

/** Copies of a broadcast in one operation. */
const FANOUT = 4000;
/** An owner whose append has had no answer for this long, in milliseconds, stops delivering. */
const UNANSWERED_MS = 500;

/** What a worker says of a task that it could not do. */
export interface Failure {
  readonly error: string;
  readonly retryable: boolean;
  /** 0: the task's own back-off. */
  readonly retryAfterMs: number;
  readonly payload: ResultPayload;
}

/** What an {@link Owner} is made of. */
export interface OwnerOptions {
  readonly shard: number;
  readonly log: Log;
  readonly atlas: Atlas;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly balance: Balance;
  readonly delivery: Delivery;
  readonly tickMs: number;
  /** Names that were read lately, shared by all owners. */
  readonly known: TextCache;
  /** Ids of ended tasks that are remembered; `undefined`: the default of `Dedup`. */
  readonly knownIds: number | undefined;
  /** `undefined`: nothing is traced. */
  readonly traces?: TaskTraces | undefined;
  /** How long sessions have to come back after a restart, in milliseconds. */
  readonly graceMs: number;
  /** When all those of before have had that time; `Infinity` while the broker takes no sessions yet. */
  readonly strangersUntil: () => number;
  readonly forward: Forward;
  /** Whether the log is so full that no task may be delivered. */
  readonly starved: () => boolean;
  /** Whether that session is connected, or may still come back. */
  readonly isAlive: (session: string) => boolean;
  /** See `Cluster.heardSince`. Default: nobody else can own the shard. */
  readonly heardSince?: () => number;
  /** This owner has been replaced, or can't go on; it has stopped. */
  readonly lost: (error: HubError) => void;
}

/** A lease that a session holds, and the attachment that it came through; 0: none. */
export interface HeldLease extends LeaseName {
  readonly session: string;
  readonly attachment: number;
}

/**
 * Serves one shard: applies its log, hands its tasks out, and writes what it decides.
 *
 * A driver around pure parts, like this: records from the log go through the `Applier`, which changes
 * the `ShardState` and says what follows; the `Dispatcher` pairs `ReadyQueues` with `Subscriptions` and
 * delivers at once; decisions go to the `Journal` and take effect when they come back as records.
 * Between decision and effect a task is withheld, see {@link Holds}.
 */
export class Owner implements Applied {
  readonly shard: number;
  readonly state: ShardState;
  readonly ready: ReadyQueues;
  readonly subscriptions: Subscriptions<Consumer>;
  readonly holds = new Holds();
  readonly journal: Journal;
  readonly endings: Endings;
  readonly holders: Holders;
  /** Has what it holds live where the placement rules say. */
  readonly mover: Mover;

  /** What the names of its ids depend on. */
  readonly idKey: IdKey;

  /** Bytes of all records applied. */
  appliedBytes = 0;
  /** Tasks and results that have come. */
  arrivals = 0;

  private readonly options: OwnerOptions;
  private readonly applier: Applier;
  private readonly forwarder: Forwarder;
  private reading: Reading | undefined;
  private phase: 'following' | 'serving' | 'leaving' | 'stopped' = 'following';
  private now = 0;
  private epoch: Epoch = { revision: 0, counter: 0 };
  private readonly dispatcher: Dispatcher;
  /** When tasks become due, expire, or have run too long. */
  private readonly alarms: Alarms;
  private readonly standing: Standing;
  /** The log is being asked whether this is the owner still. */
  private proving = false;
  private paused = false;
  /** Sessions have said what they hold, so that nothing is delivered that somebody has. */
  private delivering = false;
  private begunAt = 0;
  private readonly consumersOf = new Map<string, Set<Consumer>>();
  private lastType = '';
  private lastMetrics: TaskTypeMetrics | undefined;

  constructor(options: OwnerOptions) {
    const { shard, log, clock, random } = options;
    this.options = options;
    this.shard = shard;
    this.state = new ShardState(log.shards, options.knownIds);
    this.idKey = idKey(log.generation);
    this.applier = new Applier(this.state, options.known, this.idKey);
    this.ready = new ReadyQueues(this.state);
    this.subscriptions = new Subscriptions(options.balance);
    this.journal = new Journal({
      log,
      clock,
      random,
      logger: options.logger,
      metrics: options.metrics,
      shard,
      tickMs: options.tickMs,
      leaseTag: ({ slot, order, delivery }) => {
        const { tasks } = this.state;
        const holds = this.holds.decided[slot] === Decided.leasing && tasks.order[slot] === order;
        return holds && tasks.deliveries[slot]! + 1 === delivery ? tasks.tag[slot]! : undefined;
      },
      applied: () => this.state.ownerSequence,
      fenced: (error) => this.stop(error),
    });
    this.standing = new Standing({
      clock,
      confirmedAt: () => this.journal.confirmedAt,
      heardSince: options.heardSince ?? (() => -Infinity),
    });
    this.endings = new Endings({
      shard,
      atlas: options.atlas,
      state: this.state,
      journal: this.journal,
      holds: this.holds,
      delivery: options.delivery,
      metrics: options.metrics,
      random,
      known: options.known,
    });
    this.holders = new Holders(shard, this.state, this.subscriptions, this.holds, this.journal);
    this.mover = new Mover({
      shard,
      state: this.state,
      atlas: options.atlas,
      clock,
      holds: this.holds,
      endings: this.endings,
      withdraw: (slot) => this.withdraw(slot),
    });
    this.dispatcher = new Dispatcher({
      shard,
      state: this.state,
      ready: this.ready,
      subscriptions: this.subscriptions,
      holders: this.holders,
      endings: this.endings,
      metrics: options.metrics,
      traces: options.traces,
      isAlive: options.isAlive,
      starved: options.starved,
      handedOut: (slot) => this.limitRun(slot),
      later: (mailbox) =>
        clock.soon(() => {
          this.now = clock.now();
          this.dispatcher.mark(mailbox);
          this.dispatchAll();
        }),
    });
    this.alarms = new Alarms(clock, (slots) => this.ring(slots));
    this.forwarder = new Forwarder({
      shard,
      state: this.state,
      journal: this.journal,
      forward: options.forward,
      clock,
      random,
    });
  }

  get serving(): boolean {
    return this.phase === 'serving';
  }

  /** The epoch that it began, once it serves. */
  get begun(): Epoch {
    return this.epoch;
  }

  /** Reads the log, and goes on reading; `caughtUp` says that all that was there has been applied. */
  follow(caughtUp: () => void): void {
    const { log, clock, metrics } = this.options;
    const since = clock.now();
    this.reading = log.read(this.shard, log.extent(this.shard).first, {
      record: (sequence, subject, bytes) => this.record(sequence, subject, bytes),
      caughtUp: () => {
        metrics.replaySeconds.observe((clock.now() - since) / 1000);
        metrics.replayBytes.add(this.appliedBytes);
        caughtUp();
      },
      failed: (error) => this.stop(error),
    });
  }

  /**
   * Begins an epoch, under that revision of the assignment, which ends all former ones; `serving` is called when
   * the log has it. Sessions may attach from then on; tasks are delivered after {@link deliver}.
   */
  begin(revision: number, serving: () => void): void {
    if (this.phase !== 'following') return;
    const { clock } = this.options;
    this.begunAt = clock.now();
    const last = this.state.epoch;
    this.epoch = { revision: Math.max(revision, last.revision), counter: last.counter + 1 };
    this.journal.open(this.epoch, () => {
      if (this.phase !== 'following') return;
      if (outranks(this.state.epoch, this.epoch)) return this.epochBegan();
      this.now = clock.now();
      this.serve();
      serving();
    });
  }

  /** Delivers from now on: who held something before has said so, or has had its chance. */
  deliver(): void {
    const { clock, metrics } = this.options;
    if (!this.delivering) metrics.handover.of('take').observe((clock.now() - this.begunAt) / 1000);
    this.delivering = true;
    this.redispatch();
  }

  /** Writes all that is decided, leases too, and stops, so that another owner can go on where this one ends. */
  handOver(done: () => void): void {
    if (this.phase !== 'serving') return done();
    const { clock, metrics } = this.options;
    const since = clock.now();
    this.phase = 'leaving';
    this.mover.close();
    this.alarms.close();
    this.journal.writeOut(() => {
      metrics.ownership.of('released').add();
      metrics.handover.of('release').observe((clock.now() - since) / 1000);
      this.stop();
      done();
    });
  }

  /** Stops at once; nothing more is delivered, applied or written. */
  stop(error?: HubError): void {
    if (this.phase === 'stopped') return;
    if (error && this.phase !== 'following') this.options.metrics.ownership.of('lost').add();
    this.phase = 'stopped';
    this.reading?.stop();
    this.journal.close();
    this.forwarder.close();
    this.mover.close();
    this.alarms.close();
    if (!error) return;
    this.options.lost(error);
    this.journal.lose();
  }

  private serve(): void {
    this.phase = 'serving';
    this.options.metrics.ownership.of('taken').add();
    this.holders.epoch = this.epoch.counter;
    this.applier.live(this);
    this.endings.restart();
    this.holds.fit(this.state.tasks.capacity);
    this.ready.rebuild(this.now, (slot) => this.setAlarm(slot));
    const { tasks, mailboxes } = this.state;
    for (const slot of tasks.slots()) {
      // Those whom it was to reach have yet to come back.
      if (tasks.kind[slot] === Kind.broadcast) this.alarms.set(slot, this.now + this.options.graceMs);
      else if (tasks.kind[slot] === Kind.result) this.dispatcher.noteLane(tasks.mailbox[slot]!);
      else if (tasks.flags[slot]! & Flag.deadline && tasks.state[slot] === State.queued) this.setAlarm(slot);
    }
    for (const [, mailbox] of mailboxes.entries()) this.dispatcher.mark(mailbox);
    this.forwarder.runAll();
    this.mover.review();
    this.dispatchAll();
  }

  private record(sequence: number, subject: Subject, bytes: Uint8Array): void {
    if (this.phase === 'stopped') return;
    this.now = this.options.clock.now();
    this.appliedBytes += bytes.length;
    try {
      this.applier.apply(sequence, subject, bytes);
    } catch (error) {
      this.options.logger.error(
        { shard: this.shard, sequence, error },
        'a record was skipped: it can not be read',
      );
    }
    if (this.phase !== 'serving') return;
    this.forwarder.run();
    this.dispatchAll();
  }

  // ── What follows from a record ───────────────────────────────────────────────────────────────

  arrived(slot: number): void {
    const { tasks } = this.state;
    const { metrics } = this.options;
    this.arrivals++;
    if (tasks.kind[slot] === Kind.task) this.metricsOf(slot).accepted.add();
    else {
      metrics.results.add();
      this.dispatcher.noteLane(tasks.mailbox[slot]!);
    }
    this.queued(slot);
  }

  came(slot: number): void {
    const { tasks } = this.state;
    this.arrivals++;
    if (tasks.kind[slot] === Kind.result) this.dispatcher.noteLane(tasks.mailbox[slot]!);
    this.holds.fit(tasks.capacity);
    this.mover.came(slot);
    if (tasks.state[slot] === State.queued) this.enqueue(slot);
  }

  queued(slot: number): void {
    this.mover.consider(slot);
    this.enqueue(slot);
  }

  private enqueue(slot: number): void {
    const { tasks } = this.state;
    this.holds.fit(tasks.capacity);
    // Its end may have been decided while it was on its way back.
    if (this.holds.decided[slot] === Decided.ending) return;
    this.holders.clear(slot);
    if (isDue(this.state, slot, this.now)) this.makeReady(slot);
    else this.setAlarm(slot);
  }

  broadcast(slot: number): void {
    this.holds.fit(this.state.tasks.capacity);
    const { tasks, batches, mailboxes, types } = this.state;
    const names: string[] = [];
    const namespace = namespaceOf(mailboxes.name(tasks.mailbox[slot]!));
    for (const id of this.subscriptions.mailboxes()) {
      const name = mailboxes.name(id);
      if (isAgent(name) && isIn(namespace, name)) names.push(name);
    }
    const bytes = batches.bytes(tasks.batch[slot]!);
    const offset = tasks.offset[slot]!;
    // A copy: `slice` of a Buffer is none, and the record must stay as it is in the log.
    const entry = Uint8Array.from(bytes.subarray(offset, offset + entryLength(bytes, offset)));
    entry[10] = entry[10]! | Flag.once;
    for (let first = 0; first < names.length; first += FANOUT) {
      const some = names.slice(first, first + FANOUT);
      this.journal.reserve(some.length);
      this.journal.record.fanout(some, types.text(tasks.type[slot]!), entry);
    }
    this.endings.finishSilently(slot, Outcome.delivered);
  }

  /** Fans out a broadcast that was found in the log, once those whom it was to reach may be back. */
  private broadcastLater(slot: number): void {
    const { graceMs, strangersUntil } = this.options;
    const until = strangersUntil();
    if (until <= this.now) this.broadcast(slot);
    else this.alarms.set(slot, Math.min(until, this.now + graceMs));
  }

  leased(slot: number): void {
    if (this.holds.decided[slot] === Decided.leasing) this.holds.decided[slot] = Decided.nothing;
  }

  died(slot: number): void {
    this.alarms.clear(slot);
    this.holders.clear(slot);
    this.mover.consider(slot);
  }

  ending(slot: number): void {
    this.withdraw(slot);
    this.holders.clear(slot);
  }

  duplicate(order: number, tag: number): void {
    this.options.metrics.duplicates.add();
    this.journal.record.drop(order, tag, NONE);
    this.journal.touch();
  }

  posted(destination: number): void {
    this.forwarder.mark(destination);
  }

  epochBegan(): void {
    if (!outranks(this.state.epoch, this.epoch)) return;
    this.stop(new HubError('aborted', `shard ${this.shard} is served by another broker now`));
  }

  // ── Who receives ─────────────────────────────────────────────────────────────────────────────

  /** Subscribes to a mailbox; leases that the session holds there are the attachment's from now on. */
  attach(mailbox: string, spec: ConsumerSpec, twin?: Consumer): Consumer {
    this.now = this.options.clock.now();
    const { subscriptions, state } = this;
    const consumer = new Consumer(subscriptions.nextId(), state.mailboxes.acquire(mailbox), spec, twin);
    this.subscriptions.add(consumer);
    let consumers = this.consumersOf.get(consumer.session);
    if (!consumers) this.consumersOf.set(consumer.session, (consumers = new Set()));
    consumers.add(consumer);
    this.holders.claim(consumer, this.now);
    this.dispatcher.receiversChanged(consumer);
    this.resume(consumer);
    return consumer;
  }

  /** Takes the subscription away; its session keeps the leases. */
  detach(consumer: Consumer): void {
    this.holders.disown(consumer);
    this.subscriptions.remove(consumer);
    const consumers = this.consumersOf.get(consumer.session);
    consumers?.delete(consumer);
    if (consumers?.size === 0) this.consumersOf.delete(consumer.session);
    this.state.mailboxes.release(consumer.mailbox);
  }

  /** The consumer can take more: its window has grown, or its sink is ready again. */
  resume(consumer: Consumer): void {
    if (this.phase !== 'serving') return;
    this.now = this.options.clock.now();
    this.subscriptions.credited(consumer);
    this.dispatcher.markFor(consumer);
    this.dispatchAll();
  }

  /** The session will not come back: its attachments go, and its tasks are given to others. */
  sessionGone(session: string, counts: boolean, error: string): void {
    if (this.phase !== 'serving') return;
    this.now = this.options.clock.now();
    for (const slot of this.holders.heldBy(session)) {
      this.alarms.clear(slot);
      if (counts) this.endings.retry(slot, error, 0, this.now);
      else this.endings.giveBack(slot, this.now);
      this.letGo(slot);
    }
    for (const consumer of this.consumersOf.get(session) ?? []) this.detach(consumer);
    this.serveLanes();
  }

  /**
   * The session says what it holds. What was delivered `before` and is not listed, it never got: that
   * is released. Returns the listed leases that are not its any more.
   */
  reconcile(sink: Sink, leases: readonly LeaseName[], before: number): LeaseName[] {
    const stale: LeaseName[] = [];
    if (this.phase !== 'serving') return stale;
    this.now = this.options.clock.now();
    const { tasks } = this.state;
    const listed = new Set<number>();
    for (const lease of leases) {
      const slot = this.state.find(lease.order, lease.tag, lease.slot);
      if (slot === NONE || this.holds.decided[slot]! >= Decided.returning) stale.push(lease);
      else if (this.holders.isHolder(slot, sink.session, lease)) {
        listed.add(slot);
        this.holders.keep(slot, sink, lease);
      } else if (
        tasks.state[slot] === State.queued &&
        this.holds.decided[slot] === Decided.nothing &&
        tasks.deliveries[slot]! + 1 === lease.delivery
      ) {
        // The broker died between the delivery and the record of it.
        this.withdraw(slot);
        this.holders.retake(slot, sink, lease, this.now);
        this.limitRun(slot);
        listed.add(slot);
      } else stale.push(lease);
    }
    for (const slot of this.holders.heldBy(sink.session)) {
      if (listed.has(slot) || this.holds.deliveredAt[slot]! >= before) continue;
      this.alarms.clear(slot);
      this.endings.giveBack(slot, this.now);
      this.letGo(slot);
    }
    this.dispatchAll();
    return stale;
  }

  private dispatchAll(): void {
    if (!this.delivers(this.now) || !this.dispatcher.pending) return;
    if (this.standing.sure) this.dispatcher.run(this.now);
    else this.prove();
  }

  /** It may have been replaced without knowing: delivers when the log says that it was not. */
  private prove(): void {
    if (this.proving) return;
    this.proving = true;
    this.journal.prove(() => {
      this.proving = false;
      this.now = this.options.clock.now();
      this.dispatchAll();
    });
  }

  /** Whether tasks may be handed out at that time, as far as it depends on this owner. */
  delivers(now: number): boolean {
    if (this.paused || !this.delivering || this.phase !== 'serving') return false;
    return this.journal.unanswered(now) <= UNANSWERED_MS;
  }

  /** Whether the log has so little room that tasks must wait. */
  get starved(): boolean {
    return this.options.starved();
  }

  // ── What holders say ─────────────────────────────────────────────────────────────────────────

  /**
   * Takes settlements at that time: any number of {@link complete}, {@link fail} and {@link giveBack}, and
   * then {@link settled}.
   */
  settling(now: number): void {
    this.now = now;
  }

  /**
   * The settlements have been taken; calls `durable` when they are as durable as the log, or `lost` when another
   * owner is to take them, because this one was replaced before they were.
   */
  settled(durable: Waiter, lost?: Waiter): void {
    this.journal.after(durable, lost);
    this.dispatchAll();
  }

  /** Takes a completion. Throws if it is too late. */
  complete(lease: Lease, session: string, answer: ResultPayload | undefined): void {
    const slot = this.open(lease);
    if (lease.delivery > this.holders.issued(slot)) throw tooLate();
    const executor = this.holders.executor(slot);
    const current = this.holders.isHolder(slot, session, lease);
    if (this.state.tasks.kind[slot] === Kind.task) {
      const type = this.metricsOf(slot);
      type.completed.add();
      type.duration.observe((this.now - this.holds.deliveredAt[slot]!) / 1000);
      this.options.metrics.endToEnd.observe((this.now - this.state.tasks.accepted[slot]!) / 1000);
    }
    if (!current) this.holders.abort(slot, 'completed under another lease');
    this.withdraw(slot);
    this.endings.succeed(slot, executor, answer, this.now);
    this.letGo(slot);
  }

  /** Takes a failure, from the current holder only; its payload reaches the requester if it is the last. */
  fail(lease: Lease, session: string, { error, retryable, retryAfterMs, payload }: Failure): void {
    const slot = this.held(lease, session);
    const by = { executor: this.holders.executor(slot), payload };
    this.alarms.clear(slot);
    if (retryable) this.endings.retry(slot, error, retryAfterMs, this.now, by);
    else this.endings.giveUp(slot, 'rejected', error, this.now, by);
    this.letGo(slot);
  }

  /** Takes a task back untouched, from the current holder only. */
  giveBack(lease: Lease, session: string): void {
    const slot = this.held(lease, session);
    this.alarms.clear(slot);
    this.endings.giveBack(slot, this.now);
    this.letGo(slot);
  }

  /**
   * Takes the answer of an agent that names the task and itself instead of a lease: it ends the task, and
   * whoever holds it is told to stop. False if the end was decided before.
   */
  answer(slot: number, succeeded: boolean, error: string, by: Answer, durable: Waiter): boolean {
    if (this.phase !== 'serving') throw notServing(this.shard);
    this.now = this.options.clock.now();
    if (this.holds.decided[slot] === Decided.ending || this.state.tasks.state[slot] === State.dead)
      return false;
    this.holders.abort(slot, `answered by ${by.executor}`);
    this.withdraw(slot);
    if (succeeded) {
      this.metricsOf(slot).completed.add();
      this.endings.succeed(slot, by.executor, by.payload, this.now);
    } else this.endings.giveUp(slot, 'rejected', error, this.now, by);
    this.letGo(slot);
    this.settled(durable);
    return true;
  }

  /** Takes a result of a task that was delivered without a lease. With an outcome it is the last one. */
  resolve(id: string, awaited: Awaited, outcome: number, result: Uint8Array, durable: Waiter): void {
    if (this.phase !== 'serving') throw notServing(this.shard);
    this.now = this.options.clock.now();
    const type = this.options.metrics.taskTypes.of(awaited.type);
    if (outcome === Outcome.succeeded) type.completed.add();
    else if (outcome === Outcome.failed) type.failed.add();
    else if (outcome === Outcome.cancelled) type.cancelled.add();
    this.endings.resolve(id, awaited, outcome, result);
    this.settled(durable);
  }

  /** Renews the running time. */
  extend(lease: Lease, session: string, runMs: number): void {
    this.now = this.options.clock.now();
    const slot = this.held(lease, session);
    if (this.state.tasks.flags[slot]! & Flag.runLimit) {
      this.alarms.set(slot, this.now + (runMs || this.endings.facts(slot).maxRunMs));
    }
  }

  /** The slot of a lease that this session holds; throws if it does not. */
  held(lease: Lease, session: string): number {
    const slot = this.open(lease);
    if (!this.holders.isHeld(slot) || !this.holders.isHolder(slot, session, lease)) throw tooLate();
    return slot;
  }

  private open(lease: Lease): number {
    if (this.phase !== 'serving') throw notServing(this.shard);
    const slot = this.state.find(lease.order, lease.tag, lease.slot);
    if (
      slot === NONE ||
      this.holds.decided[slot] === Decided.ending ||
      this.state.tasks.state[slot] === State.dead
    ) {
      throw tooLate();
    }
    return slot;
  }

  /** The figures of the task's type; the last ones are remembered. */
  private metricsOf(slot: number): TaskTypeMetrics {
    const type = this.state.types.text(this.state.tasks.type[slot]!);
    if (type !== this.lastType || !this.lastMetrics) {
      this.lastType = type;
      this.lastMetrics = this.options.metrics.taskTypes.of(type);
    }
    return this.lastMetrics;
  }

  /** The holder has it no more; its mailbox may give the attachment another. */
  private letGo(slot: number): void {
    const consumer = this.holders.letGo(slot, this.now);
    if (!consumer) return;
    this.dispatcher.markFor(consumer);
    if (consumer.twin) this.dispatcher.markFor(consumer.twin);
  }

  /** The task must not be delivered, and nothing is to be done about it at any time. */
  private withdraw(slot: number): void {
    this.ready.remove(slot);
    this.alarms.clear(slot);
  }

  // ── What others ask ──────────────────────────────────────────────────────────────────────────

  /** Whether a task of that name is live, or was not long ago. */
  knows(hash: Uint32Array): boolean {
    return this.state.dedup.find(hash[0]!, hash[1]!, hash[2]!, hash[3]!) >= 0;
  }

  /** The slot of a task by the hash of its id, or `NONE` with the outcome if it has ended. */
  lookUp(hash: Uint32Array): { slot: number; outcome: number | undefined } {
    const entry = this.state.dedup.find(hash[0]!, hash[1]!, hash[2]!, hash[3]!);
    if (entry < 0) return { slot: NONE, outcome: undefined };
    const slot = this.state.dedup.slot(entry);
    return slot === NONE ? { slot, outcome: this.state.dedup.outcome(entry) } : { slot, outcome: undefined };
  }

  /** Cancels a task that has not ended; false if that was decided otherwise before. */
  cancel(slot: number, reason: string, cancelled: Waiter): boolean {
    if (this.phase !== 'serving') throw notServing(this.shard);
    this.now = this.options.clock.now();
    if (this.holds.decided[slot] === Decided.ending || this.state.tasks.state[slot] === State.dead)
      return false;
    this.metricsOf(slot).cancelled.add();
    this.holders.abort(slot, reason === '' ? 'cancelled' : `cancelled: ${reason}`);
    this.withdraw(slot);
    this.endings.cancel(slot, reason, this.now);
    this.letGo(slot);
    this.journal.after(cancelled);
    this.dispatchAll();
    return true;
  }

  /** Forgets a dead letter, an unclaimed result, or a queued task, without telling anybody. */
  purge(slot: number): boolean {
    if (this.holders.isHeld(slot) || this.holds.decided[slot] !== Decided.nothing) return false;
    this.withdraw(slot);
    this.endings.finishSilently(slot, Outcome.cancelled);
    return true;
  }

  /** Puts a dead letter back into its mailbox; false if it is none, or was delivered too often for any lease. */
  revive(slot: number): boolean {
    const { state, deliveries } = this.state.tasks;
    if (state[slot] !== State.dead || this.holds.decided[slot] !== Decided.nothing) return false;
    if (deliveries[slot]! >= MOST_DELIVERIES) return false;
    this.holds.decided[slot] = Decided.returning;
    this.journal.record.revive(this.state.tasks.order[slot]!, this.state.tasks.tag[slot]!, slot);
    this.journal.touch();
    return true;
  }

  /** Gives up a task whose time has passed. */
  expire(slot: number, reason: 'deadline' | 'retention', error: string): void {
    if (this.holds.decided[slot] !== Decided.nothing || this.state.tasks.state[slot] !== State.queued) return;
    this.withdraw(slot);
    this.endings.giveUp(slot, reason, error, this.now);
  }

  /** Mailboxes of agents that somebody is attached to, by namespace: what a broadcast reaches. */
  recipients(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const mailbox of this.subscriptions.mailboxes()) {
      const name = this.state.mailboxes.name(mailbox);
      if (!isAgent(name)) continue;
      const namespace = namespaceOf(name);
      counts.set(namespace, (counts.get(namespace) ?? 0) + 1);
    }
    return counts;
  }

  /** What sessions hold, by the names that they know. */
  *heldLeases(): Generator<HeldLease> {
    const { tasks } = this.state;
    for (const slot of tasks.slots()) {
      if (!this.holders.isHeld(slot)) continue;
      const attachment = this.holders.consumer(slot)?.spec.number ?? 0;
      yield { ...this.holders.leaseOf(slot), session: this.holders.holderOf(slot), attachment };
    }
  }

  /** Tasks that sessions hold. */
  leases(): number {
    const { tasks } = this.state;
    let count = 0;
    for (const slot of tasks.slots()) if (this.holders.isHeld(slot)) count++;
    return count;
  }

  /** While paused, nothing is delivered. */
  pause(paused: boolean): void {
    this.paused = paused;
    if (!paused) this.redispatch();
  }

  /** Delivers what has waited for a reason that lay outside of the shard. */
  redispatch(): void {
    for (const mailbox of this.subscriptions.mailboxes()) this.dispatcher.mark(mailbox);
    this.serveLanes();
  }

  /** Lanes whose session is gone are served by the agent's other sessions from now on. */
  serveLanes(): void {
    this.now = this.options.clock.now();
    this.dispatcher.markLanes();
    this.dispatchAll();
  }

  // ── Time ─────────────────────────────────────────────────────────────────────────────────────

  private makeReady(slot: number): void {
    this.ready.add(slot);
    this.dispatcher.mark(this.state.tasks.mailbox[slot]!);
    if (this.state.tasks.flags[slot]! & Flag.deadline) this.setAlarm(slot);
  }

  /** Sets the alarm of a queued task: when it becomes due, or else when it expires. */
  private setAlarm(slot: number): void {
    const { tasks } = this.state;
    const deadline = tasks.flags[slot]! & Flag.deadline ? tasks.deadline[slot]! : Infinity;
    const due = isDue(this.state, slot, this.now) ? Infinity : tasks.notBefore[slot]!;
    this.alarms.set(slot, Math.min(due, deadline));
  }

  /** A task was handed out: its deadline is met, and its running time counts. */
  private limitRun(slot: number): void {
    this.alarms.clear(slot);
    if (!(this.state.tasks.flags[slot]! & Flag.runLimit)) return;
    this.alarms.set(slot, this.now + this.endings.facts(slot).maxRunMs);
  }

  private ring(slots: Iterable<number>): void {
    if (this.phase !== 'serving') return;
    this.now = this.options.clock.now();
    for (const slot of slots) this.timeHasCome(slot);
    this.dispatchAll();
  }

  private timeHasCome(slot: number): void {
    const { tasks } = this.state;
    if (this.holders.isHeld(slot)) {
      this.holders.abort(slot, 'the task ran longer than its max_run_ms');
      this.endings.retry(slot, 'it ran longer than its max_run_ms', 0, this.now);
      this.letGo(slot);
    } else if (this.holds.decided[slot] !== Decided.nothing) return;
    else if (tasks.kind[slot] === Kind.broadcast) this.broadcastLater(slot);
    else if (isOverdue(this.state, slot, this.now))
      this.expire(slot, 'deadline', 'the deadline passed before it was delivered');
    else if (tasks.state[slot] === State.queued && !this.ready.has(slot)) this.makeReady(slot);
  }
}

function isAgent(mailbox: string): boolean {
  return !mailbox.startsWith('type:') && !mailbox.startsWith('reply:');
}

function tooLate(): HubError {
  return new HubError(
    'precondition',
    'the lease has ended: the task was settled, cancelled, or given to another worker',
  );
}

function notServing(shard: number): HubError {
  return new HubError('unavailable', `shard ${shard} is being taken over; try again`, { retryAfterMs: 100 });
}
