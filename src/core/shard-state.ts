import { Awaiting } from './awaiting.ts';
import { Batches } from './batches.ts';
import { Dedup } from './dedup.ts';
import { NumberMap } from './identity.ts';
import { Mailboxes } from './mailboxes.ts';
import { Names } from './names.ts';
import { Outbox } from './outbox.ts';
import { Flag, grown, Kind, MOST_DELIVERIES, NONE, RECORD_TASKS, State, TaskTable } from './task-table.ts';

/**
 * How a task ended; the numbers are those of `agenthub.v1.Outcome`, beside `moved`: it has not, it lives in another
 * shard.
 */
export const Outcome = {
  succeeded: 1,
  failed: 2,
  cancelled: 3,
  expired: 4,
  delivered: 5,
  moved: 255,
} as const;

/** Why the broker gave up on a task. */
export const DEATHS = ['attempts', 'rejected', 'deadline', 'retention', 'unreadable'] as const;
export type DeathReason = (typeof DEATHS)[number];

/** What is kept of a dead letter beside its task. */
export interface Death {
  readonly reason: DeathReason;
  readonly error: string;
  /** Unix milliseconds. */
  readonly at: number;
}

/** A task as it comes out of the log. One object is filled again and again by its reader. */
export interface Arrival {
  order: number;
  tag: number;
  /** From `ShardState.mailboxes` and `ShardState.types`; the state takes its own references. */
  mailbox: number;
  type: number;
  kind: number;
  /** 0 (low) to 4 (urgent). */
  priority: number;
  flags: number;
  /** The 128-bit name of the id. */
  a: number;
  b: number;
  c: number;
  d: number;
  accepted: number;
  notBefore: number;
  deadline: number;
  batch: number;
  offset: number;
  length: number;
}

/** A numbered ownership: the assignment's revision, then a counter within it. */
export interface Epoch {
  readonly revision: number;
  readonly counter: number;
}

/** Whether `a` is older than `b`. */
export function outranks(b: Epoch, a: Epoch): boolean {
  return b.revision > a.revision || (b.revision === a.revision && b.counter > a.counter);
}

/**
 * Everything a shard's log says: its tasks, leases, dead letters, known ids, and what is to be
 * forwarded. It is a function of the retained log alone: replaying gives the same state, always.
 *
 * Time, sessions that are connected, and who may get what next are not in here, see `ReadyQueues`
 * and `Subscriptions`. Methods take slots and don't check what their callers have decided.
 */
export class ShardState {
  readonly tasks = new TaskTable();
  readonly mailboxes = new Mailboxes();
  readonly batches = new Batches();
  readonly types = new Names();
  readonly sessions = new Names();
  readonly dedup: Dedup;
  /** Tags of duplicates that came and that no owner has dropped yet, by order. */
  readonly undropped = new Map<number, number>();
  /**
   * Whether it is known which ids were known before. If not, all that comes is added, and {@link dedup} knows of
   * nothing, until {@link know}.
   */
  knowing = true;
  readonly awaiting = new Awaiting();
  readonly deaths = new Map<number, Death>();
  /** Slots of tasks whose bytes do not stand in the record that named them, by order. */
  private readonly moved = new NumberMap();
  readonly outbox: Outbox;

  /** Of the last record that was applied. */
  sequence = 0;
  /** Of the last owner record: what the next conditional append must expect. */
  ownerSequence = 0;
  /**
   * The log must not be cut above that: whoever replays it finds all tasks that lived when the last checkpoint was
   * made, and so knows from there on all that was known.
   */
  checkpointCut = 0;
  epoch: Epoch = { revision: 0, counter: 0 };
  /** Of all its tasks: entries with their envelopes and payloads. */
  bytes = 0;
  /** The part of {@link bytes} that are results. */
  resultBytes = 0;

  private leaseHead = new Uint32Array(0);
  private leaseCount = new Uint32Array(0);

  constructor(shards: number, knownIds?: number) {
    this.outbox = new Outbox(shards);
    this.dedup = new Dedup(knownIds);
  }

  /** The slot of a task by its order, or `NONE`. */
  at(order: number): number {
    const slot = this.batches.slotAt(Math.floor(order / RECORD_TASKS), order % RECORD_TASKS);
    if (slot !== NONE && this.tasks.holds(slot, order)) return slot;
    const moved = this.moved.get(order);
    return moved < 0 ? NONE : moved;
  }

  /**
   * The slot of a task by its full name, or `NONE`: a reused sequence never hits another task. `hint` is
   * the slot where it was when it was named.
   */
  find(order: number, tag: number, hint = NONE): number {
    const slot = this.tasks.holds(hint, order) ? hint : this.at(order);
    return slot !== NONE && this.tasks.tag[slot] === tag ? slot : NONE;
  }

  /** Adds a task, unless its id is known: then `NONE`, and nothing has changed. */
  enqueue(arrival: Arrival): number {
    if (!this.knowing) return this.insert(arrival);
    const entry = this.dedup.admit(arrival.a, arrival.b, arrival.c, arrival.d);
    if (entry < 0) return NONE;
    const slot = this.insert(arrival);
    this.tasks.entry[slot] = entry;
    this.dedup.move(entry, slot);
    return slot;
  }

  /** Adds a task that another shard has sent, as {@link enqueue} does; one that had gone from here may come back. */
  welcome(arrival: Arrival): number {
    const { a, b, c, d } = arrival;
    const entry = this.knowing ? this.dedup.find(a, b, c, d) : -1;
    const left = entry >= 0 && this.dedup.slot(entry) === NONE && this.dedup.outcome(entry) === Outcome.moved;
    if (!left) return this.enqueue(arrival);
    const slot = this.insert(arrival);
    this.know(slot, a, b, c, d);
    return slot;
  }

  /** Adds a task again from an owner's copy of it: its id is live, wherever the copy stands. */
  adopt(arrival: Arrival): number {
    const slot = this.insert(arrival);
    if (this.knowing) this.know(slot, arrival.a, arrival.b, arrival.c, arrival.d);
    return slot;
  }

  /** The id of a live task, which was added while that was not {@link knowing}. */
  know(slot: number, a: number, b: number, c: number, d: number): void {
    this.tasks.entry[slot] = this.dedup.adopt(a, b, c, d, slot);
  }

  private insert(arrival: Arrival): number {
    const { tasks } = this;
    const slot = tasks.take(arrival.order);
    tasks.state[slot] = State.queued;
    tasks.kind[slot] = arrival.kind;
    tasks.priority[slot] = arrival.priority;
    tasks.flags[slot] = arrival.flags;
    tasks.attempts[slot] = 0;
    tasks.deliveries[slot] = 0;
    tasks.mailbox[slot] = arrival.mailbox;
    tasks.type[slot] = arrival.type;
    tasks.batch[slot] = arrival.batch;
    tasks.offset[slot] = arrival.offset;
    tasks.length[slot] = arrival.length;
    tasks.tag[slot] = arrival.tag;
    tasks.entry[slot] = NONE;
    tasks.session[slot] = NONE;
    tasks.next[slot] = NONE;
    tasks.prev[slot] = NONE;
    tasks.accepted[slot] = arrival.accepted;
    tasks.notBefore[slot] = arrival.notBefore;
    tasks.deadline[slot] = arrival.deadline;
    this.mailboxes.retain(arrival.mailbox);
    this.mailboxes.queued[arrival.mailbox]!++;
    this.mailboxes.bytes[arrival.mailbox]! += arrival.length;
    this.bytes += arrival.length;
    if (arrival.kind === Kind.result) this.resultBytes += arrival.length;
    this.types.retain(arrival.type);
    this.batches.retain(arrival.batch);
    if (!this.batches.place(arrival.batch, arrival.order, slot)) this.moved.set(arrival.order, slot);
    return slot;
  }

  /** A session, by a number of `sessions`, holds the task now. */
  lease(slot: number, session: number): void {
    const { tasks } = this;
    this.unlease(slot);
    const mailbox = tasks.mailbox[slot]!;
    this.mailboxes.queued[mailbox]!--;
    this.mailboxes.leased[mailbox]!++;
    tasks.state[slot] = State.leased;
    if (tasks.deliveries[slot]! < MOST_DELIVERIES) tasks.deliveries[slot]!++;
    tasks.session[slot] = session;
    this.sessions.retain(session);
    if (session >= this.leaseHead.length) {
      const size = Math.max(16, session * 2);
      const from = this.leaseHead.length;
      this.leaseHead = grown(this.leaseHead, new Uint32Array(size));
      this.leaseHead.fill(NONE, from);
      this.leaseCount = grown(this.leaseCount, new Uint32Array(size));
    }
    const head = this.leaseHead[session]!;
    tasks.prev[slot] = NONE;
    tasks.next[slot] = head;
    if (head !== NONE) tasks.prev[head] = slot;
    this.leaseHead[session] = slot;
    this.leaseCount[session]!++;
  }

  /** The task is in its mailbox again after so many deliveries, not to be delivered before that time. */
  release(slot: number, deliveries: number, notBefore: number, counts: boolean): void {
    this.unlease(slot);
    this.tasks.deliveries[slot] = deliveries;
    this.tasks.notBefore[slot] = notBefore;
    if (counts && this.tasks.attempts[slot]! < 255) this.tasks.attempts[slot]!++;
  }

  /** The task has ended; its slot is free. The id stays known with that outcome. */
  finish(slot: number, outcome: number): void {
    const entry = this.tasks.entry[slot]!;
    if (entry !== NONE) this.dedup.finish(entry, outcome);
    this.remove(slot);
  }

  /** A task that should not have been there: its id was known already. */
  drop(slot: number): void {
    const entry = this.tasks.entry[slot]!;
    // A copy of the first task of that id may have come since, and lives.
    if (entry !== NONE && this.dedup.slot(entry) === slot) this.dedup.detach(entry);
    this.remove(slot);
  }

  /** The task becomes a dead letter in `dead:<mailbox>`. */
  kill(slot: number, deliveries: number, death: Death, counts: boolean): void {
    const { tasks } = this;
    this.unlease(slot);
    tasks.deliveries[slot] = deliveries;
    if (counts && tasks.attempts[slot]! < 255) tasks.attempts[slot]!++;
    this.rehome(slot, `dead:${this.mailboxes.name(tasks.mailbox[slot]!)}`);
    tasks.state[slot] = State.dead;
    this.deaths.set(slot, death);
  }

  /** A dead letter goes back to where it came from, as if it had never been delivered. */
  revive(slot: number): void {
    const { tasks } = this;
    this.rehome(slot, this.mailboxes.name(tasks.mailbox[slot]!).slice('dead:'.length));
    tasks.state[slot] = State.queued;
    tasks.attempts[slot] = 0;
    tasks.notBefore[slot] = 0;
    tasks.deadline[slot] = 0;
    tasks.flags[slot] = tasks.flags[slot]! & ~Flag.deadline;
    this.deaths.delete(slot);
  }

  /** The bytes of the task stand in another record from now on. */
  relocate(slot: number, batch: number, offset: number): void {
    this.batches.retain(batch);
    this.batches.release(this.tasks.batch[slot]!);
    this.batches.place(batch, this.tasks.order[slot]!, slot);
    this.moved.set(this.tasks.order[slot]!, slot);
    this.tasks.batch[slot] = batch;
    this.tasks.offset[slot] = offset;
  }

  /** Slots leased by that session, newest first. The task may be changed while iterating. */
  *leasesOf(session: number): Generator<number> {
    let slot = session < this.leaseHead.length ? this.leaseHead[session]! : NONE;
    while (slot !== NONE) {
      const next = this.tasks.next[slot]!;
      yield slot;
      slot = next;
    }
  }

  /** How many slots that session has leased. */
  leasesHeld(session: number): number {
    return session < this.leaseCount.length ? this.leaseCount[session]! : 0;
  }

  /** Whether the log could be cut further if only there were a later checkpoint. */
  get heldByCheckpoint(): boolean {
    const oldest = this.batches.oldest();
    const needed = oldest === NONE ? Infinity : this.batches.sequence(oldest);
    return this.checkpointCut < Math.min(needed, this.outbox.oldest(), this.ownerSequence);
  }

  /** What a checkpoint made now has as its {@link checkpointCut}. */
  get floor(): number {
    const oldest = this.batches.oldest();
    return Math.min(this.sequence + 1, oldest === NONE ? Infinity : this.batches.sequence(oldest));
  }

  /** Where the log may be cut: all records below it have nothing left to say. */
  cut(): number {
    const oldest = this.batches.oldest();
    return Math.min(
      oldest === NONE ? Infinity : this.batches.sequence(oldest),
      this.outbox.oldest(),
      this.checkpointCut,
      this.ownerSequence,
    );
  }

  private remove(slot: number): void {
    const { tasks, mailboxes } = this;
    this.unlease(slot);
    const mailbox = tasks.mailbox[slot]!;
    mailboxes.queued[mailbox]!--;
    mailboxes.bytes[mailbox]! -= tasks.length[slot]!;
    this.bytes -= tasks.length[slot]!;
    if (tasks.kind[slot] === Kind.result) this.resultBytes -= tasks.length[slot]!;
    if (tasks.state[slot] === State.dead) this.deaths.delete(slot);
    this.types.release(tasks.type[slot]!);
    if (this.moved.size > 0) this.moved.delete(tasks.order[slot]!);
    this.batches.release(tasks.batch[slot]!);
    mailboxes.release(mailbox);
    tasks.give(slot);
  }

  private unlease(slot: number): void {
    const { tasks } = this;
    if (tasks.state[slot] !== State.leased) return;
    const session = tasks.session[slot]!;
    const next = tasks.next[slot]!;
    const prev = tasks.prev[slot]!;
    if (prev === NONE) this.leaseHead[session] = next;
    else tasks.next[prev] = next;
    if (next !== NONE) tasks.prev[next] = prev;
    tasks.next[slot] = NONE;
    tasks.prev[slot] = NONE;
    tasks.session[slot] = NONE;
    this.leaseCount[session]!--;
    this.sessions.release(session);
    tasks.state[slot] = State.queued;
    const mailbox = tasks.mailbox[slot]!;
    this.mailboxes.leased[mailbox]!--;
    this.mailboxes.queued[mailbox]!++;
  }

  private rehome(slot: number, name: string): void {
    const { tasks, mailboxes } = this;
    const from = tasks.mailbox[slot]!;
    const to = mailboxes.acquire(name);
    mailboxes.queued[from]!--;
    mailboxes.bytes[from]! -= tasks.length[slot]!;
    mailboxes.queued[to]!++;
    mailboxes.bytes[to]! += tasks.length[slot]!;
    tasks.mailbox[slot] = to;
    mailboxes.release(from);
  }
}
