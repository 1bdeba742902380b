import { backoff } from '../std/backoff.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import type { Logger } from '../std/logger.ts';
import { ByteWriter } from '../wire/bytes.ts';
import type { LinkName, LinkRole } from '../wire/link-frame.ts';
import { LinkHead, LinkKind, writeLinkHead } from '../wire/link-frame.ts';
import type { Bus, Heard } from './bus.ts';
import type { Link, LinkListener } from './link.ts';
import { Channel, TURN_MS } from './link.ts';

const CREDIT_BYTES = 8 * 1024 * 1024;
/** Waits before another link is opened in place of one that has closed. */
const REOPEN = { initialMs: 50, maxMs: 2_000 };
/** A link that has lived for so many turns was a good one: the next is opened without much ado. */
const GOOD_TURNS = 8;

/** What {@link Links} are made of. */
export interface LinksOptions {
  /** This broker's id. */
  readonly self: string;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Bytes that may be unacknowledged on a link. Default 8 MiB. */
  readonly creditBytes?: number;
}

/** A broker to which this one wants a link as an edge. */
interface Wanted {
  channel: Channel | undefined;
  /** Links in a row that did not live long. */
  failures: number;
  reopening: Timer | undefined;
}

/**
 * The links of a broker with all others, over a {@link Bus}: at most two with each, one on which it is the
 * edge and has opened it, and one on which it is the owner.
 *
 * Every message names its link and what its sender is there. Messages of a link that the receiver doesn't
 * know are answered by `close`, so that a restarted broker is noticed at once.
 */
export class Links {
  private readonly options: LinksOptions;
  private readonly listeners: Readonly<Record<LinkRole, LinkListener>>;
  private readonly start: number;
  private opened = 0;
  private readonly wanted = new Map<string, Wanted>();
  /** Links on which this broker is the owner, by edge. */
  private readonly accepted = new Map<string, Channel>();
  private readonly head = new LinkHead();
  private readonly heard: Heard;
  private timer: Timer;
  private stopped = false;

  /** Listens from now on. Listeners: of the links on which this broker is the edge, and of the others. */
  constructor(options: LinksOptions, listeners: Readonly<Record<LinkRole, LinkListener>>) {
    const { bus, clock, random, self } = options;
    this.options = options;
    this.listeners = listeners;
    this.start = random.uint32();
    this.heard = bus.subscribe(subjectOf(self), (message) => this.hear(message));
    bus.watch((connected) => {
      if (connected && !this.stopped) this.reconnected();
    });
    this.timer = clock.after(TURN_MS, () => this.turn());
  }

  /** The open link with that broker on which this one has that role. */
  get(peer: string, role: LinkRole): Link | undefined {
    const channel = role === 'edge' ? this.wanted.get(peer)?.channel : this.accepted.get(peer);
    return channel?.state === 'open' ? channel : undefined;
  }

  /** How many are open, in both roles. */
  get open(): number {
    return this.channels().filter(({ state }) => state === 'open').length;
  }

  /** From now on there shall be a link on which this broker is the edge; one that closes is replaced. */
  want(peer: string): void {
    if (this.stopped || this.wanted.has(peer)) return;
    const wanted: Wanted = { channel: undefined, failures: 0, reopening: undefined };
    this.wanted.set(peer, wanted);
    this.openTo(peer, wanted);
  }

  /** No such link is needed any more; one that is there is closed. */
  unwant(peer: string): void {
    this.forget(peer)?.close();
  }

  /** Closes all links. No listener is called any more. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.timer.cancel();
    this.heard.stop();
    for (const peer of [...this.wanted.keys()]) this.forget(peer)?.shut();
    for (const channel of [...this.accepted.values()]) channel.shut();
  }

  // ── Edge: links that this broker opens ───────────────────────────────────────────────────────

  private openTo(peer: string, wanted: Wanted): void {
    wanted.reopening = undefined;
    const name = { start: this.start, number: ++this.opened };
    const channel = this.make(peer, 'edge', name, () => {
      wanted.channel = undefined;
      if (this.wanted.get(peer) !== wanted) return;
      wanted.failures = channel.age >= GOOD_TURNS ? 1 : wanted.failures + 1;
      const wait = backoff(wanted.failures, REOPEN, this.options.random.float());
      wanted.reopening = this.options.clock.after(wait, () => this.openTo(peer, wanted));
    });
    wanted.channel = channel;
    channel.say(LinkKind.open);
  }

  private forget(peer: string): Channel | undefined {
    const wanted = this.wanted.get(peer);
    this.wanted.delete(peer);
    wanted?.reopening?.cancel();
    return wanted?.channel;
  }

  // ── Owner: links that others open ────────────────────────────────────────────────────────────

  private accept(head: LinkHead): void {
    const { sender, start, number } = head;
    const known = this.accepted.get(sender);
    if (known?.name.start === start && known.name.number >= number) {
      // Said twice, or late.
      if (known.name.number === number) known.say(LinkKind.opened);
      return;
    }
    known?.end('the other broker opened another');
    const channel = this.make(sender, 'owner', { start, number }, () => {
      if (this.accepted.get(sender) === channel) this.accepted.delete(sender);
    });
    this.accepted.set(sender, channel);
    channel.say(LinkKind.opened);
    channel.open();
  }

  // ── Both ─────────────────────────────────────────────────────────────────────────────────────

  private make(peer: string, role: LinkRole, name: LinkName, ended: () => void): Channel {
    const { self, clock, bus, logger, creditBytes = CREDIT_BYTES } = this.options;
    const subject = subjectOf(peer);
    return new Channel({
      self,
      peer,
      role,
      name,
      clock,
      creditBytes,
      send: (message) => bus.publish(subject, message),
      listener: this.listeners[role],
      ended(problem) {
        if (problem !== undefined)
          logger.info({ peer, role, problem }, 'the link with another broker closed');
        ended();
      },
    });
  }

  private hear(message: Buffer): void {
    const { head } = this;
    try {
      head.read(message);
    } catch (error) {
      this.options.logger.debug({ error }, 'a message on a link could not be read');
      return;
    }
    const { sender, kind } = head;
    if (head.role === 'edge' && kind === LinkKind.open) return this.accept(head);
    const channel = head.role === 'edge' ? this.accepted.get(sender) : this.wanted.get(sender)?.channel;
    if (channel?.name.start === head.start && channel.name.number === head.number)
      channel.hear(head, message);
    else if (kind !== LinkKind.close) this.refuse(head);
  }

  /** There is no such link here, or no more. */
  private refuse(head: LinkHead): void {
    const writer = new ByteWriter(64);
    writeLinkHead(writer, LinkKind.close, head.role === 'edge' ? 'owner' : 'edge', head, this.options.self);
    this.options.bus.publish(subjectOf(head.sender), writer.take());
  }

  private turn(): void {
    this.timer = this.options.clock.after(TURN_MS, () => this.turn());
    for (const channel of this.channels()) channel.turn();
  }

  /** What was sent while there was no connection is lost; who asks learns it at once. */
  private reconnected(): void {
    for (const channel of this.channels()) channel.ping();
  }

  private channels(): Channel[] {
    const channels = [...this.accepted.values()];
    for (const { channel } of this.wanted.values()) if (channel) channels.push(channel);
    return channels;
  }
}

/** Where a broker hears of its links. */
function subjectOf(broker: string): string {
  return `link.${broker}`;
}
