import type { Clock, Timer } from '../std/clock.ts';
import type { Consumer, Sink } from './consumer.ts';

/** A session as the registry knows it: of a client, or one stream of a protocol that has no sessions. */
export interface RegisteredSession extends Sink {
  readonly connected: boolean;
  /** For people: where the client is. */
  readonly peer: string;
  /** Agents that it hosts. */
  readonly agents: number;
  /** What it is attached to; replies come through two consumers. */
  attached(): Iterable<{ readonly mailbox: string; readonly consumers: readonly Consumer[] }>;
  /** Asks the client to reconnect elsewhere, or later. */
  goAway(reason: string, deadlineMs: number, draining: boolean): void;
  /** Its leases go back to their mailboxes, untouched, and do not count as attempts. */
  handBack(): void;
  /** Closes a connection that seems to be dead. */
  checkAlive(now: number): void;
  /** Closes the connection after what was said has been sent. */
  close(): void;
}

/**
 * Which sessions there are, and which of those that lost their connection may still come back.
 *
 * A session that is not resumed within its grace is given up: `gone` is called, and its tasks go to
 * others. Sessions that the log names after a restart count as lost from then on.
 */
export class Sessions {
  private readonly live = new Map<string, RegisteredSession>();
  private readonly lost = new Map<string, Timer>();
  private readonly clock: Clock;
  private readonly graceMs: number;
  private readonly gone: (session: string) => void;
  /** Until then, sessions that nobody knows may be those of before the restart. */
  private strangersUntil = 0;
  /** Sessions that have ended in that time: a connection of theirs that was given up may yet say hello. */
  private readonly over = new Set<string>();
  private forgetting: Timer | undefined;

  constructor(clock: Clock, graceMs: number, gone: (session: string) => void) {
    this.clock = clock;
    this.graceMs = graceMs;
    this.gone = gone;
  }

  get size(): number {
    return this.live.size;
  }

  get agents(): number {
    let sum = 0;
    for (const session of this.live.values()) sum += session.agents;
    return sum;
  }

  get connected(): number {
    let count = 0;
    for (const id of this.live.keys()) if (!this.lost.has(id)) count++;
    return count;
  }

  values(): IterableIterator<RegisteredSession> {
    return this.live.values();
  }

  get(id: string): RegisteredSession | undefined {
    return this.live.get(id);
  }

  /** Whether it is connected, or may still come back. */
  isAlive(id: string): boolean {
    if (this.live.has(id) || this.lost.has(id)) return true;
    return this.clock.now() < this.strangersUntil && !this.over.has(id);
  }

  /** The broker has started: sessions of before may come back for a while. */
  started(): void {
    this.strangersUntil = this.clock.now() + this.graceMs;
    this.forgetting = this.clock.after(this.graceMs, () => this.over.clear());
  }

  /** The session is connected. */
  connect(session: RegisteredSession): void {
    this.lost.get(session.session)?.cancel();
    this.lost.delete(session.session);
    this.live.set(session.session, session);
  }

  /** The session has no connection; it may come back. */
  lose(id: string): void {
    if (this.lost.has(id)) return;
    const timer = this.clock.after(this.graceMs, () => this.end(id));
    this.lost.set(id, timer);
  }

  /** The session has ended for good. */
  end(id: string): void {
    this.lost.get(id)?.cancel();
    this.lost.delete(id);
    this.live.delete(id);
    if (this.clock.now() < this.strangersUntil) this.over.add(id);
    this.gone(id);
  }

  /** No timer runs any more. */
  close(): void {
    for (const timer of this.lost.values()) timer.cancel();
    this.forgetting?.cancel();
    this.lost.clear();
  }
}
