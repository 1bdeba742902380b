import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { backoff } from '../std/backoff.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { encodeFrame } from '../wire/client-frame.ts';
import type {
  Abort,
  GoAway,
  PublishAck,
  ServerFrame,
  SettleAck,
  Welcome,
} from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Progress } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { DeliveryScan, ServerFrameVisitor } from '../wire/server-frame.ts';
import { ServerFrameReader } from '../wire/server-frame.ts';
import { Attachments } from './attachments.ts';
import { CancelCalls } from './calls.ts';
import type { Receiver } from './delivery.ts';
import { Delivery, Leases } from './delivery.ts';
import type { Link, Transport, UnaryMethod } from './link.ts';
import { Notes } from './notes.ts';
import { Outbox } from './outbox.ts';
import type { PublisherLimits } from './publisher.ts';
import { Publisher } from './publisher.ts';
import { Settler } from './settler.ts';

/**
 * - `connecting`: for the first time
 * - `connected`
 * - `draining`: the broker is about to stop; what runs is finished, new tasks wait
 * - `reconnecting`: the connection broke; the session goes on when it is back
 * - `closed`: for good
 */
export type SessionState = 'connecting' | 'connected' | 'draining' | 'reconnecting' | 'closed';

/** What a {@link Session} is told once. */
export interface SessionOptions {
  readonly address: string;
  /** For people: name and version of the client. */
  readonly client: string;
  /** How long one attempt to connect may take, in milliseconds. */
  readonly dialMs: number;
  /** How long to try the first time, in milliseconds. */
  readonly connectMs: number;
  readonly publisher: PublisherLimits;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly onStateChange: (state: SessionState, why: HubError | undefined) => void;
  readonly onProgress: (progress: Progress) => void;
}

interface Opening {
  readonly giveUpAt: number;
  readonly resolve: () => void;
  readonly reject: (error: HubError) => void;
}

interface Waiting {
  readonly resolve: (link: Link) => void;
  readonly reject: (error: HubError) => void;
}

const DEFAULT_WINDOW = 1_000;
const DEFAULT_BATCH = 1_000;
const DEFAULT_HEARTBEAT_MS = 3_000;
/** How long a goodbye may take. */
const FAREWELL_MS = 1_000;
const RECONNECT = { initialMs: 100, maxMs: 2_000 };
/** Heartbeats without any frame from the broker after which the connection counts as lost. */
const MISSED = 3;
/** The part of the time a draining broker gives that is used to finish what runs. */
const DRAIN_SHARE = 0.8;
/** Errors that trying again can't mend. */
const FATAL = new Set<HubError['code']>(['unauthenticated', 'permission', 'invalid', 'unimplemented']);

/**
 * A session: it survives its connections. After each reconnect it resumes with a higher incarnation
 * and the list of what it holds, and whatever was not acknowledged is said again in its order.
 *
 * Nothing but this class opens and closes connections; nothing but its parts knows what is said.
 */
export class Session implements ServerFrameVisitor {
  readonly leases = new Leases();
  readonly publisher: Publisher;
  readonly settler: Settler;
  readonly attachments: Attachments;
  readonly calls: CancelCalls;
  readonly notes: Notes;
  private readonly transport: Transport;
  private readonly options: SessionOptions;
  private readonly outbox: Outbox;
  private readonly reader = new ServerFrameReader();
  private current: SessionState = 'connecting';
  private id = '';
  private incarnation = 0;
  private link: Link | undefined;
  /** Set while the connection is good for everything. */
  private welcome: Welcome | undefined;
  /** Where a broker that goes away has pointed to; empty: nowhere. */
  private elsewhere = '';
  private failures = 0;
  /** What happens next by itself: a dial, the end of one, or a heartbeat. */
  private timer: Timer | undefined;
  private drainTimer: Timer | undefined;
  private pulseDue = false;
  /** Heartbeats since the broker was last heard. */
  private unheard = 0;
  private opening: Opening | undefined;
  private farewell: (() => void) | undefined;
  private waitingForLink: Waiting[] = [];
  /** Deliveries of the frame that is being read, for one receiver. */
  private delivered: Delivery[] = [];
  private receiver: Receiver | undefined;

  constructor(transport: Transport, options: SessionOptions) {
    const { clock, random, logger } = options;
    this.transport = transport;
    this.options = options;
    this.outbox = new Outbox(clock, () => this.speak());
    this.publisher = new Publisher(this.outbox, clock, random, options.publisher);
    this.settler = new Settler(this.outbox, this.leases, clock, logger);
    this.attachments = new Attachments(this.outbox, clock, logger);
    this.calls = new CancelCalls(this.outbox);
    this.notes = new Notes(this.outbox);
  }

  get state(): SessionState {
    return this.current;
  }

  /** The largest window of an attachment that the broker grants. */
  get maxWindow(): number {
    return this.welcome?.limits?.window || DEFAULT_WINDOW;
  }

  /** The largest task or result that the broker takes, in bytes. */
  get taskBytes(): number {
    return this.publisher.taskBytes;
  }

  /** Connects for the first time. Rejects if it can't within `connectMs`, or never will. */
  open(): Promise<void> {
    const giveUpAt = this.options.clock.now() + this.options.connectMs;
    return new Promise((resolve, reject) => {
      this.opening = { giveUpAt, resolve, reject };
      this.dial();
    });
  }

  /** One call beside the session, as soon as there is a connection. Rejects with HubError. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
  ): Promise<MessageShape<O>> {
    const link = await this.connected(timeoutMs);
    return link.call(method, request, timeoutMs);
  }

  /** Ends the session for good: the broker hands what it holds to others. */
  async close(): Promise<void> {
    const { link } = this;
    if (link !== undefined && this.welcome !== undefined) {
      await new Promise<void>((resolve) => {
        const timer = this.options.clock.after(FAREWELL_MS, resolve);
        this.farewell = () => {
          timer.cancel();
          resolve();
        };
        this.outbox.say(encodeFrame({ goodbye: true }));
        this.outbox.flush();
        link.end();
      });
    }
    this.over(new HubError('cancelled', 'this client has closed its session'));
  }

  // ── What the broker says ─────────────────────────────────────────────────────────────────────

  published(ack: PublishAck): void {
    this.publisher.acknowledged(ack);
  }

  settled(ack: SettleAck): void {
    this.settler.acknowledged(ack);
  }

  delivery(scan: DeliveryScan): void {
    const receiver = this.attachments.get(scan.attachment)?.receiver;
    const delivery = new Delivery(scan, receiver);
    if (delivery.lease >= 0) this.leases.add(delivery);
    if (receiver === undefined) {
      // It crossed our detach, or the detach was lost with a connection.
      this.settler.released(delivery);
      this.attachments.stray(scan.attachment);
      return;
    }
    if (receiver !== this.receiver) this.hand();
    this.receiver = receiver;
    this.delivered.push(delivery);
  }

  control(frame: ServerFrame): void {
    this.hand();
    const { welcome, goAway } = frame;
    if (welcome !== undefined) this.welcomed(welcome);
    for (const attached of frame.attached) this.attachments.attached(attached);
    this.abort(frame.abort);
    for (const progress of frame.progress) this.options.onProgress(progress);
    for (const answer of frame.cancel) this.calls.answered(answer);
    if (frame.listInFlight) this.outbox.say(encodeFrame({ inFlight: { leases: this.held() } }));
    if (goAway !== undefined) this.goAway(goAway);
  }

  private receive(bytes: Buffer): void {
    this.unheard = 0;
    try {
      this.reader.read(bytes, this);
      this.hand();
    } catch (error) {
      const why = new HubError('internal', 'a frame of the broker can not be read', { cause: error });
      this.options.logger.error({ error }, why.message);
      return this.lost(why);
    }
    if (this.current === 'draining') this.moveIfDone();
  }

  /** Gives the deliveries that were read to their receiver. */
  private hand(): void {
    const { delivered, receiver } = this;
    if (delivered.length === 0) return;
    this.delivered = [];
    receiver?.deliver(delivered);
  }

  private abort(aborts: readonly Abort[]): void {
    const byReason = Map.groupBy(aborts, ({ reason }) => reason);
    for (const [reason, group] of byReason) {
      this.drop(this.leases.take(group.map(({ lease }) => lease)), reason);
    }
  }

  private drop(deliveries: readonly Delivery[], reason: string): void {
    for (const delivery of deliveries) delivery.receiver?.aborted(delivery, reason);
  }

  /** What it holds, also what it has settled if the broker may not know that yet. */
  private held(): Uint8Array[] {
    return [...this.leases.list(), ...this.settler.pending()];
  }

  private goAway({ reason, address, deadlineMs, draining }: GoAway): void {
    this.elsewhere = address;
    const why = new HubError('unavailable', `the broker asks to reconnect: ${reason}`);
    // Leases go along with the session. Only a broker that stops, with no other one to go on, is
    // better told first what it can still write down.
    if (!draining || address !== '') return this.lost(why);
    this.publisher.hold();
    this.enter('draining', why);
    this.drainTimer = this.options.clock.after(deadlineMs * DRAIN_SHARE, () => this.lost(why));
    this.moveIfDone();
  }

  private moveIfDone(): void {
    if (this.leases.count > 0 || !this.settler.idle) return;
    this.lost(new HubError('unavailable', 'the broker stops, and nothing is in flight any more'));
  }

  // ── Its connections ──────────────────────────────────────────────────────────────────────────

  private dial(): void {
    const { address, client, dialMs, clock } = this.options;
    const target = this.elsewhere === '' ? address : this.elsewhere;
    this.timer = clock.after(dialMs, () => {
      this.lost(new HubError('unavailable', `the broker did not answer within ${dialMs} ms`));
    });
    const link = this.transport.open(target, {
      frame: (bytes) => this.receive(bytes),
      drained: () => this.outbox.drained(),
      closed: (error) => this.lost(error),
    });
    this.link = link;
    const inFlight = this.held();
    const hello = { sessionId: this.id, incarnation: ++this.incarnation, client, inFlight };
    link.write(Buffer.concat([encodeFrame({ hello }), this.attachments.introduction()]));
  }

  private welcomed(welcome: Welcome): void {
    const { link, options } = this;
    if (link === undefined || this.welcome !== undefined) return;
    this.welcome = welcome;
    this.failures = 0;
    this.unheard = 0;
    this.timer?.cancel();
    const { resumed, sessionId, limits } = welcome;
    if (!resumed) this.drop(this.leases.takeAll(), 'the broker has given the session up');
    this.id = sessionId;
    this.publisher.taskBytes = limits?.taskBytes || Infinity;
    this.publisher.batchTasks = limits?.batchTasks || DEFAULT_BATCH;
    this.settler.limit = Math.min(DEFAULT_BATCH, this.publisher.batchTasks);
    this.outbox.open(link);
    this.attachments.welcomed();
    this.settler.welcomed();
    this.publisher.welcomed();
    this.calls.welcomed();
    this.beat();
    this.enter('connected', undefined);
    this.opening?.resolve();
    this.opening = undefined;
    for (const { resolve } of this.waitingForLink.splice(0)) resolve(link);
    options.logger.debug({ session: sessionId, resumed, broker: welcome.broker }, 'connected');
  }

  /** The connection is of no use any more: the next one is dialled after a while. */
  private lost(why: HubError): void {
    if (this.current === 'closed') return;
    this.disconnect();
    if (this.farewell !== undefined) return this.farewell();
    if (FATAL.has(why.code)) return this.over(why);
    const { clock, random, logger } = this.options;
    const now = clock.now();
    let wait = Math.max(why.retryAfterMs ?? 0, backoff(++this.failures, RECONNECT, random.float()));
    if (this.opening !== undefined) {
      if (now >= this.opening.giveUpAt) return this.over(this.unreachable(why));
      wait = Math.min(wait, this.opening.giveUpAt - now);
    }
    if (this.failures > 1) this.elsewhere = '';
    logger.debug({ code: why.code, wait: Math.round(wait) }, `reconnecting: ${why.message}`);
    this.enter(this.opening === undefined ? 'reconnecting' : 'connecting', why);
    this.timer = clock.after(wait, () => this.dial());
  }

  private disconnect(): void {
    this.timer?.cancel();
    this.drainTimer?.cancel();
    this.link?.destroy();
    this.link = undefined;
    this.welcome = undefined;
    // Of a frame that could not be read to its end: nobody has got these.
    for (const delivery of this.delivered.splice(0)) this.leases.remove(delivery);
    this.outbox.close();
    this.attachments.disconnected();
  }

  private over(why: HubError): void {
    if (this.current === 'closed') return;
    this.disconnect();
    this.enter('closed', why);
    this.drop(this.leases.takeAll(), why.message);
    this.publisher.over(why);
    this.settler.over();
    this.calls.over(why);
    this.attachments.over(why);
    this.opening?.reject(why);
    this.opening = undefined;
    for (const { reject } of this.waitingForLink.splice(0)) reject(why);
  }

  private enter(state: SessionState, why: HubError | undefined): void {
    if (state === this.current) return;
    this.current = state;
    this.options.onStateChange(state, why);
  }

  private unreachable(why: HubError): HubError {
    return new HubError(
      'unavailable',
      `no broker at ${this.options.address}: ${why.message}; is one running there? \`agenthub serve\` starts one`,
      { cause: why },
    );
  }

  /** The connection, once there is one. */
  private connected(timeoutMs: number): Promise<Link> {
    if (this.link !== undefined && this.welcome !== undefined) return Promise.resolve(this.link);
    if (this.current === 'closed') return Promise.reject(new HubError('cancelled', 'the session is closed'));
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        resolve: (link) => {
          timer.cancel();
          resolve(link);
        },
        reject: (error) => {
          timer.cancel();
          reject(error);
        },
      };
      const timer = this.options.clock.after(timeoutMs, () => {
        this.waitingForLink = this.waitingForLink.filter((one) => one !== waiting);
        reject(new HubError('unavailable', `no connection to the broker within ${timeoutMs} ms`));
      });
      this.waitingForLink.push(waiting);
    });
  }

  // ── What it says ─────────────────────────────────────────────────────────────────────────────

  /** Heartbeats follow settlements: both sides then count the same leases. */
  private speak(): void {
    this.settler.speak();
    this.publisher.speak();
    this.notes.speak();
    if (!this.pulseDue) return;
    this.pulseDue = false;
    this.outbox.say(encodeFrame({ heartbeat: { inFlight: this.leases.count, hash: this.leases.hash() } }));
  }

  private beat(): void {
    const every = this.welcome?.heartbeatMs || DEFAULT_HEARTBEAT_MS;
    this.timer = this.options.clock.after(every, () => {
      if (++this.unheard > MISSED) {
        return this.lost(new HubError('unavailable', `the broker was not heard for ${MISSED * every} ms`));
      }
      this.pulseDue = true;
      this.outbox.wake();
      this.beat();
    });
  }
}
