import type { Arrival, DeathReason } from '../core/shard-state.ts';
import type { IdKey } from '../core/id-hash.ts';
import { broadcastBeside } from '../core/namespace.ts';
import { outranks, type ShardState } from '../core/shard-state.ts';
import { Flag, Kind, NONE, orderOf, State } from '../core/task-table.ts';
import type { Subject } from '../log/log.ts';
import { HubError } from '../std/errors.ts';
import { ByteReader } from '../wire/bytes.ts';
import { rehashed, taskHash } from '../wire/envelope.ts';
import type { CopiedTask, OwnerOperations, Posting } from '../wire/owner-record.ts';
import type { TasksVisitor } from '../wire/tasks-record.ts';
import { Entry, entryLength } from '../wire/entry.ts';
import { readMoved } from '../wire/moved-entry.ts';
import { checkpointOf, readOwner, readOwnerHead } from '../wire/owner-record.ts';
import { readTasks } from '../wire/tasks-record.ts';
import type { TextCache } from '../wire/text-cache.ts';
import type { Checkpoint } from './checkpoint.ts';
import { readCheckpoint } from './checkpoint.ts';

/** What follows from a record for whoever serves the shard; a replay needs none of it. */
export interface Applied {
  /** A new task or result is in its mailbox. */
  arrived(slot: number): void;
  /** A task or result is in its mailbox that was in one of another shard before. */
  came(slot: number): void;
  /** A task is in its mailbox again: released, or revived. */
  queued(slot: number): void;
  /** A broadcast waits to be fanned out. */
  broadcast(slot: number): void;
  /** A session holds the task, as the log says too now. */
  leased(slot: number): void;
  /** It is a dead letter now. */
  died(slot: number): void;
  /** The slot is about to be free. */
  ending(slot: number): void;
  /** A task came whose id was known; the log must be told to forget it. */
  duplicate(order: number, tag: number): void;
  /** There is something to forward to that shard. */
  posted(destination: number): void;
  /** An owner has begun a later epoch: perhaps this one, perhaps another. */
  epochBegan(): void;
}

const NOTHING: Applied = {
  arrived() {},
  came() {},
  queued() {},
  broadcast() {},
  leased() {},
  died() {},
  ending() {},
  duplicate() {},
  posted() {},
  epochBegan() {},
};

/**
 * Applies the records of one shard's log to its state, in order. Pure: the same records give the
 * same state, always, and no others are needed.
 */
export class Applier implements TasksVisitor, OwnerOperations {
  private readonly state: ShardState;
  private readonly known: TextCache;
  private readonly key: IdKey;
  private applied: Applied = NOTHING;
  private readonly scratch = new Entry();
  private readonly arrival: Arrival = {
    order: 0,
    tag: 0,
    mailbox: 0,
    type: 0,
    kind: 0,
    priority: 0,
    flags: 0,
    a: 0,
    b: 0,
    c: 0,
    d: 0,
    accepted: 0,
    notBefore: 0,
    deadline: 0,
    batch: 0,
    offset: 0,
    length: 0,
  };
  private sequence = 0;
  private bytes: Uint8Array = new Uint8Array(0);
  private batch = NONE;
  private tag = 0;
  private now = 0;
  private names: readonly string[] = [];
  /** The record's names as mailboxes and as types, resolved when first met. */
  private mailboxIds: number[] = [];
  private typeIds: number[] = [];
  /** Tasks that the owner's record has fanned out so far. */
  private fanned = 0;
  private isLive = false;
  /** The first record that was read; 0: none yet. */
  private first = 0;
  /** Records of tasks behind the last one of an owner, while it is not known which ids were known. */
  private waiting: { readonly sequence: number; readonly bytes: Uint8Array }[] = [];
  /** Why the first of them that can't be read can't. */
  private unread: HubError | undefined;

  /** `known` names need no decoding; all shards of a broker may share them. `key` is that of the log. */
  constructor(state: ShardState, known: TextCache, key: IdKey) {
    this.state = state;
    this.key = key;
    this.known = known;
  }

  /** The replay is over: from now on, effects are told. */
  live(applied: Applied): void {
    if (!this.state.knowing) this.learn(undefined);
    this.applied = applied;
    this.isLive = true;
    for (const [order, tag] of this.state.undropped) applied.duplicate(order, tag);
  }

  /**
   * Applies the next record.
   *
   * @throws HubError `corrupt` if it can't be read; what it says before the unreadable place holds.
   */
  apply(sequence: number, subject: Subject, bytes: Uint8Array): void {
    if (this.first === 0) {
      this.first = sequence;
      this.state.knowing = sequence === 1 || this.isLive;
    }
    if (this.state.knowing) this.applyRecord(sequence, subject, bytes);
    else this.applyUnknowing(sequence, subject, bytes);
  }

  private applyRecord(sequence: number, subject: Subject, bytes: Uint8Array): void {
    const { state } = this;
    state.sequence = sequence;
    this.sequence = sequence;
    this.bytes = bytes;
    this.batch = NONE;
    try {
      if (subject === 'tasks') readTasks(bytes, this.scratch, this.known, this);
      else this.applyOwner();
    } catch (error) {
      if (error instanceof HubError) throw error;
      throw new HubError('corrupt', `record ${sequence} can't be read`, { cause: error });
    } finally {
      for (const id of this.mailboxIds) if (id !== undefined) state.mailboxes.release(id);
      for (const id of this.typeIds) if (id !== undefined) state.types.release(id);
      this.mailboxIds = [];
      this.typeIds = [];
      if (this.batch !== NONE) state.batches.release(this.batch);
    }
  }

  // ── Before it is known which ids were known ──────────────────────────────────────────────────

  /**
   * A replay that begins with a cut log can't tell a duplicate. It need not: up to a checkpoint, its owner has said
   * which ones to drop. What came while the checkpoint was on its way into the log waits for it, and is then judged
   * as it was when it came.
   */
  private applyUnknowing(sequence: number, subject: Subject, bytes: Uint8Array): void {
    if (subject === 'tasks') {
      this.waiting.push({ sequence, bytes });
      return;
    }
    const checkpoint = this.checkpointIn(bytes);
    if (checkpoint && checkpoint.cut >= this.first) this.learn(checkpoint);
    else this.applyWaiting(Infinity);
    const { unread } = this;
    this.unread = undefined;
    this.applyRecord(sequence, subject, bytes);
    if (unread) throw unread;
  }

  private checkpointIn(bytes: Uint8Array): Checkpoint | undefined {
    try {
      if (outranks(this.state.epoch, readOwnerHead(bytes).epoch)) return undefined;
      const checkpoint = checkpointOf(bytes);
      return checkpoint && readCheckpoint(checkpoint);
    } catch {
      // Whoever applies it will say so.
      return undefined;
    }
  }

  /** Takes over what a checkpoint says of the time before the log begins, or that there is none. */
  private learn(checkpoint: Checkpoint | undefined): void {
    const { state } = this;
    this.applyWaiting(checkpoint ? checkpoint.sequence : Infinity);
    if (checkpoint) {
      state.dedup.importRing(checkpoint.ring);
      state.outbox.restore(checkpoint);
      state.awaiting.clear();
      for (const [id, awaited] of checkpoint.awaiting) state.awaiting.add(id, awaited);
      for (const [order, tag] of checkpoint.undropped) {
        this.drop(order, tag, NONE);
        state.undropped.set(order, tag);
      }
    }
    state.knowing = true;
    for (const slot of state.tasks.slots()) this.know(slot);
    this.applyWaiting(Infinity);
  }

  private know(slot: number): void {
    const { tasks, batches, mailboxes, dedup } = this.state;
    this.scratch.read(new ByteReader(batches.bytes(tasks.batch[slot]!)), tasks.offset[slot]!);
    const { a, b, c, d } = this.scratch;
    // The entry of a copy is still that of the broadcast.
    const copy = (tasks.flags[slot]! & Flag.once) !== 0;
    const first = copy ? copied(a, mailboxes.name(tasks.mailbox[slot]!)) : a;
    const entry = dedup.find(first, b, c, d);
    if (entry < 0 || dedup.slot(entry) === NONE) this.state.know(slot, first, b, c, d);
    else {
      // Without a checkpoint nobody has said which one to drop.
      this.state.undropped.set(tasks.order[slot]!, tasks.tag[slot]!);
      this.state.drop(slot);
    }
  }

  private applyWaiting(upTo: number): void {
    let count = 0;
    for (const { sequence, bytes } of this.waiting) {
      if (sequence > upTo) break;
      count++;
      try {
        this.applyRecord(sequence, 'tasks', bytes);
      } catch (error) {
        this.unread ??= error as HubError;
      }
    }
    this.waiting.splice(0, count);
  }

  private applyOwner(): void {
    const { state } = this;
    const head = readOwnerHead(this.bytes);
    state.ownerSequence = this.sequence;
    if (outranks(state.epoch, head.epoch)) return;
    const begins = outranks(head.epoch, state.epoch);
    state.epoch = head.epoch;
    if (begins) this.applied.epochBegan();
    this.tag = head.tag;
    this.now = head.now;
    this.fanned = 0;
    readOwner(this.bytes, this.known, this);
  }

  begin(tag: number, accepted: number, entries: number, names: readonly string[]): void {
    this.tag = tag;
    this.arrival.accepted = accepted;
    this.names = names;
    this.batch = this.state.batches.open(this.sequence, this.bytes, entries);
  }

  entry(entry: Entry, index: number, source: number, number: number): void {
    const { arrival, state } = this;
    arrival.order = orderOf(this.sequence, index);
    arrival.tag = this.tag;
    this.fill(entry);
    if (source >= 0 && state.knowing && !state.outbox.receive(source, number)) {
      this.duplicate();
      return;
    }
    arrival.batch = this.batch;
    arrival.mailbox = this.mailboxIds[entry.mailbox] ??= state.mailboxes.acquire(this.name(entry.mailbox));
    arrival.type = this.typeIds[entry.type] ??= state.types.acquire(this.name(entry.type));
    if (entry.kind === Kind.moved) return this.moved(entry);
    const slot = state.enqueue(arrival);
    if (slot === NONE) {
      this.duplicate();
      return;
    }
    if (arrival.kind === Kind.broadcast) this.applied.broadcast(slot);
    else this.applied.arrived(slot);
  }

  /** A task that another shard sends along with all that is known of it. */
  private moved({ offset }: Entry): void {
    const { arrival, state } = this;
    const { task, start } = readMoved(this.bytes, offset);
    const { accepted } = arrival;
    arrival.kind = task.kind;
    arrival.flags = task.flags;
    arrival.accepted = task.accepted;
    arrival.notBefore = task.notBefore;
    arrival.deadline = task.deadline;
    arrival.offset = start;
    arrival.length = entryLength(this.bytes, start);
    const slot = state.welcome(arrival);
    arrival.accepted = accepted;
    if (slot === NONE) return this.duplicate();
    state.tasks.attempts[slot] = task.attempts;
    state.tasks.deliveries[slot] = task.deliveries;
    if (task.death) {
      state.tasks.state[slot] = State.dead;
      state.deaths.set(slot, task.death);
    }
    this.applied.came(slot);
  }

  lease(session: string, order: number, tag: number, hint: number): void {
    const slot = this.state.find(order, tag, hint);
    if (slot === NONE) return;
    const id = this.state.sessions.acquire(session);
    this.state.lease(slot, id);
    this.state.sessions.release(id);
    this.applied.leased(slot);
  }

  finish(order: number, tag: number, hint: number, outcome: number): void {
    const slot = this.state.find(order, tag, hint);
    if (slot === NONE) return;
    this.applied.ending(slot);
    this.state.finish(slot, outcome);
  }

  drop(order: number, tag: number, hint: number): void {
    this.state.undropped.delete(order);
    const slot = this.state.find(order, tag, hint);
    if (slot === NONE) return;
    this.applied.ending(slot);
    this.state.drop(slot);
  }

  release(
    order: number,
    tag: number,
    hint: number,
    deliveries: number,
    notBefore: number,
    counts: boolean,
  ): void {
    const slot = this.state.find(order, tag, hint);
    if (slot === NONE) return;
    this.state.release(slot, deliveries, notBefore, counts);
    this.applied.queued(slot);
  }

  kill(
    order: number,
    tag: number,
    hint: number,
    deliveries: number,
    reason: DeathReason,
    error: string,
    counts: boolean,
  ): void {
    const slot = this.state.find(order, tag, hint);
    if (slot === NONE) return;
    this.state.kill(slot, deliveries, { reason, error, at: this.now }, counts);
    this.applied.died(slot);
  }

  revive(order: number, tag: number, hint: number): void {
    const slot = this.state.find(order, tag, hint);
    if (slot === NONE || this.state.tasks.state[slot] !== State.dead) return;
    this.applied.ending(slot);
    this.state.revive(slot);
    this.applied.queued(slot);
  }

  fanout(mailboxes: readonly string[], type: string, bytes: Uint8Array): void {
    const { arrival, state } = this;
    this.openOwnerBatch();
    this.readEntry(bytes);
    const { a } = arrival;
    arrival.kind = Kind.task;
    arrival.tag = this.tag;
    arrival.batch = this.batch;
    const typeId = state.types.acquire(type);
    arrival.type = typeId;
    for (const mailbox of mailboxes) {
      arrival.mailbox = state.mailboxes.acquire(mailbox);
      arrival.order = orderOf(this.sequence, this.fanned++);
      arrival.a = copied(a, mailbox);
      const slot = state.enqueue(arrival);
      if (slot === NONE) this.duplicate();
      else this.applied.arrived(slot);
      state.mailboxes.release(arrival.mailbox);
    }
    state.types.release(typeId);
  }

  copy(task: CopiedTask, bytes: Uint8Array): void {
    const { arrival, state } = this;
    this.openOwnerBatch();
    const offset = bytes.byteOffset - this.bytes.byteOffset;
    const known = state.find(task.order, task.tag);
    if (known !== NONE) {
      state.relocate(known, this.batch, offset);
      return;
    }
    this.readEntry(bytes);
    arrival.order = task.order;
    arrival.tag = task.tag;
    arrival.accepted = task.accepted;
    arrival.notBefore = task.notBefore;
    arrival.deadline = task.deadline;
    arrival.flags = task.flags;
    if (task.flags & Flag.once) {
      // The entry is still that of the broadcast.
      arrival.kind = Kind.task;
      arrival.a = copied(arrival.a, task.mailbox);
    }
    arrival.batch = this.batch;
    arrival.mailbox = state.mailboxes.acquire(task.mailbox);
    arrival.type = state.types.acquire(task.type);
    const slot = state.adopt(arrival);
    state.tasks.attempts[slot] = task.attempts;
    state.tasks.deliveries[slot] = task.deliveries;
    if (task.session !== '') {
      const session = state.sessions.acquire(task.session);
      state.lease(slot, session);
      state.tasks.deliveries[slot] = task.deliveries;
      state.sessions.release(session);
    }
    if (task.death) {
      state.tasks.state[slot] = State.dead;
      state.deaths.set(slot, task.death);
    }
    state.mailboxes.release(arrival.mailbox);
    state.types.release(arrival.type);
  }

  post(posting: Posting): void {
    const { destination, number, mailbox, type, entry } = posting;
    this.state.outbox.add(destination, { number, mailbox, type, entry, sequence: this.sequence });
    this.applied.posted(destination);
  }

  forwarded(destination: number, upTo: number): void {
    this.state.outbox.forwarded(destination, upTo);
  }

  expect(id: string, mailbox: string, type: string, requester: string): void {
    this.state.awaiting.add(id, { mailbox, type, requester });
  }

  resolved(id: string, mailbox: string, outcome: number): void {
    const { awaiting, dedup } = this.state;
    awaiting.delete(id, mailbox);
    const hash = new Uint32Array(4);
    taskHash(this.key, mailbox, id, hash);
    const entry = dedup.find(hash[0]!, hash[1]!, hash[2]!, hash[3]!);
    if (entry >= 0 && dedup.slot(entry) === NONE) dedup.finish(entry, outcome);
  }

  checkpoint(bytes: Uint8Array): void {
    this.state.checkpointCut = readCheckpoint(bytes).cut;
  }

  private duplicate(): void {
    const { order, tag } = this.arrival;
    this.state.undropped.set(order, tag);
    this.applied.duplicate(order, tag);
  }

  private openOwnerBatch(): void {
    if (this.batch === NONE) this.batch = this.state.batches.open(this.sequence, this.bytes, 0);
  }

  /** Reads an entry that stands in the owner's record. */
  private readEntry(bytes: Uint8Array): void {
    const offset = bytes.byteOffset - this.bytes.byteOffset;
    this.scratch.read(new ByteReader(this.bytes), offset);
    this.fill(this.scratch);
    this.arrival.accepted = this.now;
    this.arrival.length = entryLength(this.bytes, offset);
  }

  private fill(entry: Entry): void {
    const { arrival } = this;
    arrival.kind = entry.kind;
    arrival.priority = entry.priority;
    arrival.flags = entry.flags;
    arrival.a = entry.a;
    arrival.b = entry.b;
    arrival.c = entry.c;
    arrival.d = entry.d;
    arrival.notBefore = entry.notBefore;
    arrival.deadline = entry.deadline;
    arrival.offset = entry.offset;
    arrival.length = entry.length;
  }

  private name(index: number): string {
    const name = this.names[index];
    if (name === undefined) throw new RangeError(`no name ${index}`);
    return name;
  }
}

/** The first word of the hash of a copy's id: its entry is that of the broadcast. */
function copied(word: number, mailbox: string): number {
  return rehashed(word, broadcastBeside(mailbox), mailbox);
}
