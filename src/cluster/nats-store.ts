import type { JetStreamManager, MsgHdrs, NatsConnection, StoredMsg } from 'nats';
import { createInbox, headers } from 'nats';
import type { NatsAccess } from '../nats/connection.ts';
import { connectNats, inboxOf, watchConnection } from '../nats/connection.ts';
import { API, apiCode, natsFault } from '../nats/faults.ts';
import type { Clock, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Heard } from './bus.ts';
import type { BucketPlan } from './nats-bucket.ts';
import { bucketStream, bucketSubjects, openBucket } from './nats-bucket.ts';
import { consumerOf, NatsWatch } from './nats-watch.ts';
import type { Store, Stored } from './store.ts';

/** How a {@link NatsStore} is opened. */
export interface NatsStoreOptions extends BucketPlan, NatsAccess {
  readonly clock: Clock;
  readonly logger: Logger;
  /** What NATS calls the connection. */
  readonly name: string;
}

/** No answer for so long is none, in milliseconds. */
const ANSWER_MS = 2000;
/** Servers that have just been started, and a bucket of several replicas, take longer, in milliseconds. */
const OPEN_MS = 5000;
/** Between two looks for watches that are silent, in milliseconds. */
const LOOK_MS = 500;
/** A change that could not be compared with another on its way is sent again so often, */
const UNDECIDED_TRIES = 20;
/** and after so long, in milliseconds. */
const UNDECIDED_MS = 5;
/** JetStream has no leader just now. */
const NO_LEADER = 10008;

/** In a message that says that its key is removed; the same as in the key-value store of NATS. */
const OPERATION = 'KV-Operation';

/** Documents in a bucket of NATS's key-value store, over a connection of their own. */
export class NatsStore implements Store {
  private readonly options: NatsStoreOptions;
  private readonly nats: NatsConnection;
  private readonly jsm: JetStreamManager;
  private readonly stream: string;
  private readonly subjects: string;
  private readonly watches = new Set<NatsWatch>();
  private timer: Timer | undefined;

  /**
   * Connects, and finds or makes the bucket.
   *
   * @throws HubError `unavailable`, `unauthenticated`, `permission`, `precondition` (no JetStream, too few
   *   servers, a bucket of somebody else), `exhausted`; each says what to do.
   */
  static async open(options: NatsStoreOptions): Promise<NatsStore> {
    const nats = await connectNats(options, `${options.name} (cluster)`, 'documents');
    try {
      const jsm = await nats.jetstreamManager({ checkAPI: false, timeout: OPEN_MS });
      await openBucket(jsm, options, options.clock.now());
      await probeWatch(jsm, options.prefix);
      return new NatsStore(
        options,
        nats,
        await nats.jetstreamManager({ checkAPI: false, timeout: ANSWER_MS }),
      );
    } catch (error) {
      await nats.close();
      throw natsFault(error, 'opening the documents of the cluster');
    }
  }

  private constructor(options: NatsStoreOptions, nats: NatsConnection, jsm: JetStreamManager) {
    this.options = options;
    this.nats = nats;
    this.jsm = jsm;
    this.stream = bucketStream(options.prefix);
    this.subjects = bucketSubjects(options.prefix);
    void watchConnection(nats, {
      lost: () => {},
      back: () => {
        for (const watch of this.watches) watch.renew();
      },
      denied: (subject) => {
        options.logger.error(
          { subject },
          `NATS forbids publishing to ${subject}; give the broker's user that`,
        );
      },
    });
    this.look();
  }

  get(key: string, done: Parameters<Store['get']>[1]): void {
    this.last(key).then(
      (last) => done(undefined, last && !last.removed ? last : undefined),
      (error: unknown) => done(fault(error, `reading ${key}`), undefined),
    );
  }

  put(key: string, value: string, revision: number, done: Parameters<Store['put']>[3]): void {
    this.write(key, value, revision).then(
      (written) => done(undefined, written),
      (error: unknown) => done(fault(error, `writing ${key}`), 0),
    );
  }

  remove(key: string, revision: number, done: Parameters<Store['remove']>[2]): void {
    const head = headers();
    head.set(OPERATION, 'DEL');
    this.publish(key, '', revision, head).then(
      () => done(undefined),
      (error: unknown) => done(fault(error, `removing ${key}`)),
    );
  }

  watch(changed: (key: string, stored: Stored | undefined) => void, ready: () => void): Heard {
    const { clock, logger } = this.options;
    const { nats, jsm, stream, subjects } = this;
    const watch: NatsWatch = new NatsWatch({
      nats,
      jsm,
      clock,
      logger,
      stream,
      subjects,
      inboxes: inboxOf(this.options.prefix),
      changed,
      ready,
      remake: () => openBucket(jsm, this.options, clock.now()),
      stopped: () => this.watches.delete(watch),
    });
    this.watches.add(watch);
    return watch;
  }

  /** Ends its watches, and closes the connection. */
  async close(): Promise<void> {
    this.timer?.cancel();
    for (const watch of [...this.watches]) watch.stop();
    await this.nats.close();
  }

  private async write(key: string, value: string, revision: number): Promise<number> {
    if (revision > 0) return this.publish(key, value, revision);
    // What was removed has a last message nevertheless.
    const last = await this.last(key);
    if (last && !last.removed)
      throw new HubError('conflict', `${key} exists, with revision ${last.revision}`);
    return this.publish(key, value, last?.revision ?? 0);
  }

  /** The last message of a key, from the leader. */
  private async last(key: string): Promise<(Stored & { readonly removed: boolean }) | undefined> {
    let message: StoredMsg;
    try {
      message = await this.jsm.streams.getMessage(this.stream, { last_by_subj: this.subjects + key });
    } catch (error) {
      if (apiCode(error) === API.noMessage) return undefined;
      throw error;
    }
    return { value: message.string(), revision: message.seq, removed: message.header.has(OPERATION) };
  }

  private async publish(key: string, value: string, revision: number, head?: MsgHdrs): Promise<number> {
    head ??= headers();
    head.set('Nats-Expected-Last-Subject-Sequence', String(revision));
    for (let tries = 1; ; tries++) {
      const answer = await this.nats.request(this.subjects + key, Buffer.from(value), {
        headers: head,
        timeout: ANSWER_MS,
      });
      const { seq, error } = answer.json<{ seq?: number; error?: { err_code?: number } }>();
      if (error === undefined) return seq!;
      if (error.err_code !== API.conditionalInFlight || tries === UNDECIDED_TRIES) {
        throw Object.assign(new Error('refused'), { api_error: error });
      }
      await new Promise<void>((resolve) => void this.options.clock.after(UNDECIDED_MS, resolve));
    }
  }

  private look(): void {
    this.timer = this.options.clock.after(LOOK_MS, () => {
      const now = this.options.clock.now();
      for (const watch of this.watches) watch.check(now);
      this.look();
    });
  }
}

/** Whether the bucket may be watched at all: a watch tries again for ever. */
async function probeWatch(jsm: JetStreamManager, prefix: string): Promise<void> {
  const stream = bucketStream(prefix);
  try {
    const { name } = await jsm.consumers.add(stream, consumerOf(createInbox(inboxOf(prefix))));
    await jsm.consumers.delete(stream, name);
  } catch (error) {
    const refused = natsFault(error, `watching the stream ${stream}`);
    if (refused.code === 'permission') throw refused;
  }
}

function fault(error: unknown, doing: string): HubError {
  const number = apiCode(error);
  if (number === API.wrongLastSequence) {
    return new HubError('conflict', `${doing}: somebody else has changed it meanwhile; read it again`, {
      cause: error,
    });
  }
  const noLeader = number === NO_LEADER || (error as { code?: unknown }).code === '503';
  if (noLeader || number === API.conditionalInFlight) {
    return new HubError('unavailable', `${doing}: the bucket has no leader just now; try again`, {
      retryAfterMs: 500,
      cause: error,
    });
  }
  return natsFault(error, doing);
}
