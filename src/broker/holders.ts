import type { ShardState } from '../core/shard-state.ts';
import type { Subscriptions } from '../core/subscription.ts';
import { NONE, State } from '../core/task-table.ts';
import type { LeaseName } from '../wire/lease.ts';
import type { Consumer, Sink } from './consumer.ts';
import type { Holds } from './holds.ts';
import { Decided } from './holds.ts';
import type { Journal } from './journal.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Who holds which task of a shard: what the log says, and what has been decided since. */
export class Holders {
  /** The epoch that new leases name. */
  epoch = 0;
  private readonly state: ShardState;
  private readonly subscriptions: Subscriptions<Consumer>;
  private readonly holds: Holds;
  private readonly journal: Journal;
  private readonly lease: Mutable<LeaseName>;
  /** Holders of leases that have no attachment: it was taken away, or has not come back yet. */
  private readonly detached = new Map<number, Sink>();
  /** Agents for which such holders work, as far as that is known. */
  private readonly executors = new Map<number, string>();
  /** What leases of former epochs are called by their holders. */
  private readonly tokens = new Map<number, { readonly epoch: number; readonly slot: number }>();

  constructor(
    shard: number,
    state: ShardState,
    subscriptions: Subscriptions<Consumer>,
    holds: Holds,
    journal: Journal,
  ) {
    this.state = state;
    this.subscriptions = subscriptions;
    this.holds = holds;
    this.journal = journal;
    this.lease = { shard, order: 0, tag: 0, delivery: 0, epoch: 0, slot: 0 };
  }

  /** Gives the task to the worker; answers with the lease, an object that is used again. */
  take(slot: number, worker: Consumer, now: number): LeaseName {
    const { holds } = this;
    holds.decided[slot] = Decided.leasing;
    holds.holder[slot] = worker.id;
    holds.deliveredAt[slot] = now;
    worker.inFlight++;
    const lease = this.leaseOf(slot);
    this.journal.lease(slot, lease.order, lease.delivery, worker.session, now);
    return lease;
  }

  /** Gives a task back to a session that held it when the broker died, before the log knew. */
  retake(slot: number, sink: Sink, lease: LeaseName, now: number): void {
    this.holds.decided[slot] = Decided.leasing;
    this.holds.deliveredAt[slot] = now;
    this.keep(slot, sink, lease);
    this.journal.lease(slot, lease.order, lease.delivery, sink.session, now);
  }

  /** A session has named a lease that it holds: from now on it can be told of it, by that name. */
  keep(slot: number, sink: Sink, { epoch, slot: former }: LeaseName): void {
    if (epoch !== this.epoch) this.tokens.set(slot, { epoch, slot: former });
    // The session may have come here from another broker, whose word was the last so far.
    if (this.consumer(slot) || this.detached.get(slot) === sink) return;
    this.detached.set(slot, sink);
    sink.leaseKept(this.leaseOf(slot, this.issued(slot)));
  }

  /** The holder has it no more; answers with the attachment that has one task less, if there is one. */
  letGo(slot: number, now: number): Consumer | undefined {
    const consumer = this.consumer(slot);
    this.sink(slot)?.leaseEnded(this.leaseOf(slot, this.issued(slot)));
    this.forget(slot);
    if (!consumer) return undefined;
    this.holds.holder[slot] = NONE;
    consumer.settledOne(now - this.holds.deliveredAt[slot]!, now);
    this.subscriptions.credited(consumer);
    if (consumer.twin) this.subscriptions.credited(consumer.twin);
    return consumer;
  }

  /** Leases of the mailbox that the session held before this attachment was made belong to it now. */
  claim(consumer: Consumer, now: number): void {
    if (consumer.listener) return;
    for (const slot of this.heldBy(consumer.session)) {
      if (this.state.tasks.mailbox[slot] !== consumer.mailbox || this.holds.holder[slot] !== NONE) continue;
      this.holds.holder[slot] = consumer.id;
      this.holds.deliveredAt[slot] = now;
      this.detached.delete(slot);
      this.executors.delete(slot);
      consumer.inFlight++;
    }
  }

  /** The attachment goes; its session keeps the leases. */
  disown(consumer: Consumer): void {
    if (consumer.inFlight === 0) return;
    for (const slot of this.heldBy(consumer.session)) {
      if (this.holds.holder[slot] !== consumer.id) continue;
      this.holds.holder[slot] = NONE;
      this.detached.set(slot, consumer.sink);
      this.executors.set(slot, consumer.spec.agent);
    }
  }

  /** The slot is about to be free, or in its mailbox again. */
  clear(slot: number): void {
    this.holds.clear(slot);
    this.forget(slot);
  }

  /** Tells the holder to stop, if it is connected. */
  abort(slot: number, reason: string): void {
    this.sink(slot)?.abort(this.leaseOf(slot), reason);
  }

  /** Whether somebody holds the task, and nothing else has been decided. */
  isHeld(slot: number): boolean {
    const decided = this.holds.decided[slot];
    if (decided === Decided.leasing) return true;
    return decided === Decided.nothing && this.state.tasks.state[slot] === State.leased;
  }

  /** Slots that the session holds, as the log says or will say. */
  heldBy(session: string): number[] {
    const id = this.state.sessions.find(session);
    const logged = id < 0 ? [] : [...this.state.leasesOf(id)].filter((slot) => this.isHeld(slot));
    const coming = (slot: number): boolean => this.isComing(slot) && this.holderOf(slot) === session;
    return [...logged, ...new Set(this.journal.pendingLeases(session).filter(coming))];
  }

  /**
   * Whether the session holds the task under that lease. A delivery that the log had not heard of when the
   * broker died has the number of the next one, so the epoch counts, too, once the holder's is known.
   */
  isHolder(slot: number, session: string, { delivery, epoch }: LeaseName): boolean {
    if (this.delivery(slot) !== delivery || this.holderOf(slot) !== session) return false;
    return !this.sink(slot) || epoch === (this.tokens.get(slot)?.epoch ?? this.epoch);
  }

  /** The session that holds the task now, or ''. */
  holderOf(slot: number): string {
    const consumer = this.consumer(slot);
    if (consumer) return consumer.session;
    const { tasks, sessions } = this.state;
    if (tasks.state[slot] === State.leased) return sessions.text(tasks.session[slot]!);
    return this.isComing(slot) ? (this.detached.get(slot)?.session ?? '') : '';
  }

  /** The attachment that the task was delivered through, if it is still there. */
  consumer(slot: number): Consumer | undefined {
    return this.subscriptions.get(this.holds.holder[slot]!);
  }

  /** The agent that works on it, or ''. */
  executor(slot: number): string {
    return this.consumer(slot)?.spec.agent ?? this.executors.get(slot) ?? '';
  }

  /** Which delivery of the task is the current one. */
  delivery(slot: number): number {
    return this.state.tasks.deliveries[slot]! + (this.isComing(slot) ? 1 : 0);
  }

  /** The highest delivery of the task that was ever handed out. */
  issued(slot: number): number {
    const { tasks } = this.state;
    const coming = this.holds.decided[slot] !== Decided.nothing && tasks.state[slot] === State.queued;
    return tasks.deliveries[slot]! + (coming ? 1 : 0);
  }

  /** Whether its lease was decided and is not in the state yet. */
  private isComing(slot: number): boolean {
    return this.holds.decided[slot] === Decided.leasing && this.state.tasks.state[slot] === State.queued;
  }

  private forget(slot: number): void {
    this.detached.delete(slot);
    this.executors.delete(slot);
    this.tokens.delete(slot);
  }

  /** Where the holder can be told of the task. */
  private sink(slot: number): Sink | undefined {
    return this.consumer(slot)?.sink ?? this.detached.get(slot);
  }

  /** The lease of a task that is held, as its holder knows it; an object that is used again. */
  leaseOf(slot: number, delivery = this.delivery(slot)): LeaseName {
    const { lease } = this;
    const token = this.tokens.get(slot);
    const { tasks } = this.state;
    lease.order = tasks.order[slot]!;
    lease.tag = tasks.tag[slot]!;
    lease.delivery = delivery;
    lease.epoch = token?.epoch ?? this.epoch;
    lease.slot = token?.slot ?? slot;
    return lease;
  }
}
