import type { Broker } from '../broker/broker.ts';
import type { ConsumerSpec } from '../broker/consumer.ts';
import { limit } from '../broker/ingress.ts';
import type { Seat } from '../broker/seat.ts';
import { seatOf } from '../broker/seat.ts';
import type { EdgeSession } from '../broker/sessions.ts';
import { bareName, checkQualified, isBroadcast } from '../core/namespace.ts';
import { checkAgentId } from '../core/shard.ts';
import { HubError } from '../std/errors.ts';
import type { Attach } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Tenant } from './tenants.ts';

/** Shared by all attachments without filters, which are nearly all. */
const NOTHING: ReadonlySet<string> = new Set();

/** Bounds of what one session may attach. */
export interface AttachmentLimits {
  readonly maxAttachments: number;
  readonly maxAgents: number;
  readonly maxWindow: number;
  /** Says whether its namespace may have one more agent. */
  readonly tenant: Pick<Tenant, 'host'>;
}

/** Numbers of seats from here on are the session's own: an attachment to a split mailbox has several. */
export const OWN_NUMBERS = 2 ** 31;

/** What a client has attached, and where it sits: one seat, or one for each part of a split mailbox. */
interface Attachment {
  readonly number: number;
  readonly mailbox: string;
  readonly spec: ConsumerSpec;
  window: number;
  seats: Seat[];
  /** Seats that nobody has served yet, and who waits for them. */
  readonly waiting: Set<Seat>;
  attached: (() => void) | undefined;
}

/** What a session is attached to, by the numbers that its client chose. */
export class Attachments {
  private readonly broker: Broker;
  private readonly session: EdgeSession;
  private readonly limits: AttachmentLimits;
  private readonly hosting: () => void;
  private readonly attachments = new Map<number, Attachment>();
  /** By the numbers that owners know. */
  private readonly seats = new Map<number, Seat>();
  /** The attachments of seats with numbers of the session's own. */
  private readonly owned = new Map<number, number>();
  private issued = OWN_NUMBERS;
  /** Attachments per agent that the session hosts. */
  private readonly hosted = new Map<string, number>();

  /** `hosting` is called before the session hosts another agent, and throws HubError if it may not. */
  constructor(broker: Broker, session: EdgeSession, limits: AttachmentLimits, hosting: () => void) {
    this.broker = broker;
    this.session = session;
    this.limits = limits;
    this.hosting = hosting;
  }

  /** Agents that the session hosts. */
  get agents(): number {
    return this.hosted.size;
  }

  /** The seat of that number, the client's or the session's own. */
  get(number: number): Seat | undefined {
    return this.seats.get(number);
  }

  /** What the client calls the attachment that the seat belongs to. */
  numberOf(seat: number): number {
    return this.owned.get(seat) ?? seat;
  }

  /** What the client has attached; it may detach meanwhile. */
  all(): readonly Pick<Attachment, 'number' | 'mailbox' | 'spec'>[] {
    return [...this.attachments.values()];
  }

  values(): IterableIterator<Seat> {
    return this.seats.values();
  }

  /**
   * Attaches. One that is there already stays, with the window that is said now: that may have been changed
   * on a connection which broke. `attached` is called when it is served.
   *
   * @throws HubError `invalid` or `conflict`, naming the field, or `exhausted`, naming the limit.
   */
  add(attach: Attach, now: number, attached: () => void): void {
    const { attachment, mailbox } = attach;
    if (attachment === 0 || attachment >= OWN_NUMBERS)
      throw new HubError('invalid', 'attachment must be from 1 to 2147483647', { field: 'attachment' });
    const known = this.attachments.get(attachment);
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
    if (this.attachments.size >= maxAttachments) {
      this.broker.metrics.limits.of('limits.attachmentsPerSession').add();
      throw limit(
        'limits.attachmentsPerSession',
        `a session has at most ${maxAttachments} attachments; open another session`,
      );
    }
    checkQualified(mailbox, 'mailbox');
    if (isBroadcast(mailbox) || mailbox.startsWith('dead:') || mailbox.includes('#')) {
      throw new HubError('invalid', `mailbox must be an agent, type:… or reply:…, not ${mailbox}`, {
        field: 'mailbox',
      });
    }
    if (attach.agent !== '') checkAgentId(bareName(attach.agent), 'agent');
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
    const { window } = attach;
    const made = { number: attachment, mailbox, spec, window, seats: [], waiting: new Set<Seat>(), attached };
    this.attachments.set(attachment, made);
    this.sit(made);
  }

  /** Mailboxes may live elsewhere, or be split otherwise, now: attaches where they do. */
  reseat(): void {
    for (const attachment of this.attachments.values()) this.sit(attachment);
  }

  /** Gives the attachment that window, and what it may get now. */
  resize(number: number, window: number): void {
    const attachment = this.attachments.get(number);
    if (!attachment) return;
    attachment.window = window;
    for (const seat of attachment.seats) {
      seat.window = share(window, attachment.seats.length);
      this.broker.resize(seat, this.session.session);
    }
  }

  /** Detaches. */
  remove(number: number): void {
    const known = this.attachments.get(number);
    if (!known) return;
    this.attachments.delete(number);
    for (const seat of known.seats) this.leave(seat);
    const { agent } = known.spec;
    const count = this.hosted.get(agent) ?? 0;
    if (count > 1) this.hosted.set(agent, count - 1);
    else this.hosted.delete(agent);
  }

  /** Detaches all. */
  clear(): void {
    for (const seat of this.seats.values()) this.broker.detach(seat, this.session.session);
    this.attachments.clear();
    this.seats.clear();
    this.owned.clear();
    this.hosted.clear();
  }

  /** Takes the seats that the attachment needs now; those that are where they should be stay. */
  private sit(attachment: Attachment): void {
    const { broker } = this;
    const { mailbox, seats: former, spec, waiting } = attachment;
    const places = broker.atlas.lanes(mailbox).map((lane) => ({ lane, shard: broker.shardOf(lane) }));
    const fits = (seat: Seat): boolean =>
      places.length === former.length &&
      places.some(({ lane, shard }) => lane === seat.mailbox && shard === seat.shard);
    const staying = former.filter(fits);
    if (former.length > 0 && staying.length === places.length) return;
    for (const seat of former) {
      if (staying.includes(seat)) continue;
      this.leave(seat);
      waiting.delete(seat);
    }
    attachment.seats = staying;
    const coming = places.filter(({ lane }) => !staying.some((seat) => seat.mailbox === lane));
    const fresh = coming.map(({ lane, shard }) => {
      const number = this.seats.has(spec.number) ? this.issue(spec.number) : spec.number;
      const window = share(attachment.window, places.length);
      const maxWindow = share(spec.maxWindow, places.length);
      const seat = seatOf(lane, shard, { ...spec, number, window, maxWindow });
      this.seats.set(number, seat);
      return seat;
    });
    attachment.seats = [...staying, ...fresh];
    for (const seat of fresh) waiting.add(seat);
    for (const seat of fresh) broker.attach(seat, this.session, () => this.served(attachment, seat));
  }

  private served(attachment: Attachment, seat: Seat): void {
    const { waiting, attached } = attachment;
    waiting.delete(seat);
    if (waiting.size > 0) return;
    attachment.attached = undefined;
    attached?.();
  }

  private leave(seat: Seat): void {
    const { number } = seat.spec;
    this.seats.delete(number);
    this.owned.delete(number);
    this.broker.detach(seat, this.session.session);
  }

  private issue(attachment: number): number {
    const number = this.issued++;
    this.owned.set(number, attachment);
    return number;
  }

  private host(agent: string): void {
    const count = this.hosted.get(agent) ?? 0;
    if (count === 0 && this.hosted.size >= this.limits.maxAgents) {
      this.broker.metrics.limits.of('limits.agentsPerSession').add();
      throw limit(
        'limits.agentsPerSession',
        `a session hosts at most ${this.limits.maxAgents} agents; open another session`,
      );
    }
    if (count === 0) {
      this.hosting();
      this.limits.tenant.host();
    }
    this.hosted.set(agent, count + 1);
  }
}

/** A seat's part of a window that several share; 0, adaptive, stays that. */
function share(window: number, seats: number): number {
  return Math.ceil(window / seats);
}
