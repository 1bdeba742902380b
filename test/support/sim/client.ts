import type { TaskFields } from '../../../src/wire/task.ts';
import type { Clock, Timer } from '../../../src/std/clock.ts';
import { PublishWriter, SettleWriter } from '../../../src/wire/client-batch.ts';
import { encodeFrame } from '../../../src/wire/client-frame.ts';
import type {
  GoAway,
  PublishAck,
  ServerFrame,
  SettleAck,
  Welcome,
} from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import { leaseHashOf } from '../../../src/wire/lease.ts';
import type { SeededRandom } from '../random.ts';
import type { ClientEnd, SimConnection } from './connection.ts';
import type { Delivered, Event, Saying, Settling } from './frames.ts';
import { leaseBytes, leaseName, leaseText } from './frames.ts';
import type { Ledger, Story } from './ledger.ts';
import { Broken } from './ledger.ts';

/** A mailbox that a client serves. */
export interface Subscription {
  readonly mailbox: string;
  readonly window: number;
  readonly types: readonly string[];
  readonly listener: boolean;
}

/** A task as a client publishes it. */
export interface Composed {
  readonly fields: TaskFields;
  readonly nonce: string;
}

/** What a client is like. */
export interface Temper {
  readonly subscriptions: readonly Subscription[];
  /** Mean milliseconds between two actions of its own; `Infinity`: it only works. */
  readonly actMs: number;
  /** The longest time that it works on a task, in milliseconds. */
  readonly workMs: number;
  /** How it ends its tasks: chances that add up to less than 1, the rest are completed. */
  readonly fails: number;
  readonly rejects: number;
  readonly releases: number;
  /** It never ends some until the world calms down. */
  readonly stalls: number;
  /** The longest answer beside what it has to say, in bytes. Default: 0. */
  readonly answerBytes?: number;
}

/** What a client finds around it. */
export interface Surroundings {
  readonly clock: Clock;
  readonly random: SeededRandom;
  readonly ledger: Ledger;
  /** Nobody makes trouble any more. */
  readonly calm: boolean;
  /** What clients say is known to owners at once. */
  readonly immediate: boolean;
  dial(client: SimClient): SimConnection | undefined;
  /** A new task, or one that was published before. */
  compose(): Composed;
  /** A task that is worth asking about. */
  pick(): Story | undefined;
  /** Publishes by a unary call. */
  publish(tasks: readonly Composed[]): void;
  /** Looks a task up by a unary call. */
  look(story: Story): void;
}

interface Job {
  readonly delivered: Delivered;
  timer: Timer | undefined;
}

interface Batch {
  readonly part: Buffer;
  readonly saying: Saying;
}

interface Held {
  readonly subscription: Subscription;
  window: number;
}

const REDIAL_MS = 30;
/** Heartbeats without an answer after which the connection counts as lost. */
const MISSED = 3;

/**
 * A client as the protocol allows it: it keeps what is not acknowledged and says it again on every
 * new connection, lists what it holds, and works, fails, stalls and breaks off as chance will have it.
 */
export class SimClient implements ClientEnd {
  readonly name: string;
  readonly held = new Map<string, Job>();
  /** Where it was told to go; '': anywhere. */
  address = '';
  private readonly temper: Temper;
  private readonly world: Surroundings;
  private readonly attachments = new Map<number, Held>();
  private readonly publishes = new Map<
    number,
    Batch & { readonly nonces: readonly string[]; readonly named: boolean }
  >();
  private readonly settles = new Map<number, Batch & { readonly items: readonly Settling[] }>();
  private readonly cancels = new Map<number, Batch>();
  private connection: SimConnection | undefined;
  private welcomed = false;
  private session = '';
  private incarnation = 0;
  private parts: Batch[] = [];
  private speaking = false;
  /** What is not acknowledged waits for the welcome. */
  private repeatLater = false;
  private numbers = 0;
  private beats = 0;
  private dead = false;
  private heartbeatMs = 0;
  /** What is settled in this turn. */
  private open: Settling[] = [];
  private beatTimer: Timer | undefined;
  private dialTimer: Timer | undefined;
  /** It holds the same as when it sent the last heartbeat. */
  private unchanged = false;
  /** Heartbeats on this connection. */
  private unanswered = 0;

  constructor(name: string, temper: Temper, world: Surroundings) {
    this.name = name;
    this.temper = temper;
    this.world = world;
    for (const subscription of temper.subscriptions) {
      this.attachments.set(++this.numbers, { subscription, window: subscription.window });
    }
    this.dial();
    this.actLater();
  }

  /** Connected, with nothing to do, and everything that it has said is acknowledged. */
  get quiet(): boolean {
    if (this.dead) return true;
    const open =
      this.publishes.size + this.settles.size + this.cancels.size + this.open.length + this.held.size;
    return this.welcomed && open === 0 && this.parts.length === 0;
  }

  /** For people: what is not acknowledged. */
  get waiting(): string {
    const { publishes, settles, cancels, open, parts, welcomed } = this;
    return JSON.stringify({
      publishes: publishes.size,
      settles: settles.size,
      cancels: cancels.size,
      open: open.length,
      parts: parts.length,
      welcomed,
    });
  }

  get alive(): boolean {
    return !this.dead;
  }

  get sessionId(): string {
    return this.session;
  }

  /** It dies and never comes back; the broker is not told. */
  die(): void {
    this.dead = true;
    this.connection?.break(0, undefined);
    this.connection = undefined;
  }

  /** Whether it works on that mailbox. */
  serves(mailbox: string): boolean {
    return [...this.attachments.values()].some(
      ({ subscription }) => subscription.mailbox === mailbox && !subscription.listener,
    );
  }

  /** It subscribes to more. */
  attach(subscription: Subscription): void {
    const number = ++this.numbers;
    this.attachments.set(number, { subscription, window: subscription.window });
    this.say(...attachPart(number, subscription, subscription.window));
  }

  /** It ends what it has not meant to end. */
  finish(): void {
    for (const [lease, job] of this.held) if (!job.timer) this.work(lease, job);
  }

  // ── Its connection ───────────────────────────────────────────────────────────────────────────

  private dial(): void {
    if (this.dead) return;
    const { clock, random } = this.world;
    this.hangUp(false);
    this.connection = this.world.dial(this);
    this.address = '';
    this.dialTimer = clock.after(REDIAL_MS * (1 + random.float() * 3), () => {
      if (!this.welcomed) this.dial();
    });
    if (!this.connection) return;
    const settling = [...[...this.settles.values()].flatMap(({ items }) => items), ...this.open];
    const inFlight = this.session === '' ? [] : [...this.held.keys(), ...settling.map(({ lease }) => lease)];
    const hello = {
      sessionId: this.session,
      incarnation: ++this.incarnation,
      client: this.name,
      inFlight: inFlight.map(leaseBytes),
    };
    this.parts = [
      {
        part: encodeFrame({ hello }),
        saying: { kind: 'hello', sessionId: this.session, incarnation: this.incarnation, inFlight },
      },
    ];
    for (const [number, { subscription, window }] of this.attachments) {
      const [part, saying] = attachPart(number, subscription, window);
      this.parts.push({ part, saying });
    }
    // Some wait for the welcome, some don't.
    this.repeatLater = random.chance(0.7);
    if (!this.repeatLater) this.repeat();
    this.speak();
  }

  private hangUp(quietly: boolean): void {
    this.connection?.abandon(quietly || this.world.random.chance(0.3));
    this.connection = undefined;
    this.welcomed = false;
    for (const [batch, { named }] of this.publishes) if (!named) this.publishes.delete(batch);
    this.beatTimer?.cancel();
    this.dialTimer?.cancel();
    this.unanswered = 0;
    this.parts = [];
  }

  closed(): void {
    if (this.dead) return;
    const { clock, random } = this.world;
    this.hangUp(true);
    this.dialTimer = clock.after(random.float() * REDIAL_MS, () => this.dial());
  }

  /** Says again what is not acknowledged. */
  private repeat(): void {
    this.repeatLater = false;
    for (const batches of [this.settles, this.publishes, this.cancels]) {
      for (const { part, saying } of batches.values()) this.say(part, saying);
    }
  }

  private say(part: Buffer, saying: Saying): void {
    if (!this.connection) return;
    this.parts.push({ part, saying });
    this.speakSoon();
  }

  private speakSoon(): void {
    if (this.speaking) return;
    this.speaking = true;
    this.world.clock.soon(() => {
      this.speaking = false;
      this.speak();
    });
  }

  private speak(): void {
    if (this.open.length > 0 && this.welcomed) this.settleOpen();
    if (this.parts.length === 0 || !this.connection) return;
    const { parts } = this;
    this.parts = [];
    this.connection.send({
      bytes: Buffer.concat(parts.map(({ part }) => part)),
      says: parts.map(({ saying }) => saying),
    });
  }

  // ── What the broker says ─────────────────────────────────────────────────────────────────────

  receive(events: readonly Event[]): void {
    if (this.dead) return;
    this.beats = 0;
    for (const event of events) {
      if (event.kind === 'published') this.published(event.ack);
      else if (event.kind === 'settled') this.settled(event.ack);
      else if (event.kind === 'delivery') this.delivered(event.delivered);
      else this.control(event.frame);
    }
  }

  private control(frame: ServerFrame): void {
    if (frame.welcome) this.welcome(frame.welcome);
    for (const { lease } of frame.abort) this.aborted(leaseText(lease));
    for (const { call } of frame.cancel) this.cancels.delete(Number(call));
    for (const { attachment, refusal } of frame.attached) {
      if (refusal && refusal.retryAfterMs === 0) this.attachments.delete(attachment);
    }
    if (frame.listInFlight) {
      const leases = [...this.held.keys()];
      this.say(encodeFrame({ inFlight: { leases: leases.map(leaseBytes) } }), { kind: 'inFlight', leases });
    }
    if (
      frame.heartbeat &&
      --this.unanswered === 0 &&
      this.unchanged &&
      this.world.immediate &&
      frame.heartbeat.hash !== this.hash()
    ) {
      const names = [...this.held.keys()].map(leaseName).join(' ');
      throw new Broken(`${this.name} holds ${names}, and the broker says ${frame.heartbeat.inFlight}`);
    }
    if (frame.goAway) this.goAway(frame.goAway);
  }

  private welcome({ sessionId, resumed, heartbeatMs }: Welcome): void {
    if (!resumed) {
      for (const job of this.held.values()) job.timer?.cancel();
      this.held.clear();
    }
    this.session = sessionId;
    this.heartbeatMs = heartbeatMs;
    this.welcomed = true;
    this.dialTimer?.cancel();
    if (this.repeatLater) this.repeat();
    this.speakSoon();
    this.beat();
  }

  private goAway({ draining, address }: GoAway): void {
    this.address = address;
    // It goes on with what it has; the broker closes the connection when it stops.
    if (!draining) this.closed();
    else if (address !== '' && this.world.random.chance(0.7)) this.closed();
  }

  private beat(): void {
    const { clock } = this.world;
    this.beatTimer = clock.after(this.heartbeatMs, () => {
      if (++this.beats > MISSED) return this.closed();
      if (this.open.length > 0) this.settleOpen();
      this.unchanged = true;
      this.unanswered++;
      const heartbeat = { inFlight: this.held.size, hash: this.hash() };
      this.say(encodeFrame({ heartbeat }), { kind: 'other' });
      this.beat();
    });
  }

  private hash(): number {
    let hash = 0;
    for (const lease of this.held.keys()) hash ^= leaseHashOf(leaseBytes(lease), 0);
    return hash >>> 0;
  }

  private published({ batch, refused }: PublishAck): void {
    const known = this.publishes.get(Number(batch));
    if (!known) return;
    this.publishes.delete(Number(batch));
    known.nonces.forEach((nonce, index) => {
      this.world.ledger.answered(
        nonce,
        refused.find((refusal) => refusal.index === index),
      );
    });
  }

  private settled({ batch }: SettleAck): void {
    this.settles.delete(Number(batch));
  }

  private aborted(lease: string): void {
    const job = this.held.get(lease);
    if (!job) return;
    this.unchanged = false;
    this.held.delete(lease);
    // Some finish nevertheless.
    if (this.world.random.chance(0.9)) job.timer?.cancel();
  }

  private delivered(delivered: Delivered): void {
    const { lease } = delivered;
    if (lease === '') return;
    if (this.held.has(lease)) throw new Broken(`${this.name} got a lease twice`);
    this.unchanged = false;
    const job: Job = { delivered, timer: undefined };
    this.held.set(lease, job);
    const { attachment } = delivered;
    if (!this.attachments.has(attachment)) {
      // It crossed a detach, or the detach was lost.
      this.settle(lease, 'released', '', 0);
      this.say(encodeFrame({ detach: [{ attachment }] }), { kind: 'detach', attachment });
    } else if (this.world.calm || !this.world.random.chance(this.temper.stalls)) this.work(lease, job);
  }

  // ── What it does with its tasks ──────────────────────────────────────────────────────────────

  private work(lease: string, job: Job): void {
    const { clock, random, calm } = this.world;
    const { task } = job.delivered;
    job.timer = clock.after(random.float() * (calm ? 5 : this.temper.workMs), () =>
      this.end(lease, job.delivered),
    );
    if (!task || calm) return;
    if (random.chance(0.1)) {
      const progress = { lease: leaseBytes(lease), percent: random.below(100), message: 'so far' };
      this.say(encodeFrame({ progress: [progress] }), { kind: 'other' });
    }
    if (task.maxRunMs > 0 && random.chance(0.5)) {
      this.say(encodeFrame({ extend: [{ lease: leaseBytes(lease), runMs: random.below(50) }] }), {
        kind: 'extend',
        lease,
      });
    }
  }

  private end(lease: string, { task, attempt }: Delivered): void {
    const { random, calm } = this.world;
    const { fails, rejects, releases, answerBytes = 0 } = this.temper;
    const kind = random.float();
    const text = task
      ? `${Buffer.from(task.payload).toString().split(' ', 1)[0]!} by ${this.name} at ${attempt}${'.'.repeat(answerBytes > 0 ? random.below(answerBytes) : 0)}`
      : '';
    if (calm || kind > fails + rejects + releases) this.settle(lease, 'completed', text, 0);
    else if (kind < fails)
      this.settle(lease, 'failed', 'not this time', random.chance(0.2) ? 1 + random.below(60) : 0);
    else if (kind < fails + rejects) this.settle(lease, 'rejected', 'never', 0);
    else this.settle(lease, 'released', '', 0);
    // Some say it twice.
    if (!calm && random.chance(0.03)) this.open.push(this.open.at(-1)!);
  }

  private settle(lease: string, verdict: Settling['verdict'], text: string, retryAfterMs: number): void {
    this.held.get(lease)?.timer?.cancel();
    this.held.delete(lease);
    this.unchanged = false;
    this.open.push({ lease, verdict, text, retryAfterMs });
    this.speakSoon();
  }

  private settleOpen(): void {
    const batch = ++this.numbers;
    const items = this.open;
    this.open = [];
    const writer = new SettleWriter();
    writer.open(batch);
    for (const { lease, verdict, text, retryAfterMs } of items) {
      const bytes = leaseBytes(lease);
      if (verdict === 'completed') {
        const answer = { payload: Buffer.from(text), contentType: '', headers: undefined };
        writer.completed(bytes, 0, text === '' ? undefined : answer);
      } else if (verdict === 'released') writer.released(bytes, 0);
      else writer.failed(bytes, 0, text, verdict === 'failed', retryAfterMs);
    }
    const part = writer.take();
    const saying: Saying = { kind: 'settle', batch, items };
    this.settles.set(batch, { part, saying, items });
    this.say(part, saying);
  }

  // ── What it does by itself ───────────────────────────────────────────────────────────────────

  private actLater(): void {
    const { clock, random } = this.world;
    if (this.temper.actMs === Infinity) return;
    clock.after(random.float() * 2 * this.temper.actMs, () => {
      if (this.dead || this.world.calm) return;
      if (this.welcomed) this.act();
      this.actLater();
    });
  }

  private act(): void {
    const { random } = this.world;
    const kind = random.float();
    if (kind < 0.67) this.publish();
    else if (kind < 0.72) this.publishAlone();
    else if (kind < 0.75) this.look();
    else if (kind < 0.85) this.cancel();
    else if (kind < 0.9) this.resize();
    else if (kind < 0.93) this.reattach();
    else if (kind < 0.97) this.closed();
    else if (kind < 0.98) this.leave();
  }

  private publish(): void {
    const { random, ledger } = this.world;
    const batch = ++this.numbers;
    const writer = new PublishWriter();
    writer.open(batch, 0);
    const nonces: string[] = [];
    // Without ids, what is said again is accepted again.
    let named = true;
    for (let count = 1 + random.below(5); count > 0; count--) {
      const { fields, nonce } = this.world.compose();
      ledger.tries(fields, nonce);
      nonces.push(nonce);
      named &&= fields.id !== '';
      writer.add(fields);
    }
    const part = writer.take();
    const saying: Saying = { kind: 'publish', batch, nonces };
    this.publishes.set(batch, { part, saying, nonces, named });
    this.say(part, saying);
  }

  private publishAlone(): void {
    const task = this.world.compose();
    this.world.ledger.tries(task.fields, task.nonce);
    this.world.publish([task]);
  }

  private look(): void {
    const story = this.world.pick();
    if (story && !story.copy && story.fields.to !== '*') this.world.look(story);
  }

  private cancel(): void {
    const story = this.world.pick();
    if (!story || story.copy || story.fields.to === '*') return;
    const call = ++this.numbers;
    const { to, id } = story.fields;
    const part = encodeFrame({
      cancel: [{ call: BigInt(call), mailbox: to, taskId: id, reason: 'changed my mind' }],
    });
    const saying: Saying = { kind: 'cancel', call, to, id };
    this.cancels.set(call, { part, saying });
    this.say(part, saying);
  }

  private resize(): void {
    const { random } = this.world;
    const numbers = [...this.attachments.keys()];
    const attachment = numbers[random.below(numbers.length)];
    if (attachment === undefined) return;
    const window = 1 + random.below(6);
    this.attachments.get(attachment)!.window = window;
    this.say(encodeFrame({ window: [{ attachment, window }] }), { kind: 'window', attachment, window });
  }

  /** Detaches, and attaches again under another number. */
  private reattach(): void {
    const { random } = this.world;
    const numbers = [...this.attachments.keys()];
    const attachment = numbers[random.below(numbers.length)];
    if (attachment === undefined) return;
    const { subscription } = this.attachments.get(attachment)!;
    this.attachments.delete(attachment);
    this.say(encodeFrame({ detach: [{ attachment }] }), { kind: 'detach', attachment });
    this.attach(subscription);
  }

  /** Ends the session for good, and begins another one. */
  private leave(): void {
    this.say(encodeFrame({ goodbye: true }), { kind: 'goodbye' });
    this.speak();
    for (const job of this.held.values()) job.timer?.cancel();
    this.held.clear();
    this.session = '';
    this.incarnation = 0;
    this.closed();
  }
}

function attachPart(attachment: number, subscription: Subscription, window: number): [Buffer, Saying] {
  const { mailbox, types, listener } = subscription;
  return [
    encodeFrame({ attach: [{ attachment, mailbox, window, types: [...types], listener }] }),
    { kind: 'attach', attachment, mailbox, window, listener },
  ];
}
