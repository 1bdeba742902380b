import type { Logger } from '../std/logger.ts';
import type { Answer } from '../wire/client-batch.ts';
import type { Attachment } from './attachments.ts';
import type { Delivery, Receiver } from './delivery.ts';
import type { Session } from './session.ts';

/** Gets what came in one frame, undecoded, and sees to it that each delivery is settled at some time. */
export type BatchHandler = (deliveries: Delivery[], worker: BatchWorker) => void;

/**
 * Works without decoding, promises, or anything per task: for those who move hundreds of thousands
 * of tasks a second. `delivery.frame` holds a serialized `agenthub.v1.Task` from `delivery.start` to
 * `delivery.end`. Whether a lease is lost is seen by `delivery.held`.
 */
export class BatchWorker implements Receiver {
  readonly mailbox: string;
  private readonly session: Session;
  private readonly handler: BatchHandler;
  private readonly logger: Logger;
  private attachment: Attachment | undefined;

  constructor(session: Session, mailbox: string, handler: BatchHandler, logger: Logger) {
    this.session = session;
    this.mailbox = mailbox;
    this.handler = handler;
    this.logger = logger;
  }

  /** Subscribes. Rejects with the broker's refusal. */
  async attach(window: number, types: readonly string[], agent: string): Promise<void> {
    const spec = { mailbox: this.mailbox, window, types, listener: false, agent };
    const { attachment, attached } = this.session.attachments.attach(spec, this);
    this.attachment = attachment;
    await attached;
  }

  /** Completes all of them, with the same answer. */
  settleAll(deliveries: readonly Delivery[], answer?: Answer): void {
    const { settler } = this.session;
    for (const delivery of deliveries) settler.completed(delivery, answer);
  }

  /** Completes one. */
  complete(delivery: Delivery, answer?: Answer): void {
    this.session.settler.completed(delivery, answer);
  }

  /** Fails one attempt. @param retry false: it becomes a dead letter at once. */
  fail(delivery: Delivery, error: string, retry = true, retryAfterMs = 0): void {
    this.session.settler.failed(delivery, error, retry, retryAfterMs);
  }

  /** Hands one back untouched. */
  release(delivery: Delivery): void {
    this.session.settler.released(delivery);
  }

  /** Takes no more. What is held stays to be settled. Resolves when what was settled is acknowledged. */
  async close(): Promise<void> {
    if (this.attachment !== undefined) this.session.attachments.detach(this.attachment);
    await this.session.settler.whenIdle();
  }

  deliver(deliveries: Delivery[]): void {
    try {
      this.handler(deliveries, this);
    } catch (error) {
      this.logger.error({ error, mailbox: this.mailbox }, 'the handler of a batch has thrown');
      const message = Error.isError(error) ? error.message : String(error);
      for (const delivery of deliveries) this.fail(delivery, message);
    }
  }

  aborted(): void {
    // Seen by `delivery.held`.
  }

  lost(): void {
    // The log and the state of the connection say it.
  }
}
