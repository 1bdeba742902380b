import type { Broker } from '../broker/broker.ts';
import type { Consumer, ConsumerSpec, Sink } from '../broker/consumer.ts';
import { limit } from '../broker/ingress.ts';
import type { Owner } from '../broker/owner.ts';
import { checkAgentId, checkMailbox, replyMailbox } from '../core/shard.ts';
import { HubError } from '../std/errors.ts';
import type { Attach } from '../wire/gen/agenthub/v1/session_pb.ts';

/** Shared by all attachments without filters, which are nearly all. */
const NOTHING: ReadonlySet<string> = new Set();

/** Bounds of what one session may attach. */
export interface AttachmentLimits {
  readonly maxAttachments: number;
  readonly maxAgents: number;
  readonly maxWindow: number;
}

/** One attachment of a session: a mailbox, and who serves the session there. */
export interface Attached {
  readonly spec: ConsumerSpec;
  readonly mailbox: string;
  readonly owner: Owner;
  /** One, or for replies two: the agent's mailbox, and the session's own lane of it. */
  readonly consumers: readonly Consumer[];
}

/** What a session is attached to, by the numbers that its client chose. */
export class Attachments {
  private readonly broker: Broker;
  private readonly sink: Sink;
  private readonly limits: AttachmentLimits;
  private readonly byNumber = new Map<number, Attached>();
  /** Attachments per agent that the session hosts. */
  private readonly hosted = new Map<string, number>();

  constructor(broker: Broker, sink: Sink, limits: AttachmentLimits) {
    this.broker = broker;
    this.sink = sink;
    this.limits = limits;
  }

  /** Agents that the session hosts. */
  get agents(): number {
    return this.hosted.size;
  }

  get(number: number): Attached | undefined {
    return this.byNumber.get(number);
  }

  values(): IterableIterator<Attached> {
    return this.byNumber.values();
  }

  /** The owner that serves a consumer of this session. */
  ownerOf(consumer: Consumer): Owner | undefined {
    return this.byNumber.get(consumer.spec.number)?.owner;
  }

  /**
   * Attaches; one that is there already stays as it is.
   *
   * @throws HubError `invalid` or `conflict`, naming the field, or `exhausted`, naming the limit.
   */
  add(attach: Attach, now: number): void {
    const { attachment, mailbox } = attach;
    if (attachment === 0) throw new HubError('invalid', 'attachment must not be 0', { field: 'attachment' });
    const known = this.byNumber.get(attachment);
    if (known?.mailbox === mailbox) return;
    if (known) {
      throw new HubError('conflict', `attachment ${attachment} is in use for ${known.mailbox}`, {
        field: 'attachment',
      });
    }
    const { maxAttachments, maxWindow } = this.limits;
    if (this.byNumber.size >= maxAttachments) {
      throw limit(
        'limits.attachmentsPerSession',
        `a session has at most ${maxAttachments} attachments; open another session`,
      );
    }
    checkMailbox(mailbox, 'mailbox');
    if (mailbox === '*' || mailbox.startsWith('dead:') || mailbox.includes('#')) {
      throw new HubError('invalid', `mailbox must be an agent, type:… or reply:…, not ${mailbox}`, {
        field: 'mailbox',
      });
    }
    if (attach.agent !== '') checkAgentId(attach.agent, 'agent');
    const agent = attach.agent === '' ? mailbox : attach.agent;
    this.host(agent);
    const spec: ConsumerSpec = {
      sink: this.sink,
      number: attachment,
      listener: attach.listener,
      types: attach.types.length === 0 ? NOTHING : new Set(attach.types),
      taskIds: NOTHING,
      agent,
      window: attach.window,
      maxWindow,
      attachedAt: now,
    };
    const owner = this.broker.ownerOf(mailbox);
    const consumers: Consumer[] = [];
    // Known before the owner delivers, which it may do at once.
    this.byNumber.set(attachment, { spec, mailbox, owner, consumers });
    const consumer = owner.attach(mailbox, spec);
    consumers.push(consumer);
    if (mailbox.startsWith('reply:') && !attach.listener) {
      const lane = replyMailbox(mailbox.slice('reply:'.length), this.sink.session);
      consumers.push(owner.attach(lane, spec, consumer));
    }
  }

  /** Detaches; answers with the consumers that are no more. */
  remove(number: number): readonly Consumer[] {
    const known = this.byNumber.get(number);
    if (!known) return [];
    this.byNumber.delete(number);
    for (const consumer of known.consumers) known.owner.detach(consumer);
    const { agent } = known.spec;
    const count = this.hosted.get(agent) ?? 0;
    if (count > 1) this.hosted.set(agent, count - 1);
    else this.hosted.delete(agent);
    return known.consumers;
  }

  private host(agent: string): void {
    const count = this.hosted.get(agent) ?? 0;
    if (count === 0 && this.hosted.size >= this.limits.maxAgents) {
      throw limit(
        'limits.agentsPerSession',
        `a session hosts at most ${this.limits.maxAgents} agents; open another session`,
      );
    }
    this.hosted.set(agent, count + 1);
  }
}
