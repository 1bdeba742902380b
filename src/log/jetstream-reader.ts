import type { JetStreamManager, Msg, NatsConnection, StoredMsg, StreamState, Subscription } from 'nats';
import { createInbox, nanos } from 'nats';
import type { Clock, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { API, apiCode, natsFault } from '../nats/faults.ts';
import type { LogReader, Reading, Subject } from './log.ts';

/** How often an idle consumer says that it lives, in milliseconds. */
const HEARTBEAT_MS = 1000;
/** Silence after which a consumer is made anew: two and a half heartbeats. */
const SILENCE_MS = 2500;
/** A consumer that nobody listens to any more is removed by the server after this, in milliseconds. */
const INACTIVE_MS = 30_000;
/** Between two attempts to make a consumer, in milliseconds. */
const RETRY_MS = 200;

/** What a {@link StreamReader} reads, and whom it tells. */
export interface StreamReaderOptions {
  /** Carries nothing but reading, so that a flood of records holds up no append. */
  readonly nats: NatsConnection;
  readonly jsm: JetStreamManager;
  readonly clock: Clock;
  readonly stream: string;
  /** Records of this subject are the owner's. */
  readonly ownerSubject: string;
  /** What inboxes begin with. */
  readonly inboxes: string;
  readonly from: number;
  readonly reader: LogReader;
  /** The first record that is still retained here, though the stream may have more. */
  readonly first: () => number;
  /** A record is about to be given. */
  readonly coming: (sequence: number, subject: Subject, length: number) => void;
  /** Something was given, or the reading has ended. */
  readonly moved: () => void;
  readonly stopped: (reader: StreamReader) => void;
}

/**
 * Reads one stream by a push consumer that is made anew whenever it may have missed something: after a
 * gap in its deliveries, after a reconnect, or after silence.
 *
 * A stream that lost its tail, as servers do that lose power before they flush, gives its sequences out
 * again; reading on behind them would skip acknowledged records. So before a consumer is made anew, the last
 * record that was given must still be there, known by the nanosecond at which the stream stored it.
 */
export class StreamReader implements Reading {
  /** The sequence of the next record to give. */
  next: number;
  caughtUp = false;
  private readonly options: StreamReaderOptions;
  private readonly ownConsumers = new Set<Promise<unknown>>();
  private attempt = 0;
  private stoppedAlready = false;
  /** What was durable when reading began. */
  private target: number | undefined;
  /** Of the last record given: its sequence, and when it was stored. */
  private last: { readonly sequence: number; readonly storedAt: string } | undefined;
  private subscription: Subscription | undefined;
  private consumer: string | undefined;
  private delivered = 0;
  private heardAt = 0;
  private retry: Timer | undefined;

  constructor(options: StreamReaderOptions) {
    this.options = options;
    this.next = Math.max(1, options.from);
    void this.open();
  }

  stop(): void {
    if (this.stoppedAlready) return;
    this.stoppedAlready = true;
    this.leave();
    this.retry?.cancel();
    this.options.stopped(this);
    this.options.moved();
  }

  /** Makes the consumer anew, if there has been one. */
  renew(): void {
    if (this.stoppedAlready) return;
    this.leave();
    void this.open();
  }

  /** Renews a consumer that has been silent for too long. */
  check(now: number): void {
    if (this.consumer !== undefined && now - this.heardAt > SILENCE_MS) this.renew();
  }

  /** Resolves when the server has been asked to remove its consumers. */
  async removed(): Promise<void> {
    await Promise.allSettled(this.ownConsumers);
  }

  private leave(): void {
    this.attempt++;
    this.subscription?.unsubscribe();
    this.subscription = undefined;
    if (this.consumer !== undefined) this.remove(this.consumer);
    this.consumer = undefined;
  }

  private remove(consumer: string): void {
    const { jsm, stream } = this.options;
    // Should it fail, the server removes it when it has been inactive for a while.
    const removal = jsm.consumers.delete(stream, consumer).catch(() => {});
    this.ownConsumers.add(removal);
    void removal.finally(() => this.ownConsumers.delete(removal));
  }

  private async open(): Promise<void> {
    const { nats, jsm, stream, clock } = this.options;
    const attempt = ++this.attempt;
    const stale = (): boolean => attempt !== this.attempt;
    try {
      const { state } = await jsm.streams.info(stream);
      const lost = stale() ? undefined : await this.lost(state);
      if (stale()) return;
      if (lost) return this.fail(lost);
      if (this.last && state.first_seq > this.last.sequence + 1)
        return this.fail(this.overtaken(state.first_seq));
      this.target ??= state.last_seq;
      // Who was given something goes on behind it: what others truncate meanwhile would be missed.
      if (!this.last) this.next = Math.max(this.next, state.first_seq, this.options.first());
      this.settle();
      if (stale()) return;
      const inbox = createInbox(this.options.inboxes);
      this.delivered = 0;
      this.subscription = nats.subscribe(inbox, {
        callback: (error, message) => {
          if (stale()) return;
          if (error) this.failed(error);
          else this.take(message);
        },
      });
      const { name } = await jsm.consumers.add(stream, {
        deliver_subject: inbox,
        deliver_policy: 'by_start_sequence' as never,
        opt_start_seq: this.next,
        ack_policy: 'none' as never,
        replay_policy: 'instant' as never,
        max_deliver: 1,
        flow_control: true,
        idle_heartbeat: nanos(HEARTBEAT_MS),
        inactive_threshold: nanos(INACTIVE_MS),
        mem_storage: true,
        num_replicas: 1,
      });
      if (stale()) return this.remove(name);
      this.consumer = name;
      this.heardAt = clock.now();
    } catch (error) {
      if (!stale()) this.failed(error);
    }
  }

  /** Ends if a retry is in vain, else tries again in a while. */
  private failed(cause: unknown): void {
    const { stream, clock } = this.options;
    if (apiCode(cause) === API.noStream) {
      return this.fail(
        new HubError(
          'corrupt',
          `the stream ${stream} has been deleted; restore it from a backup, or choose another nats.streamPrefix`,
        ),
      );
    }
    const error = natsFault(cause, `reading the stream ${stream}`);
    if (error.code === 'permission') return this.fail(error);
    this.leave();
    this.retry?.cancel();
    this.retry = clock.after(RETRY_MS, () => {
      if (!this.stoppedAlready) void this.open();
    });
  }

  /** Why reading can't go on where it was, or undefined. */
  private async lost(state: StreamState): Promise<HubError | undefined> {
    const { last } = this;
    if (last === undefined || last.sequence < state.first_seq) return undefined;
    if (last.sequence <= state.last_seq && (await this.storedAt(last.sequence)) === last.storedAt)
      return undefined;
    return new HubError(
      'corrupt',
      `the stream ${this.options.stream} has lost acknowledged records: it ends at ${state.last_seq}, and record ` +
        `${last.sequence} is not the one that was read before; restart the broker, so that it begins with what is ` +
        'left (nats.sync tells how to lose nothing)',
    );
  }

  private async storedAt(sequence: number): Promise<string | undefined> {
    const { jsm, stream } = this.options;
    try {
      return nanosecondsOf(await jsm.streams.getMessage(stream, { seq: sequence }));
    } catch (error) {
      if (apiCode(error) === API.noMessage) return undefined;
      throw error;
    }
  }

  private take(message: Msg): void {
    const { nats, ownerSubject, clock, reader } = this.options;
    this.heardAt = clock.now();
    const { reply } = message;
    if (reply === undefined || !reply.startsWith('$JS.ACK.')) {
      // Asked whether all has arrived: the answer asks for more.
      const stalled = message.headers?.get('Nats-Consumer-Stalled');
      if (reply !== undefined && reply !== '') nats.publish(reply);
      else if (stalled !== undefined && stalled !== '') nats.publish(stalled);
      const delivered = message.headers?.get('Nats-Last-Consumer') ?? '';
      const missed = delivered !== '' && Number(delivered) !== this.delivered;
      // Idle, yet not everything has come: it was truncated meanwhile.
      if (missed || (delivered !== '' && !this.caughtUp)) this.renew();
      return;
    }
    // $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<sequence>.<delivered>.<time>.<pending>…
    const tokens = reply.split('.');
    const at = tokens.length === 9 ? 5 : 7;
    const sequence = Number(tokens[at]);
    if (Number(tokens[at + 1]) !== this.delivered + 1) return this.renew();
    this.delivered++;
    if (this.last && sequence > this.last.sequence + 1) return this.fail(this.overtaken(sequence));
    const isNext = sequence >= this.next;
    if (isNext) this.next = sequence + 1;
    // What is truncated is left out at the beginning alone: behind a record that was given, it would be missed.
    if (isNext && (this.last !== undefined || sequence >= this.options.first())) {
      this.last = { sequence, storedAt: tokens[at + 2]! };
      const subject = message.subject === ownerSubject ? 'owner' : 'tasks';
      // A copy: what came is a piece of what the socket gave, and would keep all of that alive.
      const bytes = Buffer.from(message.data);
      this.options.coming(sequence, subject, bytes.length);
      reader.record(sequence, subject, bytes);
    }
    if (this.stoppedAlready) return;
    this.settle();
    this.options.moved();
  }

  private settle(): void {
    if (this.caughtUp || this.target === undefined) return;
    if (this.next <= this.target) return;
    this.caughtUp = true;
    this.options.reader.caughtUp();
  }

  /** What it was given so far says nothing of what was decided in the records that are gone: it must begin anew. */
  private overtaken(sequence: number): HubError {
    return new HubError(
      'aborted',
      `the stream ${this.options.stream} was truncated up to ${sequence}, past what was read; ` +
        'reading begins anew',
    );
  }

  private fail(error: HubError): void {
    if (this.stoppedAlready) return;
    this.stop();
    this.options.reader.failed(error);
  }
}

/** Nanoseconds since the epoch. Go leaves out the last zeros of a fraction. */
function nanosecondsOf({ time, timestamp }: StoredMsg): string {
  const fraction = timestamp.replace('Z', '').split('.')[1] ?? '';
  return `${Math.floor(time.getTime() / 1000)}${fraction.padEnd(9, '0')}`;
}
