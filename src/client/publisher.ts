import { backoff } from '../std/backoff.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import { ERRORS, HubError, retryable } from '../std/errors.ts';
import { PublishWriter } from '../wire/client-batch.ts';
import type { PublishAck } from '../wire/gen/agenthub/v1/session_pb.ts';
import { errorOfRefusal } from '../wire/status.ts';
import type { TaskFields } from '../wire/task.ts';
import type { Durability } from './messages.ts';
import { durabilityName } from './messages.ts';
import type { Outbox } from './outbox.ts';

const BATCH_BYTES = 256 * 1024;
const SWEEP_MS = 500;
const RETRY = { initialMs: 100, maxMs: 5_000 };

/** An accepted task. */
export interface TaskHandle {
  readonly id: string;
  readonly mailbox: string;
  /** What it is safe from. */
  readonly durability: Durability;
  /** Broadcasts: how many mailboxes got a copy. Otherwise undefined. */
  readonly recipients: number | undefined;
}

/** What became of one task of a batch. */
export interface PublishOutcome {
  readonly id: string;
  readonly mailbox: string;
  /** Undefined: it was accepted. */
  readonly error: HubError | undefined;
  /** Broadcasts: how many mailboxes got a copy. */
  readonly recipients: number | undefined;
}

/** What became of a batch, in its order. */
export interface BatchOutcome {
  /** What the accepted tasks are safe from. */
  readonly durability: Durability;
  readonly outcomes: readonly PublishOutcome[];
}

/** How much a {@link Publisher} takes on. */
export interface PublisherLimits {
  /** Bytes of not acknowledged tasks above which publishing waits. */
  readonly unacknowledgedBytes: number;
  /** Milliseconds after which a task that was not accepted is given up. */
  readonly timeoutMs: number;
}

/** A task that waits alone for its ack. */
interface Single {
  readonly task: TaskFields;
  readonly durability: number;
  readonly retry: boolean;
  readonly giveUpAt: number;
  attempts: number;
  readonly resolve: (handle: TaskHandle) => void;
  readonly reject: (error: HubError) => void;
}

/** A batch on its way. */
interface Batch {
  readonly part: Buffer;
  /** Its tasks. */
  readonly count: number;
  readonly giveUpAt: number;
  readonly acknowledged: (ack: PublishAck) => void;
  readonly failed: (error: HubError) => void;
}

type Outcome = { -readonly [Key in keyof PublishOutcome]: PublishOutcome[Key] };

/**
 * Publishes tasks. What is published in one turn leaves as one batch; batches are kept until the
 * broker has acknowledged them, and said again in their order on every new connection until then.
 * Because their tasks have ids, none is accepted twice.
 */
export class Publisher {
  private readonly outbox: Outbox;
  private readonly clock: Clock;
  private readonly random: Random;
  private readonly limits: PublisherLimits;
  private readonly writer = new PublishWriter();
  private readonly unacknowledged = new Map<number, Batch>();
  private readonly retries = new Map<Single, Timer>();
  private bytes = 0;
  private batch = 0;
  /** The tasks of the open batch; undefined: none is open. */
  private singles: Single[] | undefined;
  private durability = 0;
  private held = false;
  private sweeper: Timer | undefined;
  /** Those who wait for their turn, because too much is not acknowledged. */
  private readonly queue: (() => void)[] = [];
  private finishing: (() => void)[] = [];
  private error: HubError | undefined;
  /** The largest task, in bytes. */
  taskBytes = Infinity;
  /** The most tasks in one batch. */
  batchTasks = 1000;

  constructor(outbox: Outbox, clock: Clock, random: Random, limits: PublisherLimits) {
    this.outbox = outbox;
    this.clock = clock;
    this.random = random;
    this.limits = limits;
  }

  /** Whether everything that was published has its answer. */
  get idle(): boolean {
    return this.singles === undefined && this.unacknowledged.size === 0 && this.retries.size === 0;
  }

  /**
   * Publishes a task. With `retry`, a refusal that may pass is not the end until the timeout.
   *
   * @throws HubError with the code of the refusal, or `deadline` if there was no answer in time.
   */
  async publish(task: TaskFields, durability: number, retry: boolean): Promise<TaskHandle> {
    const giveUpAt = this.clock.now() + this.limits.timeoutMs;
    if (this.crowded) {
      await this.turn();
      if (this.clock.now() >= giveUpAt) {
        this.next();
        throw this.error ?? this.late();
      }
    }
    const handle = new Promise<TaskHandle>((resolve, reject) => {
      this.add({ task, durability, retry, giveUpAt, attempts: 0, resolve, reject });
    });
    this.next();
    return handle;
  }

  /**
   * Publishes tasks as one batch, or as few as the limits allow. It does not reject and retries
   * nothing: what failed is in the outcomes.
   */
  async publishBatch(tasks: readonly TaskFields[], durability: number): Promise<BatchOutcome> {
    const outcomes = tasks.map(({ id, to }): Outcome => ({
      id,
      mailbox: to,
      error: undefined,
      recipients: undefined,
    }));
    const answers: Promise<number>[] = [];
    for (let from = 0; from < tasks.length;) {
      if (this.crowded) await this.turn();
      this.close();
      const sent: Outcome[] = [];
      this.writer.open(++this.batch, durability);
      while (from < tasks.length && sent.length < this.batchTasks && this.writer.bytes < BATCH_BYTES) {
        const outcome = outcomes[from]!;
        if (this.writer.add(tasks[from]!, this.taskBytes)) sent.push(outcome);
        else outcome.error = this.tooLarge();
        from++;
      }
      const part = this.writer.take();
      if (sent.length > 0) answers.push(this.batchAnswer(part, sent));
      this.next();
    }
    const levels = await Promise.all(answers);
    // 0 is the level of what failed: it says nothing of the others.
    const accepted = levels.filter((level) => level > 0);
    return { durability: durabilityName(Math.min(...accepted)), outcomes };
  }

  /** Says what has gathered in this turn. */
  speak(): void {
    this.close();
  }

  /** The broker takes no tasks any more: keep them until the next connection. */
  hold(): void {
    this.held = true;
  }

  /** There is a new connection: says again what the broker may not have got. */
  welcomed(): void {
    this.held = false;
    for (const { part } of this.unacknowledged.values()) this.outbox.say(part);
    if (this.singles !== undefined) this.outbox.wake();
  }

  acknowledged(ack: PublishAck): void {
    const number = Number(ack.batch);
    // A broker that stops has refused what was on its way: it is said again on the next connection.
    if (this.held && this.unacknowledged.get(number)?.count === unavailable(ack)) return;
    this.forget(number)?.acknowledged(ack);
    this.answered();
  }

  /** Resolves when everything has its answer. */
  whenIdle(): Promise<void> {
    if (this.idle) return Promise.resolve();
    return new Promise((resolve) => this.finishing.push(resolve));
  }

  /** The session is over: what has no answer fails with `error`. */
  over(error: HubError): void {
    this.error = error;
    this.close();
    for (const number of [...this.unacknowledged.keys()]) this.forget(number)?.failed(error);
    for (const [single, timer] of this.retries) {
      timer.cancel();
      single.reject(error);
    }
    this.retries.clear();
    this.sweeper?.cancel();
    this.answered();
  }

  private add(single: Single): void {
    if (this.error !== undefined) return single.reject(this.error);
    if (this.singles !== undefined && (this.durability !== single.durability || this.bulky)) this.close();
    if (this.singles === undefined) {
      this.singles = [];
      this.durability = single.durability;
      this.writer.open(++this.batch, single.durability);
      this.outbox.wake();
    }
    if (this.writer.add(single.task, this.taskBytes)) this.singles.push(single);
    else single.reject(this.tooLarge());
  }

  private get bulky(): boolean {
    return this.writer.count >= this.batchTasks || this.writer.bytes >= BATCH_BYTES;
  }

  /** Sends the open batch of single tasks. */
  private close(): void {
    const { singles } = this;
    if (singles === undefined) return;
    this.singles = undefined;
    const part = this.writer.take();
    if (singles.length === 0) return;
    this.send({
      part,
      count: singles.length,
      giveUpAt: this.clock.now() + this.limits.timeoutMs,
      acknowledged: (ack) => this.answerSingles(singles, ack),
      failed: (error) => {
        for (const single of singles) single.reject(error);
      },
    });
  }

  private answerSingles(singles: readonly Single[], ack: PublishAck): void {
    const durability = durabilityName(ack.durability);
    const refused = new Map(ack.refused.map((refusal) => [refusal.index, refusal]));
    const recipients = new Map(ack.recipients.map(({ index, count }) => [index, count]));
    for (const [index, single] of singles.entries()) {
      const refusal = refused.get(index);
      if (refusal !== undefined) this.refused(single, errorOfRefusal(refusal));
      else {
        const { id, to } = single.task;
        single.resolve({ id, mailbox: to, durability, recipients: recipients.get(index) });
      }
    }
  }

  private refused(single: Single, error: HubError): void {
    single.attempts++;
    const wait = error.retryAfterMs ?? backoff(single.attempts, RETRY, this.random.float());
    if (!single.retry || !retryable(error) || this.clock.now() + wait > single.giveUpAt) {
      return single.reject(error);
    }
    const timer = this.clock.after(wait, () => {
      this.retries.delete(single);
      this.add(single);
    });
    this.retries.set(single, timer);
  }

  /** Sends a batch of which each task has its own outcome; the level that it was accepted at, or 0. */
  private batchAnswer(part: Buffer, outcomes: readonly Outcome[]): Promise<number> {
    return new Promise((resolve) => {
      this.send({
        part,
        count: outcomes.length,
        giveUpAt: this.clock.now() + this.limits.timeoutMs,
        acknowledged: (ack) => {
          for (const refusal of ack.refused) {
            const outcome = outcomes[refusal.index];
            if (outcome) outcome.error = errorOfRefusal(refusal);
          }
          for (const { index, count } of ack.recipients) {
            const outcome = outcomes[index];
            if (outcome) outcome.recipients = count;
          }
          resolve(ack.durability);
        },
        failed: (error) => {
          for (const outcome of outcomes) outcome.error = error;
          resolve(0);
        },
      });
    });
  }

  /** Keeps the batch that was taken last until it is acknowledged. */
  private send(batch: Batch): void {
    if (this.error !== undefined) return batch.failed(this.error);
    this.unacknowledged.set(this.batch, batch);
    this.bytes += batch.part.length;
    if (!this.held) this.outbox.say(batch.part);
    this.sweeper ??= this.clock.after(SWEEP_MS, () => this.sweep());
  }

  private forget(number: number): Batch | undefined {
    const batch = this.unacknowledged.get(number);
    if (batch === undefined) return undefined;
    this.unacknowledged.delete(number);
    this.bytes -= batch.part.length;
    return batch;
  }

  /** Gives up on what has waited for too long. */
  private sweep(): void {
    this.sweeper = undefined;
    const now = this.clock.now();
    for (const [number, { giveUpAt }] of this.unacknowledged) {
      if (giveUpAt > now) break;
      this.forget(number)?.failed(this.late());
    }
    if (this.unacknowledged.size > 0) this.sweeper = this.clock.after(SWEEP_MS, () => this.sweep());
    this.answered();
  }

  private answered(): void {
    this.next();
    if (!this.idle) return;
    this.sweeper?.cancel();
    this.sweeper = undefined;
    const { finishing } = this;
    this.finishing = [];
    for (const resolve of finishing) resolve();
  }

  private get full(): boolean {
    return this.bytes > this.limits.unacknowledgedBytes && this.error === undefined;
  }

  private get crowded(): boolean {
    return this.full || this.queue.length > 0;
  }

  /** Resolves when it is the caller's turn to add something; it calls `next` then. */
  private turn(): Promise<void> {
    return new Promise((resolve) => this.queue.push(resolve));
  }

  private next(): void {
    if (this.queue.length > 0 && !this.full) this.queue.shift()!();
  }

  private tooLarge(): HubError {
    return new HubError(
      'invalid',
      `the task is larger than the ${this.taskBytes} bytes that the broker takes; put the data elsewhere and send a reference`,
      { field: 'task.payload', limit: 'limits.taskBytes' },
    );
  }

  private late(): HubError {
    return new HubError(
      'deadline',
      `the broker did not acknowledge the task within ${this.limits.timeoutMs} ms; ` +
        'it may have been accepted: publish it again with the same id, which has no effect then',
    );
  }
}

/** How many tasks were refused because the broker takes none now. */
function unavailable({ refused }: PublishAck): number {
  return refused.filter(({ code }) => code === ERRORS.unavailable.grpc).length;
}
