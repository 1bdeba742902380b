import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Cluster } from '../cluster/cluster.ts';
import type { Link, LinkListener } from '../cluster/link.ts';
import type { Epoch } from '../core/shard-state.ts';
import type { Clock } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import { EdgeOps } from '../wire/edge-ops.ts';
import type { ProgressUpdate } from '../wire/gen/agenthub/v1/session_pb.ts';
import { ProgressUpdateSchema } from '../wire/gen/agenthub/v1/session_pb.ts';
import { ProgressSchema } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { Lease, LeaseName } from '../wire/lease.ts';
import type { OwnerVisitor } from '../wire/owner-ops.ts';
import { OwnerOpsReader } from '../wire/owner-ops.ts';
import type { Owner } from './owner.ts';
import type { Seat } from './seat.ts';
import type { EdgeSession } from './sessions.ts';

/** Until a settlement that an owner could not take just then is sent again, in milliseconds. */
const AGAIN_MS = 100;

/** A lease that another broker has given to a session of this one. */
interface Held {
  readonly lease: LeaseName;
  /** Counts up with all that came, see {@link Relay.now}. */
  readonly number: number;
  readonly seat: Seat | undefined;
}

/** A session of this broker, as other brokers are told of it. */
interface Relayed {
  /** What it is called on links. */
  readonly ref: number;
  readonly session: EdgeSession;
  /** By shard and order. */
  readonly leases: Map<number, Map<number, Held>>;
  /** What its client says that it holds in shards that nobody has served since. */
  readonly claimed: Map<number, readonly LeaseName[]>;
  /** Shards in which deliveries don't count until the owner has heard what the session holds; how often it was told. */
  readonly fenced: Map<number, number>;
  /** Who waits until an attachment is served. */
  readonly attaching: Map<number, () => void>;
  /** Copies that came through listeners and that the owner does not know as taken, by attachment. */
  readonly copies: Map<number, { way: Way; count: number }>;
  paused: boolean;
}

/** A serialized settlement that no owner has answered yet. */
export interface PendingSettlement {
  readonly session: EdgeSession;
  readonly shard: number;
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly done: (error: HubError | undefined) => void;
}

interface Settling extends PendingSettlement {
  readonly relayed: Relayed;
  /** Where the answer is to come from; what was asked twice would be refused the second time. */
  sent: Way | undefined;
}

/** An open link to an owner, and what has been said on it. */
interface Way {
  readonly link: Link;
  readonly ops: EdgeOps;
  /** Sessions that the owner knows. */
  readonly known: Set<Relayed>;
  /** Shards of which the owner has been told all, by the epochs in which it was. */
  readonly shards: Map<number, Epoch>;
}

/** What a {@link Relay} is made of. */
export interface RelayOptions {
  readonly cluster: Cluster;
  readonly shards: () => number;
  readonly clock: Clock;
  /** A later incarnation of the session is known elsewhere. */
  readonly replaced: (session: EdgeSession, by: number) => void;
}

/**
 * The way from this broker's sessions to owners on other brokers.
 *
 * An owner is told everything that concerns a shard when it takes it, and when a link to it opens: who is
 * attached, who holds what, and what was settled and is not acknowledged. So it does not matter what was lost
 * before. Until there is one, all this waits here.
 */
export class Relay implements LinkListener, OwnerVisitor {
  private readonly options: RelayOptions;
  private readonly sessions = new Map<string, Relayed>();
  private readonly byRef = new Map<number, Relayed>();
  private readonly ways = new Map<string, Way>();
  /** Settlements without an answer, in the order in which they were made. */
  private readonly settling = new Map<number, Settling>();
  /** Sessions that ended while nobody served a shard that may still count on them. */
  private readonly farewells = new Map<number, Map<Relayed, boolean>>();
  private readonly reader = new OwnerOpsReader();
  private refs = 0;
  private comings = 0;
  private calls = 0;
  /** Where what is being read comes from. */
  private from: Way | undefined;

  constructor(options: RelayOptions) {
    this.options = options;
  }

  // ── What sessions want ───────────────────────────────────────────────────────────────────────

  /** Attaches at the shard's owner, as soon as there is one. */
  attach(seat: Seat, session: EdgeSession, attached?: () => void): void {
    const relayed = this.relayed(session);
    if (attached) relayed.attaching.set(seat.spec.number, attached);
    const way = this.wayTo(seat.shard);
    if (!way) return;
    this.introduce(relayed, way);
    this.say(way, seat, relayed);
  }

  detach(seat: Seat, session: string): void {
    this.sessions.get(session)?.attaching.delete(seat.spec.number);
    this.inform(session, seat.shard, (ops, ref) => ops.detach(ref, seat.spec.number));
  }

  resize(seat: Seat, session: string): void {
    this.inform(session, seat.shard, (ops, ref) => ops.window(ref, seat.spec.number, seat.window));
  }

  /** Nothing can be given to the session just now, or it can again. */
  pause(session: string, paused: boolean): void {
    const relayed = this.sessions.get(session);
    if (!relayed || relayed.paused === paused) return;
    relayed.paused = paused;
    for (const way of this.waysOf(relayed)) way.ops.pause(relayed.ref, paused);
    if (!paused) this.took(relayed);
  }

  /** Settles a lease by a serialized settlement; `done` once its owner has answered, whoever that is by then. */
  settle(
    session: EdgeSession,
    shard: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    done: (error: HubError | undefined) => void,
  ): void {
    const call = (this.calls = (this.calls + 1) >>> 0);
    const relayed = this.relayed(session);
    const settling = { relayed, session, shard, bytes, start, end, done, sent: undefined };
    this.settling.set(call, settling);
    this.send(call, settling);
  }

  extend(session: string, lease: LeaseName, runMs: number): void {
    this.inform(session, lease.shard, (ops, ref) => ops.extend(ref, lease, runMs));
  }

  progress(session: string, shard: number, update: ProgressUpdate): void {
    const bytes = toBinary(ProgressUpdateSchema, update);
    this.inform(session, shard, (ops, ref) => ops.progress(ref, bytes, 0, bytes.length));
  }

  /** The client has connected and says what it holds in that shard: what it was given and does not list, it never got. */
  reconcile(session: EdgeSession, shard: number, leases: readonly LeaseName[]): void {
    const relayed = this.relayed(session);
    const held = relayed.leases.get(shard);
    const listed = new Set(leases.map(({ order }) => order));
    for (const { lease } of held?.values() ?? []) {
      if (!listed.has(lease.order) && this.let(relayed, lease)) session.leaseEnded(lease);
    }
    relayed.claimed.set(shard, leases);
    const way = this.wayTo(shard);
    if (!way) return;
    this.introduce(relayed, way);
    this.tellHeld(relayed, shard, way);
    way.link.touch();
  }

  /** Now, in leases that have come so far. */
  get now(): number {
    return this.comings;
  }

  /**
   * The client lists what it holds, on a connection that goes on. Returns the listed leases of that shard that are not
   * its, and those that came `before` and are not listed: it never got them.
   */
  compare(
    session: string,
    shard: number,
    leases: readonly LeaseName[],
    before: number,
  ): { stale: LeaseName[]; missed: LeaseName[] } {
    const held: ReadonlyMap<number, Held> = this.sessions.get(session)?.leases.get(shard) ?? NONE;
    const listed = new Set(leases.map(({ order }) => order));
    return {
      stale: leases.filter(({ order }) => !held.has(order)),
      missed: [...held.values()]
        .filter(({ lease, number }) => number < before && !listed.has(lease.order))
        .map(({ lease }) => lease),
    };
  }

  /** Shards in which the session holds leases of other brokers. */
  shardsHeld(session: string): Iterable<number> {
    return this.sessions.get(session)?.leases.keys() ?? [];
  }

  /** The client is connected again, or for the first time, as a later incarnation. */
  renewed(session: EdgeSession): void {
    const relayed = this.sessions.get(session.session);
    if (!relayed) return;
    for (const way of this.waysOf(relayed)) way.ops.session(relayed.ref, describe(session));
  }

  /**
   * The session will not come back; its leases count as attempts, or not. Of one of this broker's own all hear: who
   * has never heard of it may keep results for it, which are for others now.
   */
  gone(session: string, counts: boolean, ours?: EdgeSession): void {
    const relayed = this.sessions.get(session) ?? (ours && this.relayed(ours));
    if (!relayed) return;
    if (ours) for (const way of this.ways.values()) this.introduce(relayed, way);
    for (const way of this.waysOf(relayed)) {
      way.ops.gone(relayed.ref, counts);
      way.known.delete(relayed);
    }
    for (const shard of new Set([...relayed.leases.keys(), ...relayed.claimed.keys()])) {
      if (this.wayTo(shard)) continue;
      const left = this.farewells.get(shard);
      if (left) left.set(relayed, counts);
      else this.farewells.set(shard, new Map([[relayed, counts]]));
    }
    this.forget(relayed);
  }

  /** The session goes on at another broker, which tells owners what there is to tell. */
  drop(session: string): void {
    const relayed = this.sessions.get(session);
    if (relayed) this.leave(relayed);
  }

  // ── Which owner there is ─────────────────────────────────────────────────────────────────────

  /** The lease was given by an owner of this broker, which is none any more. */
  hold(session: EdgeSession, lease: LeaseName, seat: Seat | undefined): void {
    this.keep(this.relayed(session), { ...lease }, seat);
  }

  /** Another broker serves the shard now, or nobody does. */
  claimChanged(shard: number): void {
    if (this.wayTo(shard)) return;
    for (const settling of this.settling.values()) if (settling.shard === shard) settling.sent = undefined;
    this.reportAnew(shard);
  }

  /** An owner of this broker serves the shard no more; what it gave out is known by {@link hold}. */
  left(shard: number): void {
    this.reportAnew(shard);
  }

  private reportAnew(shard: number): void {
    for (const way of this.ways.values()) way.shards.delete(shard);
    const claim = this.options.cluster.claim(shard);
    const way = claim && this.ways.get(claim.broker);
    if (way) this.report(shard, way);
  }

  /**
   * This broker serves the shard now: its owner is told what its sessions hold, and what was to be told to another one. Settlements are made by
   * `settle`.
   */
  served(owner: Owner, sessions: Iterable<EdgeSession>, settle: (settling: PendingSettlement) => void): void {
    const { shard } = owner;
    for (const way of this.ways.values()) way.shards.delete(shard);
    for (const [relayed, counts] of this.farewells.get(shard) ?? [])
      owner.sessionGone(relayed.session.session, counts, 'the session of its worker was lost');
    this.farewells.delete(shard);
    for (const session of sessions) {
      const relayed = this.sessions.get(session.session);
      const leases = relayed ? this.heldIn(relayed, shard) : [];
      // Those that it keeps it is told of again.
      for (const lease of leases) if (relayed && this.let(relayed, lease)) session.leaseEnded(lease);
      relayed?.claimed.delete(shard);
      // Though it has none: what the former owner gave it and what never came goes back.
      for (const lease of owner.reconcile(session, leases, Infinity)) session.abort(lease, NOT_YOURS);
    }
    for (const [call, settling] of this.settling) {
      if (settling.shard !== shard) continue;
      this.settling.delete(call);
      settle(settling);
    }
  }

  /** The seat is served here now, or nowhere any more. */
  placed(seat: Seat, session: string): void {
    const relayed = this.sessions.get(session);
    const attached = relayed?.attaching.get(seat.spec.number);
    relayed?.attaching.delete(seat.spec.number);
    attached?.();
  }

  opened(link: Link): void {
    const way: Way = { link, ops: new EdgeOps(link.writer), known: new Set(), shards: new Map() };
    this.ways.set(link.peer, way);
    const { cluster, shards } = this.options;
    for (let shard = 0; shard < shards(); shard++) {
      if (cluster.claim(shard)?.broker === link.peer) this.report(shard, way);
    }
  }

  received(link: Link, bytes: Buffer, start: number, end: number): void {
    this.from = this.ways.get(link.peer);
    if (this.from?.link === link) this.reader.read(bytes, start, end, this);
    this.from = undefined;
  }

  drained(): void {}

  closed(link: Link): void {
    if (this.ways.get(link.peer)?.link === link) this.ways.delete(link.peer);
  }

  // ── What owners say ──────────────────────────────────────────────────────────────────────────

  deliver(
    ref: number,
    attachment: number,
    lease: Lease | undefined,
    attempt: number,
    acceptedMs: number,
    isResult: boolean,
    bytes: Buffer,
    start: number,
    end: number,
  ): void {
    const relayed = this.byRef.get(ref);
    if (!relayed) return;
    if (lease) {
      // The owner is about to learn, or has learnt from a later report, that the session does not have it.
      if (relayed.fenced.has(lease.shard) || this.from?.shards.has(lease.shard) !== true) return;
      const { shard, order, tag, delivery, epoch, slot } = lease;
      const seat = relayed.session.seat(attachment);
      this.keep(relayed, { shard, order, tag, delivery, epoch, slot }, seat);
    }
    relayed.session.deliver(attachment, lease, attempt, acceptedMs, isResult, bytes, start, end);
    if (!lease) this.copied(relayed, attachment);
  }

  reconciled(ref: number, shard: number): void {
    const relayed = this.byRef.get(ref);
    const times = relayed?.fenced.get(shard);
    if (times === undefined || this.from?.shards.has(shard) !== true) return;
    if (times > 1) relayed!.fenced.set(shard, times - 1);
    else {
      relayed!.fenced.delete(shard);
      // What the owner knows of it has come before: until then it would be lost with the link.
      relayed!.claimed.delete(shard);
    }
  }

  ended(ref: number, lease: Lease): void {
    const relayed = this.byRef.get(ref);
    if (relayed && this.let(relayed, lease)) relayed.session.leaseEnded(lease);
  }

  kept(ref: number, lease: Lease): void {
    const relayed = this.byRef.get(ref);
    if (!relayed || relayed.leases.get(lease.shard)?.has(lease.order) === true) return;
    const { shard, order, tag, delivery, epoch, slot } = lease;
    this.keep(relayed, { shard, order, tag, delivery, epoch, slot }, undefined);
    relayed.session.leaseKept(lease);
  }

  abort(ref: number, lease: Lease, reason: string): void {
    this.byRef.get(ref)?.session.abort(lease, reason);
  }

  tell(ref: number, bytes: Buffer, start: number, end: number): void {
    this.byRef.get(ref)?.session.tell(fromBinary(ProgressSchema, bytes.subarray(start, end)));
  }

  settled(first: number, count: number): void {
    for (let at = 0; at < count; at++) this.answered((first + at) >>> 0, undefined);
  }

  refused(call: number, error: HubError): void {
    const settling = this.settling.get(call);
    // Else its next owner has been asked since.
    if (!settling || settling.sent !== this.from) return;
    if (error.code !== 'unavailable') return this.answered(call, error);
    settling.sent = undefined;
    this.options.clock.after(AGAIN_MS, () => {
      if (this.settling.get(call) === settling) this.send(call, settling);
    });
  }

  attached(ref: number, attachment: number): void {
    const relayed = this.byRef.get(ref);
    const attached = relayed?.attaching.get(attachment);
    relayed?.attaching.delete(attachment);
    attached?.();
  }

  replaced(ref: number, incarnation: number): void {
    const relayed = this.byRef.get(ref);
    if (!relayed || relayed.session.incarnation >= incarnation) return;
    this.leave(relayed);
    this.options.replaced(relayed.session, incarnation);
  }

  /** Tells owners at the end of the turn, if the session can take more by then. */
  private copied(relayed: Relayed, attachment: number): void {
    const isFirst = relayed.copies.size === 0;
    const known = relayed.copies.get(attachment);
    if (known?.way === this.from) known!.count++;
    else relayed.copies.set(attachment, { way: this.from!, count: 1 });
    if (!isFirst) return;
    this.options.clock.soon(() => {
      if (!relayed.paused) this.took(relayed);
    });
  }

  private took(relayed: Relayed): void {
    for (const [attachment, { way, count }] of relayed.copies) {
      way.ops.taken(relayed.ref, attachment, count);
      way.link.touch();
    }
    relayed.copies.clear();
  }

  // ── Details ──────────────────────────────────────────────────────────────────────────────────

  /** Tells an owner everything about one of its shards. */
  private report(shard: number, way: Way): void {
    const { epoch } = this.options.cluster.claim(shard)!;
    way.shards.set(shard, epoch);
    for (const [relayed, counts] of this.farewells.get(shard) ?? []) {
      if (!way.known.has(relayed)) way.ops.session(relayed.ref, describe(relayed.session));
      way.ops.gone(relayed.ref, counts);
    }
    this.farewells.delete(shard);
    for (const relayed of this.sessions.values()) {
      const seats = [...relayed.session.seats()].filter((seat) => seat.shard === shard);
      const holds = relayed.leases.has(shard) || relayed.claimed.has(shard);
      if (seats.length === 0 && !holds) continue;
      this.introduce(relayed, way);
      // Answers on former ways are not heard any more.
      relayed.fenced.delete(shard);
      this.tellHeld(relayed, shard, way);
      for (const seat of seats) this.say(way, seat, relayed);
    }
    for (const [call, settling] of this.settling) if (settling.shard === shard) this.send(call, settling);
    way.ops.reported(shard, epoch.revision, epoch.counter);
    way.link.touch();
  }

  private introduce(relayed: Relayed, way: Way): void {
    if (way.known.has(relayed)) return;
    way.known.add(relayed);
    way.ops.session(relayed.ref, describe(relayed.session));
    if (relayed.paused) way.ops.pause(relayed.ref, true);
  }

  private say(way: Way, { spec, mailbox, shard, window }: Seat, { ref }: Relayed): void {
    const { number, agent, listener, maxWindow, attachedAt, types, taskIds } = spec;
    const lists = { types: [...types], taskIds: [...taskIds] };
    way.ops.attach(ref, { number, mailbox, shard, agent, listener, window, maxWindow, attachedAt, ...lists });
    way.link.touch();
  }

  private tellHeld(relayed: Relayed, shard: number, way: Way): void {
    const leases = this.heldIn(relayed, shard);
    relayed.fenced.set(shard, (relayed.fenced.get(shard) ?? 0) + 1);
    way.ops.reconcile(relayed.ref, shard, leases);
  }

  private heldIn({ leases, claimed }: Relayed, shard: number): LeaseName[] {
    const held = [...(leases.get(shard)?.values() ?? [])].map(({ lease }) => lease);
    const known = new Set(held.map(({ order }) => order));
    return [...held, ...(claimed.get(shard) ?? []).filter(({ order }) => !known.has(order))];
  }

  private send(call: number, settling: Settling): void {
    const { relayed, shard, bytes, start, end } = settling;
    const way = this.wayTo(shard);
    if (!way || settling.sent === way) return;
    settling.sent = way;
    this.introduce(relayed, way);
    way.ops.settle(relayed.ref, call, bytes, start, end);
    way.link.touch();
  }

  private answered(call: number, error: HubError | undefined): void {
    const settling = this.settling.get(call);
    this.settling.delete(call);
    settling?.done(error);
  }

  private keep(relayed: Relayed, lease: LeaseName, seat: Seat | undefined): void {
    const leases = relayed.leases.get(lease.shard) ?? new Map<number, Held>();
    relayed.leases.set(lease.shard, leases);
    leases.set(lease.order, { lease, seat, number: this.comings++ });
    if (seat) seat.relayed++;
  }

  /** The session does not have the lease any more; false if it did not. */
  private let(relayed: Relayed, { shard, order }: LeaseName): boolean {
    const leases = relayed.leases.get(shard);
    const held = leases?.get(order);
    if (!leases || !held) return false;
    leases.delete(order);
    if (leases.size === 0) relayed.leases.delete(shard);
    if (held.seat) held.seat.relayed--;
    return true;
  }

  private relayed(session: EdgeSession): Relayed {
    const known = this.sessions.get(session.session);
    if (known?.session === session) return known;
    if (known) this.forget(known);
    const relayed: Relayed = {
      ref: ++this.refs,
      session,
      leases: new Map(),
      claimed: new Map(),
      fenced: new Map(),
      attaching: new Map(),
      copies: new Map(),
      paused: false,
    };
    this.sessions.set(session.session, relayed);
    this.byRef.set(relayed.ref, relayed);
    return relayed;
  }

  /** An owner that has heard of it here alone must not wait for it for ever. */
  private leave(relayed: Relayed): void {
    for (const way of this.waysOf(relayed)) {
      way.ops.moved(relayed.ref);
      way.known.delete(relayed);
    }
    this.forget(relayed);
  }

  private forget(relayed: Relayed): void {
    this.byRef.delete(relayed.ref);
    if (this.sessions.get(relayed.session.session) === relayed) this.sessions.delete(relayed.session.session);
    for (const [call, settling] of this.settling)
      if (settling.relayed === relayed) this.settling.delete(call);
  }

  /** Tells the shard's owner something about a session that it knows; one that does not will be told all. */
  private inform(session: string, shard: number, say: (ops: EdgeOps, ref: number) => void): void {
    const relayed = this.sessions.get(session);
    const way = this.wayTo(shard);
    if (!relayed || !way?.known.has(relayed)) return;
    say(way.ops, relayed.ref);
    way.link.touch();
  }

  /** The way to the shard's owner, if that has been told of the shard. */
  private wayTo(shard: number): Way | undefined {
    const claim = this.options.cluster.claim(shard);
    const way = claim && this.ways.get(claim.broker);
    const told = way?.shards.get(shard);
    const current = told?.revision === claim?.epoch.revision && told?.counter === claim?.epoch.counter;
    return current ? way : undefined;
  }

  private *waysOf(relayed: Relayed): Generator<Way> {
    for (const way of this.ways.values()) {
      if (!way.known.has(relayed)) continue;
      yield way;
      way.link.touch();
    }
  }
}

const NONE: ReadonlyMap<number, Held> = new Map<number, Held>();
const NOT_YOURS = 'the task was given to another worker, or has ended';

function describe({ session, incarnation, client }: EdgeSession) {
  return { id: session, incarnation, client };
}
