import { create, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { HubError, toHubError } from '../std/errors.ts';
import type { Clock } from '../std/clock.ts';
import type { Durability as LogDurability } from '../log/log.ts';
import { DURABILITY } from '../log/log.ts';
import type { Broker } from '../broker/broker.ts';
import type { Consumer, Progress } from '../broker/consumer.ts';
import type { Done } from '../broker/question.ts';
import { limit } from '../broker/ingress.ts';
import type { Owner } from '../broker/owner.ts';
import type { Seat } from '../broker/seat.ts';
import type { EdgeSession } from '../broker/sessions.ts';
import { settle } from '../broker/settlement.ts';
import { Ticket } from '../broker/ticket.ts';
import type { ClientFrameVisitor, Ranges } from '../wire/client-frame.ts';
import { SettlementScan } from '../wire/client-frame.ts';
import type {
  AssignedId,
  Attach,
  CancelCall,
  CancelOutcome,
  Detach,
  Extend,
  Heartbeat,
  Hello,
  InFlight as InFlightList,
  ProgressUpdate,
  Recipients,
  Refusal,
  Window,
} from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Durability } from '../wire/gen/agenthub/v1/session_pb.ts';
import {
  AssignedIdSchema,
  RecipientsSchema,
  ServerFrameSchema,
  SettlementSchema,
} from '../wire/gen/agenthub/v1/session_pb.ts';
import type { LeaseName } from '../wire/lease.ts';
import { Lease, LEASE_BYTES, leaseHash, writeLease } from '../wire/lease.ts';
import { ServerFrameWriter } from '../wire/server-frame.ts';
import { refusalOf } from '../wire/status.ts';
import type { Rights } from '../trust/rights.ts';
import type { Names } from '../wire/names.ts';
import { Attachments, OWN_NUMBERS } from './attachments.ts';
import type { Admission } from './calls.ts';
import { InFlight } from './in-flight.ts';
import type { LeaseSeal } from './lease-seal.ts';
import type { Principals } from './principals.ts';
import type { TaskFinder } from './task-finder.ts';
import type { Tenant } from './tenants.ts';

/** A frame grows to about this size before it is sent, and to the other one while the last is on its way. */
const FRAME_BYTES = 256 * 1024;
const LARGEST_FRAME_BYTES = 1024 * 1024;

/** The connection of a session. */
export interface Transport {
  /** For people: where the client is. */
  readonly peer: string;
  /** Whether a frame is on its way: {@link Session.drained} will say when it is not any more. */
  readonly busy: boolean;
  /**
   * Sends a frame, whose bytes are the caller's again afterwards; false if no more should be sent until
   * {@link Session.drained}.
   */
  write(frame: Buffer): boolean;
  /** Ends the connection, with the error if there is one. */
  end(error?: HubError): void;
}

/** What a {@link Session} is made of: who it is, and the limits that its client is told. */
export interface SessionOptions {
  readonly id: string;
  readonly incarnation: number;
  readonly client: string;
  /** Who has opened it. */
  readonly admission: Admission;
  /** Its namespace. */
  readonly tenant: Tenant;
  /** Cancels a task for it. */
  readonly cancel: TaskFinder['cancel'];
  /** Hides what leases are made of from the client; without, clients are trusted not to make any. */
  readonly seal: LeaseSeal | undefined;
  /** What its principal may have; absent: what there is for all. */
  readonly principals: Principals | undefined;
  readonly broker: Broker;
  readonly clock: Clock;
  readonly version: string;
  readonly heartbeatMs: number;
  readonly timeoutMs: number;
  readonly graceMs: number;
  readonly maxWindow: number;
  readonly maxAttachments: number;
  readonly maxAgents: number;
  readonly frameBytes: number;
  readonly taskBytes: number;
  readonly batchTasks: number;
}

/** The most bits of a feature level that this version speaks. */
export const LEVEL = 1;

/**
 * A client's session: turns its frames into calls of the broker, and what the broker has for it into
 * frames, one on its way at a time. It outlives its connection: what is delivered to it while it has
 * none is withheld by the owners, and what it still has to say is sent after the reconnect.
 */
export class Session implements EdgeSession, ClientFrameVisitor {
  readonly session: string;
  readonly client: string;
  readonly stays = false;
  readonly startedAt: number;
  incarnation: number;
  private readonly options: SessionOptions;
  private readonly broker: Broker;
  private readonly out = new ServerFrameWriter();
  private transport: Transport | undefined;
  private writable = false;
  private scheduled = false;
  private readonly attachments: Attachments;
  private readonly starving = new Set<number>();
  /** Batches that were published and not answered yet, and the connection on which they were said last. */
  private readonly publishing = new Map<number, Transport | undefined>();
  private readonly lease = new Lease();
  private readonly scan = new SettlementScan();
  private readonly held = new InFlight();
  private listAskedAt = 0;
  /** The same in the time of the relay. */
  private listAskedAfter = 0;
  private heardAt = 0;
  private ended = false;
  private greeted = false;
  /** The frame that said hello is being read: nobody delivers before all of it is known. */
  private opening = false;
  /** Who its client is, as it was shown on its last connection, and what that may do now. */
  private admission: Admission;
  private rights: Rights;
  /** What its client has shown is not good any more. */
  private withdrawn = false;
  /** When the client was told that it has to show anew who it is; 0: it was not. */
  private expiredAt = 0;
  private readonly seal: LeaseSeal | undefined;
  /** Its namespace, at this broker. */
  readonly tenant: Tenant;
  /** How things are called in its namespace; absent: as inside of the cluster. */
  private readonly names: Names | undefined;

  constructor(options: SessionOptions) {
    this.options = options;
    this.broker = options.broker;
    this.session = options.id;
    this.client = options.client;
    this.incarnation = options.incarnation;
    this.startedAt = options.clock.now();
    this.attachments = new Attachments(options.broker, this, options, () =>
      options.principals?.host(this.admission.principal),
    );
    this.admission = options.admission;
    this.rights = options.admission.rights;
    this.seal = options.seal;
    this.tenant = options.tenant;
    this.names = options.tenant.names.isDefault ? undefined : options.tenant.names;
  }

  get connected(): boolean {
    return this.transport !== undefined;
  }

  get agents(): number {
    return this.attachments.agents;
  }

  get peer(): string {
    return this.transport?.peer ?? '';
  }

  get inFlightLeases(): number {
    return this.held.count;
  }

  /** The name of the principal that it belongs to. */
  get principal(): string {
    return this.admission.principal.name;
  }

  get namespace(): string {
    return this.tenant.names.namespace;
  }

  /** What it is attached to, for people. */
  seats(): Iterable<Seat> {
    return this.attachments.values();
  }

  seat(attachment: number): Seat | undefined {
    return this.attachments.get(attachment);
  }

  reseat(): void {
    this.attachments.reseat();
  }

  // ── Its connection ───────────────────────────────────────────────────────────────────────────

  /** The client is connected: for the first time, or again. {@link opened} follows, behind the rest of the frame. */
  connect(transport: Transport, hello: Hello, resumed: boolean, admission: Admission): void {
    const { options, broker } = this;
    this.admission = admission;
    this.expiredAt = 0;
    this.transport?.end(new HubError('aborted', 'the session was resumed by a later connection'));
    this.transport = transport;
    this.writable = true;
    this.greeted = false;
    this.opening = true;
    this.listAskedAt = 0;
    this.heardAt = options.clock.now();
    this.incarnation = hello.incarnation;
    broker.sessions.connect(this);
    broker.relay.renewed(this);
    // What was not sent is void: the client says anew what it holds, and repeats what was not acknowledged.
    this.out.clear();
    this.starving.clear();
    this.say({
      welcome: {
        sessionId: this.session,
        resumed,
        heartbeatMs: options.heartbeatMs,
        graceMs: options.graceMs,
        durability: durabilityOf(broker.log.durability),
        limits: {
          taskBytes: options.taskBytes,
          batchTasks: options.batchTasks,
          frameBytes: options.frameBytes,
          window: options.maxWindow,
          attachments: options.maxAttachments,
        },
        broker: broker.id,
        version: options.version,
        level: LEVEL,
      },
    });
    if (resumed) this.reconcile(hello.inFlight, Infinity);
    this.rejudge();
    this.schedule();
  }

  /** All that came with the hello has been taken, so that what is delivered now fits the windows of now. */
  opened(): void {
    if (!this.transport) return;
    this.opening = false;
    this.broker.relay.pause(this.session, false);
    this.starving.clear();
    for (const seat of this.attachments.values()) this.broker.resume(seat);
  }

  /** Whether that is its connection; a former one may still have something to say. */
  isOn(transport: Transport): boolean {
    return this.transport === transport;
  }

  /** The connection is gone; the session may come back. */
  disconnected(transport: Transport): void {
    if (this.transport !== transport) return;
    this.transport = undefined;
    this.writable = false;
    this.broker.relay.pause(this.session, true);
    if (!this.ended) this.broker.sessions.lose(this.session);
  }

  /** The connection takes frames again. */
  drained(): void {
    this.writable = true;
    this.flush();
    this.broker.relay.pause(this.session, false);
    const starving = [...this.starving];
    this.starving.clear();
    for (const number of starving) {
      const seat = this.attachments.get(number);
      if (seat) this.broker.resume(seat);
    }
  }

  /** Asks the client to reconnect: at that address, or elsewhere if it is '', or later. */
  goAway(reason: string, deadlineMs: number, draining: boolean, address = ''): void {
    this.say({ goAway: { reason, address, deadlineMs: Math.ceil(deadlineMs), draining } });
    this.schedule();
  }

  /** Its leases go back to their mailboxes, untouched, and do not count as attempts. */
  handBack(): void {
    this.broker.handBack(this.session);
  }

  replaced(): void {
    this.ended = true;
    this.broker.relay.drop(this.session);
    this.attachments.clear();
    this.close(new HubError('aborted', 'the session was resumed by a later connection'));
  }

  /** Closes the connection after what was said has been sent. */
  close(error?: HubError): void {
    const { transport } = this;
    if (this.writable && !this.out.empty) transport?.write(this.out.written());
    this.out.clear();
    this.transport = undefined;
    this.writable = false;
    transport?.end(error);
    this.broker.relay.pause(this.session, true);
    if (transport && !this.ended) this.broker.sessions.lose(this.session);
  }

  /** Closes a connection on which nothing has been heard for too long. */
  checkAlive(now: number): void {
    if (this.transport && now - this.heardAt > this.options.timeoutMs) {
      this.close(new HubError('deadline', 'no heartbeat was heard in time; reconnect'));
    }
    if (this.transport && (this.withdrawn || now >= this.admission.principal.expiresAt)) this.expire(now);
  }

  rejudge(): void {
    this.withdrawn = !this.admission.stands();
    this.rights = this.admission.judged();
    for (const { number, mailbox, spec } of this.attachments.all()) {
      const refusal = attachRefusal(this.rights, mailbox, spec.agent, spec.listener);
      if (!refusal) continue;
      this.leave(number);
      this.say({ attached: [{ attachment: number, refusal: refusalOf(0, refusal) }] });
      this.schedule();
    }
  }

  /** What its client has shown is void from now on: it may come back with something else. */
  private expire(now: number): void {
    const { graceMs } = this.options;
    const what = `${this.admission.principal.source === 'cert' ? 'certificate' : 'token'} ${this.withdrawn ? 'was withdrawn' : 'has expired'}`;
    if (this.expiredAt === 0) {
      this.expiredAt = now;
      return this.goAway(`the ${what}; reconnect with a new one`, graceMs, false);
    }
    if (now - this.expiredAt < graceMs) return;
    this.close(new HubError('unauthenticated', `the ${what}; open a session with a new one`));
  }

  /** Notes that the client has said something. */
  heard(now: number): void {
    this.heardAt = now;
  }

  // ── Sink: what owners have for it ────────────────────────────────────────────────────────────

  ready(consumer: Consumer): boolean {
    if (this.takesMore) return true;
    if (this.starving.size === 0) this.broker.metrics.stalls.add();
    this.starving.add(consumer.spec.number);
    return false;
  }

  deliver(
    attachment: number,
    lease: LeaseName | undefined,
    attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    const known = lease && this.outward(lease);
    if (known) this.held.add(hashOf(known));
    const number = attachment < OWN_NUMBERS ? attachment : this.attachments.numberOf(attachment);
    if (this.names) {
      const body = this.names.leaveBody(bytes, start, end, isResult);
      this.tenant.delivered();
      this.out.deliver(number, known, attempt, acceptedMs, isResult, body, 0, body.length);
    } else this.out.deliver(number, known, attempt, acceptedMs, isResult, bytes, start, end);
    // Owners elsewhere can't ask before each delivery.
    if (!this.takesMore) this.broker.relay.pause(this.session, true);
    if (this.out.length > FRAME_BYTES) this.flush();
    else this.schedule();
  }

  leaseKept(lease: LeaseName): void {
    this.held.add(hashOf(this.outward(lease)));
  }

  leaseEnded(lease: LeaseName): void {
    this.held.remove(hashOf(this.outward(lease)));
  }

  abort(lease: LeaseName, reason: string): void {
    this.say({ abort: [{ lease: leaseBytes(this.outward(lease)), reason }] });
    this.schedule();
  }

  progress(update: ProgressUpdate): void {
    try {
      this.seal?.openIn(update.lease, 0, update.lease.length, this.lease);
      this.lease.read(update.lease, 0, update.lease.length);
      const owner = this.owner();
      if (owner) this.broker.progress.report(owner, this.lease, this.session, update);
      else this.broker.relay.progress(this.session, this.lease.shard, update);
    } catch {
      // Best effort: progress of a lease that has ended is of no use to anybody.
    }
  }

  tell(progress: Progress): void {
    if (!this.takesMore) return;
    this.say({ progress: [progress] });
    this.schedule();
  }

  // ── What the client says ─────────────────────────────────────────────────────────────────────

  hello(): void {
    if (!this.greeted) {
      this.greeted = true;
      return;
    }
    throw new HubError('invalid', 'hello must be said once, in the first frame', { field: 'hello' });
  }

  attach(attach: Attach): void {
    // What stands behind a goodbye is nobody's.
    if (this.ended) return;
    const { attachment } = attach;
    const answer = (refusal?: Refusal): void => {
      this.say({ attached: [refusal ? { attachment, refusal } : { attachment }] });
      this.schedule();
    };
    try {
      this.tenant.names.entering(attach);
      const { mailbox, agent, listener } = attach;
      const refusal = attachRefusal(this.rights, mailbox, agent, listener);
      if (refusal) this.admission.refuse(refusal);
      this.attachments.add(attach, this.options.clock.now(), answer);
    } catch (error) {
      answer(refusalOf(0, toHubError(error)));
    }
  }

  detach({ attachment }: Detach): void {
    this.leave(attachment);
  }

  private leave(attachment: number): void {
    this.attachments.remove(attachment);
    this.starving.delete(attachment);
  }

  publish(batch: number, durability: number, bytes: Uint8Array, tasks: Ranges): void {
    const saidAgain = this.publishing.has(batch);
    this.publishing.set(batch, this.transport);
    // It has the answer that is still to come.
    if (saidAgain) return;
    const level = durabilityOf(this.broker.log.durability);
    const assigned: AssignedId[] = [];
    const recipients: Recipients[] = [];
    const held = this.options.principals?.hold(this.admission.principal, bytes.length);
    const ticket = new Ticket(tasks.count, ({ refused }) => {
      if (typeof held === 'function') held();
      const said = this.publishing.get(batch);
      this.publishing.delete(batch);
      // It will be said again on the new connection, and may fare better then.
      if (said !== this.transport) return;
      if (refused.length + assigned.length + recipients.length === 0) this.out.published(batch, level);
      else {
        const refusals: Refusal[] = refused.map(({ index, error }) => refusalOf(index, error));
        this.say({
          publishAck: [{ batch: BigInt(batch), durability: level, refused: refusals, assigned, recipients }],
        });
      }
      this.schedule();
    });
    if (durability > level || held instanceof HubError) {
      const error =
        held instanceof HubError
          ? held
          : new HubError('precondition', `this broker keeps tasks "${this.broker.log.durability}" at best`, {
              field: 'durability',
            });
      for (let index = 0; index < tasks.count; index++) ticket.refuse(index, error);
      return;
    }
    this.tenant.intake.publish(bytes, tasks, {
      origin: this.session,
      guard: this.admission.guard(this.rights),
      ticket,
      assigned: (index, id) => assigned.push(create(AssignedIdSchema, { index, id })),
      recipients: (index, count) => recipients.push(create(RecipientsSchema, { index, count })),
    });
  }

  settle(batch: number, bytes: Uint8Array, settlements: Ranges): void {
    if (this.ended) return;
    const ticket = new Ticket(settlements.count, ({ refused }) => {
      if (refused.length === 0) this.out.settled(batch);
      else
        this.say({
          settleAck: [
            { batch: BigInt(batch), refused: refused.map(({ index, error }) => refusalOf(index, error)) },
          ],
        });
      this.schedule();
    });
    const now = this.options.clock.now();
    const taken = new Map<Owner, number[]>();
    for (let index = 0; index < settlements.count; index++) {
      try {
        const start = settlements.start(index);
        const end = settlements.end(index);
        const owner = this.settleOne(bytes, start, end, now);
        if (!owner) this.relaySettlement(this.lease.shard, bytes, start, end, index, ticket);
        else if (taken.has(owner)) taken.get(owner)!.push(index, start, end);
        else taken.set(owner, [index, start, end]);
      } catch (error) {
        ticket.refuse(index, toHubError(error));
      }
    }
    for (const [owner, parts] of taken) {
      owner.settled(
        () => ticket.done(parts.length / 3),
        () => {
          for (let at = 0; at < parts.length; at += 3)
            this.relaySettlement(owner.shard, bytes, parts[at + 1]!, parts[at + 2]!, parts[at]!, ticket);
        },
      );
    }
  }

  private relaySettlement(
    shard: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    index: number,
    ticket: Ticket,
  ): void {
    // It has ended since an owner here took that and was replaced: nobody must hear of the session again.
    if (this.broker.sessions.get(this.session) !== this) return;
    this.broker.relay.settle(this, shard, bytes, start, end, (error) => {
      if (error) ticket.refuse(index, error);
      else ticket.done(1);
    });
  }

  extend(extend: Extend): void {
    try {
      this.readLease(extend.lease);
      const owner = this.owner();
      if (owner) owner.extend(this.lease, this.session, extend.runMs);
      else this.broker.relay.extend(this.session, this.lease, extend.runMs);
    } catch {
      this.abortBytes(extend.lease, 'the lease has ended');
    }
  }

  cancel(call: CancelCall): void {
    const answer: Done<CancelOutcome> = (error, outcome) => {
      const what = error ? { refusal: refusalOf(0, error) } : { outcome };
      this.say({ cancel: [{ call: call.call, ...what }] });
      this.schedule();
    };
    if (call.mailbox === '')
      return answer(new HubError('invalid', 'mailbox must not be empty', { field: 'mailbox' }), undefined);
    try {
      this.options.cancel(this.tenant.names.entering(call), this.admission, answer);
    } catch (error) {
      answer(toHubError(error), undefined);
    }
  }

  window({ attachment, window }: Window): void {
    this.attachments.resize(attachment, window);
  }

  heartbeat({ inFlight, hash }: Heartbeat): void {
    // One question at a time: the answer to a former one knows nothing of what was delivered since.
    if (this.held.disagrees(inFlight, hash) && this.listAskedAt === 0) {
      this.listAskedAt = this.options.clock.now();
      this.listAskedAfter = this.broker.relay.now;
      this.say({ listInFlight: true });
    }
    this.say({ heartbeat: { inFlight: this.held.count, hash: this.held.hash } });
    this.schedule();
  }

  inFlight({ leases }: InFlightList): void {
    if (this.listAskedAt > 0) this.reconcile(leases, this.listAskedAt);
    this.listAskedAt = 0;
  }

  goodbye(): void {
    this.ended = true;
    this.handBack();
    this.broker.sessions.end(this.session);
    this.close();
  }

  // ── Details ──────────────────────────────────────────────────────────────────────────────────

  /** The owner that has taken the settlement, or `undefined` if it is to be relayed to another broker. */
  private settleOne(bytes: Uint8Array, start: number, end: number, now: number): Owner | undefined {
    const { scan, lease } = this;
    scan.read(bytes, start, end);
    this.seal?.openIn(bytes, scan.leaseStart, scan.leaseEnd, lease);
    lease.read(bytes, scan.leaseStart, scan.leaseEnd);
    const owner = this.owner();
    owner?.settling(now);
    if (answerBytes(scan) > this.options.taskBytes) {
      throw limit('limits.taskBytes', `the result has more than ${this.options.taskBytes} bytes`);
    }
    if (owner) settle(owner, this.session, lease, scan, bytes);
    return owner;
  }

  /** Compares what the client holds with what the owners say. */
  private reconcile(leases: readonly Uint8Array[], before: number): void {
    const byShard = new Map<number, LeaseName[]>();
    for (const bytes of leases) {
      try {
        this.readLease(bytes);
        this.owner();
      } catch {
        this.abortBytes(bytes, 'it is no lease of this broker');
        continue;
      }
      const { shard, order, tag, delivery, epoch, slot } = this.lease;
      const list = byShard.get(shard);
      if (list) list.push({ shard, order, tag, delivery, epoch, slot });
      else byShard.set(shard, [{ shard, order, tag, delivery, epoch, slot }]);
    }
    const { shards, relay } = this.broker;
    for (let shard = 0; shard < shards.count; shard++) {
      const listed = byShard.get(shard) ?? [];
      const owner = shards.owner(shard);
      if (owner) this.abortAll(owner.reconcile(this, listed, before));
      else if (before === Infinity) relay.reconcile(this, shard, listed);
      // Nobody knows until it has gone. If there is something wrong, the next heartbeats say so again.
      else if (!shards.isLeaving(shard)) {
        const { stale, missed } = relay.compare(this.session, shard, listed, this.listAskedAfter);
        this.abortAll(stale);
        for (const lease of missed) this.release(lease);
      }
    }
  }

  private abortAll(leases: readonly LeaseName[]): void {
    for (const lease of leases) this.abort(lease, 'the task was given to another worker, or has ended');
  }

  /** Hands a lease back that the client never got. */
  private release(lease: LeaseName): void {
    const released = { lease: leaseBytes(lease), verdict: { case: 'released' as const, value: {} } };
    const bytes = toBinary(SettlementSchema, create(SettlementSchema, released));
    this.broker.relay.settle(this, lease.shard, bytes, 0, bytes.length, () => {});
  }

  private readLease(bytes: Uint8Array): void {
    this.lease.read(bytes, 0, bytes.length);
    this.seal?.open(this.lease);
  }

  /** The lease as the client knows it. */
  private outward(lease: LeaseName): LeaseName {
    return this.seal ? this.seal.seal(lease) : lease;
  }

  /** The owner of the lease that was read, if it is here. */
  private owner(): Owner | undefined {
    const { shards } = this.broker;
    const { shard } = this.lease;
    if (shard < shards.count) return shards.owner(shard);
    throw new HubError('invalid', `there is no shard ${shard}`, { field: 'lease' });
  }

  private abortBytes(lease: Uint8Array, reason: string): void {
    this.say({ abort: [{ lease, reason }] });
    this.schedule();
  }

  /** Says something with names as they are in its namespace. */
  private say(frame: MessageInitShape<typeof ServerFrameSchema>): void {
    this.out.control(this.names ? this.names.leaving(create(ServerFrameSchema, frame)) : frame);
  }

  private schedule(): void {
    if (this.scheduled || !this.transport) return;
    this.scheduled = true;
    this.options.clock.soon(() => {
      this.scheduled = false;
      this.flush();
    });
  }

  private get takesMore(): boolean {
    return this.writable && !this.opening && this.out.length < LARGEST_FRAME_BYTES;
  }

  private flush(): void {
    if (!this.transport || this.transport.busy || this.out.empty || !this.writable) return;
    this.writable = this.transport.write(this.out.written());
    this.out.clear();
  }
}

/** Why somebody with these rights may not attach that, or `undefined`. */
function attachRefusal(
  rights: Rights,
  mailbox: string,
  agent: string,
  listener: boolean,
): HubError | undefined {
  if (!rights.limited) return undefined;
  if (agent !== '' && agent !== mailbox) {
    const refusal = rights.refusal({ does: 'be', to: agent }, 'agent');
    if (refusal) return refusal;
  }
  return rights.refusal({ does: listener ? 'read' : 'work', to: mailbox }, 'mailbox');
}

function leaseBytes(lease: LeaseName): Buffer {
  const bytes = Buffer.alloc(LEASE_BYTES);
  writeLease(bytes, 0, lease);
  return bytes;
}

function hashOf({ shard, order, tag, delivery }: LeaseName): number {
  return leaseHash(shard, order, tag, delivery);
}

/** The number of a durability in `agenthub.v1.Durability`. */
export function durabilityOf(durability: LogDurability): Durability {
  return (DURABILITY.indexOf(durability) + 1) as Durability;
}

/** The size of what a settlement says to the requester: payload, content type and headers. */
function answerBytes({
  payloadStart,
  payloadEnd,
  contentTypeStart,
  contentTypeEnd,
  headers,
}: SettlementScan): number {
  let bytes = payloadEnd - payloadStart + contentTypeEnd - contentTypeStart;
  for (let index = 0; headers && index < headers.count; index++)
    bytes += headers.end(index) - headers.start(index);
  return bytes;
}
