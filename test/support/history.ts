import type { Applied } from '../../src/broker/apply.ts';
import { Applier } from '../../src/broker/apply.ts';
import { writeCheckpoint } from '../../src/broker/checkpoint.ts';
import { idKey } from '../../src/core/id-hash.ts';
import { type Epoch, ShardState } from '../../src/core/shard-state.ts';
import { Flag, Kind, NONE, State } from '../../src/core/task-table.ts';
import type { Subject } from '../../src/log/log.ts';
import { encodeEntry, type EntryHead } from '../../src/wire/entry.ts';
import { taskHash } from '../../src/wire/envelope.ts';
import { OwnerRecordWriter } from '../../src/wire/owner-record.ts';
import { TasksRecordWriter } from '../../src/wire/tasks-record.ts';
import { TextCache } from '../../src/wire/text-cache.ts';
import { SeededRandom } from './random.ts';

export const SHARDS = 2;
const KEY = idKey('history');
const MAILBOXES = ['planner', 'coder', 'type:ocr'];
const SESSIONS = ['00000000000000a1', '00000000000000b2'];
const OUTCOMES = [1, 2, 3, 4, 5];

interface Stored {
  readonly sequence: number;
  readonly subject: Subject;
  readonly bytes: Uint8Array;
}

/** The state that a shard's log says, and who reads it. */
interface Read {
  readonly state: ShardState;
  readonly applier: Applier;
}

/**
 * A shard's log with a random past: edges and other shards append to it, and owners follow one another,
 * which decide at random what owners may decide, copy, make checkpoints and cut.
 */
export class History {
  /** What the log retains. */
  retained: Stored[] = [];
  /** Who has read everything, and was there all the time. */
  readonly witness: Read;
  private owner: Read;
  private epoch: Epoch = { revision: 0, counter: 1 };
  private duplicates: { order: number; tag: number }[] = [];
  private readonly random: SeededRandom;
  private readonly known = new TextCache(64);
  private readonly parcels = Array.from({ length: SHARDS }, () => 0);
  private sequence = 0;
  private now = 1_000_000;
  private readonly knownIds: number;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.knownIds = 1 << this.random.below(8);
    this.witness = this.reader();
    this.witness.applier.live(this.applied(() => {}));
    this.owner = this.witness;
    this.takeOver();
  }

  /** Something happens. */
  step(): void {
    const { random } = this;
    this.now += random.below(1000);
    const what = random.below(20);
    if (what < 8) this.tasks();
    else if (what < 18) this.decisions();
    else if (what === 18) this.cut();
    else this.takeOver();
  }

  /** The state of one who reads what the log retains. */
  replay(): ShardState {
    return this.read().state;
  }

  private reader(): Read {
    const state = new ShardState(SHARDS, this.knownIds);
    return { state, applier: new Applier(state, this.known, KEY) };
  }

  private read(): Read {
    const reader = this.reader();
    for (const { sequence, subject, bytes } of this.retained) reader.applier.apply(sequence, subject, bytes);
    return reader;
  }

  private applied(duplicate: Applied['duplicate']): Applied {
    const nothing = (): void => {};
    return {
      duplicate,
      arrived: nothing,
      came: nothing,
      queued: nothing,
      broadcast: nothing,
      leased: nothing,
      died: nothing,
      ending: nothing,
      posted: nothing,
      epochBegan: nothing,
    };
  }

  private append(subject: Subject, bytes: Uint8Array): void {
    const sequence = ++this.sequence;
    this.retained.push({ sequence, subject, bytes });
    this.witness.applier.apply(sequence, subject, bytes);
    if (this.owner !== this.witness) this.owner.applier.apply(sequence, subject, bytes);
  }

  private tasks(): void {
    const { random } = this;
    const writer = new TasksRecordWriter();
    for (let left = 1 + random.below(4); left > 0; left--) {
      if (random.chance(0.2)) this.forward(writer);
      else {
        const mailbox = random.chance(0.1) ? '*' : this.one(MAILBOXES);
        writer.add(mailbox, this.one(['', 'ocr']), this.head(mailbox), Buffer.from(`task ${left}`), 0, 6);
      }
    }
    this.append('tasks', writer.finish(random.uint32(), this.now));
  }

  /** Parcels of another shard, the last one again now and then. */
  private forward(writer: TasksRecordWriter): void {
    const source = this.random.below(SHARDS);
    const again = this.parcels[source]! > 0 && this.random.chance(0.3);
    const number = again ? this.parcels[source]! : ++this.parcels[source]!;
    const hash = Uint32Array.of(number, source, 0, 99);
    const entry = encodeEntry(
      { ...this.head('planner'), kind: Kind.result, hash },
      Buffer.from(`result ${number}`),
    );
    writer.forward(source, number, [{ mailbox: 'reply:planner', type: '', entry }]);
  }

  private head(mailbox: string): EntryHead {
    const { random } = this;
    const hash = new Uint32Array(4);
    taskHash(KEY, mailbox, `id ${random.below(60)}`, hash);
    return {
      kind: mailbox === '*' ? Kind.broadcast : Kind.task,
      priority: random.below(5),
      flags: random.chance(0.5) ? Flag.answers : 0,
      maxAttempts: 0,
      hash,
      originHigh: 0,
      originLow: 0,
      deadline: random.chance(0.2) ? this.now + 500 : 0,
      notBefore: random.chance(0.2) ? this.now + 100 : 0,
    };
  }

  /** A record of the owner; by chance it begins with a checkpoint or copies, as prologues do. */
  private decisions(): void {
    const { random } = this;
    const { state } = this.owner;
    const record = new OwnerRecordWriter();
    if (random.chance(0.2)) record.checkpoint(this.checkpoint());
    if (random.chance(0.2)) this.copyOldest(record);
    this.dropDuplicates(record);
    for (const slot of state.tasks.slots()) if (random.chance(0.3)) this.decide(slot, record);
    const destination = random.below(SHARDS);
    if (random.chance(0.3)) this.post(destination, record);
    if (random.chance(0.3)) record.forwarded(destination, state.outbox.issued(destination));
    if (random.chance(0.2)) record.expect(`id ${random.below(60)}`, this.one(MAILBOXES), 'ocr', 'planner');
    if (random.chance(0.2))
      record.resolved(`id ${random.below(60)}`, this.one(MAILBOXES), this.one(OUTCOMES));
    this.append('owner', record.finishRecord(random.uint32(), this.epoch, this.now, false));
  }

  /** A checkpoint. Others may append before it is in the log, and it does not know of that. */
  private checkpoint(): Uint8Array {
    const checkpoint = writeCheckpoint(this.owner.state);
    for (let left = this.random.below(3); left > 0; left--) this.tasks();
    return checkpoint;
  }

  private decide(slot: number, record: OwnerRecordWriter): void {
    const { random } = this;
    const { tasks, types } = this.owner.state;
    const name = [tasks.order[slot]!, tasks.tag[slot]!, slot] as const;
    const deliveries = tasks.deliveries[slot]!;
    const what = random.below(5);
    if (tasks.kind[slot] === Kind.broadcast) {
      record.fanout(MAILBOXES.slice(random.below(2)), types.text(tasks.type[slot]!), this.copyOf(slot));
      record.finish(...name, 5);
    } else if (tasks.state[slot] === State.dead) {
      if (what < 2) record.revive(...name);
      else if (what === 2) record.finish(...name, 3);
    } else if (what === 0) record.lease(this.one(SESSIONS), ...name);
    else if (what === 1) record.release(...name, deliveries, this.now, random.chance(0.5));
    else if (what === 2 && tasks.kind[slot] === Kind.task && !(tasks.flags[slot]! & Flag.once)) {
      record.kill(...name, deliveries, 'attempts', `error ${slot}`, random.chance(0.5));
    } else record.finish(...name, this.one(OUTCOMES));
  }

  /** The bytes of a broadcast's copies, which are not tried again. */
  private copyOf(slot: number): Uint8Array {
    const { tasks, batches } = this.owner.state;
    const offset = tasks.offset[slot]!;
    const entry = Uint8Array.from(
      batches.bytes(tasks.batch[slot]!).subarray(offset, offset + tasks.length[slot]!),
    );
    entry[10] = entry[10]! | Flag.once;
    return entry;
  }

  private post(destination: number, record: OwnerRecordWriter): void {
    const number = this.owner.state.outbox.issued(destination) + 1;
    const entry = encodeEntry(
      { ...this.head('planner'), kind: Kind.result },
      Buffer.from(`parcel ${number}`),
    );
    record.post({ destination, number, mailbox: 'reply:coder', type: '', entry });
  }

  private copyOldest(record: OwnerRecordWriter): void {
    const { tasks, batches, mailboxes, types, sessions, deaths } = this.owner.state;
    const oldest = batches.oldest();
    if (oldest === NONE) return;
    for (const slot of tasks.slots()) {
      if (tasks.batch[slot] !== oldest) continue;
      const offset = tasks.offset[slot]!;
      record.copy(
        {
          order: tasks.order[slot]!,
          tag: tasks.tag[slot]!,
          slot,
          mailbox: mailboxes.name(tasks.mailbox[slot]!),
          type: types.text(tasks.type[slot]!),
          accepted: tasks.accepted[slot]!,
          attempts: tasks.attempts[slot]!,
          deliveries: tasks.deliveries[slot]!,
          notBefore: tasks.notBefore[slot]!,
          deadline: tasks.deadline[slot]!,
          flags: tasks.flags[slot]!,
          session: tasks.state[slot] === State.leased ? sessions.text(tasks.session[slot]!) : '',
          death: deaths.get(slot),
        },
        batches.bytes(oldest).subarray(offset, offset + tasks.length[slot]!),
      );
    }
  }

  private dropDuplicates(record: OwnerRecordWriter): void {
    for (const { order, tag } of this.duplicates.splice(0)) record.drop(order, tag, NONE);
  }

  /** The log is cut where it may be, once everything decided so far is in it. */
  private cut(): void {
    const cut = this.owner.state.cut();
    this.decisions();
    this.retained = this.retained.filter(({ sequence }) => sequence >= cut);
  }

  /** A new owner reads what the log retains and goes on; what the former one still writes says nothing. */
  private takeOver(): void {
    const { revision, counter } = this.epoch;
    this.duplicates = [];
    this.owner = this.read();
    const former = this.epoch;
    this.epoch = { revision, counter: counter + 1 };
    this.append(
      'owner',
      new OwnerRecordWriter().finishRecord(this.random.uint32(), this.epoch, this.now, true),
    );
    this.owner.applier.live(this.applied((order, tag) => this.duplicates.push({ order, tag })));
    if (this.random.chance(0.5)) this.late(former);
  }

  private late(epoch: Epoch): void {
    const record = new OwnerRecordWriter();
    const { tasks } = this.owner.state;
    for (const slot of tasks.slots()) record.finish(tasks.order[slot]!, tasks.tag[slot]!, slot, 1);
    this.append('owner', record.finishRecord(this.random.uint32(), epoch, this.now, false));
  }

  private one<T>(of: readonly T[]): T {
    return of[this.random.below(of.length)]!;
  }
}
