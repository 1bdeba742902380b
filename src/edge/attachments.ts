import type { Broker } from '../broker/broker.ts';
import type { ConsumerSpec } from '../broker/consumer.ts';
import { limit } from '../broker/ingress.ts';
import type { Seat } from '../broker/seat.ts';
import { seatOf } from '../broker/seat.ts';
import type { EdgeSession } from '../broker/sessions.ts';
import { checkAgentId, checkMailbox } from '../core/shard.ts';
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

/** What a session is attached to, by the numbers that its client chose. */
export class Attachments {
  private readonly broker: Broker;
  private readonly session: EdgeSession;
  private readonly limits: AttachmentLimits;
  private readonly byNumber = new Map<number, Seat>();
  /** Attachments per agent that the session hosts. */
  private readonly hosted = new Map<string, number>();

  constructor(broker: Broker, session: EdgeSession, limits: AttachmentLimits) {
    this.broker = broker;
    this.session = session;
    this.limits = limits;
  }

  /** Agents that the session hosts. */
  get agents(): number {
    return this.hosted.size;
  }

  get(number: number): Seat | undefined {
    return this.byNumber.get(number);
  }

  values(): IterableIterator<Seat> {
    return this.byNumber.values();
  }

  /**
   * Attaches. One that is there already stays, with the window that is said now: that may have been changed
   * on a connection which broke. `attached` is called when it is served.
   *
   * @throws HubError `invalid` or `conflict`, naming the field, or `exhausted`, naming the limit.
   */
  add(attach: Attach, now: number, attached: () => void): void {
    const { attachment, mailbox } = attach;
    if (attachment === 0) throw new HubError('invalid', 'attachment must not be 0', { field: 'attachment' });
    const known = this.byNumber.get(attachment);
    if (known?.mailbox === mailbox) {
      this.resize(attachment, attach.window);
      return attached();
    }
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
      sink: this.session,
      number: attachment,
      listener: attach.listener,
      types: attach.types.length === 0 ? NOTHING : new Set(attach.types),
      taskIds: NOTHING,
      agent,
      window: attach.window,
      maxWindow,
      attachedAt: now,
    };
    const seat = seatOf(mailbox, this.broker.shardOf(mailbox), spec);
    this.byNumber.set(attachment, seat);
    this.broker.attach(seat, this.session, attached);
  }

  /** Gives the attachment that window, and what it may get now. */
  resize(number: number, window: number): void {
    const seat = this.byNumber.get(number);
    if (!seat) return;
    seat.window = window;
    this.broker.resize(seat, this.session.session);
  }

  /** Detaches. */
  remove(number: number): void {
    const known = this.byNumber.get(number);
    if (!known) return;
    this.byNumber.delete(number);
    this.broker.detach(known, this.session.session);
    const { agent } = known.spec;
    const count = this.hosted.get(agent) ?? 0;
    if (count > 1) this.hosted.set(agent, count - 1);
    else this.hosted.delete(agent);
  }

  /** Detaches all. */
  clear(): void {
    for (const seat of this.byNumber.values()) this.broker.detach(seat, this.session.session);
    this.byNumber.clear();
    this.hosted.clear();
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
