import type { ConsumerConfig, JetStreamManager, Msg, NatsConnection, Subscription } from 'nats';
import { createInbox, nanos } from 'nats';
import { API, apiCode, natsFault } from '../nats/faults.ts';
import type { Clock, Timer } from '../std/clock.ts';
import type { Logger } from '../std/logger.ts';
import type { Heard } from './bus.ts';
import type { Stored } from './store.ts';

/** How often an idle consumer says that it lives, in milliseconds. */
const HEARTBEAT_MS = 1000;
/** Silence after which a consumer is made anew: two and a half heartbeats. */
const SILENCE_MS = 2500;
/** A consumer that nobody listens to any more is removed by the server after this, in milliseconds. */
const INACTIVE_MS = 30_000;
/** Between two attempts to make a consumer, in milliseconds. */
const RETRY_MS = 200;
/** What is left of a removed key is cleared away when it is older, in milliseconds. */
const TOMB_MS = 3_600_000;

/** What a {@link NatsWatch} watches, and whom it tells. */
export interface NatsWatchOptions {
  readonly nats: NatsConnection;
  readonly jsm: JetStreamManager;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stream: string;
  /** What the subjects of keys begin with. */
  readonly subjects: string;
  /** What inboxes begin with. */
  readonly inboxes: string;
  readonly changed: (key: string, stored: Stored | undefined) => void;
  readonly ready: () => void;
  /** Makes the bucket anew: somebody has deleted it. */
  readonly remake: () => Promise<void>;
  readonly stopped: () => void;
}

/** How a watch reads: everything there is, and then what comes, to that inbox. */
export function consumerOf(inbox: string): Partial<ConsumerConfig> {
  return {
    deliver_subject: inbox,
    deliver_policy: 'all' as ConsumerConfig['deliver_policy'],
    ack_policy: 'none' as ConsumerConfig['ack_policy'],
    replay_policy: 'instant' as ConsumerConfig['replay_policy'],
    max_deliver: 1,
    flow_control: true,
    idle_heartbeat: nanos(HEARTBEAT_MS),
    inactive_threshold: nanos(INACTIVE_MS),
    mem_storage: true,
    num_replicas: 1,
  };
}

/**
 * Gives everything in a bucket and then its changes, by a push consumer that is made anew whenever it may have
 * missed something. Each consumer begins with everything there is, for that is little; so what has changed
 * meanwhile is given, and what is gone is known by its absence.
 */
export class NatsWatch implements Heard {
  private readonly options: NatsWatchOptions;
  private readonly given = new Set<string>();
  /** Keys that this consumer has given, until it has given everything there was. */
  private pass: Set<string> | undefined;
  private tombs: { readonly subject: string; readonly sequence: number }[] = [];
  private readied = false;
  private attempt = 0;
  private stoppedAlready = false;
  private subscription: Subscription | undefined;
  private consumer: string | undefined;
  private delivered = 0;
  private heardAt = 0;
  private retry: Timer | undefined;

  constructor(options: NatsWatchOptions) {
    this.options = options;
    void this.open();
  }

  stop(): void {
    if (this.stoppedAlready) return;
    this.stoppedAlready = true;
    this.leave();
    this.retry?.cancel();
    this.options.stopped();
  }

  /** Makes the consumer anew. */
  renew(): void {
    if (this.stoppedAlready) return;
    this.leave();
    this.retry?.cancel();
    void this.open();
  }

  /** Renews a consumer that has been silent for too long. */
  check(now: number): void {
    if (this.consumer !== undefined && now - this.heardAt > SILENCE_MS) this.renew();
  }

  private leave(): void {
    const { jsm, stream } = this.options;
    this.attempt++;
    this.subscription?.unsubscribe();
    this.subscription = undefined;
    // Should it fail, the server removes it when it has been inactive for a while.
    if (this.consumer !== undefined) jsm.consumers.delete(stream, this.consumer).catch(() => {});
    this.consumer = undefined;
  }

  private async open(): Promise<void> {
    const { nats, jsm, stream, clock } = this.options;
    const attempt = ++this.attempt;
    const stale = (): boolean => attempt !== this.attempt;
    this.pass = new Set();
    this.tombs = [];
    this.delivered = 0;
    const inbox = createInbox(this.options.inboxes);
    this.subscription = nats.subscribe(inbox, {
      callback: (error, message) => {
        if (stale()) return;
        if (error) this.failed(error);
        else this.take(message);
      },
    });
    try {
      const { name, num_pending: pending } = await jsm.consumers.add(stream, consumerOf(inbox));
      if (stale()) return void jsm.consumers.delete(stream, name).catch(() => {});
      this.consumer = name;
      this.heardAt = clock.now();
      if (pending === 0 && this.delivered === 0) this.passed();
    } catch (error) {
      if (stale()) return;
      if (apiCode(error) === API.noStream) await this.remake();
      if (!stale()) this.failed(error);
    }
  }

  private async remake(): Promise<void> {
    const { logger, stream, remake } = this.options;
    logger.error({ stream }, 'somebody has deleted the documents of the cluster; they are made anew');
    try {
      await remake();
    } catch (error) {
      logger.warn({ error: natsFault(error, 'making the bucket').message }, 'they could not be made');
    }
  }

  private failed(cause: unknown): void {
    const { clock, logger, stream } = this.options;
    logger.debug(
      { error: natsFault(cause, `reading the stream ${stream}`).message },
      'it is watched anew soon',
    );
    this.leave();
    this.retry?.cancel();
    this.retry = clock.after(RETRY_MS, () => this.renew());
  }

  private take(message: Msg): void {
    const { nats, clock, subjects, changed } = this.options;
    this.heardAt = clock.now();
    const { reply } = message;
    if (reply === undefined || !reply.startsWith('$JS.ACK.')) {
      // Asked whether all has arrived: the answer asks for more.
      const stalled = message.headers?.get('Nats-Consumer-Stalled');
      if (reply !== undefined && reply !== '') nats.publish(reply);
      else if (stalled !== undefined && stalled !== '') nats.publish(stalled);
      const delivered = message.headers?.get('Nats-Last-Consumer') ?? '';
      if (delivered === '') return;
      if (Number(delivered) !== this.delivered) this.renew();
      // Idle: what had been there when it began, and was not given, has been replaced.
      else this.passed();
      return;
    }
    // $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<deliveries>.<sequence>.<delivered>.<time>.<pending>…
    const tokens = reply.split('.');
    const at = tokens.length === 9 ? 5 : 7;
    const sequence = Number(tokens[at]);
    if (Number(tokens[at + 1]) !== this.delivered + 1) return this.renew();
    this.delivered++;
    const key = message.subject.slice(subjects.length);
    if (message.headers?.has('KV-Operation') === true) {
      const age = clock.now() - Number(tokens[at + 2]) / 1e6;
      if (age > TOMB_MS) this.tombs.push({ subject: message.subject, sequence });
      this.pass?.delete(key);
      this.given.delete(key);
      changed(key, undefined);
    } else {
      this.pass?.add(key);
      this.given.add(key);
      changed(key, { value: message.string(), revision: sequence });
    }
    if (tokens[at + 3] === '0') this.passed();
  }

  /** Everything that there was has been given. */
  private passed(): void {
    const { pass, tombs, given } = this;
    if (pass === undefined || this.stoppedAlready) return;
    this.pass = undefined;
    for (const key of [...given]) {
      if (pass.has(key)) continue;
      given.delete(key);
      this.options.changed(key, undefined);
    }
    if (!this.readied) {
      this.readied = true;
      this.options.ready();
    }
    void this.clear(tombs);
  }

  private async clear(tombs: NatsWatch['tombs']): Promise<void> {
    const { jsm, stream } = this.options;
    try {
      for (const { subject, sequence } of tombs) {
        if (this.stoppedAlready) return;
        await jsm.streams.purge(stream, { filter: subject, seq: sequence + 1 });
      }
    } catch {
      // Whoever watches next does it.
    }
  }
}
