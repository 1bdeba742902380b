import type { Epoch } from '../core/shard-state.ts';
import type { Log } from '../log/log.ts';
import { backoff } from '../std/backoff.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import { type HubError, retryable } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { DecidedLease } from './lease-queue.ts';
import { LeaseQueue } from './lease-queue.ts';
import { OwnerRecordWriter } from '../wire/owner-record.ts';

/** An owner's record grows to about this size before another one is begun. */
const RECORD_BYTES = 192 * 1024;
/** A lease is written when it is this old, in milliseconds: most tasks have ended by then. */
const LEASE_MS = 20;
/** Writers that wait to be used again. */
const SPARE = 2;
/**
 * What precedes the decisions in a record is not joined with them beyond this: logs take 8 MiB, and alone either
 * is smaller, see `limits.taskBytes`.
 */
const JOINT_BYTES = 6 * 1024 * 1024;
/** Leases in one record. */
const LEASES = 16_384;
/** Tries of an append of which one is reported: about once a minute. */
const REPORT_TRIES = 60;
/** Copies of broadcasts in one record: fewer than a record can name. */
const FANNED_TASKS = 8000;

/** Who waits until a decision is as durable as the log. */
export type Waiter = () => void;

/** What a {@link Journal} is made of. */
export interface JournalOptions {
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics?: Metrics;
  readonly shard: number;
  /** Decisions gather for at least this long after others left, in milliseconds. */
  readonly tickMs: number;
  /** The tag of a task whose lease was decided, if that lease still holds; else `undefined`. */
  readonly leaseTag: (lease: DecidedLease) => number | undefined;
  /** The sequence of the last owner record that was applied. */
  readonly applied: () => number;
  /** Another owner has written since (`aborted`), or the log will never take the record. This journal is closed. */
  readonly fenced: (error: HubError) => void;
}

interface Batch {
  readonly record: OwnerRecordWriter;
  readonly waiters: Waiter[];
  /** Who is told if another owner keeps it from being written. */
  readonly losers: Waiter[];
}

/**
 * Writes an owner's decisions to its shard's log: all that has gathered as one record, one record
 * in flight. Every append but the first of an epoch is on condition that nobody else has written as
 * owner, so a former owner is refused and lets go.
 */
export class Journal {
  private readonly options: JournalOptions;
  private batch: Batch = { record: new OwnerRecordWriter(), waiters: [], losers: [] };
  /** Full records that wait for the one in flight. */
  private readonly sealed: Batch[] = [];
  private readonly spare: OwnerRecordWriter[] = [];
  private readonly leases = new LeaseQueue();
  private leasesInFlight: { slot: number; session: string }[] = [];
  private prologues: { write: (record: OwnerRecordWriter) => void; done: Waiter }[] = [];
  private fannedOut = 0;
  private epoch: Epoch = { revision: 0, counter: 0 };
  private last = 0;
  private appended = 0;
  private inFlight = false;
  /** Who is told if the record in flight is refused. */
  private losing: readonly Waiter[] = [];
  private closed = false;
  private urgent = false;
  private sentAt = 0;
  /** The next record is to be written even if it says nothing. */
  private proving = false;
  private takenAt = -Infinity;
  private timer: Timer | undefined;
  /** Who waits until nothing is left to write. */
  private finished: Waiter | undefined;

  constructor(options: JournalOptions) {
    this.options = options;
  }

  /** Where decisions are written. Call {@link touch} when one is complete: it may begin another record. */
  get record(): OwnerRecordWriter {
    return this.batch.record;
  }

  /** Nothing is waiting to be written, or being written. */
  get idle(): boolean {
    const waiting = this.sealed.length + this.leases.size + this.prologues.length + this.batch.waiters.length;
    return !this.inFlight && waiting === 0 && this.batch.record.empty;
  }

  /** Milliseconds for which the record in flight has had no answer. */
  unanswered(now: number): number {
    return this.inFlight ? now - this.sentAt : 0;
  }

  /** When the last record that the log has taken was first sent; this owner was the owner then, or later. */
  get confirmedAt(): number {
    return this.takenAt;
  }

  /** Begins an epoch: appends its first record without condition, and what was decided behind it. */
  open(epoch: Epoch, done: Waiter): void {
    this.epoch = epoch;
    const record = new OwnerRecordWriter();
    this.inFlight = true;
    this.send(this.finish(record, true), undefined, [done]);
  }

  /** Notes a lease, to be written in a while if it still holds then. */
  lease(slot: number, order: number, delivery: number, session: string, now: number): void {
    this.leases.push(slot, order, delivery, session, now);
    if (!this.timer) this.touchIn(LEASE_MS);
  }

  /** Slots of leases of that session that are not in the log yet. */
  pendingLeases(session: string): number[] {
    const inFlight = this.leasesInFlight.filter((lease) => lease.session === session);
    return [...inFlight.map(({ slot }) => slot), ...this.leases.slotsOf(session)];
  }

  /** A record has only so many copies of broadcasts, and bytes: say how many copies are coming. */
  reserve(copies: number): void {
    if (this.fannedOut + copies > FANNED_TASKS || this.batch.record.length > RECORD_BYTES) this.seal();
    this.fannedOut += copies;
  }

  /**
   * Calls the waiter when everything written so far is as durable as the log; or `lost` when another owner has
   * kept that from happening.
   */
  after(waiter: Waiter, lost?: Waiter): void {
    this.batch.waiters.push(waiter);
    if (lost) this.batch.losers.push(lost);
    this.touch();
  }

  /** Has the log confirm that nobody else is the owner, if need be by a record that says nothing. */
  prove(proved: Waiter): void {
    this.proving = true;
    this.after(proved);
  }

  /**
   * Has `write` called when the next record is begun: what it writes comes before all decisions in
   * there, and finds the state just as the log has it up to there.
   */
  prologue(write: (record: OwnerRecordWriter) => void, done: Waiter): void {
    this.prologues.push({ write, done });
    this.touch();
  }

  /** A decision is complete and may be written. */
  touch(): void {
    if (this.batch.record.length > RECORD_BYTES) this.seal();
    if (this.inFlight || this.closed || this.urgent) return;
    const { clock } = this.options;
    const wait = this.tickLeft();
    this.timer?.cancel();
    this.urgent = true;
    if (wait > 0) this.timer = clock.after(wait, () => this.flush());
    else {
      this.timer = { cancel() {} };
      clock.soon(() => this.flush());
    }
  }

  /** Milliseconds for which decisions still gather; a clock that was set back does not make it longer. */
  private tickLeft(): number {
    const { clock, tickMs } = this.options;
    const left = this.sentAt + tickMs - clock.now();
    return left <= tickMs ? left : 0;
  }

  /** There is something to write that is in no hurry. */
  private touchIn(ms: number): void {
    if (this.inFlight || this.closed || this.timer) return;
    this.timer = this.options.clock.after(ms, () => this.flush());
  }

  /** Writes everything now, the youngest leases too; `done` is called when nothing is left. */
  writeOut(done: Waiter): void {
    this.finished = done;
    if (this.idle) this.closing();
    else this.touch();
  }

  /** Another owner goes on: tells those who wanted to know that what they have waited for is not written. */
  lose(): void {
    this.close();
    for (const lost of [this.losing, ...this.sealed.map(({ losers }) => losers), this.batch.losers].flat())
      lost();
  }

  /** Nothing is written any more, and nobody is told. */
  close(): void {
    this.closed = true;
    this.timer?.cancel();
  }

  private seal(): void {
    this.fannedOut = 0;
    if (this.batch.record.empty && this.batch.waiters.length === 0) return;
    this.sealed.push(this.batch);
    this.batch = { record: this.spare.pop() ?? new OwnerRecordWriter(), waiters: [], losers: [] };
  }

  private flush(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.urgent = false;
    if (this.closed || this.inFlight) return;
    const head = this.spare.pop() ?? new OwnerRecordWriter();
    const prologues = this.options.applied() === this.last ? this.prologues.splice(0) : [];
    for (const prologue of prologues) prologue.write(head);
    this.leasesInFlight = [];
    this.leases.take(this.finished ? Infinity : this.options.clock.now() - LEASE_MS, LEASES, (lease) => {
      const tag = this.options.leaseTag(lease);
      if (tag === undefined) return;
      head.lease(lease.session, lease.order, tag, lease.slot);
      this.leasesInFlight.push({ slot: lease.slot, session: lease.session });
    });
    if (this.sealed.length === 0) this.seal();
    const next = this.sealed[0]?.record.length ?? 0;
    const batch = head.empty || head.length + next <= JOINT_BYTES ? this.sealed.shift() : undefined;
    if (batch) {
      head.append(batch.record);
      batch.record.reset();
      this.keep(batch.record);
    }
    const waiters = [...prologues.map(({ done }) => done), ...(batch?.waiters ?? [])];
    this.losing = batch?.losers ?? [];
    if (head.empty && !this.proving) {
      this.keep(head);
      this.losing = [];
      for (const waiter of waiters) waiter();
      this.touchAgain();
      return;
    }
    this.proving = false;
    this.inFlight = true;
    const bytes = this.finish(head, false);
    this.keep(head);
    this.send(bytes, this.last, waiters);
  }

  /** Writers are used again, a few of them: a record may have been large. */
  private keep(writer: OwnerRecordWriter): void {
    if (this.spare.length < SPARE) this.spare.push(writer);
  }

  private closing(): void {
    const { finished } = this;
    this.finished = undefined;
    finished?.();
  }

  private touchAgain(): void {
    if (this.idle) return this.closing();
    if (this.pressing) this.touch();
    else this.touchIn(Math.max(1, this.leases.oldest + LEASE_MS - this.options.clock.now()));
  }

  /** Whether something waits that can't wait as long as leases do. */
  private get pressing(): boolean {
    const waiting = this.sealed.length + this.prologues.length + this.batch.waiters.length;
    return waiting > 0 || !this.batch.record.empty || this.finished !== undefined;
  }

  private finish(record: OwnerRecordWriter, beginsEpoch: boolean): Buffer {
    const { random, clock } = this.options;
    return record.finishRecord(random.uint32(), this.epoch, clock.now(), beginsEpoch);
  }

  private send(
    bytes: Uint8Array,
    expectedOwner: number | undefined,
    waiters: readonly Waiter[],
    attempt = 0,
  ): void {
    const { log, shard, clock, random, logger, metrics } = this.options;
    const id = `o${shard}-${this.epoch.revision}-${this.epoch.counter}-${this.appended}`;
    if (attempt === 0) this.sentAt = clock.now();
    const append = {
      subject: 'owner',
      bytes,
      settles: true,
      id,
      ...(expectedOwner === undefined ? {} : { expectedOwner }),
    } as const;
    log.append(shard, append, (error, sequence) => {
      if (error) metrics?.appendFailures.of(error.code).add();
      if (this.closed) return;
      if (error && mayPass(error)) {
        if (attempt % REPORT_TRIES === 1)
          logger.warn({ shard, attempt, error: error.message }, 'decisions wait: the log does not take them');
        const wait = backoff(attempt, { initialMs: 20, maxMs: 1000 }, random.float());
        clock.after(wait, () => {
          if (!this.closed) this.send(bytes, expectedOwner, waiters, attempt + 1);
        });
        return;
      }
      if (error) {
        this.close();
        this.options.fenced(error);
        return;
      }
      metrics?.decisionSeconds.observe((clock.now() - this.sentAt) / 1000);
      metrics?.appendBytes.add(bytes.length);
      this.appended++;
      this.takenAt = this.sentAt;
      this.last = sequence;
      this.inFlight = false;
      this.losing = [];
      for (const waiter of waiters) waiter();
      // At once: a log that commits in groups takes this along with what has waited for the last group. What
      // must find the state as the log has it waits until this record has been applied.
      if (this.pressing && this.prologues.length === 0 && this.tickLeft() <= 0) this.flush();
      else this.touchAgain();
    });
  }
}

/**
 * Whether the log may take the same append later: when it answers again, has room, or an operator has given back
 * the right to write. Anything else will never change, and an owner that can't write must not go on.
 */
function mayPass(error: HubError): boolean {
  return error.code === 'permission' || (error.code !== 'aborted' && retryable(error));
}
