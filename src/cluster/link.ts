import type { Clock } from '../std/clock.ts';
import { ByteWriter } from '../wire/bytes.ts';
import type { LinkHead, LinkName, LinkRole } from '../wire/link-frame.ts';
import { LinkKind, setLinkCounts, writeLinkHead } from '../wire/link-frame.ts';

/** Links look after themselves this often, in milliseconds, and count their time in such turns. */
export const TURN_MS = 250;
/** Turns for which what was sent may stay without any acknowledgement, and between two pings. */
const PING_TURNS = 2;
/** Turns of silence after which each side asks whether the other is still there. */
const IDLE_TURNS: Readonly<Record<LinkRole, number>> = { edge: 4, owner: 12 };
/** Pings in a row without an answer that end a link. */
const MAX_PINGS = 3;
/** An acknowledgement that nothing else carries waits this long, in milliseconds, or for that many bytes. */
const ACK_MS = 20;
const ACK_BYTES = 1024 * 1024;
/** What was written leaves at the end of the turn, or at once beyond this. */
const FLUSH_BYTES = 256 * 1024;

/**
 * One end of a channel between two brokers: what is written at one end is received at the other in the same
 * order and exactly once, for as long as the link is open. If anything is lost, both ends close, and the edge
 * opens another link, at which nothing is known of the former one.
 */
export interface Link {
  readonly peer: string;
  /** What this broker is on the link. */
  readonly role: LinkRole;
  /** Takes what is to be sent; {@link touch} after each operation. The receiver never gets half of one. */
  readonly writer: ByteWriter;
  /**
   * False while so much is unacknowledged that only what is small should be written; `LinkListener.drained`
   * tells when it is true again.
   */
  readonly ready: boolean;
  /** Something whole was written: it leaves at the end of this turn, together with all else. */
  touch(): void;
  /** Sends what was written, and closes the link at both ends; an edge opens another if one is wanted. */
  close(): void;
}

/** Receives what happens at one end of links. Calls come one after the other, never from within a call of a link. */
export interface LinkListener {
  /** Here is a new link; the other end knows nothing yet. */
  opened(link: Link): void;
  /** The other end's operations stand in `bytes[start, end)`, which belong to the receiver. An error ends the link. */
  received(link: Link, bytes: Buffer, start: number, end: number): void;
  /** It is `ready` again. */
  drained(link: Link): void;
  /** Closed by either side, or something was lost: nothing that was written lately can be relied upon. */
  closed(link: Link): void;
}

/** What a {@link Channel} is made of. */
export interface ChannelOptions {
  readonly self: string;
  readonly peer: string;
  readonly role: LinkRole;
  readonly name: LinkName;
  readonly clock: Clock;
  /** Bytes that may be unacknowledged. */
  readonly creditBytes: number;
  readonly send: (message: Buffer) => void;
  readonly listener: LinkListener;
  /** It has closed; `problem` says why, unless its user closed it. */
  readonly ended: (problem: string | undefined) => void;
}

/** One end of a link. Time comes in turns, of which {@link Links} counts one after the other. */
export class Channel implements Link {
  readonly peer: string;
  readonly role: LinkRole;
  readonly name: LinkName;
  readonly writer = new ByteWriter(4 * 1024);
  state: 'opening' | 'open' | 'closed' = 'opening';
  /** Turns since it was made. */
  age = 0;
  private readonly options: ChannelOptions;
  private readonly headBytes: number;
  private scheduled = false;

  /** Numbers of the last frame that was sent, acknowledged by the other end, and received from it. */
  private sent = 0;
  private acked = 0;
  private received = 0;

  /** Sizes of the frames after `acked`, from `oldest` on. */
  private readonly sizes: number[] = [];
  private oldest = 0;
  private unacknowledged = 0;
  private full = false;

  private ackOwed = false;
  private ackBytes = 0;
  private ackTimer = false;

  private heardAt = 0;
  /** When something was acknowledged, or sent after all was. */
  private progressAt = 0;
  private pingedAt = 0;
  /** Pings since anything was heard. */
  private pings = 0;

  constructor(options: ChannelOptions) {
    this.options = options;
    this.peer = options.peer;
    this.role = options.role;
    this.name = options.name;
    this.head(LinkKind.data);
    this.headBytes = this.writer.length;
  }

  get ready(): boolean {
    return this.state === 'open' && !this.full;
  }

  /** Whether it is not closed, which any call of the listener may do. */
  private get alive(): boolean {
    return this.state !== 'closed';
  }

  touch(): void {
    if (this.writer.length > FLUSH_BYTES) this.flush();
    else if (!this.scheduled) {
      this.scheduled = true;
      this.options.clock.soon(() => {
        this.scheduled = false;
        this.flush();
      });
    }
  }

  close(): void {
    const opened = this.state === 'open';
    this.shut();
    if (opened) this.options.clock.soon(() => this.options.listener.closed(this));
  }

  /** Closes the link as {@link close} does, without a word to the listener. */
  shut(): void {
    if (this.state === 'closed') return;
    this.flush();
    this.say(LinkKind.close);
    this.state = 'closed';
    this.options.ended(undefined);
  }

  /** Both ends know of it now. */
  open(): void {
    if (this.state !== 'opening') return;
    this.state = 'open';
    this.heardAt = this.age;
    this.guard(() => this.options.listener.opened(this));
  }

  /** Says something without data; it acknowledges, too. */
  say(kind: LinkKind): void {
    const writer = new ByteWriter(64);
    const { role, name, options } = this;
    writeLinkHead(writer, kind, role, name, options.self);
    this.send(writer.take());
  }

  /** A message of this link has come. */
  hear(head: LinkHead, message: Buffer): void {
    const { kind, frame, ack, body } = head;
    if (this.state === 'closed') return;
    if (kind === LinkKind.close) return this.end('the other broker closed it');
    this.open();
    if (!this.alive) return;
    this.heardAt = this.age;
    this.pings = 0;
    this.acknowledged(ack);
    if (kind !== LinkKind.data) {
      if (frame > this.received) return this.fail(`frames ${this.received + 1} to ${frame} were lost`);
      if (kind === LinkKind.ping) this.say(LinkKind.ack);
    } else if (frame > this.received + 1) {
      return this.fail(`frames ${this.received + 1} to ${frame - 1} were lost`);
    } else {
      if (frame > this.received) {
        this.received = frame;
        this.ackBytes += message.length;
        this.guard(() => this.options.listener.received(this, message, body, message.length));
      }
      this.oweAck();
    }
    this.tellDrained();
  }

  /** Asks the other end for an answer: what may have been lost is missed sooner. */
  ping(): void {
    if (this.state === 'opening' && this.role === 'edge') this.say(LinkKind.open);
    if (this.state !== 'open') return;
    this.pings++;
    this.pingedAt = this.age;
    this.say(LinkKind.ping);
  }

  /** Another {@link TURN_MS} has passed. */
  turn(): void {
    this.age++;
    if (this.age - this.pingedAt < PING_TURNS) return;
    if (this.state === 'opening') {
      this.pingedAt = this.age;
      return this.ping();
    }
    const stuck = this.unacknowledged > 0 && this.age - this.progressAt >= PING_TURNS;
    const idle = this.age - this.heardAt >= IDLE_TURNS[this.role];
    if (!stuck && !idle && this.pings === 0) return;
    if (this.pings >= MAX_PINGS) this.fail('the other broker does not answer');
    else this.ping();
  }

  /** It is closed, without a word to the other end. */
  end(problem: string): void {
    if (this.state === 'closed') return;
    const opened = this.state === 'open';
    this.state = 'closed';
    this.options.ended(problem);
    if (opened) this.options.listener.closed(this);
  }

  private fail(problem: string): void {
    if (this.state === 'closed') return;
    this.say(LinkKind.close);
    this.end(problem);
  }

  private flush(): void {
    const { writer } = this;
    if (writer.length === this.headBytes) return;
    if (this.state !== 'open') {
      writer.length = this.headBytes;
      return;
    }
    const message = writer.take();
    this.head(LinkKind.data);
    if (this.unacknowledged === 0) this.progressAt = this.age;
    this.sent++;
    this.sizes.push(message.length);
    this.unacknowledged += message.length;
    if (this.unacknowledged > this.options.creditBytes) this.full = true;
    this.send(message);
  }

  private head(kind: LinkKind): void {
    writeLinkHead(this.writer, kind, this.role, this.name, this.options.self);
  }

  private send(message: Buffer): void {
    this.ackOwed = false;
    this.ackBytes = 0;
    setLinkCounts(message, this.sent, this.received);
    this.options.send(message);
  }

  private acknowledged(upTo: number): void {
    if (upTo <= this.acked || upTo > this.sent) return;
    for (; this.acked < upTo; this.acked++) this.unacknowledged -= this.sizes[this.oldest++]!;
    if (this.oldest === this.sizes.length || this.oldest > 1024) {
      this.sizes.splice(0, this.oldest);
      this.oldest = 0;
    }
    this.progressAt = this.age;
  }

  /** Half of the credit must be free: who is told one frame at a time sends one frame at a time. */
  private tellDrained(): void {
    if (!this.full || this.unacknowledged > this.options.creditBytes / 2 || this.state !== 'open') return;
    this.full = false;
    this.guard(() => this.options.listener.drained(this));
  }

  private oweAck(): void {
    if (this.state !== 'open') return;
    this.ackOwed = true;
    if (this.ackBytes >= ACK_BYTES) return this.say(LinkKind.ack);
    if (this.ackTimer) return;
    this.ackTimer = true;
    this.options.clock.after(ACK_MS, () => {
      this.ackTimer = false;
      if (this.ackOwed && this.state === 'open') this.say(LinkKind.ack);
    });
  }

  /** What a listener can't cope with ends the link: the next one begins with a clean slate. */
  private guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.fail(error instanceof Error ? error.message : String(error));
    }
  }
}
