import type { ServerWritableStream } from '@grpc/grpc-js';
import type { Broker } from '../broker/broker.ts';
import type { ConsumerSpec } from '../broker/consumer.ts';
import type { Seat } from '../broker/seat.ts';
import { seatOf } from '../broker/seat.ts';
import type { EdgeSession } from '../broker/sessions.ts';
import type { LeaseName } from '../wire/lease.ts';
import { CreditWindow } from '../core/credit.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { statusOf } from '../wire/status.ts';
import type { Act } from '../trust/rights.ts';
import type { Admission } from './calls.ts';
import { joined } from './joined.ts';
import type { Tenant } from './tenants.ts';

/** A stream that takes nothing for this long, in milliseconds, is ended. */
const STALL_MS = 10_000;
/** How much may wait follows the speed of about the last tenth of a second. */
const SMOOTHING_MS = 100;
/** Bytes that wait for a stream at most, or one message. */
const WAITING_BYTES = 1024 * 1024;

/** What a stream gets of what is delivered in `bytes[start, end)`. */
export type Translate = (bytes: Uint8Array, start: number, end: number, acceptedMs: number) => Buffer;

/** What of a mailbox a stream wants, and for whom. */
export type Wanted = Pick<ConsumerSpec, 'agent' | 'types' | 'taskIds'>;

/** Who subscribes, and what they must be allowed, now and later. */
export interface Leave {
  readonly admission: Admission;
  readonly needs: Act & { readonly field: string };
}

/** What a {@link Subscriber} is made of. */
export interface SubscriberOptions {
  /** 16 hexadecimal digits. */
  readonly id: string;
  /** For people: what kind of stream it is. */
  readonly client: string;
  /** Its namespace. */
  readonly tenant: Pick<Tenant, 'names' | 'delivered'>;
  readonly broker: Broker;
  readonly call: ServerWritableStream<Buffer, Buffer>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether it stands for an agent at work. */
  readonly works: boolean;
  readonly leave: Leave;
  /** The stream has ended, by whomever. */
  readonly ended: () => void;
}

/**
 * A server-streamed call of a protocol without acknowledgements, as a sink for copies: what has been
 * handed to it counts as taken.
 *
 * What has come in one turn of the loop leaves in one write, and one is under way at a time. How much
 * may wait follows the speed of the client, because all that is lost if the connection breaks.
 */
export class Subscriber implements EdgeSession {
  readonly session: string;
  readonly incarnation = 0;
  readonly stays = true;
  readonly startedAt: number;
  readonly client: string;
  readonly peer: string;
  readonly agents: number;
  readonly principal: string;
  private readonly options: SubscriberOptions;
  private readonly credit = new CreditWindow({ acknowledged: false, smoothingMs: SMOOTHING_MS });
  private taking: Seat[] = [];
  private subscription: { readonly mailbox: string; readonly spec: ConsumerSpec } | undefined;
  private translate: Translate | undefined;
  private waiting: Buffer[] = [];
  private waitingBytes = 0;
  private scheduled = false;
  /** Messages of the write under way, and since when. */
  private writing = 0;
  private writingSince = 0;
  private starving = false;
  private open = true;

  constructor(options: SubscriberOptions) {
    const { call } = options;
    this.options = options;
    this.startedAt = options.clock.now();
    this.session = options.id;
    this.client = options.client;
    this.agents = options.works ? 1 : 0;
    this.principal = options.leave.admission.principal.name;
    this.peer = call.getPeer();
    const gone = (): void => this.gone();
    call.on('cancelled', gone);
    call.on('error', gone);
    call.on('close', gone);
  }

  get connected(): boolean {
    return this.open;
  }

  /** Gets copies of what is in that mailbox, and of what comes from now on. */
  attach(mailbox: string, wanted: Wanted, translate: Translate): void {
    const { clock } = this.options;
    this.translate = translate;
    const spec = {
      ...wanted,
      attachedAt: clock.now(),
      sink: this,
      number: 1,
      listener: true,
      window: 1,
      maxWindow: 1,
    };
    this.subscription = { mailbox, spec };
    this.reseat();
  }

  reseat(): void {
    const { broker } = this.options;
    if (!this.subscription) return;
    const { mailbox, spec } = this.subscription;
    const places = broker.atlas.lanes(mailbox).map((lane) => ({ lane, shard: broker.shardOf(lane) }));
    const former = this.taking;
    const same = places.every(
      ({ lane, shard }, at) => former[at]?.mailbox === lane && former[at].shard === shard,
    );
    if (same && former.length === places.length) return;
    for (const seat of former) broker.detach(seat, this.session);
    this.taking = places.map(({ lane, shard }, at) => seatOf(lane, shard, { ...spec, number: at + 1 }));
    for (const seat of this.taking) broker.attach(seat, this, () => {});
  }

  get namespace(): string {
    return this.options.tenant.names.namespace;
  }

  seats(): Iterable<Seat> {
    return this.taking;
  }

  seat(attachment: number): Seat | undefined {
    return this.taking[attachment - 1];
  }

  /** Writes a message, or has it wait for the one before. */
  send(message: Buffer): void {
    if (!this.open) return;
    this.waiting.push(message);
    this.waitingBytes += message.length;
    this.schedule();
  }

  /** Whether another message may be sent now. */
  get takesMore(): boolean {
    return (
      this.open &&
      this.waiting.length + this.writing < this.credit.window &&
      this.waitingBytes < WAITING_BYTES
    );
  }

  ready(): boolean {
    if (!this.takesMore) this.starving = true;
    return this.takesMore;
  }

  deliver(
    _attachment: number,
    _lease: LeaseName | undefined,
    _attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    const { logger, broker, tenant } = this.options;
    try {
      const { names } = tenant;
      if (!this.translate) return;
      if (names.isDefault) this.send(this.translate(bytes, start, end, acceptedMs));
      else {
        tenant.delivered();
        const body = Buffer.from(names.leaveBody(bytes, start, end, isResult));
        this.send(this.translate(body, 0, body.length, acceptedMs));
      }
    } catch (error) {
      // What can't be said in this protocol must not bring the broker down, now and after each restart.
      logger.error({ session: this.session, error }, 'a message was left out: it can not be translated');
    }
    // Owners elsewhere can't ask before each delivery.
    if (!this.ready()) broker.relay.pause(this.session, true);
  }

  /** Nothing is ever leased to it. */
  leaseKept(): void {}

  leaseEnded(): void {}
  abort(): void {}
  handBack(): void {}
  /** Its client can't come back under its name. */
  replaced(): void {}
  /** Progress has streams of its own. */
  tell(): void {}
  /** Its protocol has no word for that. */
  goAway(): void {}

  rejudge(): void {
    const { admission, needs } = this.options.leave;
    if (!admission.stands()) {
      return this.end(
        new HubError('unauthenticated', 'the token was withdrawn; subscribe again with a new one'),
      );
    }
    const refusal = admission.judged().refusal(needs, needs.field);
    if (refusal) this.end(refusal);
  }

  checkAlive(now: number): void {
    if (now >= this.options.leave.admission.principal.expiresAt) {
      return this.end(
        new HubError('unauthenticated', 'the token has expired; subscribe again with a new one'),
      );
    }
    if (this.writing > 0 && now - this.writingSince > STALL_MS) {
      this.end(
        new HubError(
          'exhausted',
          `the stream took nothing for ${STALL_MS / 1000} s; subscribe again and read faster`,
        ),
      );
    }
  }

  close(): void {
    this.end(new HubError('unavailable', 'the broker has stopped; subscribe again', { retryAfterMs: 1000 }));
  }

  /** Ends the stream with that status; what is being written still arrives. */
  end(error: HubError): void {
    if (this.open) this.options.call.emit('error', statusOf(this.options.tenant.names.error(error)));
  }

  private schedule(): void {
    if (this.scheduled || this.writing > 0) return;
    this.scheduled = true;
    this.options.clock.soon(() => {
      this.scheduled = false;
      this.write();
    });
  }

  private write(): void {
    const { call, clock } = this.options;
    if (!this.open || this.waiting.length === 0) return;
    const messages = this.waiting;
    const since = clock.now();
    this.waiting = [];
    this.waitingBytes = 0;
    this.writing = messages.length;
    this.writingSince = since;
    call.write(joined(messages), () => this.written());
  }

  /** The client has taken what was being written. */
  private written(): void {
    const now = this.options.clock.now();
    const took = now - this.writingSince;
    if (took > 0) this.credit.observe((this.writing * 1000) / took, took / 1000, now);
    this.writing = 0;
    if (this.waiting.length > 0) this.schedule();
    if (!this.starving) return;
    this.starving = false;
    const { broker } = this.options;
    broker.relay.pause(this.session, false);
    if (this.open) for (const seat of this.taking) broker.resume(seat);
  }

  private gone(): void {
    if (!this.open) return;
    this.open = false;
    this.waiting = [];
    this.options.ended();
  }
}
