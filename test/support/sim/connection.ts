import type { Clock } from '../../../src/std/clock.ts';
import type { HubError } from '../../../src/std/errors.ts';
import type { Connection as BrokerEnd } from '../../../src/edge/sessions-door.ts';
import type { SeededRandom } from '../random.ts';
import type { ClientFrame, Event } from './frames.ts';
import { FrameReader } from './frames.ts';

/** Bytes on their way to a client beyond which its connection takes no more. */
const WINDOW_BYTES = 2 * 1024;

/** The client's end of a connection. */
export interface ClientEnd {
  receive(events: readonly Event[]): void;
  /** It has learned that the connection has ended. */
  closed(): void;
}

/** Sees what the broker hears and says, at its end. */
export interface Observer {
  opened(connection: SimConnection): void;
  heard(connection: SimConnection, frame: ClientFrame): void;
  said(connection: SimConnection, events: readonly Event[]): void;
  /** The broker knows that the connection has ended. */
  ended(connection: SimConnection): void;
}

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly random: SeededRandom;
  /** The longest time that a frame takes, in milliseconds. */
  readonly latencyMs: number;
  /** How long it takes until the first frame of the client gets through. */
  readonly stallMs: number;
  readonly observer: Observer;
  /** The broker that it goes to. */
  readonly broker: string;
  /** The time of the broker's process. */
  readonly life: Clock & { readonly paused: boolean };
}

/**
 * A connection: frames are delayed, never reordered. It may break at any moment; then what is on its
 * way is lost, and each end learns of it in its own time, the broker perhaps never.
 */
export class SimConnection {
  /** The session that it carries, once the broker has said so. */
  session = '';
  /** The client that has opened it. */
  readonly client: string;
  /** The broker at its other end. */
  readonly broker: string;
  /** Nothing arrives any more. */
  private broken = false;
  private readonly options: ConnectionOptions;
  private readonly clientEnd: ClientEnd;
  private brokerEnd: BrokerEnd | undefined;
  private readonly reader = new FrameReader();
  private readonly up: (() => void)[] = [];
  private readonly down: (() => void)[] = [];
  private upAt = 0;
  private downAt = 0;
  private downBytes = 0;
  private full = false;
  private clientKnows = false;
  private brokerKnows = false;

  constructor(client: string, end: ClientEnd, options: ConnectionOptions) {
    this.client = client;
    this.clientEnd = end;
    this.options = options;
    this.broker = options.broker;
    this.upAt = options.clock.now() + options.stallMs;
  }

  /** Whether the broker has been told to hold back. */
  get congested(): boolean {
    return this.full;
  }

  /** Whether its client has gone on without it; what it has said may still arrive. */
  get abandoned(): boolean {
    return this.clientKnows;
  }

  /** Whether the broker takes it for a good one. */
  get open(): boolean {
    return this.brokerEnd !== undefined && !this.brokerKnows;
  }

  /** The other end, as the broker gave it. */
  accepted(broker: BrokerEnd): void {
    this.brokerEnd = broker;
    this.options.observer.opened(this);
  }

  // ── The client's side ────────────────────────────────────────────────────────────────────────

  send(frame: ClientFrame): void {
    if (!this.clientKnows) this.upward(() => this.arrive(frame));
  }

  /** The client lets go of it. The broker learns of it, behind all frames, or never. */
  abandon(quietly: boolean): void {
    if (this.clientKnows) return;
    this.clientKnows = true;
    if (!quietly) this.upward(() => this.brokerLearns());
  }

  // ── The broker's side ────────────────────────────────────────────────────────────────────────

  write(bytes: Buffer): boolean {
    if (this.brokerKnows) return true;
    const events = this.reader.read(bytes);
    this.options.observer.said(this, events);
    this.downBytes += bytes.length;
    this.downward(() => {
      this.downBytes -= bytes.length;
      if (!this.clientKnows) this.clientEnd.receive(events);
      if (!this.full || this.downBytes > WINDOW_BYTES / 2) return;
      this.full = false;
      this.tellBroker(() => {
        if (!this.brokerKnows) this.brokerEnd?.drained();
      });
    });
    this.full ||= this.downBytes > WINDOW_BYTES;
    return !this.full;
  }

  end(error?: HubError): void {
    if (this.brokerKnows) return;
    this.brokerKnows = true;
    this.options.observer.ended(this);
    this.downward(() => this.clientLearns());
    if (error) this.brokerEnd?.gone();
    else this.options.life.soon(() => this.brokerEnd?.gone());
  }

  // ── What happens to it ───────────────────────────────────────────────────────────────────────

  /** It breaks. The broker learns of it after a while, or never if that is not given. */
  break(clientAfterMs: number, brokerAfterMs: number | undefined): void {
    if (this.broken) return;
    this.broken = true;
    const { clock, life } = this.options;
    clock.after(clientAfterMs, () => this.clientLearns());
    if (brokerAfterMs !== undefined) life.after(brokerAfterMs, () => this.brokerLearns());
  }

  /** The broker has died. */
  orphan(clientAfterMs: number): void {
    this.broken = true;
    this.brokerKnows = true;
    this.options.clock.after(clientAfterMs, () => this.clientLearns());
  }

  private arrive(frame: ClientFrame): void {
    const { brokerEnd, options } = this;
    // What was received before the broker has ended the connection may be handed on after it.
    if (!brokerEnd || (this.brokerKnows && options.random.chance(0.7))) return;
    options.observer.heard(this, frame);
    try {
      brokerEnd.receive(frame.bytes);
    } catch (error) {
      this.end(error as HubError);
    }
  }

  private brokerLearns(): void {
    if (this.brokerKnows) return;
    this.brokerKnows = true;
    this.options.observer.ended(this);
    this.brokerEnd?.gone();
  }

  private clientLearns(): void {
    if (this.clientKnows) return;
    this.clientKnows = true;
    this.clientEnd.closed();
  }

  /** A process that sleeps takes nothing before it wakes. */
  private tellBroker(run: () => void): void {
    const { life } = this.options;
    if (life.paused) life.soon(run);
    else run();
  }

  private upward(run: () => void): void {
    this.upAt = this.later(this.options.life, this.up, this.upAt, run);
  }

  private downward(run: () => void): void {
    this.downAt = this.later(this.options.clock, this.down, this.downAt, run);
  }

  /** Has it arrive behind all that is on its way in that direction, and answers when. */
  private later(receiver: Clock, queue: (() => void)[], last: number, run: () => void): number {
    const { clock, random, latencyMs } = this.options;
    const now = clock.now();
    const at = Math.max(last, now + (random.chance(0.3) ? 0 : random.float() * latencyMs));
    queue.push(run);
    receiver.after(at - now, () => {
      const next = queue.shift();
      if (!this.broken) next?.();
    });
    return at;
  }
}
