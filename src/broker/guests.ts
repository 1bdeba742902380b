import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Link, LinkListener } from '../cluster/link.ts';
import type { Clock } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import { SettlementScan } from '../wire/client-frame.ts';
import type { EdgeVisitor, RelayedAttachment, RelayedSession } from '../wire/edge-ops.ts';
import { EdgeOpsReader } from '../wire/edge-ops.ts';
import { ProgressUpdateSchema } from '../wire/gen/agenthub/v1/session_pb.ts';
import { ProgressSchema } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { LeaseName } from '../wire/lease.ts';
import { Lease, LEASE_BYTES } from '../wire/lease.ts';
import { OwnerOps } from '../wire/owner-ops.ts';
import type { Barrier } from './barrier.ts';
import type { Consumer, Progress } from './consumer.ts';
import type { Owner } from './owner.ts';
import type { ProgressDesk } from './progress.ts';
import type { Seat } from './seat.ts';
import { place, seatOf } from './seat.ts';
import type { RegisteredSession, Sessions } from './sessions.ts';
import { settle } from './settlement.ts';
import type { Shards } from './shards.ts';

/** Copies that a listener may have on their way: what it loses if its client goes. */
const COPIES = 100;

/** What {@link Guests} are made of. */
export interface GuestsOptions {
  readonly clock: Clock;
  readonly shards: Shards;
  readonly sessions: Sessions;
  readonly progress: ProgressDesk;
  readonly barrier: Barrier;
}

/** A session whose client is connected to another broker, as the owners here serve it. */
class Guest implements RegisteredSession {
  readonly session: string;
  readonly client: string;
  incarnation: number;
  readonly ref: number;
  readonly seats = new Map<number, Seat>();
  paused = false;
  private readonly link: Link;
  private readonly ops: OwnerOps;
  private readonly shards: Shards;
  private readonly starving = new Set<number>();
  /** Copies on their way, by attachment. */
  private readonly copies = new Map<number, number>();
  private left = false;

  constructor(
    ref: number,
    { id, client, incarnation }: RelayedSession,
    link: Link,
    ops: OwnerOps,
    shards: Shards,
  ) {
    this.ref = ref;
    this.session = id;
    this.client = client;
    this.incarnation = incarnation;
    this.link = link;
    this.ops = ops;
    this.shards = shards;
  }

  get connected(): boolean {
    return !this.left;
  }

  ready({ spec, listener }: Consumer): boolean {
    const free = !this.paused && !this.left && this.link.ready;
    if (free && (!listener || (this.copies.get(spec.number) ?? 0) < COPIES)) return true;
    this.starving.add(spec.number);
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
    if (!lease) this.copies.set(attachment, (this.copies.get(attachment) ?? 0) + 1);
    this.ops.deliver(this.ref, attachment, lease, attempt, acceptedMs, isResult, bytes, start, end);
    this.link.touch();
  }

  leaseKept(lease: LeaseName): void {
    this.ops.kept(this.ref, lease);
    this.link.touch();
  }

  leaseEnded(lease: LeaseName): void {
    this.ops.ended(this.ref, lease);
    this.link.touch();
  }

  abort(lease: LeaseName, reason: string): void {
    this.ops.abort(this.ref, lease, reason);
    this.link.touch();
  }

  tell(progress: Progress): void {
    const bytes = toBinary(ProgressSchema, create(ProgressSchema, progress));
    this.ops.tell(this.ref, bytes);
    this.link.touch();
  }

  replaced(by: number): void {
    if (!this.left) {
      this.ops.replaced(this.ref, by);
      this.link.touch();
    }
    this.leave();
  }

  /** So many copies have come to where they were sent. */
  took(attachment: number, count: number): void {
    const left = (this.copies.get(attachment) ?? 0) - count;
    if (left > 0) this.copies.set(attachment, left);
    else this.copies.delete(attachment);
    this.resume();
  }

  /** Something more can be given to it. */
  resume(): void {
    const starving = [...this.starving];
    this.starving.clear();
    for (const number of starving) {
      const seat = this.seats.get(number);
      const owner = seat && this.shards.owner(seat.shard);
      for (const consumer of seat?.consumers ?? []) owner?.resume(consumer);
    }
  }

  /** Its attachments go; what it holds stays the session's. */
  leave(): void {
    this.left = true;
    for (const seat of this.seats.values()) this.unseat(seat);
  }

  unseat(seat: Seat): void {
    this.seats.delete(seat.spec.number);
    const owner = this.shards.owner(seat.shard);
    for (const consumer of seat.consumers) owner?.detach(consumer);
  }
}

/** A link to an edge, and the sessions that the edge told of on it. */
interface Edge {
  readonly link: Link;
  readonly ops: OwnerOps;
  readonly guests: Map<number, Guest>;
}

/**
 * Serves the sessions of other brokers at the owners here: the other end of a `Relay`.
 *
 * Everything that is known of an edge goes with the link to it; when another one opens, the edge says it anew.
 */
export class Guests implements LinkListener, EdgeVisitor {
  private readonly options: GuestsOptions;
  private readonly edges = new Map<string, Edge>();
  private readonly reader = new EdgeOpsReader();
  private readonly scan = new SettlementScan();
  private readonly lease = new Lease();
  /** Calls that owners have taken in what is being read, by owner. */
  private readonly accepted = new Map<Owner, number[]>();
  /** Whose words are being read. */
  private from: Edge | undefined;

  constructor(options: GuestsOptions) {
    this.options = options;
  }

  /** The owner serves no more. */
  left(shard: number): void {
    this.options.barrier.drop(shard);
    for (const { guests } of this.edges.values()) {
      for (const guest of guests.values()) {
        for (const seat of guest.seats.values()) if (seat.shard === shard) guest.unseat(seat);
      }
    }
  }

  // ── Links ────────────────────────────────────────────────────────────────────────────────────

  opened(link: Link): void {
    this.edges.set(link.peer, { link, ops: new OwnerOps(link.writer), guests: new Map() });
  }

  received(link: Link, bytes: Buffer, start: number, end: number): void {
    const edge = this.edges.get(link.peer);
    if (edge?.link !== link) return;
    this.from = edge;
    try {
      this.reader.read(bytes, start, end, this);
    } finally {
      for (const [owner, calls] of this.accepted) owner.settled(() => this.settled(edge, calls));
      this.accepted.clear();
      this.from = undefined;
    }
  }

  drained(link: Link): void {
    for (const guest of this.edges.get(link.peer)?.guests.values() ?? []) guest.resume();
  }

  closed(link: Link): void {
    const edge = this.edges.get(link.peer);
    if (edge?.link !== link) return;
    this.edges.delete(link.peer);
    const { sessions } = this.options;
    for (const guest of edge.guests.values()) {
      guest.leave();
      if (sessions.get(guest.session) === guest) sessions.lose(guest.session);
    }
  }

  // ── What an edge says ────────────────────────────────────────────────────────────────────────

  session(ref: number, told: RelayedSession): void {
    const { link, ops, guests } = this.from!;
    const { sessions, shards } = this.options;
    const known = sessions.get(told.id);
    const guest = guests.get(ref);
    if (guest && guest === known) {
      guest.incarnation = told.incarnation;
      return;
    }
    if (known && known.incarnation > told.incarnation) {
      ops.replaced(ref, known.incarnation);
      link.touch();
      return;
    }
    const fresh = new Guest(ref, told, link, ops, shards);
    guests.set(ref, fresh);
    sessions.relay(fresh);
  }

  attach(ref: number, attachment: RelayedAttachment): void {
    const guest = this.guest(ref);
    const { shards } = this.options;
    const { number, mailbox, shard, agent, listener, window, maxWindow, attachedAt } = attachment;
    const owner = shards.owner(shard);
    // It says so again to whoever owns the shard next.
    if (!guest || !owner) return;
    if (!guest.seats.has(number)) {
      const types = new Set(attachment.types);
      const taskIds = new Set(attachment.taskIds);
      const spec = { sink: guest, number, agent, listener, window, maxWindow, attachedAt, types, taskIds };
      const seat = seatOf(mailbox, shard, spec);
      guest.seats.set(number, seat);
      place(seat, owner);
    }
    this.from!.ops.attached(ref, number);
    this.from!.link.touch();
  }

  detach(ref: number, number: number): void {
    const guest = this.guest(ref);
    const seat = guest?.seats.get(number);
    if (seat) guest?.unseat(seat);
  }

  window(ref: number, number: number, window: number): void {
    const seat = this.guest(ref)?.seats.get(number);
    const owner = seat && this.options.shards.owner(seat.shard);
    for (const consumer of seat?.consumers ?? []) {
      consumer.resize(window);
      owner?.resume(consumer);
    }
  }

  pause(ref: number, paused: boolean): void {
    const guest = this.guest(ref);
    if (!guest) return;
    guest.paused = paused;
    if (!paused) guest.resume();
  }

  taken(ref: number, number: number, count: number): void {
    this.guest(ref)?.took(number, count);
  }

  reported(shard: number, _revision: number, counter: number): void {
    this.options.barrier.reported(shard, counter, this.from!.link.peer);
  }

  settle(ref: number, call: number, bytes: Buffer, start: number, end: number): void {
    const guest = this.guest(ref);
    if (!guest) return;
    const { scan, lease } = this;
    try {
      scan.read(bytes, start, end);
      lease.read(bytes, scan.leaseStart, scan.leaseEnd);
      const owner = this.owner(lease.shard);
      owner.settling(this.options.clock.now());
      settle(owner, guest.session, lease, scan, bytes);
      const calls = this.accepted.get(owner);
      if (calls) calls.push(call);
      else this.accepted.set(owner, [call]);
    } catch (error) {
      this.from!.ops.refused(call, toHubError(error));
      this.from!.link.touch();
    }
  }

  extend(ref: number, lease: Lease, runMs: number): void {
    const guest = this.guest(ref);
    if (!guest) return;
    try {
      this.owner(lease.shard).extend(lease, guest.session, runMs);
    } catch (error) {
      if (toHubError(error).code !== 'unavailable') guest.abort(lease, 'the lease has ended');
    }
  }

  progress(ref: number, bytes: Buffer, start: number, end: number): void {
    const guest = this.guest(ref);
    if (!guest) return;
    try {
      const update = fromBinary(ProgressUpdateSchema, bytes.subarray(start, end));
      this.lease.read(update.lease, 0, update.lease.length);
      this.options.progress.report(this.owner(this.lease.shard), this.lease, guest.session, update);
    } catch {
      // Best effort: progress of a lease that has ended is of no use to anybody.
    }
  }

  reconcile(ref: number, shard: number, bytes: Buffer, start: number, end: number): void {
    const guest = this.guest(ref);
    const owner = this.options.shards.owner(shard);
    if (!guest || !owner) return;
    const leases: LeaseName[] = [];
    for (let at = start; at < end; at += LEASE_BYTES) {
      const lease = new Lease();
      lease.read(bytes, at, at + LEASE_BYTES);
      leases.push(lease);
    }
    const { paused } = guest;
    // What is given to it before the edge reads that this is done, the edge takes for void.
    guest.paused = true;
    for (const lease of owner.reconcile(guest, leases, Infinity)) {
      guest.abort(lease, 'the task was given to another worker, or has ended');
      guest.leaseEnded(lease);
    }
    this.from!.ops.reconciled(ref, shard);
    this.from!.link.touch();
    guest.paused = paused;
    if (!paused) guest.resume();
  }

  gone(ref: number, counts: boolean): void {
    const { guests } = this.from!;
    const guest = guests.get(ref);
    guests.delete(ref);
    const { sessions } = this.options;
    if (!guest || sessions.get(guest.session) !== guest) return;
    guest.leave();
    sessions.end(guest.session, counts);
  }

  moved(ref: number): void {
    const { guests } = this.from!;
    const guest = guests.get(ref);
    guests.delete(ref);
    const { sessions } = this.options;
    if (!guest || sessions.get(guest.session) !== guest) return;
    guest.leave();
    sessions.lose(guest.session);
  }

  // ── Details ──────────────────────────────────────────────────────────────────────────────────

  /** The session that the edge calls so, unless a later incarnation of it is known. */
  private guest(ref: number): Guest | undefined {
    const guest = this.from!.guests.get(ref);
    return guest?.connected === true ? guest : undefined;
  }

  private owner(shard: number): Owner {
    const owner = this.options.shards.owner(shard);
    if (owner) return owner;
    throw new HubError('unavailable', `shard ${shard} is not served by this broker`, { retryAfterMs: 100 });
  }

  private settled({ link, ops }: Edge, calls: readonly number[]): void {
    for (let at = 0; at < calls.length;) {
      const first = calls[at]!;
      let count = 1;
      while (calls[at + count] === first + count) count++;
      ops.settled(first, count);
      at += count;
    }
    link.touch();
  }
}
