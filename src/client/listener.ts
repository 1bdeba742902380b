import type { Logger } from '../std/logger.ts';
import { TaskReader } from '../wire/task.ts';
import type { Attachment } from './attachments.ts';
import type { Delivery, Receiver } from './delivery.ts';
import { ReceivedTask } from './messages.ts';
import type { Session } from './session.ts';

/** Hears of the tasks of a mailbox, and is answerable for none of them. */
export class Listener implements Receiver {
  readonly mailbox: string;
  private readonly session: Session;
  private readonly handler: (task: ReceivedTask) => void;
  private readonly logger: Logger;
  private readonly reader = new TaskReader();
  private attachment: Attachment | undefined;

  constructor(session: Session, mailbox: string, handler: (task: ReceivedTask) => void, logger: Logger) {
    this.session = session;
    this.mailbox = mailbox;
    this.handler = handler;
    this.logger = logger;
  }

  /** Subscribes. Rejects with the broker's refusal. */
  async attach(types: readonly string[], agent: string): Promise<void> {
    const spec = { mailbox: this.mailbox, window: 0, types, listener: true, agent };
    const { attachment, attached } = this.session.attachments.attach(spec, this);
    this.attachment = attachment;
    await attached;
  }

  /** Hears nothing any more. */
  close(): void {
    if (this.attachment !== undefined) this.session.attachments.detach(this.attachment);
  }

  deliver(deliveries: Delivery[]): void {
    for (const { frame, start, end } of deliveries) {
      try {
        this.handler(new ReceivedTask(this.reader.read(frame, start, end)));
      } catch (error) {
        this.logger.error({ error, mailbox: this.mailbox }, 'a listener has thrown');
      }
    }
  }

  aborted(): void {
    // It holds nothing.
  }

  lost(): void {
    // The log and the state of the connection say it.
  }
}
