import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import type { Context } from '@opentelemetry/api';
import { BROADCAST } from '../core/shard.ts';
import type { Clock, Random } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Progress } from '../wire/gen/agenthub/v1/task_pb.ts';
import { Broker } from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { TaskFields } from '../wire/task.ts';
import type { BatchHandler } from './batch-worker.ts';
import { BatchWorker } from './batch-worker.ts';
import type { TaskQuery } from './browse.ts';
import { browse, TaskInfo } from './browse.ts';
import { TaskFailedError } from './failures.ts';
import { Inbox } from './inbox.ts';
import { Listener } from './listener.ts';
import type { Transport, UnaryMethod } from './link.ts';
import type { Cancellation, Durability, ReceivedTask, TaskInput, TaskResult } from './messages.ts';
import { cancellationOf, durabilityNumber, fieldsOf, TaskProgress } from './messages.ts';
import type { BatchOutcome, TaskHandle } from './publisher.ts';
import type { SessionOptions, SessionState } from './session.ts';
import { Session } from './session.ts';
import type { ClientTraces } from './traces.ts';
import type { Handler, Worker, WorkOptions } from './worker.ts';
import { sizesOf, TaskWorker } from './worker.ts';

/** How a task is published. */
export interface PublishOptions {
  /** The weakest durability that will do. Default: whatever the broker has. */
  readonly durability?: Durability;
}

/** How a request waits. */
export interface RequestOptions extends PublishOptions {
  /** Milliseconds to wait for the result; then the task is cancelled. Default: as long as it takes. */
  readonly timeoutMs?: number;
  /** Gives the request up and cancels the task. */
  readonly signal?: AbortSignal;
  /** Hears how far it is. */
  readonly onProgress?: (progress: TaskProgress) => void;
}

/** What a {@link Hub} is made of. */
export interface HubOptions extends Omit<SessionOptions, 'onProgress'> {
  /** The agent that asks and works if nothing else is said; empty: none. */
  readonly agent: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** How long a call beside the session may take, in milliseconds. */
  readonly callMs: number;
  /** Default: nothing is traced. */
  readonly traces?: ClientTraces | undefined;
}

const GRACE_MS = 10_000;

/**
 * A connection to AgentHub, for any number of agents. Made by `connect`.
 *
 * It survives broken connections: everything asked of it goes on when the broker is back.
 */
export class Hub implements AsyncDisposable {
  private readonly options: HubOptions;
  private readonly session: Session;
  private readonly inboxes = new Map<string, Inbox>();
  private readonly workers = new Set<Worker>();
  /** Makes task ids unique to this connection. */
  private readonly prefix: string;
  private published = 0;
  private closing: Promise<void> | undefined;

  constructor(transport: Transport, options: HubOptions) {
    this.options = options;
    this.prefix = `${options.random.token(8)}-`;
    this.session = new Session(transport, {
      ...options,
      onProgress: (progress) => this.progressed(progress),
    });
  }

  /** How the connection is. */
  get state(): SessionState {
    return this.session.state;
  }

  /** Connects for the first time; `connect` does it. */
  open(): Promise<void> {
    return this.session.open();
  }

  // ── Asking ───────────────────────────────────────────────────────────────────────────────────

  /**
   * Publishes a task. Resolves when the broker has made it as durable as the handle says.
   *
   * While the broker can't take it (a full mailbox, a broken connection), it is tried again; with
   * `retry: false` a refusal is final. Tasks of one mailbox keep their order, except past a retry.
   *
   * @throws HubError `invalid` naming the field; `exhausted` with the limit and a delay; `deadline`
   *   if it was not acknowledged in time and may or may not have been accepted.
   */
  async publish(
    task: TaskInput,
    { durability, retry = true }: PublishOptions & { readonly retry?: boolean } = {},
  ): Promise<TaskHandle> {
    return this.send(this.fields(task), durability, retry);
  }

  /**
   * Publishes many tasks at once: much faster than one by one. Each has its own outcome, and nothing
   * is retried.
   *
   * @throws HubError `invalid` if one of them can't be a task; then none is published.
   */
  async publishBatch(
    tasks: readonly TaskInput[],
    { durability }: PublishOptions = {},
  ): Promise<BatchOutcome> {
    const fields = tasks.map((task) => this.fields(task));
    const send = (all: readonly TaskFields[]): Promise<BatchOutcome> =>
      this.session.publisher.publishBatch(all, durabilityNumber(durability));
    const { traces } = this.options;
    return traces === undefined ? send(fields) : traces.publishBatch(fields, send);
  }

  /**
   * Publishes a task and waits for its result, which survives a restart of the broker and of the
   * worker.
   *
   * @throws TaskFailedError with the result, if the task failed, expired or was cancelled; HubError as
   *   `publish` does, `deadline` after the timeout, `cancelled` after an abort.
   */
  async request(task: TaskInput, options: RequestOptions = {}): Promise<TaskResult> {
    const { signal } = options;
    if (signal?.aborted) throw aborted(signal);
    const fields = this.fields({ ...task, requester: this.requester(task.requester) });
    const { traces } = this.options;
    if (traces === undefined) return this.ask(fields, options);
    return traces.request(fields, (under) => this.ask(fields, options, under));
  }

  private async ask(fields: TaskFields, options: RequestOptions, under?: Context): Promise<TaskResult> {
    const { timeoutMs, signal, onProgress, durability } = options;
    const { to: mailbox, id, requester } = fields;
    if (mailbox === BROADCAST) {
      throw new HubError('invalid', 'a broadcast has many results; publish it and read results()', {
        field: 'task.to',
      });
    }
    const inbox = this.inbox(requester);
    const { promise, resolve, reject } = Promise.withResolvers<TaskResult>();
    inbox.expect(mailbox, id, { resolve, reject, onProgress });
    const fail = (error: HubError): void => {
      inbox.forget(mailbox, id);
      reject(error);
    };
    const opened = inbox.open();
    const published = this.send(fields, durability, true, under);
    opened.catch(fail);
    published.catch(fail);
    const giveUp = (error: HubError): void => {
      fail(error);
      // Not before it is published: there would be nothing to cancel.
      published.then(() => this.cancel({ mailbox, id, reason: error.message })).catch(() => {});
    };
    const abort = (): void => giveUp(aborted(signal));
    signal?.addEventListener('abort', abort, { once: true });
    const timer =
      timeoutMs === undefined
        ? undefined
        : this.options.clock.after(timeoutMs, () => giveUp(late(fields, timeoutMs)));
    try {
      const result = await promise;
      if (result.outcome !== 'succeeded' && result.outcome !== 'delivered') throw new TaskFailedError(result);
      return result;
    } finally {
      timer?.cancel();
      signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * The results of tasks that the agent asked for and no `request` waits for, until the loop ends. A
   * result is acknowledged when the next one is asked for: what a crash interrupts comes again.
   */
  results(agent = this.options.agent): AsyncIterableIterator<TaskResult> {
    return this.inbox(this.requester(agent)).results();
  }

  /** Progress of the tasks that this connection has published for the agent. Best effort. */
  progress(agent = this.options.agent): AsyncIterableIterator<TaskProgress> {
    return this.inbox(this.requester(agent)).progress();
  }

  /** Cancels a task: it is not delivered any more, and a worker that has it is told to abort. */
  async cancel(task: {
    readonly mailbox?: string;
    readonly id: string;
    readonly reason?: string;
  }): Promise<Cancellation> {
    const { mailbox, id, reason = '' } = task;
    if (mailbox !== undefined) return this.session.calls.cancel(mailbox, id, reason);
    const { outcome } = await this.call(Broker.method.cancelTask, { taskId: id, reason });
    return cancellationOf(outcome);
  }

  /** What is known of a task; undefined: nothing. Without its mailbox, all shards are searched. */
  async getTask(task: {
    readonly mailbox?: string;
    readonly id: string;
    readonly includeTask?: boolean;
  }): Promise<TaskInfo | undefined> {
    const { mailbox = '', id, includeTask = false } = task;
    try {
      const { task: view } = await this.call(Broker.method.getTask, { taskId: id, mailbox, includeTask });
      return view && new TaskInfo(view);
    } catch (error) {
      if (error instanceof HubError && error.code === 'not_found') return undefined;
      throw error;
    }
  }

  /** Unfinished tasks and dead letters, page by page as they are asked for. */
  listTasks(query: TaskQuery = {}): AsyncIterableIterator<TaskInfo> {
    return browse((request) => this.call(Broker.method.listTasks, request), query);
  }

  // ── Working ──────────────────────────────────────────────────────────────────────────────────

  /** Works on a mailbox: an agent's own, or a capability (`type:summarize`) that workers compete for. */
  async work(mailbox: string, handler: Handler, options: WorkOptions = {}): Promise<Worker> {
    const { clock, logger } = this.options;
    const { concurrency, window } = sizesOf(options);
    const worker = new TaskWorker(this.session, mailbox, handler, {
      concurrency,
      clock,
      logger,
      traces: this.options.traces,
    });
    await worker.attach(window, options.types ?? [], this.agentFor(options));
    this.workers.add(worker);
    worker.closed.catch(() => {}).finally(() => this.workers.delete(worker));
    return worker;
  }

  /** Works on a mailbox in batches of raw bytes, for the highest throughput. */
  async workBatch(
    mailbox: string,
    handler: BatchHandler,
    options: Omit<WorkOptions, 'concurrency'> = {},
  ): Promise<BatchWorker> {
    const worker = new BatchWorker(this.session, mailbox, handler, this.options.logger);
    await worker.attach(options.window ?? 0, options.types ?? [], this.agentFor(options));
    return worker;
  }

  /** Gets copies of the tasks of a mailbox, beside its workers. */
  async listen(
    mailbox: string,
    handler: (task: ReceivedTask) => void,
    options: Pick<WorkOptions, 'types' | 'agent'> = {},
  ): Promise<Listener> {
    const listener = new Listener(this.session, mailbox, handler, this.options.logger);
    await listener.attach(options.types ?? [], this.agentFor(options));
    return listener;
  }

  // ── Beside the session ───────────────────────────────────────────────────────────────────────

  /** Calls any unary method of the broker, such as those of `Admin`. Rejects with HubError. */
  call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return this.session.call(method, create(method.input, request), this.options.callMs);
  }

  /**
   * Ends it: workers finish what runs, what was published and settled is acknowledged; after
   * `graceMs` it ends without waiting any longer.
   */
  close({ graceMs = GRACE_MS }: { readonly graceMs?: number } = {}): Promise<void> {
    this.closing ??= this.finish(graceMs);
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async finish(graceMs: number): Promise<void> {
    const { clock } = this.options;
    const { publisher, settler } = this.session;
    const late = Promise.withResolvers<void>();
    const timer = clock.after(graceMs, late.resolve);
    const workers = [...this.workers].map((worker) => worker.close({ graceMs }));
    const done = Promise.all([...workers, publisher.whenIdle()]).then(() => settler.whenIdle());
    if (this.session.state !== 'closed') await Promise.race([done, late.promise]);
    timer.cancel();
    await this.session.close();
  }

  /** Publishes a task; its span is a part of `under`. */
  private send(
    fields: TaskFields,
    durability: Durability | undefined,
    retry: boolean,
    under?: Context,
  ): Promise<TaskHandle> {
    const { traces } = this.options;
    const send = (task: TaskFields): Promise<TaskHandle> =>
      this.session.publisher.publish(task, durabilityNumber(durability), retry);
    return traces === undefined ? send(fields) : traces.publish(fields, send, under);
  }

  private fields(task: TaskInput): TaskFields {
    const { agent, clock } = this.options;
    const id = task.id ?? this.prefix + (this.published++).toString(36);
    return fieldsOf(task, id, agent, clock);
  }

  /** Results need an address: that of the connection, if nothing else is said. */
  private requester(agent: string | undefined): string {
    return agent || this.options.agent || `client-${this.prefix.slice(0, -1)}`;
  }

  private agentFor({ agent }: Pick<WorkOptions, 'agent'>): string {
    return agent ?? this.options.agent;
  }

  private inbox(agent: string): Inbox {
    let inbox = this.inboxes.get(agent);
    if (inbox === undefined) {
      inbox = new Inbox(this.session, agent);
      this.inboxes.set(agent, inbox);
    }
    return inbox;
  }

  private progressed(progress: Progress): void {
    this.inboxes.get(progress.requester)?.progressed(new TaskProgress(progress));
  }
}

function late({ id, to }: TaskFields, ms: number): HubError {
  return new HubError('deadline', `task ${id} for ${to} had no result within ${ms} ms; it is cancelled`);
}

function aborted(signal: AbortSignal | undefined): HubError {
  return new HubError('cancelled', 'the request was aborted', { cause: signal?.reason as unknown });
}
