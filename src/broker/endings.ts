import { Awaiting, type Awaited } from '../core/awaiting.ts';
import type { Atlas } from '../core/atlas.ts';
import type { DeathReason, ShardState } from '../core/shard-state.ts';
import { Outcome } from '../core/shard-state.ts';
import { laneOf } from '../core/placement.ts';
import { mix } from '../core/murmur3.ts';
import { Flag, Kind, MOST_DELIVERIES, State } from '../core/task-table.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Random } from '../std/clock.ts';
import { backoff } from '../std/backoff.ts';
import { ByteWriter } from '../wire/bytes.ts';
import type { TaskFacts } from '../wire/envelope.ts';
import { EchoScan, taskFacts } from '../wire/envelope.ts';
import type { EntryHead } from '../wire/entry.ts';
import {
  entryBody,
  entryBodyStart,
  entryLength,
  entryMaxAttempts,
  entryOrigin,
  writeOrigin,
} from '../wire/entry.ts';
import type { Posting } from '../wire/owner-record.ts';
import type { ResultPayload } from '../wire/result.ts';
import { writeResult } from '../wire/result.ts';
import type { TextCache } from '../wire/text-cache.ts';
import { Decided, type Holds } from './holds.ts';
import type { Journal } from './journal.ts';

/** What a task that says nothing gets. */
export interface Delivery {
  readonly maxAttempts: number;
  readonly backoffInitialMs: number;
  readonly backoffMaxMs: number;
}

/** Who ended a task, and with what. */
export interface Answer {
  readonly executor: string;
  readonly payload: ResultPayload | undefined;
}

const NOBODY: Answer = { executor: '', payload: undefined };

/** What {@link Endings} are made of. */
export interface EndingsOptions {
  readonly shard: number;
  /** Where requesters' mailboxes live. */
  readonly atlas: Atlas;
  readonly state: ShardState;
  readonly journal: Journal;
  readonly holds: Holds;
  readonly delivery: Delivery;
  readonly metrics: Metrics;
  readonly random: Random;
  /** Names that were met lately. */
  readonly known: TextCache;
}

/**
 * The ways in which a task's delivery, or the task itself, ends. Each writes its decision to the
 * journal, with the result for the requester in the same record: both are decided, or neither.
 */
export class Endings {
  private readonly options: EndingsOptions;
  /** Parcels issued per destination, those of decisions that are not applied yet included. */
  private issued: number[] = [];
  private readonly parcel: EntryHead = {
    kind: Kind.result,
    priority: 2,
    flags: 0,
    maxAttempts: 0,
    hash: new Uint32Array(4),
    originHigh: 0,
    originLow: 0,
    deadline: 0,
    notBefore: 0,
  };
  private readonly echo = new EchoScan();
  private readonly address = new ByteWriter(512);
  /** Tasks that may be answered by name, and answers given, whose records are on their way. */
  private readonly expected = new Awaiting();
  private readonly answered = new Set<string>();

  constructor(options: EndingsOptions) {
    this.options = options;
  }

  /** Attempts of a task that does not say how many. */
  get defaultMaxAttempts(): number {
    return this.options.delivery.maxAttempts;
  }

  /** A worker completed it. */
  succeed(slot: number, executor: string, answer: ResultPayload | undefined, now: number): void {
    this.finish(slot, Outcome.succeeded, executor, '', answer, now);
  }

  /** It is not wanted any more: it ends, and its requester is told. */
  cancel(slot: number, reason: string, now: number): void {
    this.finish(slot, Outcome.cancelled, '', reason, undefined, now);
  }

  /** It was written to listeners only; if its requester wants a result, that may still come. */
  delivered(slot: number): void {
    const { state, journal } = this.options;
    if (state.tasks.flags[slot]! & Flag.answers && state.tasks.kind[slot] === Kind.task) {
      const { id, type, requester } = this.facts(slot);
      const mailbox = state.mailboxes.name(state.tasks.mailbox[slot]!);
      const origin = this.origin(slot);
      const awaited = { mailbox, type, requester: origin === '' ? requester : `${requester}#${origin}` };
      journal.record.expect(id, mailbox, type, awaited.requester);
      this.expected.add(id, awaited);
      this.finishSilently(slot, Outcome.delivered);
      journal.after(() => this.expected.delete(id, mailbox));
    } else this.finishSilently(slot, Outcome.delivered);
  }

  /** A task that was {@link delivered} and may still be answered: of that mailbox, or of any. */
  awaited(id: string, mailbox?: string): Awaited | undefined {
    return this.awaitedWhere(id, (one) => mailbox === undefined || one === mailbox);
  }

  /** The last one of that id in any mailbox that fits. */
  awaitedWhere(id: string, fits: (mailbox: string) => boolean): Awaited | undefined {
    const awaited = this.expected.find(id, fits) ?? this.options.state.awaiting.find(id, fits);
    return awaited && this.answered.has(`${id}\n${awaited.mailbox}`) ? undefined : awaited;
  }

  /** It ends and nobody is told: an acknowledged or expired result, a purged task. */
  finishSilently(slot: number, outcome: number): void {
    const { state, journal, holds } = this.options;
    holds.decided[slot] = Decided.ending;
    journal.record.finish(state.tasks.order[slot]!, state.tasks.tag[slot]!, slot, outcome);
    journal.touch();
  }

  /**
   * Its delivery failed or its lease ran out: it goes back to its mailbox after a pause, or is given
   * up when its attempts are used up.
   */
  retry(slot: number, error: string, retryAfterMs: number, now: number, by: Answer = NOBODY): void {
    const { state, delivery, random } = this.options;
    const { tasks } = state;
    if (tasks.kind[slot] === Kind.result)
      return this.giveBack(slot, now, now + delivery.backoffInitialMs, true);
    const attempts = tasks.attempts[slot]! + 1;
    if (tasks.flags[slot]! & Flag.once) return this.giveUp(slot, 'attempts', error, now, by);
    const bytes = state.batches.bytes(tasks.batch[slot]!);
    const most = entryMaxAttempts(bytes, tasks.offset[slot]!) || delivery.maxAttempts;
    if (attempts >= most) return this.giveUp(slot, 'attempts', error, now, by);
    const initialMs = this.facts(slot).backoffMs || delivery.backoffInitialMs;
    const pause =
      retryAfterMs || backoff(attempts, { initialMs, maxMs: delivery.backoffMaxMs }, random.float());
    this.giveBack(slot, now, now + pause, true);
  }

  /** It goes back to its mailbox, unless no lease of a further delivery could be told from a former one. */
  giveBack(slot: number, now: number, notBefore = 0, counts = false): void {
    const { state, journal, holds } = this.options;
    const deliveries = this.deliveries(slot);
    if (deliveries >= MOST_DELIVERIES)
      return this.giveUp(slot, 'attempts', `it came back from ${MOST_DELIVERIES} deliveries`, now);
    holds.decided[slot] = Decided.returning;
    const { order, tag } = state.tasks;
    journal.record.release(order[slot]!, tag[slot]!, slot, deliveries, notBefore, counts);
    journal.touch();
  }

  /** It becomes a dead letter, and its requester is told, with what its worker answered. */
  giveUp(slot: number, reason: DeathReason, error: string, now: number, by: Answer = NOBODY): void {
    const { state, journal, holds, metrics } = this.options;
    const { tasks } = state;
    if (tasks.kind[slot] === Kind.result) return this.finishSilently(slot, Outcome.expired);
    const expired = reason === 'deadline' || reason === 'retention';
    const outcome = expired ? Outcome.expired : Outcome.failed;
    if (tasks.flags[slot]! & Flag.once)
      return this.finish(slot, outcome, by.executor, error, by.payload, now);
    const deliveries = this.deliveries(slot);
    holds.decided[slot] = Decided.ending;
    const counts = !expired;
    journal.record.kill(
      tasks.order[slot]!,
      tasks.tag[slot]!,
      slot,
      deliveries,
      reason,
      clipped(error),
      counts,
    );
    this.answer(slot, outcome, by.executor, error, by.payload, now, counts);
    journal.touch();
    metrics.dead.of(reason).add();
    const type = metrics.taskTypes.of(state.types.text(tasks.type[slot]!));
    if (expired) type.expired.add();
    else type.failed.add();
    type.dead.add();
  }

  /** Sends the result of an {@link awaited} task. With an outcome it is the last one. */
  resolve(id: string, { mailbox, type, requester }: Awaited, outcome: number, result: Uint8Array): void {
    const { journal } = this.options;
    const ends = outcome !== 0;
    if (ends) journal.record.resolved(id, mailbox, outcome);
    const reply = `reply:${requester}`;
    this.beginParcel(this.options.atlas.shardOf(reply), reply, type).bytes(result);
    journal.record.endPost();
    journal.touch();
    if (!ends) return;
    const key = `${id}\n${mailbox}`;
    this.answered.add(key);
    journal.after(() => this.answered.delete(key));
  }

  /** It goes to another shard, as the entry says; here it has ended with that outcome. */
  send(slot: number, outcome: number, parcel: Omit<Posting, 'number'>): void {
    const { state, journal, holds } = this.options;
    holds.decided[slot] = Decided.ending;
    journal.record.finish(state.tasks.order[slot]!, state.tasks.tag[slot]!, slot, outcome);
    journal.record.post({ ...parcel, number: this.nextParcel(parcel.destination) });
    journal.touch();
  }

  /** Takes up the numbers where the log's state ends. */
  restart(): void {
    this.issued = [];
  }

  /** Deliveries of the task, one whose record is on its way included. */
  private deliveries(slot: number): number {
    const { state, holds } = this.options;
    const { tasks } = state;
    const coming = holds.decided[slot] === Decided.leasing && tasks.state[slot] === State.queued;
    return tasks.deliveries[slot]! + (coming ? 1 : 0);
  }

  /** What its publisher said of the task. */
  facts(slot: number): TaskFacts {
    const { state } = this.options;
    return taskFacts(entryBody(state.batches.bytes(state.tasks.batch[slot]!), state.tasks.offset[slot]!));
  }

  /** The mailbox that its publisher named: not the part of it that holds the task, if it is split. */
  addressee(slot: number): string {
    const { state, atlas } = this.options;
    const name = state.mailboxes.name(state.tasks.mailbox[slot]!);
    const part = atlas.isUntouched ? undefined : laneOf(name);
    return part && this.facts(slot).to === part.base ? part.base : name;
  }

  /** The session that published it, or ''. */
  origin(slot: number): string {
    const { state } = this.options;
    return entryOrigin(state.batches.bytes(state.tasks.batch[slot]!), state.tasks.offset[slot]!);
  }

  private finish(
    slot: number,
    outcome: number,
    executor: string,
    error: string,
    answer: ResultPayload | undefined,
    now: number,
  ): void {
    const { state, journal, holds } = this.options;
    holds.decided[slot] = Decided.ending;
    journal.record.finish(state.tasks.order[slot]!, state.tasks.tag[slot]!, slot, outcome);
    if (state.tasks.flags[slot]! & Flag.answers)
      this.answer(slot, outcome, executor, error, answer, now, true);
    journal.touch();
  }

  private answer(
    slot: number,
    outcome: number,
    executor: string,
    error: string,
    answer: ResultPayload | undefined,
    now: number,
    delivered: boolean,
  ): void {
    const { state, journal, atlas, known } = this.options;
    const { tasks, types, batches } = state;
    if (!(tasks.flags[slot]! & Flag.answers) || tasks.kind[slot] !== Kind.task) return;
    const { address, echo } = this;
    const record = batches.bytes(tasks.batch[slot]!);
    const at = tasks.offset[slot]!;
    echo.read(record, entryBodyStart(record, at), at + entryLength(record, at));
    address.length = 0;
    address.utf8('reply:');
    address.bytes(record, echo.requesterStart, echo.requesterEnd);
    writeOrigin(address, '#', record, at);
    const reply = address.written();
    const to = known.get(reply, 0, reply.length);
    const writer = this.beginParcel(atlas.shardOfBytes(reply, to), to, types.text(tasks.type[slot]!));
    const ending = {
      to: this.addressee(slot),
      outcome,
      executor,
      error: clipped(error),
      attempts: tasks.attempts[slot]! + (delivered ? 1 : 0),
      finishedAtMs: now,
    };
    writeResult(writer, record, echo, ending, answer);
    journal.record.endPost();
  }

  /** Begins a parcel with a result; the result is to be written to the answer. */
  private beginParcel(destination: number, mailbox: string, type: string): ByteWriter {
    const { shard, journal } = this.options;
    const number = this.nextParcel(destination);
    const { hash } = this.parcel;
    // Unique by where it comes from. The first word scatters parcels as the hash of an id would: all
    // shards count from 1, so that tables would otherwise find theirs side by side.
    hash[0] = mix(mix(shard + 1) ^ number);
    hash[1] = shard;
    hash[2] = number % 0x1_0000_0000;
    hash[3] = Math.floor(number / 0x1_0000_0000);
    return journal.record.beginPost(destination, number, mailbox, type, this.parcel);
  }

  private nextParcel(destination: number): number {
    const last = this.issued[destination] ?? this.options.state.outbox.issued(destination);
    this.issued[destination] = last + 1;
    return last + 1;
  }
}

/** Errors of workers are for people; the log keeps the beginning. */
function clipped(error: string): string {
  return error.length > 4096 ? `${error.slice(0, 4096)}…` : error;
}
