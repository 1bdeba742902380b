import type { Atlas } from '../core/atlas.ts';
import type { Parcel } from '../core/outbox.ts';
import { fnv1aText } from '../core/fnv1a.ts';
import type { IdKey } from '../core/id-hash.ts';
import { hashId, idKey } from '../core/id-hash.ts';
import { DEFAULT_NAMESPACE, isIn } from '../core/namespace.ts';
import { Kind } from '../core/task-table.ts';
import type { Log } from '../log/log.ts';
import type { Metrics } from '../obs/metrics.ts';
import { backoff } from '../std/backoff.ts';
import type { Clock, Random } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Ranges } from '../wire/client-frame.ts';
import { Entry, sessionWords } from '../wire/entry.ts';
import { readTasks, TasksRecordWriter } from '../wire/tasks-record.ts';
import { TextCache } from '../wire/text-cache.ts';
import { rehashed, TaskScan, withId } from '../wire/envelope.ts';
import type { Done } from './question.ts';
import { Ticket } from './ticket.ts';

/** Appends that stay without an answer for this long are given up, in milliseconds. */
const GIVE_UP_MS = 15_000;

/** Two names of a task are longer inside of the cluster, by the name of their namespace: the task may be, too. */
const NAMESPACE_BYTES = 256;

/** What an ingress asks of the owners; the answers may be slightly stale. */
export interface Fullness {
  /** Whether the log of the shard has no room for tasks, or `undefined`. `waiting` bytes are on their way to it. */
  crammed(shard: number, waiting: number): HubError | undefined;
  /** The limit that the mailbox has met, or `undefined`. */
  full(shard: number, mailbox: string): HubError | undefined;
  /**
   * Whether the shard knows tasks of those names, four words each, so that they take no room. Answered once, at
   * once if the shard is served here; with an error if its owner could not be asked.
   */
  known(shard: number, hashes: Uint32Array, answer: Done<readonly boolean[]>): void;
  /** Why nothing at all is accepted now, or `undefined`. */
  closed(): HubError | undefined;
  /**
   * Mailboxes of agents of that namespace that are attached in that shard; of one that another broker serves, as many
   * as it said last.
   */
  recipients(shard: number, namespace: string): number;
  /** Whether this broker serves the shard. */
  serves(shard: number): boolean;
}

/** What an {@link Ingress} is made of. */
export interface IngressOptions {
  readonly log: Log;
  readonly atlas: Atlas;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly fullness: Fullness;
  readonly taskBytes: number;
  readonly batchTasks: number;
}

/** What the gRPC metadata of a call says. */
export interface Carried {
  get(name: string): readonly unknown[];
}

/** Who published a batch, and where its outcomes go. */
export interface Publication {
  /** What came with a call of its own; of interest to traces alone. */
  readonly carried?: Carried;
  /** The session's id, or ''. */
  readonly origin: string;
  /** The namespace that all names in its tasks say they belong to; absent: the default one. */
  readonly namespace?: string | undefined;
  /** Why its publisher may not publish that, if it may not; absent: it may publish everything. */
  readonly guard?: ((mailbox: string, type: string, requester: string) => HubError | undefined) | undefined;
  readonly ticket: Ticket;
  /** Called for each task that came without an id. */
  readonly assigned: (index: number, id: string) => void;
  /** Called for each broadcast. */
  readonly recipients: (index: number, count: number) => void;
}

/** Outcomes that an append decides. */
interface Share {
  readonly ticket: Ticket;
  readonly indexes: number[];
}

/** A task of a batch. */
interface Item {
  readonly ticket: Ticket;
  readonly index: number;
}

interface Pending {
  readonly writer: TasksRecordWriter;
  shares: Share[];
  forwards: ((error: HubError | undefined) => void)[];
  readonly sealed: Sealed[];
  /** Bytes of records that wait for the log, or are on their way to it. */
  waiting: number;
  inFlight: boolean;
  scheduled: boolean;
}

interface Sealed {
  readonly record: Buffer;
  readonly shares: Share[];
  readonly forwards: ((error: HubError | undefined) => void)[];
}

/**
 * Where tasks enter: checks them, finds their shard, and appends them to its log. All that came for
 * one shard since its last append leaves as one record, one in flight; so records grow under load,
 * and an idle broker appends at once. Outcomes follow the log's ack, never precede it.
 */
export class Ingress {
  private readonly options: IngressOptions;
  private readonly pending: (Pending | undefined)[] = [];
  private readonly key: IdKey;
  private readonly bareScan: TaskScan;
  /** For tasks of other namespaces, so that names which are good in those never pass for such in the default one. */
  private qualifiedScan: TaskScan | undefined;
  /** That of them which reads the batch that is being published. */
  private scan: TaskScan;
  private appended = 0;
  private made = 0;
  private readonly idPrefix: string;
  /** What was said of shards while a batch is being published. */
  private readonly asked = new Map<number, HubError | undefined>();
  /** Bytes that wait for the log. */
  waitingBytes = 0;

  constructor(options: IngressOptions) {
    this.options = options;
    this.key = idKey(options.log.generation);
    this.scan = this.bareScan = new TaskScan(this.key);
    this.idPrefix = options.random.token(6);
  }

  /** Accepts the serialized tasks in `bytes`; each has its outcome in the publication's ticket. */
  publish(bytes: Uint8Array, tasks: Ranges, publication: Publication): void {
    const { batchTasks } = this.options;
    const { ticket, namespace } = publication;
    this.scan =
      namespace === undefined ? this.bareScan : (this.qualifiedScan ??= new TaskScan(this.key, true));
    const closed = this.options.fullness.closed();
    this.asked.clear();
    const words = sessionWords(publication.origin);
    this.scan.head.originHigh = words.high;
    this.scan.head.originLow = words.low;
    for (let index = 0; index < tasks.count; index++) {
      if (closed?.code === 'unavailable') this.refuse(ticket, index, closed);
      else if (index >= batchTasks)
        this.refuse(
          ticket,
          index,
          limit('limits.batchTasks', `a batch has at most ${batchTasks} tasks; split it`),
        );
      else this.accept(bytes, tasks.start(index), tasks.end(index), index, publication, closed);
    }
  }

  /** Appends parcels of another shard's outbox to the log of `destination`. */
  forward(
    destination: number,
    source: number,
    parcels: readonly Parcel[],
    done: (error: HubError | undefined) => void,
  ): void {
    const pending = this.pendingOf(destination);
    if (!pending.writer.fits(parcels.reduce((sum, { entry }) => sum + entry.length, 0))) this.seal(pending);
    pending.writer.forward(source, parcels[0]!.number, parcels);
    pending.forwards.push(done);
    this.schedule(destination, pending);
  }

  private accept(
    bytes: Uint8Array,
    start: number,
    end: number,
    index: number,
    publication: Publication,
    closed: HubError | undefined,
  ): void {
    const { scan } = this;
    const { taskBytes, fullness, atlas } = this.options;
    const { ticket, namespace } = publication;
    try {
      if (end - start > (namespace === undefined ? taskBytes : taskBytes + NAMESPACE_BYTES))
        throw limit(
          'limits.taskBytes',
          `the task has ${end - start} bytes; at most ${taskBytes} are accepted`,
          0,
        );
      scan.read(bytes, start, end);
      if (namespace !== undefined) checkInside(namespace, scan);
      const refusal = publication.guard?.(scan.mailbox, scan.type, scan.requester);
      if (refusal) throw refusal;
      let from = start;
      let to = end;
      let body = bytes;
      if (scan.idEnd === scan.idStart) {
        const id = `${this.idPrefix}-${(this.made++).toString(36)}`;
        body = withId(bytes, start, end, id);
        from = 0;
        to = body.length;
        const text = Buffer.from(id);
        hashId(text, 0, text.length, this.key, scan.head.hash);
        scan.head.hash[0] = scan.head.hash[0]! ^ fnv1aText(scan.mailbox);
        publication.assigned(index, id);
      }
      if (scan.head.kind === Kind.broadcast) {
        if (closed) throw closed;
        return this.broadcast(body, from, to, index, publication);
      }
      const shard = atlas.isPlain
        ? atlas.shardOfHash(scan.mailbox, scan.mailboxHash)
        : this.intoLane(atlas.laneOf(scan.mailbox, scan.head.hash[1]!));
      const full = closed ?? this.crammed(shard) ?? fullness.full(shard, scan.mailbox);
      if (full) this.refuseUnknown(shard, Uint32Array.from(scan.head.hash), [{ ticket, index }], full);
      else this.add(shard, body, from, to, index, ticket);
    } catch (error) {
      this.refuse(ticket, index, toHubError(error));
    }
  }

  /** Asked once per shard and batch: tasks of one batch are published together. */
  private crammed(shard: number): HubError | undefined {
    const { asked } = this;
    if (asked.has(shard)) return asked.get(shard);
    const crammed = this.options.fullness.crammed(shard, this.pending[shard]?.waiting ?? 0);
    asked.set(shard, crammed);
    return crammed;
  }

  /** The task goes to that mailbox, which may be its own; answers with the shard. */
  private intoLane(mailbox: string): number {
    const { scan } = this;
    const { head } = scan;
    if (mailbox !== scan.mailbox) {
      head.hash[0] = rehashed(head.hash[0]!, scan.mailbox, mailbox);
      scan.mailbox = mailbox;
    }
    return this.options.atlas.shardOf(mailbox);
  }

  private broadcast(
    bytes: Uint8Array,
    start: number,
    end: number,
    index: number,
    publication: Publication,
  ): void {
    const { fullness, log } = this.options;
    const shards: number[] = [];
    let count = 0;
    for (let shard = 0; shard < log.shards; shard++) {
      const recipients = fullness.recipients(shard, publication.namespace ?? DEFAULT_NAMESPACE);
      // Agents may have come to another broker since.
      if (recipients > 0 || !fullness.serves(shard)) shards.push(shard);
      count += recipients;
    }
    for (const shard of shards) {
      const crammed = this.crammed(shard);
      if (crammed) throw crammed;
    }
    publication.recipients(index, count);
    if (shards.length === 0) return publication.ticket.done(1);
    const all = new Ticket(shards.length, ({ refused }) => {
      const first = refused[0];
      if (first) publication.ticket.refuse(index, first.error);
      else publication.ticket.done(1);
    });
    for (const shard of shards) this.add(shard, bytes, start, end, 0, all);
  }

  private add(
    shard: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    index: number,
    ticket: Ticket,
  ): void {
    const { scan } = this;
    const pending = this.pendingOf(shard);
    if (!pending.writer.fits(end - start)) this.seal(pending);
    pending.writer.add(scan.mailbox, scan.type, scan.head, bytes, start, end);
    const last = pending.shares.at(-1);
    if (last?.ticket === ticket) last.indexes.push(index);
    else pending.shares.push({ ticket, indexes: [index] });
    this.schedule(shard, pending);
  }

  private pendingOf(shard: number): Pending {
    return (this.pending[shard] ??= {
      writer: new TasksRecordWriter(),
      shares: [],
      forwards: [],
      sealed: [],
      waiting: 0,
      inFlight: false,
      scheduled: false,
    });
  }

  private schedule(shard: number, pending: Pending): void {
    if (pending.inFlight || pending.scheduled) return;
    pending.scheduled = true;
    this.options.clock.soon(() => {
      pending.scheduled = false;
      this.flush(shard, pending);
    });
  }

  private seal(pending: Pending): void {
    if (pending.writer.count === 0) return;
    const { random, clock, metrics } = this.options;
    metrics.appendTasks.observe(pending.writer.count);
    const record = pending.writer.finish(random.uint32(), clock.now());
    this.waitingBytes += record.length;
    pending.waiting += record.length;
    pending.sealed.push({ record, shares: pending.shares, forwards: pending.forwards });
    pending.shares = [];
    pending.forwards = [];
  }

  private flush(shard: number, pending: Pending): void {
    if (pending.inFlight) return;
    if (pending.sealed.length === 0) this.seal(pending);
    const next = pending.sealed.shift();
    if (!next) return;
    pending.inFlight = true;
    this.append(shard, pending, next, `t${this.idPrefix}-${this.appended++}`, this.options.clock.now(), 0);
  }

  private append(
    shard: number,
    pending: Pending,
    sealed: Sealed,
    id: string,
    since: number,
    attempt: number,
  ): void {
    const { log, clock, random, metrics } = this.options;
    log.append(
      shard,
      { subject: 'tasks', bytes: sealed.record, id, settles: sealed.forwards.length > 0 },
      (error) => {
        if (error) metrics.appendFailures.of(error.code).add();
        const undecided = error?.code === 'unavailable';
        if (undecided && clock.now() - since < GIVE_UP_MS) {
          const wait = backoff(attempt + 1, { initialMs: 20, maxMs: 1000 }, random.float());
          clock.after(wait, () => this.append(shard, pending, sealed, id, since, attempt + 1));
          return;
        }
        pending.inFlight = false;
        this.waitingBytes -= sealed.record.length;
        pending.waiting -= sealed.record.length;
        metrics.appendSeconds.observe((clock.now() - since) / 1000);
        if (!error) metrics.appendBytes.add(sealed.record.length);
        if (error) this.refuseAll(shard, sealed, error);
        else for (const { ticket, indexes } of sealed.shares) ticket.done(indexes.length);
        for (const done of sealed.forwards) done(error);
        this.flush(shard, pending);
      },
    );
  }

  /** A record was not stored. */
  private refuseAll(shard: number, { record, shares }: Sealed, error: HubError): void {
    const words: number[] = [];
    readTasks(record, new Entry(), new TextCache(1), {
      begin() {},
      entry({ a, b, c, d }, _index, source) {
        if (source < 0) words.push(a, b, c, d);
      },
    });
    const items = shares.flatMap(({ ticket, indexes }) => indexes.map((index) => ({ ticket, index })));
    this.refuseUnknown(shard, Uint32Array.from(words), items, error);
  }

  /**
   * Refuses tasks, but for those that were accepted before, and are only said again because the ack was lost:
   * to refuse them would be a lie.
   */
  private refuseUnknown(shard: number, hashes: Uint32Array, items: readonly Item[], error: HubError): void {
    if (items.length === 0) return;
    this.options.fullness.known(shard, hashes, (unasked, known) => {
      for (const [at, { ticket, index }] of items.entries()) {
        if (known?.[at] === true) ticket.done(1);
        else this.refuse(ticket, index, unasked ?? error);
      }
    });
  }

  private refuse(ticket: Ticket, index: number, error: HubError): void {
    const { metrics } = this.options;
    metrics.refused.of(error.code).add();
    if (error.limit !== undefined) metrics.limits.of(error.limit).add();
    ticket.refuse(index, error);
  }
}

/** The names in a task say which namespace it is in; this is the last place where one could be in the wrong one. */
function checkInside(namespace: string, { mailbox, requester }: TaskScan): void {
  if (isIn(namespace, mailbox) && (requester === '' || isIn(namespace, requester))) return;
  throw new HubError('internal', 'the task names somebody of another namespace');
}

/** The error for a limit that was met. Without `retryAfterMs` a retry makes no sense. */
export function limit(name: string, message: string, retryAfterMs = 0): HubError {
  return new HubError(
    'exhausted',
    `${message} (${name})`,
    retryAfterMs > 0 ? { limit: name, retryAfterMs } : { limit: name },
  );
}
