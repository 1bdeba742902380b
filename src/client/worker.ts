import { HubError } from '../std/errors.ts';
import type { Clock } from '../std/clock.ts';
import type { Logger } from '../std/logger.ts';
import { TaskReader } from '../wire/task.ts';
import type { Attachment } from './attachments.ts';
import type { Delivery, Receiver } from './delivery.ts';
import { PermanentError, RetryLater } from './failures.ts';
import { answerOf, ReceivedTask } from './messages.ts';
import type { Session } from './session.ts';
import type { ClientTraces, Processing } from './traces.ts';

/** What a handler can do while it works on a task. */
export interface TaskContext {
  /**
   * Aborted when the work is of no use any more: the task was cancelled or given to another worker,
   * its time is up, or the worker is closing.
   */
  readonly signal: AbortSignal;
  /** 1 for the first delivery. */
  readonly attempt: number;
  /** Unix milliseconds at which the broker accepted the task. */
  readonly acceptedAtMs: number;
  /** Tells the requester how far it is, 0 to 100. Best effort; the newest counts. */
  progress(percent: number, message?: string, data?: unknown): void;
  /** Asks for `ms` milliseconds more from now on, for tasks with `maxRunMs`. */
  extend(ms: number): void;
}

/**
 * Does a task. What it returns (bytes, text, or plain data) is the result. An error fails the
 * attempt: the task comes again after its back-off, until its attempts are used up;
 * {@link RetryLater} says when, {@link PermanentError} that there is no point.
 */
export type Handler = (task: ReceivedTask, context: TaskContext) => unknown;

/** How a worker works. */
export interface WorkOptions {
  /** Handlers that may run at a time. Default: the window, or 10. */
  readonly concurrency?: number;
  /**
   * Tasks that may be here and unfinished at a time. More than `concurrency` keeps the next ones at
   * hand, and from other workers. 0: adaptive, as much as the speed needs. Default: `concurrency`.
   */
  readonly window?: number;
  /** Only tasks of these types. Default: all. */
  readonly types?: readonly string[];
  /** The agent that works; named in results. Default: the agent of the connection, or the mailbox. */
  readonly agent?: string;
}

/** A running worker. */
export interface Worker {
  readonly mailbox: string;
  /** Handlers that run now. */
  readonly running: number;
  /** Rejects if the broker takes the worker away, or the session ends before `close`; resolves by `close`. */
  readonly closed: Promise<void>;
  /**
   * Takes no more tasks, hands back those that have not begun, and lets the others finish. After
   * `graceMs` they are aborted and handed back.
   */
  close(options?: { readonly graceMs?: number }): Promise<void>;
}

const CONCURRENCY = 10;
const GRACE_MS = 30_000;

/** The window and concurrency that the options mean. */
export function sizesOf({ concurrency, window }: WorkOptions): { concurrency: number; window: number } {
  for (const [name, value] of Object.entries({ concurrency, window })) {
    const least = name === 'window' ? 0 : 1;
    if (value === undefined || (value >= least && (Number.isInteger(value) || value === Infinity))) continue;
    throw new HubError('invalid', `${name} must be a whole number from ${least}`, { field: name });
  }
  if (window === 0) return { window, concurrency: concurrency ?? Infinity };
  const most = concurrency ?? window ?? CONCURRENCY;
  const wanted = window ?? most;
  return { concurrency: most, window: wanted === Infinity ? 0 : wanted };
}

/** What a {@link TaskWorker} is made of. */
export interface TaskWorkerOptions {
  readonly concurrency: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** `undefined`: nothing is traced. */
  readonly traces: ClientTraces | undefined;
}

/** Runs a handler on what is delivered. */
export class TaskWorker implements Worker, Receiver {
  readonly mailbox: string;
  readonly closed: Promise<void>;
  private readonly session: Session;
  private readonly handler: Handler;
  private readonly concurrency: number;
  private readonly clock: Clock;
  private readonly logger: Logger;
  private readonly traces: ClientTraces | undefined;
  private readonly reader = new TaskReader();
  private readonly queue: Delivery[] = [];
  private readonly jobs = new Map<Delivery, Job>();
  private readonly end: PromiseWithResolvers<void>;
  private attachment: Attachment | undefined;
  private closing: Promise<void> | undefined;
  private finished: (() => void) | undefined;

  constructor(
    session: Session,
    mailbox: string,
    handler: Handler,
    { concurrency, clock, logger, traces }: TaskWorkerOptions,
  ) {
    this.session = session;
    this.mailbox = mailbox;
    this.handler = handler;
    this.concurrency = concurrency;
    this.clock = clock;
    this.logger = logger;
    this.traces = traces;
    this.end = Promise.withResolvers();
    this.closed = this.end.promise;
    // Who doesn't look at it shall not be killed by it.
    this.closed.catch(() => {});
  }

  get running(): number {
    return this.jobs.size;
  }

  /** Subscribes. Rejects with the broker's refusal. */
  async attach(window: number, types: readonly string[], agent: string): Promise<void> {
    const spec = { mailbox: this.mailbox, window, types, listener: false, agent };
    const { attachment, attached } = this.session.attachments.attach(spec, this);
    this.attachment = attachment;
    await attached;
  }

  deliver(deliveries: Delivery[]): void {
    for (const delivery of deliveries) this.queue.push(delivery);
    this.pump();
  }

  aborted(delivery: Delivery, reason: string): void {
    const job = this.jobs.get(delivery);
    if (job !== undefined) return job.abort(new HubError('cancelled', reason));
    const place = this.queue.indexOf(delivery);
    if (place >= 0) this.queue.splice(place, 1);
  }

  lost(error: HubError): void {
    this.abortAll(error);
    if (this.closing === undefined) this.end.reject(error);
  }

  close({ graceMs = GRACE_MS }: { readonly graceMs?: number } = {}): Promise<void> {
    this.closing ??= this.finish(graceMs);
    return this.closing;
  }

  private async finish(graceMs: number): Promise<void> {
    if (this.attachment !== undefined) this.session.attachments.detach(this.attachment);
    for (const delivery of this.queue.splice(0)) this.session.settler.released(delivery);
    if (this.jobs.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = this.clock.after(graceMs, resolve);
        this.finished = () => {
          timer.cancel();
          resolve();
        };
      });
    }
    const late = [...this.jobs.keys()];
    this.abortAll(new HubError('cancelled', 'the worker is closing'));
    for (const delivery of late) this.session.settler.released(delivery);
    await this.session.settler.whenIdle();
    this.end.resolve();
  }

  private abortAll(why: HubError): void {
    for (const job of this.jobs.values()) job.abort(why);
  }

  private pump(): void {
    while (this.jobs.size < this.concurrency) {
      const delivery = this.queue.shift();
      if (delivery === undefined) return;
      this.begin(delivery);
    }
  }

  private begin(delivery: Delivery): void {
    const job = new Job(this.session, delivery);
    this.jobs.set(delivery, job);
    let value: unknown;
    try {
      const task = new ReceivedTask(this.reader.read(delivery.frame, delivery.start, delivery.end));
      job.processing = this.traces?.process(task, delivery.attempt);
      const { processing } = job;
      value = processing ? processing.run(() => this.handler(task, job)) : this.handler(task, job);
    } catch (error) {
      return this.failed(delivery, error);
    }
    if (!isThenable(value)) return this.completed(delivery, value);
    value.then(
      (result) => {
        this.completed(delivery, result);
        this.pump();
      },
      (error: unknown) => {
        this.failed(delivery, error);
        this.pump();
      },
    );
  }

  private completed(delivery: Delivery, value: unknown): void {
    try {
      const said = answerOf(value);
      const processing = this.jobs.get(delivery)?.processing;
      const answer = processing === undefined ? said : processing.answer(said);
      const { taskBytes } = this.session;
      if (answer !== undefined && answer.payload.length > taskBytes) {
        throw new PermanentError(`the result is larger than the ${taskBytes} bytes that the broker takes`);
      }
      this.session.settler.completed(delivery, answer);
    } catch (error) {
      return this.failed(delivery, error);
    }
    this.done(delivery);
  }

  private failed(delivery: Delivery, error: unknown): void {
    const message = Error.isError(error) ? error.message : String(error);
    this.jobs.get(delivery)?.processing?.failed(error);
    const wait = error instanceof RetryLater ? Math.max(1, Math.ceil(error.ms)) : 0;
    this.logger.debug({ mailbox: this.mailbox, attempt: delivery.attempt }, `a task failed: ${message}`);
    this.session.settler.failed(delivery, message, !isPermanent(error), wait);
    this.done(delivery);
  }

  private done(delivery: Delivery): void {
    this.jobs.get(delivery)?.processing?.end();
    this.jobs.delete(delivery);
    if (this.jobs.size === 0) this.finished?.();
  }
}

/** A task that is being done. */
class Job implements TaskContext {
  readonly attempt: number;
  readonly acceptedAtMs: number;
  /** Its span, if it is traced. */
  processing: Processing | undefined;
  private readonly session: Session;
  private readonly delivery: Delivery;
  private reason: HubError | undefined;
  private controller: AbortController | undefined;

  constructor(session: Session, delivery: Delivery) {
    this.session = session;
    this.delivery = delivery;
    this.attempt = delivery.attempt;
    this.acceptedAtMs = delivery.acceptedAtMs;
  }

  // Made when it is asked for: it costs more than all else around a task.
  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.reason !== undefined) this.controller.abort(this.reason);
    }
    return this.controller.signal;
  }

  progress(percent: number, message = '', data?: unknown): void {
    if (this.delivery.held) this.session.notes.progress(this.delivery, percent, message, data);
  }

  extend(ms: number): void {
    if (this.delivery.held) this.session.notes.extend(this.delivery, ms);
  }

  abort(reason: HubError): void {
    this.reason ??= reason;
    this.controller?.abort(reason);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

/** Also input that can't be read, or a result that can't be written, stays so. */
function isPermanent(error: unknown): boolean {
  return error instanceof PermanentError || (error instanceof HubError && error.code === 'invalid');
}
