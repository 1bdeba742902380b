import { fromBinary } from '@bufbuild/protobuf';
import { replyMailbox } from '../core/shard.ts';
import type { HubError } from '../std/errors.ts';
import { toHubError } from '../std/errors.ts';
import { ResultSchema } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { Attachment } from './attachments.ts';
import { Channel } from './channel.ts';
import type { Delivery, Receiver } from './delivery.ts';
import type { TaskProgress } from './messages.ts';
import { TaskResult } from './messages.ts';
import type { Session } from './session.ts';

/** Results that may be here before somebody takes them. */
const WINDOW = 256;
/** Requests that are remembered as answered or given up, to know a result that comes (again). */
const REMEMBERED = 10_000;
/** Progress that a slow reader may be behind. */
const PROGRESS_KEPT = 1_000;

/** A request that waits for its result. */
export interface Expectation {
  readonly resolve: (result: TaskResult) => void;
  readonly reject: (error: HubError) => void;
  readonly onProgress: ((progress: TaskProgress) => void) | undefined;
}

/**
 * The results and progress of one requester. A result goes to the request that waits for it, else to
 * who reads {@link results}; it is settled when that has it, so none is lost in between.
 */
export class Inbox implements Receiver {
  private readonly session: Session;
  private readonly agent: string;
  private readonly expected = new Map<string, Expectation>();
  /** Keys of requests that are answered or given up: their results are of no use. */
  private readonly settled = new Set<string>();
  private readonly waiting: { readonly delivery: Delivery; readonly result: TaskResult }[] = [];
  private readonly given = new Map<TaskResult, Delivery>();
  private readonly resultReaders = new Set<Channel<TaskResult>>();
  private readonly progressReaders = new Set<ProgressReader>();
  private attachment: Attachment | undefined;
  private attached: Promise<void> | undefined;

  constructor(session: Session, agent: string) {
    this.session = session;
    this.agent = agent;
  }

  /** Subscribes to the results. Rejects with the broker's refusal. */
  open(): Promise<void> {
    if (this.attached === undefined) {
      const mailbox = replyMailbox(this.agent);
      const spec = { mailbox, window: WINDOW, types: [], listener: false, agent: this.agent };
      const { attachment, attached } = this.session.attachments.attach(spec, this);
      this.attachment = attachment;
      this.attached = attached;
      attached.catch(() => {
        this.attached = undefined;
      });
    }
    return this.attached;
  }

  /** The next result of that task is for this request. */
  expect(mailbox: string, taskId: string, expectation: Expectation): void {
    this.expected.set(keyOf(mailbox, taskId), expectation);
  }

  /** Nobody waits for that task any more; its result is dropped when it comes. */
  forget(mailbox: string, taskId: string): void {
    const key = keyOf(mailbox, taskId);
    this.expected.delete(key);
    this.remember(key);
  }

  /** The results that no request waits for. Several readers share them. */
  results(): Channel<TaskResult> {
    const channel = new Channel<TaskResult>(
      () => this.take(),
      (result) => this.acknowledge(result),
      () => this.resultReaders.delete(channel),
    );
    this.resultReaders.add(channel);
    this.open().catch((error: unknown) => channel.stop(toHubError(error)));
    return channel;
  }

  /** Progress of the tasks that this connection has published; every reader gets all of it. */
  progress(): Channel<TaskProgress> {
    const reader = new ProgressReader([], () => this.progressReaders.delete(reader));
    this.progressReaders.add(reader);
    return reader;
  }

  /** Progress has come. */
  progressed(progress: TaskProgress): void {
    this.expected.get(keyOf(progress.mailbox, progress.taskId))?.onProgress?.(progress);
    for (const reader of this.progressReaders) reader.push(progress);
  }

  deliver(deliveries: Delivery[]): void {
    for (const delivery of deliveries) this.arrived(delivery);
    this.serve();
  }

  aborted(delivery: Delivery): void {
    const place = this.waiting.findIndex((one) => one.delivery === delivery);
    if (place >= 0) this.waiting.splice(place, 1);
  }

  lost(error: HubError): void {
    this.attached = undefined;
    for (const { reject } of this.expected.values()) reject(error);
    this.expected.clear();
    // Who has closed the connection does not need to hear that it is closed.
    const why = error.code === 'cancelled' ? undefined : error;
    for (const reader of [...this.resultReaders, ...this.progressReaders]) reader.stop(why);
  }

  private arrived(delivery: Delivery): void {
    const { settler } = this.session;
    let result: TaskResult;
    try {
      result = new TaskResult(
        fromBinary(ResultSchema, delivery.frame.subarray(delivery.start, delivery.end)),
      );
    } catch (error) {
      return settler.failed(delivery, toHubError(error).message, false, 0);
    }
    const key = keyOf(result.mailbox, result.taskId);
    const expectation = this.expected.get(key);
    if (expectation !== undefined) {
      this.expected.delete(key);
      this.remember(key);
      expectation.resolve(result);
    }
    if (expectation !== undefined || this.settled.has(key)) settler.completed(delivery);
    else this.waiting.push({ delivery, result });
  }

  /** Gives waiting results to waiting readers. */
  private serve(): void {
    for (const reader of this.resultReaders) {
      if (this.waiting.length === 0) return;
      reader.wake();
    }
    this.widen();
  }

  /** Results that nobody reads must not keep away those that requests wait for. */
  private widen(): void {
    const { attachment, session } = this;
    if (attachment === undefined || this.expected.size === 0) return;
    const { window } = attachment.spec;
    if (this.waiting.length * 2 < window || window >= session.maxWindow) return;
    session.attachments.resize(attachment, Math.min(window * 2, session.maxWindow));
  }

  private take(): TaskResult | undefined {
    const next = this.waiting.shift();
    if (next === undefined) return undefined;
    this.given.set(next.result, next.delivery);
    return next.result;
  }

  private acknowledge(result: TaskResult): void {
    const delivery = this.given.get(result);
    this.given.delete(result);
    if (delivery !== undefined) this.session.settler.completed(delivery);
  }

  private remember(key: string): void {
    this.settled.add(key);
    if (this.settled.size > REMEMBERED) this.settled.delete(this.settled.values().next().value!);
  }
}

/** Keeps the newest progress for a reader that is slow. */
class ProgressReader extends Channel<TaskProgress> {
  private readonly kept: TaskProgress[];

  constructor(kept: TaskProgress[], closed: () => void) {
    super(
      () => kept.shift(),
      () => {},
      closed,
    );
    this.kept = kept;
  }

  push(progress: TaskProgress): void {
    this.kept.push(progress);
    this.wake();
    if (this.kept.length > PROGRESS_KEPT) this.kept.shift();
  }
}

function keyOf(mailbox: string, taskId: string): string {
  return `${mailbox}\n${taskId}`;
}
