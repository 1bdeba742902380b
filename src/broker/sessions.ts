import type { Counter, Labelled } from '../obs/instruments.ts';
import type { Clock, Timer } from '../std/clock.ts';
import type { Sink } from './consumer.ts';
import type { Seat } from './seat.ts';

/** Ended sessions that are remembered. */
const ENDED = 100_000;

/** A session as the registry knows it: of a client, or one stream of a protocol that has no sessions. */
export interface RegisteredSession extends Sink {
  /** Raised by each reconnect of its client. */
  readonly incarnation: number;
  readonly connected: boolean;
  /** A later incarnation is known, here or at another broker: this one is void. What it holds stays the session's. */
  replaced(by: number): void;
}

/** A session whose client is connected to this broker, or was last. */
export interface EdgeSession extends RegisteredSession {
  /** For people: where the client is. */
  readonly peer: string;
  /** Its protocol has no word for going elsewhere. */
  readonly stays: boolean;
  /** Agents that it hosts. */
  readonly agents: number;
  /** The namespace that it is in; absent: the default one. */
  readonly namespace?: string;
  /** The name of the principal that it belongs to. */
  readonly principal?: string;
  /** Unix milliseconds. */
  readonly startedAt: number;
  /** What it is attached to. */
  seats(): Iterable<Seat>;
  /** Its attachment of that number. */
  seat(attachment: number): Seat | undefined;
  /** Mailboxes may live elsewhere now: attaches where they do. */
  reseat(): void;
  /** What is allowed has changed: lets go of what its client may not have any more. */
  rejudge(): void;
  /** Asks the client to reconnect: at that address, or elsewhere if it is '', or later. */
  goAway(reason: string, deadlineMs: number, draining: boolean, address: string): void;
  /** Its leases go back to their mailboxes, untouched, and do not count as attempts. */
  handBack(): void;
  /** Closes a connection that seems to be dead. */
  checkAlive(now: number): void;
  /** Closes the connection after what was said has been sent. */
  close(): void;
}

/** A session will not come back; its leases count as attempts, or don't. `ours`: it was one of this broker's clients. */
type Gone = (session: string, counts: boolean, ours: EdgeSession | undefined) => void;

/** Counts sessions that `opened`, `resumed`, `lost` their connection, `expired` or `closed`. */
type SessionEvents = Labelled<Counter>;

/**
 * Which sessions there are, here and as other brokers relay them, and which of those that lost their connection
 * may still come back.
 *
 * A session that is not resumed within its grace is given up: `gone` is called, and its tasks go to
 * others. Sessions that a log names and nobody has told of count as lost from then on.
 */
export class Sessions {
  private readonly live = new Map<string, RegisteredSession>();
  private readonly own = new Map<string, EdgeSession>();
  private readonly lost = new Map<string, Timer>();
  private readonly clock: Clock;
  private readonly graceMs: number;
  private readonly gone: Gone;
  /** Until then, sessions that nobody knows may be those of before the restart. */
  strangersUntil = 0;
  /** Sessions that ended lately: a connection of theirs that was given up may yet say hello. */
  private readonly ended = new Set<string>();
  private readonly shared: boolean;
  private readonly events: SessionEvents | undefined;

  /** `shared`: other brokers have sessions, too, of which this one may not have heard yet. */
  constructor(clock: Clock, graceMs: number, shared: boolean, gone: Gone, events?: SessionEvents) {
    this.clock = clock;
    this.graceMs = graceMs;
    this.shared = shared;
    this.events = events;
    this.gone = gone;
  }

  /** Sessions of this broker's clients. */
  get size(): number {
    return this.own.size;
  }

  get agents(): number {
    let sum = 0;
    for (const session of this.own.values()) sum += session.agents;
    return sum;
  }

  get connected(): number {
    let count = 0;
    for (const id of this.own.keys()) if (!this.lost.has(id)) count++;
    return count;
  }

  /** Connected sessions whose clients can be told to go. */
  get movable(): number {
    let count = 0;
    for (const [id, { stays }] of this.own) if (!stays && !this.lost.has(id)) count++;
    return count;
  }

  /** Those of this broker's clients. */
  values(): IterableIterator<EdgeSession> {
    return this.own.values();
  }

  /** Whether it is one of this broker's clients. */
  isHere(id: string): boolean {
    return this.own.has(id);
  }

  get(id: string): RegisteredSession | undefined {
    return this.live.get(id);
  }

  /** The session, if it is one of this broker's clients. */
  ours(id: string): EdgeSession | undefined {
    return this.own.get(id);
  }

  /** Whether it is connected, or may still come back. One that another broker may have counts as lost from now on. */
  isAlive(id: string): boolean {
    if (this.live.has(id) || this.lost.has(id)) return true;
    if (this.ended.has(id)) return false;
    if (this.clock.now() < this.strangersUntil) return true;
    if (this.shared) this.lose(id);
    return this.shared;
  }

  /** A log was read: sessions that it names, and others of that time, may come back for a while. */
  remember(named: Iterable<string>): void {
    for (const id of named) if (!this.live.has(id)) this.lose(id);
    this.strangersUntil = this.clock.now() + this.graceMs;
  }

  /** The session's client is connected to this broker. */
  connect(session: EdgeSession): void {
    const { session: id } = session;
    this.events?.of(this.live.has(id) || this.lost.has(id) ? 'resumed' : 'opened').add();
    this.enter(session);
    this.own.set(session.session, session);
  }

  /** Another broker tells of the session. */
  relay(session: RegisteredSession): void {
    this.enter(session);
    this.own.delete(session.session);
  }

  private enter(session: RegisteredSession): void {
    const { session: id } = session;
    this.lost.get(id)?.cancel();
    this.lost.delete(id);
    this.ended.delete(id);
    const former = this.live.get(id);
    this.live.set(id, session);
    if (former !== undefined && former !== session) former.replaced(session.incarnation);
  }

  /** The session has no connection; it may come back. */
  lose(id: string): void {
    if (this.lost.has(id)) return;
    const timer = this.clock.after(this.graceMs, () => this.end(id, true, 'expired'));
    if (this.own.has(id)) this.events?.of('lost').add();
    this.lost.set(id, timer);
  }

  /** The session goes on elsewhere: it is forgotten here, and has not ended. */
  forget(session: RegisteredSession): void {
    const { session: id } = session;
    if (this.live.get(id) !== session) return;
    this.lost.get(id)?.cancel();
    this.lost.delete(id);
    this.live.delete(id);
    this.own.delete(id);
  }

  /** The session has ended for good; its leases count as attempts, or don't. */
  end(id: string, counts = true, how: 'closed' | 'expired' = 'closed'): void {
    const ours = this.own.get(id);
    if (ours !== undefined) this.events?.of(how).add();
    this.lost.get(id)?.cancel();
    this.lost.delete(id);
    this.live.delete(id);
    this.own.delete(id);
    if (this.shared || this.clock.now() < this.strangersUntil) this.note(id);
    this.gone(id, counts, ours);
  }

  private note(id: string): void {
    this.ended.add(id);
    if (this.ended.size <= ENDED) return;
    const oldest = this.ended.values().next();
    if (!oldest.done) this.ended.delete(oldest.value);
  }

  /** No timer runs any more. */
  close(): void {
    for (const timer of this.lost.values()) timer.cancel();
    this.lost.clear();
  }
}
