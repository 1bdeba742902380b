import type { Awaited } from '../core/awaiting.ts';
import type { Balance } from '../core/subscription.ts';
import { Subscriptions, takes } from '../core/subscription.ts';
import { DirtySet } from '../core/dirty-set.ts';
import { SlotHeap } from '../core/heap.ts';
import { isDue, isOverdue, ReadyQueues } from '../core/ready.ts';
import type { Epoch } from '../core/shard-state.ts';
import { Outcome, outranks, ShardState } from '../core/shard-state.ts';
import { Flag, Kind, NONE, State } from '../core/task-table.ts';
import type { Log, Reading, Subject } from '../log/log.ts';
import type { Metrics, TaskTypeMetrics } from '../obs/metrics.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { entryBodyStart, entryLength } from '../wire/record.ts';
import type { Lease, LeaseName } from '../wire/lease.ts';
import { leaseHash } from '../wire/lease.ts';
import type { ResultPayload } from '../wire/result.ts';
import type { TextCache } from '../wire/text-cache.ts';
import type { Applied } from './apply.ts';
import { Applier } from './apply.ts';
import type { Answer, Delivery } from './endings.ts';
import { Endings } from './endings.ts';
import type { Forward } from './forwarder.ts';
import { Forwarder } from './forwarder.ts';
import { Decided, Holds } from './holds.ts';
import type { Waiter } from './journal.ts';
import { Journal } from './journal.ts';
import { Consumer, type ConsumerSpec } from './consumer.ts';
import type { Sink } from './sink.ts';

/** Tasks that are looked at behind one that no free worker takes. */
const LOOKAHEAD = 64;
/** Copies of a broadcast in one operation. */
const FANOUT = 4000;
/** An owner whose append has had no answer for this long, in milliseconds, stops delivering. */
const UNANSWERED_MS = 500;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface OwnerOptions {
  readonly shard: number;
  readonly log: Log;
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
  readonly forward: Forward;
  /** Whether that session is connected, or may still come back. */
  readonly isAlive: (session: string) => boolean;
  /** This owner has been replaced, or can't go on; it has stopped. */
  readonly lost: (error: HubError) => void;
}

/**
 * Serves one shard: applies its log, hands its tasks out, and writes what it decides.
 *
 * A driver around pure parts, like this: records from the log go through the `Applier`, which changes
 * the `ShardState` and says what follows; `dispatch` pairs `ReadyQueues` with `Subscriptions` and
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
  /** Tasks with a time at which something is to be done: become due, expire, run too long. */
  readonly timers = new SlotHeap();

  /** Bytes of all records applied. */
  appliedBytes = 0;
  /** Tasks and results that have come. */
  arrivals = 0;

  private readonly options: OwnerOptions;
  private readonly applier: Applier;
  private readonly forwarder: Forwarder;
  private reading: Reading | undefined;
  private phase: 'replaying' | 'serving' | 'stopped' = 'replaying';
  private now = 0;
  private epoch: Epoch = { revision: 0, counter: 0 };
  /** Mailboxes that may have something for somebody. */
  private readonly dirty = new DirtySet();
  private dispatching = false;
  private paused = false;
  private readonly lease: Mutable<LeaseName>;
  private readonly consumersOf = new Map<string, Set<Consumer>>();
  /** Lanes of replies that hold something, by the mailbox they are lanes of. */
  private readonly lanes = new Map<string, Set<number>>();
  /** Holders of leases that have no attachment: it was taken away, or has not come back yet. */
  private readonly reclaimed = new Map<number, string>();
  private timer: Timer | undefined;
  private timerAt = Infinity;
  private lastType = '';
  private lastMetrics: TaskTypeMetrics | undefined;
  private readonly isReady = (consumer: Consumer): boolean => consumer.sink.ready(consumer);

  constructor(options: OwnerOptions) {
    const { shard, log, clock, random } = options;
    this.options = options;
    this.shard = shard;
    this.state = new ShardState(log.shards, options.knownIds);
    this.applier = new Applier(this.state, options.known);
    this.ready = new ReadyQueues(this.state);
    this.subscriptions = new Subscriptions(options.balance);
    this.lease = { shard, order: 0, tag: 0, delivery: 0, epoch: 0, slot: 0 };
    this.journal = new Journal({
      log,
      clock,
      random,
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
    this.endings = new Endings({
      shard,
      shards: log.shards,
      state: this.state,
      journal: this.journal,
      holds: this.holds,
      delivery: options.delivery,
      metrics: options.metrics,
      random,
    });
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

  /** Replays the log, begins a new epoch, and serves from then on; `done` says so. */
  start(done: () => void): void {
    const { log, clock } = this.options;
    this.reading = log.read(this.shard, log.extent(this.shard).first, {
      record: (sequence, subject, bytes) => this.record(sequence, subject, bytes),
      caughtUp: () => {
        const { revision, counter } = this.state.epoch;
        this.epoch = { revision, counter: counter + 1 };
        this.journal.open(this.epoch, () => {
          this.now = clock.now();
          this.serve();
          done();
        });
      },
      failed: (error) => this.stop(error),
    });
  }

  /** Stops at once; nothing more is delivered, applied or written. */
  stop(error?: HubError): void {
    if (this.phase === 'stopped') return;
    this.phase = 'stopped';
    this.reading?.stop();
    this.journal.close();
    this.forwarder.close();
    if (error) this.options.lost(error);
  }

  private serve(): void {
    this.phase = 'serving';
    this.lease.epoch = this.epoch.counter;
    this.applier.live(this);
    this.endings.restart();
    this.holds.fit(this.state.tasks.capacity);
    this.ready.rebuild(this.now, (slot) => this.setTimer(slot));
    const { tasks, mailboxes } = this.state;
    for (const slot of tasks.slots()) {
      if (tasks.kind[slot] === Kind.broadcast) this.broadcast(slot);
      else if (tasks.kind[slot] === Kind.result) this.noteLane(tasks.mailbox[slot]!);
      if (tasks.flags[slot]! & Flag.deadline) this.setTimer(slot);
    }
    for (const [, mailbox] of mailboxes.entries()) this.dirty.add(mailbox);
    this.forwarder.pumpAll();
    this.dispatchAll();
  }

  private record(sequence: number, subject: Subject, bytes: Uint8Array): void {
    if (this.phase === 'stopped') return;
    this.now = this.options.clock.now();
    this.appliedBytes += bytes.length;
    try {
      this.applier.apply(sequence, subject, bytes);
    } catch (error) {
      this.options.logger.error({ shard: this.shard, sequence, error }, 'a record was skipped: it can not be read');
    }
    if (this.phase === 'serving') this.dispatchAll();
  }

  // ── What follows from a record ───────────────────────────────────────────────────────────────

  arrived(slot: number): void {
    const { tasks } = this.state;
    const { metrics } = this.options;
    this.arrivals++;
    if (tasks.kind[slot] === Kind.task) this.metricsOf(slot).accepted.add();
    else {
      metrics.results.add();
      this.noteLane(tasks.mailbox[slot]!);
    }
    this.queued(slot);
  }

  queued(slot: number): void {
    const { tasks } = this.state;
    this.holds.fit(tasks.capacity);
    this.holds.clear(slot);
    if (isDue(this.state, slot, this.now)) {
      this.ready.add(slot);
      this.dirty.add(tasks.mailbox[slot]!);
      if (tasks.flags[slot]! & Flag.deadline) this.setTimer(slot);
    } else this.setTimer(slot);
  }

  broadcast(slot: number): void {
    this.holds.fit(this.state.tasks.capacity);
    const { tasks, batches, mailboxes, types } = this.state;
    const names: string[] = [];
    for (const id of this.subscriptions.mailboxes()) {
      const name = mailboxes.name(id);
      if (isAgent(name)) names.push(name);
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

  leased(slot: number): void {
    if (this.holds.decided[slot] === Decided.leasing) this.holds.decided[slot] = Decided.nothing;
  }

  died(slot: number): void {
    this.timers.remove(slot);
    this.holds.clear(slot);
  }

  ending(slot: number): void {
    this.ready.remove(slot);
    this.timers.remove(slot);
    this.holds.clear(slot);
  }

  duplicate(order: number, tag: number): void {
    this.options.metrics.duplicates.add();
    this.journal.record.drop(order, tag, NONE);
    this.journal.touch();
  }

  posted(destination: number): void {
    this.forwarder.pump(destination);
  }

  epochBegan(): void {
    if (!outranks(this.state.epoch, this.epoch)) return;
    this.stop(new HubError('aborted', `shard ${this.shard} is served by another broker now`));
  }

  // ── Who receives ─────────────────────────────────────────────────────────────────────────────

  attach(mailbox: string, spec: ConsumerSpec): Consumer {
    this.now = this.options.clock.now();
    const consumer = new Consumer(this.subscriptions.nextId(), this.state.mailboxes.acquire(mailbox), spec);
    this.subscriptions.add(consumer);
    let consumers = this.consumersOf.get(consumer.session);
    if (!consumers) this.consumersOf.set(consumer.session, (consumers = new Set()));
    consumers.add(consumer);
    this.claim(consumer);
    this.resume(consumer);
    return consumer;
  }

  /** Leases that the session has held before this attachment was made belong to it now. */
  private claim(consumer: Consumer): void {
    if (consumer.listener) return;
    for (const slot of this.heldBy(consumer.session)) {
      if (this.state.tasks.mailbox[slot] !== consumer.mailbox || this.holds.holder[slot] !== NONE) continue;
      this.holds.holder[slot] = consumer.id;
      this.holds.deliveredAt[slot] = this.now;
      this.reclaimed.delete(slot);
      consumer.inFlight++;
    }
  }

  detach(consumer: Consumer): void {
    if (consumer.inFlight > 0) {
      for (const slot of this.heldBy(consumer.session)) {
        if (this.holds.holder[slot] !== consumer.id) continue;
        this.holds.holder[slot] = NONE;
        this.reclaimed.set(slot, consumer.session);
      }
    }
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
    this.dirty.add(consumer.mailbox);
    for (const lane of this.lanes.get(this.state.mailboxes.name(consumer.mailbox)) ?? []) this.dirty.add(lane);
    this.dispatchAll();
  }

  /** Slots that the session holds, as the log says or will say. */
  private heldBy(session: string): number[] {
    const id = this.state.sessions.find(session);
    const logged = id < 0 ? [] : [...this.state.leasesOf(id)].filter((slot) => this.isHeld(slot));
    return [...logged, ...this.journal.pendingLeases(session).filter((slot) => this.isPending(slot, session))];
  }

  /** A lease that is decided, and not in the state yet. */
  private isPending(slot: number, session: string): boolean {
    const coming = this.holds.decided[slot] === Decided.leasing && this.state.tasks.state[slot] === State.queued;
    return coming && this.holderOf(slot) === session;
  }

  /** The session will not come back: its attachments go, and its tasks are given to others. */
  sessionGone(session: string, counts: boolean, error: string): void {
    if (this.phase !== 'serving') return;
    this.now = this.options.clock.now();
    for (const slot of this.heldBy(session)) {
      this.timers.remove(slot);
      if (counts) this.endings.retry(slot, error, 0, this.now);
      else this.endings.giveBack(slot, 0, false);
      this.letGo(slot);
    }
    for (const consumer of this.consumersOf.get(session) ?? []) this.detach(consumer);
    this.serveLanes();
  }

  /**
   * The session says what it holds. What was delivered `before` and is not listed, it never got: that
   * is released. Returns the listed leases that are not its any more, and those that are.
   */
  reconcile(sink: Sink, leases: readonly LeaseName[], before: number): { stale: LeaseName[]; kept: LeaseName[] } {
    const stale: LeaseName[] = [];
    const kept: LeaseName[] = [];
    if (this.phase !== 'serving') return { stale, kept: [...leases] };
    this.now = this.options.clock.now();
    const { tasks } = this.state;
    const listed = new Set<number>();
    for (const lease of leases) {
      const slot = this.state.find(lease.order, lease.tag, lease.slot);
      if (slot === NONE || this.holds.decided[slot]! >= Decided.returning) stale.push(lease);
      else if (this.delivery(slot) === lease.delivery && this.holderOf(slot) === sink.session) {
        listed.add(slot);
        kept.push(lease);
      } else if (tasks.state[slot] === State.queued && this.holds.decided[slot] === Decided.nothing && tasks.deliveries[slot]! + 1 === lease.delivery) {
        // The broker died between the delivery and the record of it.
        this.ready.remove(slot);
        this.timers.remove(slot);
        this.holds.decided[slot] = Decided.leasing;
        this.journal.lease(slot, lease.order, lease.delivery, sink.session, this.now);
        this.reclaimed.set(slot, sink.session);
        listed.add(slot);
        kept.push(lease);
      } else stale.push(lease);
    }
    for (const slot of this.heldBy(sink.session)) {
      if (listed.has(slot) || this.holds.deliveredAt[slot]! >= before) continue;
      this.timers.remove(slot);
      this.endings.giveBack(slot, 0, false);
      this.letGo(slot);
    }
    this.dispatchAll();
    return { stale, kept };
  }

  // ── Delivering ───────────────────────────────────────────────────────────────────────────────

  private dispatchAll(): void {
    if (this.dispatching || this.paused || this.phase !== 'serving') return;
    if (this.journal.unanswered(this.now) > UNANSWERED_MS) return;
    this.dispatching = true;
    this.dirty.drain(this.dispatch);
    this.dispatching = false;
  }

  private readonly dispatch = (mailbox: number): void => {
    const { ready, subscriptions } = this;
    if (ready.count(mailbox) === 0) return;
    const receivers = this.receiversOf(mailbox);
    const workers = subscriptions.workers(receivers);
    const listeners = subscriptions.listeners(receivers);
    if (workers.length === 0 && listeners.length === 0) return;
    const filtered = subscriptions.filtered(receivers) || listeners.some((one) => one.spec.taskIds.size > 0);
    const skipped: number[] = [];
    while (skipped.length < LOOKAHEAD) {
      const slot = ready.peek(mailbox);
      if (slot === NONE) break;
      if (isOverdue(this.state, slot, this.now)) {
        ready.remove(slot);
        this.endings.giveUp(slot, 'deadline', 'the deadline passed before it was delivered', this.now);
        continue;
      }
      const type = filtered ? this.state.types.text(this.state.tasks.type[slot]!) : '';
      if (workers.length > 0) {
        const worker = subscriptions.choose(receivers, type, this.isReady);
        if (worker) {
          ready.remove(slot);
          if (listeners.length > 0) this.copyTo(listeners, slot, type);
          this.handOut(slot, worker);
          continue;
        }
      } else if (this.copyToAll(listeners, slot, type)) continue;
      if (!filtered) break;
      ready.remove(slot);
      skipped.push(slot);
    }
    for (const slot of skipped) ready.add(slot);
  };

  /** The mailbox whose consumers get what is in this one: its own, unless it is an orphaned lane. */
  private receiversOf(mailbox: number): number {
    const { mailboxes } = this.state;
    if (!mailboxes.isLane(mailbox)) return mailbox;
    const name = mailboxes.name(mailbox);
    const mark = name.indexOf('#');
    if (this.subscriptions.workers(mailbox).length > 0) return mailbox;
    if (this.options.isAlive(name.slice(mark + 1)) && this.subscriptions.listeners(mailboxes.find(name.slice(0, mark))).length === 0) return mailbox;
    const base = mailboxes.find(name.slice(0, mark));
    return base < 0 ? mailbox : base;
  }

  private handOut(slot: number, worker: Consumer): void {
    const { state, holds, lease, now } = this;
    const { tasks } = state;
    const { metrics } = this.options;
    holds.decided[slot] = Decided.leasing;
    holds.holder[slot] = worker.id;
    holds.deliveredAt[slot] = now;
    worker.inFlight++;
    lease.order = tasks.order[slot]!;
    lease.tag = tasks.tag[slot]!;
    lease.delivery = tasks.deliveries[slot]! + 1;
    lease.slot = slot;
    this.write(slot, worker, lease);
    this.journal.lease(slot, lease.order, lease.delivery, worker.session, now);
    metrics.delivered.add();
    if (lease.delivery > 1) metrics.redelivered.add();
    else metrics.routing.observe((now - tasks.accepted[slot]!) / 1000);
    if (tasks.flags[slot]! & (Flag.runLimit | Flag.deadline)) this.limitRun(slot);
  }

  private write(slot: number, consumer: Consumer, lease: LeaseName | undefined): void {
    const { tasks, batches } = this.state;
    const bytes = batches.bytes(tasks.batch[slot]!);
    const offset = tasks.offset[slot]!;
    consumer.sink.deliver(
      consumer,
      lease,
      tasks.attempts[slot]! + 1,
      tasks.accepted[slot]!,
      tasks.kind[slot] === Kind.result,
      bytes,
      entryBodyStart(bytes, offset),
      offset + tasks.length[slot]!,
    );
  }

  /** Gives listeners beside workers a copy of a first delivery; those that can't take it go without. */
  private copyTo(listeners: readonly Consumer[], slot: number, type: string): void {
    if (this.state.tasks.deliveries[slot]! > 0) return;
    for (const listener of listeners) {
      if (!this.wants(listener, slot, type)) continue;
      if (listener.sink.ready(listener)) this.write(slot, listener, undefined);
      else this.options.metrics.copiesDropped.add();
    }
  }

  /** Gives all listeners that want it a copy, and is done with it; false if there are none or one is not ready. */
  private copyToAll(listeners: readonly Consumer[], slot: number, type: string): boolean {
    const takers = listeners.filter((listener) => this.wants(listener, slot, type));
    if (takers.length === 0 || !takers.every(this.isReady)) return false;
    this.ready.remove(slot);
    for (const listener of takers) this.write(slot, listener, undefined);
    const { metrics } = this.options;
    metrics.delivered.add(takers.length);
    metrics.routing.observe((this.now - this.state.tasks.accepted[slot]!) / 1000);
    this.endings.delivered(slot);
    return true;
  }

  private wants(listener: Consumer, slot: number, type: string): boolean {
    if (!takes(listener, type)) return false;
    return listener.spec.taskIds.size === 0 || listener.spec.taskIds.has(this.endings.facts(slot).id);
  }

  // ── What holders say ─────────────────────────────────────────────────────────────────────────

  /**
   * Takes settlements at that time: any number of {@link complete}, {@link fail} and {@link giveBack}, and
   * then {@link settled}.
   */
  settling(now: number): void {
    this.now = now;
  }

  /** The settlements have been taken; calls `durable` when they are as durable as the log. */
  settled(durable: Waiter): void {
    this.journal.after(durable);
    this.dispatchAll();
  }

  /** Takes a completion. Throws if it is too late. */
  complete(lease: Lease, session: string, answer: ResultPayload | undefined): void {
    const slot = this.open(lease);
    if (lease.delivery > this.delivery(slot)) throw tooLate();
    const consumer = this.consumer(slot);
    const holder = consumer ? consumer.session : this.holderOf(slot);
    const executor = consumer ? consumer.spec.agent : '';
    if (this.state.tasks.kind[slot] === Kind.task) {
      const type = this.metricsOf(slot);
      type.completed.add();
      type.duration.observe((this.now - this.holds.deliveredAt[slot]!) / 1000);
      this.options.metrics.endToEnd.observe((this.now - this.state.tasks.accepted[slot]!) / 1000);
    }
    if (holder !== session && holder !== '') this.abort(slot, 'completed by another worker');
    this.ready.remove(slot);
    this.timers.remove(slot);
    this.endings.succeed(slot, executor, answer, this.now);
    this.letGo(slot);
  }

  /** Takes a failure, from the current holder only. */
  fail(lease: Lease, session: string, error: string, retryable: boolean, retryAfterMs: number): void {
    const slot = this.held(lease, session);
    this.timers.remove(slot);
    if (retryable) this.endings.retry(slot, error, retryAfterMs, this.now);
    else this.endings.giveUp(slot, 'rejected', error, this.now);
    this.letGo(slot);
  }

  /** Takes a task back untouched, from the current holder only. */
  giveBack(lease: Lease, session: string): void {
    const slot = this.held(lease, session);
    this.timers.remove(slot);
    this.endings.giveBack(slot, 0, false);
    this.letGo(slot);
  }

  /**
   * Takes the answer of an agent that names the task and itself instead of a lease: it ends the task, and
   * whoever holds it is told to stop. False if the end was decided before.
   */
  answer(slot: number, succeeded: boolean, error: string, by: Answer, durable: Waiter): boolean {
    if (this.phase !== 'serving') throw notServing(this.shard);
    this.now = this.options.clock.now();
    if (this.holds.decided[slot] === Decided.ending || this.state.tasks.state[slot] === State.dead) return false;
    this.abort(slot, `answered by ${by.executor}`);
    this.ready.remove(slot);
    this.timers.remove(slot);
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
      this.timers.push(slot, this.now + (runMs || this.endings.facts(slot).maxRunMs));
      this.armTimer();
    }
  }

  /** The slot of a lease that this session holds; throws if it does not. */
  held(lease: Lease, session: string): number {
    const slot = this.open(lease);
    if (this.holderOf(slot) !== session || this.delivery(slot) !== lease.delivery) throw tooLate();
    return slot;
  }

  private open(lease: Lease): number {
    if (this.phase !== 'serving') throw notServing(this.shard);
    const slot = this.state.find(lease.order, lease.tag, lease.slot);
    if (slot === NONE || this.holds.decided[slot] === Decided.ending || this.state.tasks.state[slot] === State.dead) {
      throw tooLate();
    }
    return slot;
  }

  /** Which delivery of the task is the current one. */
  private delivery(slot: number): number {
    const deliveries = this.state.tasks.deliveries[slot]!;
    const coming = this.holds.decided[slot] === Decided.leasing && this.state.tasks.state[slot] === State.queued;
    return coming ? deliveries + 1 : deliveries;
  }

  /** The session that holds the task now, or ''. */
  holderOf(slot: number): string {
    const consumer = this.consumer(slot);
    if (consumer) return consumer.session;
    const { tasks, sessions } = this.state;
    if (tasks.state[slot] === State.leased) return sessions.text(tasks.session[slot]!);
    return this.holds.decided[slot] === Decided.leasing ? (this.reclaimed.get(slot) ?? '') : '';
  }

  /** The attachment that the task was delivered through, if it is still there. */
  consumer(slot: number): Consumer | undefined {
    return this.subscriptions.get(this.holds.holder[slot]!);
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

  private isHeld(slot: number): boolean {
    const decided = this.holds.decided[slot];
    if (decided === Decided.leasing) return true;
    return decided === Decided.nothing && this.state.tasks.state[slot] === State.leased;
  }

  /** The attachment has one task less; its mailbox may give it another. */
  private letGo(slot: number): void {
    const consumer = this.consumer(slot);
    this.reclaimed.delete(slot);
    if (!consumer) return;
    const { tasks } = this.state;
    this.holds.holder[slot] = NONE;
    consumer.settledOne(this.now - this.holds.deliveredAt[slot]!, this.now);
    const delivery = tasks.deliveries[slot]! + (tasks.state[slot] === State.leased ? 0 : 1);
    consumer.sink.leaseEnded(leaseHash(this.shard, tasks.order[slot]!, tasks.tag[slot]!, delivery));
    this.subscriptions.credited(consumer);
    this.dirty.add(consumer.mailbox);
    const lane = tasks.mailbox[slot]!;
    if (lane !== consumer.mailbox) this.dirty.add(lane);
  }

  // ── What others ask ──────────────────────────────────────────────────────────────────────────

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
    if (this.holds.decided[slot] === Decided.ending || this.state.tasks.state[slot] === State.dead) return false;
    this.metricsOf(slot).cancelled.add();
    this.abort(slot, reason === '' ? 'cancelled' : `cancelled: ${reason}`);
    this.ready.remove(slot);
    this.timers.remove(slot);
    this.endings.cancel(slot, reason, this.now);
    this.letGo(slot);
    this.journal.after(cancelled);
    this.dispatchAll();
    return true;
  }

  /** Forgets a dead letter, an unclaimed result, or a queued task, without telling anybody. */
  purge(slot: number): boolean {
    if (this.isHeld(slot) || this.holds.decided[slot] !== Decided.nothing) return false;
    this.ready.remove(slot);
    this.timers.remove(slot);
    this.endings.finishSilently(slot, Outcome.cancelled);
    return true;
  }

  /** Puts a dead letter back into its mailbox. */
  revive(slot: number): boolean {
    if (this.state.tasks.state[slot] !== State.dead || this.holds.decided[slot] !== Decided.nothing) return false;
    this.holds.decided[slot] = Decided.returning;
    this.journal.record.revive(this.state.tasks.order[slot]!, this.state.tasks.tag[slot]!, slot);
    this.journal.touch();
    return true;
  }

  /** Gives up a task whose time has passed. */
  expire(slot: number, reason: 'deadline' | 'retention', error: string): void {
    if (this.holds.decided[slot] !== Decided.nothing || this.state.tasks.state[slot] !== State.queued) return;
    this.ready.remove(slot);
    this.timers.remove(slot);
    this.endings.giveUp(slot, reason, error, this.now);
  }

  /** Mailboxes of agents that somebody is attached to: what a broadcast reaches. */
  recipients(): number {
    let count = 0;
    for (const mailbox of this.subscriptions.mailboxes()) if (isAgent(this.state.mailboxes.name(mailbox))) count++;
    return count;
  }

  /** Tasks that sessions hold. */
  leases(): number {
    const { tasks } = this.state;
    let count = 0;
    for (const slot of tasks.slots()) if (this.isHeld(slot)) count++;
    return count;
  }

  /** Nothing is delivered while paused. */
  pause(paused: boolean): void {
    this.paused = paused;
    if (paused) return;
    for (const mailbox of this.subscriptions.mailboxes()) this.dirty.add(mailbox);
    this.serveLanes();
  }

  // ── Timers ───────────────────────────────────────────────────────────────────────────────────

  /** Arms the timer of a queued task: when it becomes due, or else when it expires. */
  private setTimer(slot: number): void {
    const { tasks } = this.state;
    const deadline = tasks.flags[slot]! & Flag.deadline ? tasks.deadline[slot]! : Infinity;
    const due = isDue(this.state, slot, this.now) ? Infinity : tasks.notBefore[slot]!;
    this.timers.push(slot, Math.min(due, deadline));
    this.armTimer();
  }

  private limitRun(slot: number): void {
    this.timers.remove(slot);
    if (!(this.state.tasks.flags[slot]! & Flag.runLimit)) return;
    this.timers.push(slot, this.now + this.endings.facts(slot).maxRunMs);
    this.armTimer();
  }

  private armTimer(): void {
    if (this.timers.size === 0) return;
    const at = this.timers.peekKey();
    if (at >= this.timerAt) return;
    this.timer?.cancel();
    this.timerAt = at;
    const { clock } = this.options;
    this.timer = clock.after(Math.min(Math.max(0, at - clock.now()), 60_000), () => this.onTimer());
  }

  private onTimer(): void {
    this.timerAt = Infinity;
    this.timer = undefined;
    if (this.phase !== 'serving') return;
    this.now = this.options.clock.now();
    while (this.timers.size > 0 && this.timers.peekKey() <= this.now) this.timeHasCome(this.timers.pop());
    this.armTimer();
    this.dispatchAll();
  }

  private timeHasCome(slot: number): void {
    const { tasks } = this.state;
    if (this.isHeld(slot)) {
      this.abort(slot, 'the task ran longer than its max_run_ms');
      this.endings.retry(slot, 'it ran longer than its max_run_ms', 0, this.now);
      this.letGo(slot);
    } else if (this.holds.decided[slot] !== Decided.nothing) return;
    else if (isOverdue(this.state, slot, this.now)) this.expire(slot, 'deadline', 'the deadline passed before it was delivered');
    else if (tasks.state[slot] === State.queued && !this.ready.has(slot)) {
      this.ready.add(slot);
      this.dirty.add(tasks.mailbox[slot]!);
      if (tasks.flags[slot]! & Flag.deadline) this.setTimer(slot);
    }
  }

  // ── Lanes of replies ─────────────────────────────────────────────────────────────────────────

  private noteLane(mailbox: number): void {
    if (!this.state.mailboxes.isLane(mailbox)) return;
    const name = this.state.mailboxes.name(mailbox);
    const mark = name.indexOf('#');
    const base = name.slice(0, mark);
    const lanes = this.lanes.get(base);
    if (lanes) lanes.add(mailbox);
    else this.lanes.set(base, new Set([mailbox]));
  }

  /** Serves lanes whose session is gone by the agent's other sessions, and forgets empty ones. */
  serveLanes(): void {
    const { mailboxes } = this.state;
    for (const [base, lanes] of this.lanes) {
      for (const lane of lanes) {
        if (mailboxes.has(lane) && mailboxes.name(lane).startsWith(base)) this.dirty.add(lane);
        else lanes.delete(lane);
      }
      if (lanes.size === 0) this.lanes.delete(base);
    }
    this.now = this.options.clock.now();
    this.dispatchAll();
  }

  private abort(slot: number, reason: string): void {
    const consumer = this.consumer(slot);
    if (!consumer) return;
    const { tasks } = this.state;
    this.lease.order = tasks.order[slot]!;
    this.lease.tag = tasks.tag[slot]!;
    this.lease.delivery = this.delivery(slot);
    this.lease.slot = slot;
    consumer.sink.abort(this.lease, reason);
  }
}

function isAgent(mailbox: string): boolean {
  return !mailbox.startsWith('type:') && !mailbox.startsWith('reply:');
}

function tooLate(): HubError {
  return new HubError('precondition', 'the lease has ended: the task was settled, cancelled, or given to another worker');
}

function notServing(shard: number): HubError {
  return new HubError('unavailable', `shard ${shard} is being taken over; try again`, { retryAfterMs: 100 });
}
