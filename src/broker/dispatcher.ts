import { DirtySet } from '../core/dirty-set.ts';
import type { ReadyQueues } from '../core/ready.ts';
import { isOverdue } from '../core/ready.ts';
import type { ShardState } from '../core/shard-state.ts';
import type { Subscriptions } from '../core/subscription.ts';
import { takes } from '../core/subscription.ts';
import { Kind, NONE } from '../core/task-table.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { LeaseName } from '../wire/lease.ts';
import { entryBodyStart } from '../wire/entry.ts';
import type { Consumer } from './consumer.ts';
import type { Endings } from './endings.ts';
import type { Holders } from './holders.ts';
import type { TaskTraces } from './traces.ts';

/** Tasks that one turn looks at and nobody takes, before others have theirs. */
const LOOKED_AT = 4000;

/** What a {@link Dispatcher} is made of. */
export interface DispatcherOptions {
  readonly shard: number;
  readonly state: ShardState;
  readonly ready: ReadyQueues;
  readonly subscriptions: Subscriptions<Consumer>;
  readonly holders: Holders;
  readonly endings: Endings;
  readonly metrics: Metrics;
  /** `undefined`: nothing is traced. */
  readonly traces: TaskTraces | undefined;
  /** Whether that session is connected, or may still come back. */
  readonly isAlive: (session: string) => boolean;
  /** Whether tasks must wait, since settling them could fill the log; results don't. */
  readonly starved: () => boolean;
  /** The task was handed to a worker. */
  readonly handedOut: (slot: number) => void;
  /** There is more to look at in the mailbox; {@link Dispatcher.mark} it in a while, and run. */
  readonly later: (mailbox: number) => void;
}

/** Pairs the tasks that may be delivered with who may get them, and delivers. */
export class Dispatcher {
  private readonly options: DispatcherOptions;
  /** Mailboxes that may have something for somebody. */
  private readonly dirty = new DirtySet();
  /** Lanes of replies that hold something, by the mailbox they are lanes of. */
  private readonly lanes = new Map<string, Set<number>>();
  /** The names of the lanes that are in there, by their numbers, which may be used again. */
  private readonly noted: (string | undefined)[] = [];
  private running = false;
  /** Whether tasks must wait, once that was asked in this run: it takes 0.2 µs. */
  private starved: boolean | undefined;
  private now = 0;
  private readonly isReady = (consumer: Consumer): boolean => consumer.sink.ready(consumer);

  constructor(options: DispatcherOptions) {
    this.options = options;
  }

  /** Something has changed for the mailbox: {@link run} shall look at it. */
  mark(mailbox: number): void {
    this.dirty.add(mailbox);
  }

  /** Something has changed for the attachment: its mailbox, and the lanes it may serve. */
  markFor(consumer: Consumer): void {
    this.dirty.add(consumer.mailbox);
    const { mailboxes } = this.options.state;
    if (!mailboxes.mayHaveLanes(consumer.mailbox)) return;
    for (const lane of this.lanes.get(mailboxes.name(consumer.mailbox)) ?? []) this.dirty.add(lane);
  }

  /** Whether {@link run} has something to look at. */
  get pending(): boolean {
    return !this.dirty.empty;
  }

  /** Attachments have come or gone: what nobody wanted may be wanted now. */
  receiversChanged(consumer: Consumer): void {
    const { state, ready } = this.options;
    ready.reconsider(consumer.mailbox);
    if (this.lanes.size === 0) return;
    for (const lane of this.lanes.get(state.mailboxes.name(consumer.mailbox)) ?? []) ready.reconsider(lane);
  }

  /** Delivers what can be delivered of the mailboxes that were marked. */
  run(now: number): void {
    if (this.running) return;
    this.running = true;
    this.now = now;
    this.starved = undefined;
    this.dirty.drain(this.dispatch);
    this.running = false;
  }

  /** A result has come; if it is in a lane, that is remembered for the case that its session is gone. */
  noteLane(mailbox: number): void {
    const { mailboxes } = this.options.state;
    if (!mailboxes.isLane(mailbox)) return;
    const name = mailboxes.name(mailbox);
    if (this.noted[mailbox] === name) return;
    this.noted[mailbox] = name;
    const base = baseOf(name);
    const lanes = this.lanes.get(base);
    if (lanes) lanes.add(mailbox);
    else this.lanes.set(base, new Set([mailbox]));
  }

  /** Marks all lanes, since sessions may be gone, and forgets empty ones. */
  markLanes(): void {
    const { mailboxes } = this.options.state;
    for (const [base, lanes] of this.lanes) {
      for (const lane of lanes) {
        if (mailboxes.has(lane) && mailboxes.isLane(lane) && baseOf(mailboxes.name(lane)) === base)
          this.dirty.add(lane);
        else {
          lanes.delete(lane);
          this.noted[lane] = undefined;
        }
      }
      if (lanes.size === 0) this.lanes.delete(base);
    }
  }

  private readonly dispatch = (mailbox: number): void => {
    const { state, ready, subscriptions, endings } = this.options;
    if (ready.count(mailbox) === 0) return;
    const receivers = this.receiversOf(mailbox);
    const workers = subscriptions.workers(receivers);
    const listeners = subscriptions.listeners(receivers);
    if (workers.length === 0 && listeners.length === 0) return;
    const filtered = subscriptions.filtered(receivers) || listeners.some((one) => one.spec.taskIds.size > 0);
    // Types that nobody takes now; what is set aside of the others may be next.
    const blocked = filtered || ready.hasAside(mailbox) ? new Set<number>() : undefined;
    let left = LOOKED_AT;
    for (;;) {
      const slot = ready.peek(mailbox, blocked);
      if (slot === NONE) break;
      if (isOverdue(state, slot, this.now)) {
        ready.remove(slot);
        endings.giveUp(slot, 'deadline', 'the deadline passed before it was delivered', this.now);
        continue;
      }
      if (state.tasks.kind[slot] === Kind.task && this.isStarved()) break;
      if (blocked?.has(state.tasks.type[slot]!)) {
        ready.setAside(slot, false);
        if (--left > 0) continue;
        this.options.later(mailbox);
        break;
      }
      const type = filtered ? state.types.text(state.tasks.type[slot]!) : '';
      if (workers.length > 0) {
        const worker = subscriptions.choose(receivers, type, this.isReady);
        if (worker) {
          ready.remove(slot);
          if (listeners.length > 0) this.copyTo(listeners, slot, type);
          this.handOut(slot, worker);
          continue;
        }
        if (!blocked || !subscriptions.idle(receivers)) break;
      } else if (this.copyToAll(listeners, slot, type)) continue;
      else if (!blocked) break;
      else if (!listeners.some((listener) => this.wants(listener, slot, type))) {
        ready.setAside(slot, true);
        if (--left > 0) continue;
        this.options.later(mailbox);
        break;
      } else if (!listeners.some(this.isReady)) break;
      blocked.add(state.tasks.type[slot]!);
    }
  };

  private isStarved(): boolean {
    return (this.starved ??= this.options.starved());
  }

  /** The mailbox whose consumers get what is in this one: its own, unless it is an orphaned lane. */
  private receiversOf(mailbox: number): number {
    const { state, subscriptions, isAlive } = this.options;
    const { mailboxes } = state;
    if (!mailboxes.isLane(mailbox) || subscriptions.workers(mailbox).length > 0) return mailbox;
    const name = mailboxes.name(mailbox);
    const base = mailboxes.find(baseOf(name));
    if (base < 0) return mailbox;
    // A stream of results without acknowledgements speaks for its agent, whatever session asked.
    const waits = isAlive(name.slice(name.indexOf('#') + 1)) && subscriptions.listeners(base).length === 0;
    return waits ? mailbox : base;
  }

  private handOut(slot: number, worker: Consumer): void {
    const { state, holders, metrics, handedOut, traces } = this.options;
    const lease = holders.take(slot, worker, this.now);
    this.write(slot, worker, lease);
    metrics.delivered.add();
    if (lease.delivery > 1) metrics.redelivered.add();
    else metrics.routing.observe((this.now - state.tasks.accepted[slot]!) / 1000);
    if (state.tasks.flags[slot] !== 0) handedOut(slot);
    if (traces !== undefined && state.tasks.kind[slot] === Kind.task) this.trace(traces, slot, worker);
  }

  private trace(traces: TaskTraces, slot: number, worker: Consumer): void {
    const { tasks, batches } = this.options.state;
    const bytes = batches.bytes(tasks.batch[slot]!);
    const offset = tasks.offset[slot]!;
    traces.delivered(bytes, entryBodyStart(bytes, offset), offset + tasks.length[slot]!, {
      shard: this.options.shard,
      session: worker.session,
      attempt: tasks.attempts[slot]! + 1,
      acceptedMs: tasks.accepted[slot]!,
    });
  }

  private write(slot: number, consumer: Consumer, lease: LeaseName | undefined): void {
    const { tasks, batches } = this.options.state;
    const bytes = batches.bytes(tasks.batch[slot]!);
    const offset = tasks.offset[slot]!;
    consumer.sink.deliver(
      consumer.spec.number,
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
    const { state, metrics } = this.options;
    if (state.tasks.deliveries[slot]! > 0) return;
    for (const listener of listeners) {
      if (!this.wants(listener, slot, type)) continue;
      if (this.isReady(listener)) this.write(slot, listener, undefined);
      else metrics.copiesDropped.add();
    }
  }

  /** Gives all listeners that want it a copy, and is done with it; false if there are none or one is not ready. */
  private copyToAll(listeners: readonly Consumer[], slot: number, type: string): boolean {
    const { state, ready, metrics, endings } = this.options;
    const takers = listeners.filter((listener) => this.wants(listener, slot, type));
    if (takers.length === 0 || !takers.every(this.isReady)) return false;
    ready.remove(slot);
    for (const listener of takers) this.write(slot, listener, undefined);
    metrics.delivered.add(takers.length);
    metrics.routing.observe((this.now - state.tasks.accepted[slot]!) / 1000);
    endings.delivered(slot);
    return true;
  }

  private wants(listener: Consumer, slot: number, type: string): boolean {
    if (!takes(listener, type)) return false;
    const { taskIds } = listener.spec;
    return taskIds.size === 0 || taskIds.has(this.options.endings.facts(slot).id);
  }
}

/** The mailbox of replies that a lane belongs to. */
function baseOf(lane: string): string {
  return lane.slice(0, lane.indexOf('#'));
}
