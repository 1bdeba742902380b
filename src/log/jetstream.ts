import type { JetStreamManager, Msg, NatsConnection, StreamInfo } from 'nats';
import { createInbox, headers } from 'nats';
import type { Clock, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { closed, MAX_RECORD_BYTES, refusal } from './admission.ts';
import { Catalog } from './catalog.ts';
import type { NatsAccess } from './jetstream-connection.ts';
import { connectNats, watchConnection } from './jetstream-connection.ts';
import { API, apiCode, natsFault } from './jetstream-faults.ts';
import { StreamReader } from './jetstream-reader.ts';
import type { StreamsPlan } from './jetstream-streams.ts';
import { openStreams, ownerSubject, streamName, tasksSubject } from './jetstream-streams.ts';
import type { Append, Durability, Extent, Log, LogReader, Reading, Subject } from './log.ts';

/** How a {@link JetStreamLog} is opened. */
export interface JetStreamLogOptions extends StreamsPlan, NatsAccess {
  readonly clock: Clock;
  readonly logger: Logger;
  /** What NATS calls the connections of this broker. */
  readonly name: string;
  /**
   * Whether the servers flush before they answer (`sync_interval: always`). They don't tell their clients, so
   * it has to be said here.
   */
  readonly sync: 'interval' | 'always';
}

type AppendDone = Parameters<Log['append']>[2];

interface Pending {
  readonly shard: number;
  readonly append: Append;
  readonly done: AppendDone;
  readonly sentAt: number;
}

/** Headers of a message count as its payload in NATS; ours are far smaller. */
const HEADER_BYTES = 1024;
/** About what a stream stores with each record: its frame, subject and headers. */
const OVERHEAD_BYTES = 160;
/** An append that has had no answer for this long is undecided, in milliseconds. */
const ANSWER_MS = 2000;
/** How often unanswered appends and silent readers are looked for, in milliseconds. */
const LOOK_MS = 250;
/** Between two looks at what a stream holds, one stream after the other, in milliseconds. */
const REFRESH_MS = 1000;
const PURGE_RETRY_MS = 1000;
/** Until an append that NATS could not decide is sent again, in milliseconds. */
const UNDECIDED_MS = 1;

/** What this process knows of one stream. */
class Shard {
  readonly name: string;
  readonly tasks: string;
  readonly owner: string;
  /** Lengths of the records that were appended or read here. */
  readonly catalog: Catalog;
  /** Bytes that the stream takes in the store of NATS, about. */
  stored: number;
  /** Bytes added to `stored` by appends, ever. */
  added = 0;
  readonly readers = new Set<StreamReader>();
  /** Owner records that are stored, and that some reader has not been given yet. */
  unread: { readonly sequence: number; readonly done: AppendDone }[] = [];

  constructor(prefix: string, shard: number, { state }: StreamInfo) {
    this.name = streamName(prefix, shard);
    this.tasks = tasksSubject(prefix, shard);
    this.owner = ownerSubject(prefix, shard);
    // An empty stream that has never held anything begins at 0.
    this.catalog = new Catalog(Math.max(1, state.first_seq));
    this.catalog.next = Math.max(this.catalog.first, state.last_seq + 1);
    this.stored = state.bytes;
  }

  note(sequence: number, subject: Subject, length: number): void {
    const { catalog } = this;
    if (sequence < catalog.first) return;
    catalog.put(sequence, 1, 0, length);
    if (subject === 'owner' && sequence > catalog.owner) catalog.owner = sequence;
  }

  /** Whether all readers that follow this stream have been given that record. */
  readUpTo(sequence: number): boolean {
    for (const reader of this.readers) if (reader.caughtUp && reader.next <= sequence) return false;
    return true;
  }
}

/**
 * A log in NATS JetStream: one stream per shard, with one subject for tasks and one for its owner.
 *
 * Every append carries its id, so that a retry within 30 s is stored once, and an owner's carries the sequence
 * it builds on, which JetStream compares. Refused, the owner's last record tells whether an earlier try of the
 * same append was stored after all. An owner record is answered when this process has read it: who takes a
 * shard over knows all that was decided before.
 *
 * Callers keep at most one append in flight per shard and subject; otherwise retries may change their order.
 */
export class JetStreamLog implements Log {
  readonly durability: Durability;
  readonly shards: number;
  private readonly clock: Clock;
  private readonly logger: Logger;
  private readonly nats: NatsConnection;
  private readonly jsm: JetStreamManager;
  private readonly readNats: NatsConnection;
  private readonly readJsm: JetStreamManager;
  private readonly states: readonly Shard[];
  private readonly maxBytes: number;
  /** Answers come to subjects below it: one subscription for all appends. */
  private readonly inbox = createInbox();
  private readonly pending = new Map<string, Pending>();
  private sent = 0;
  private connected = true;
  private readonly cuts = new Map<number, number>();
  private cutting: Promise<void> | undefined;
  private turn = 0;
  private refreshedAt = 0;
  private timer: Timer | undefined;
  private closing: Promise<void> | undefined;
  private whenAnswered: (() => void) | undefined;

  /**
   * Connects, finds or makes the streams, and checks what can be checked.
   *
   * @throws HubError `unavailable`, `unauthenticated`, `permission`, `precondition` (no JetStream, too few
   *   servers, streams of another kind), `exhausted` (no room for the streams); each says what to do.
   */
  static async open(options: JetStreamLogOptions): Promise<JetStreamLog> {
    const nats = await connectNats(options, options.name);
    try {
      checkServer(nats);
      const jsm = await nats.jetstreamManager({ checkAPI: false });
      const streams = await openStreams(jsm, options);
      const readNats = await connectNats(options, `${options.name} (reading)`);
      const readJsm = await readNats.jetstreamManager({ checkAPI: false });
      const log = new JetStreamLog(options, { nats, jsm, readNats, readJsm }, streams);
      try {
        await Promise.all(log.states.map((state) => log.findOwner(state)));
        await log.probe();
        return log;
      } catch (error) {
        await log.close();
        throw error;
      }
    } catch (error) {
      await nats.close();
      throw natsFault(error, 'opening the log on NATS');
    }
  }

  private constructor(
    options: JetStreamLogOptions,
    links: Record<'nats' | 'readNats', NatsConnection> & Record<'jsm' | 'readJsm', JetStreamManager>,
    streams: readonly StreamInfo[],
  ) {
    this.shards = options.shards;
    this.durability = durabilityOf(options);
    this.clock = options.clock;
    this.logger = options.logger;
    this.nats = links.nats;
    this.jsm = links.jsm;
    this.readNats = links.readNats;
    this.readJsm = links.readJsm;
    this.maxBytes = options.maxBytesPerShard > 0 ? options.maxBytesPerShard : Infinity;
    this.states = streams.map((info, shard) => new Shard(options.prefix, shard, info));
    this.nats.subscribe(`${this.inbox}.*`, {
      callback: (error, message) => {
        if (error === null) this.answer(message);
      },
    });
    void watchConnection(this.nats, {
      lost: () => this.lost(),
      back: () => {
        this.connected = true;
        this.logger.info({}, 'connected to NATS again');
      },
      denied: (subject) => this.denied(subject),
    });
    void watchConnection(this.readNats, {
      lost: () => {},
      back: () => this.renewReaders(),
      denied: () => {},
    });
    this.look();
  }

  append(shard: number, append: Append, done: AppendDone): void {
    const state = this.state(shard);
    // What the owner expects is compared by the stream, not here.
    const refused = this.closing
      ? closed()
      : (refusal(append, append.expectedOwner ?? 0, MAX_RECORD_BYTES - HEADER_BYTES) ??
        (this.connected ? undefined : undecided('NATS is not connected')));
    if (refused !== undefined) {
      this.clock.soon(() => done(refused, 0));
      return;
    }
    const token = (++this.sent).toString(36);
    this.pending.set(token, { shard, append, done, sentAt: this.clock.now() });
    this.publish(token, state, append);
  }

  read(shard: number, from: number, reader: LogReader): Reading {
    const state = this.state(shard);
    const reading = new StreamReader({
      nats: this.readNats,
      jsm: this.readJsm,
      clock: this.clock,
      stream: state.name,
      ownerSubject: state.owner,
      from,
      reader,
      first: () => state.catalog.first,
      coming: (sequence, subject, length) => state.note(sequence, subject, length),
      moved: () => this.release(state),
      stopped: (ended) => state.readers.delete(ended),
    });
    state.readers.add(reading);
    return reading;
  }

  truncate(shard: number, before: number): void {
    const { catalog } = this.state(shard);
    const cut = Math.min(before, catalog.owner > 0 ? catalog.owner : Infinity, catalog.next);
    if (cut <= catalog.first) return;
    catalog.drop(cut);
    this.cuts.set(shard, cut);
    this.cutting ??= this.purge().finally(() => (this.cutting = undefined));
  }

  extent(shard: number): Extent {
    const { first, next, bytes } = this.state(shard).catalog;
    return { first, last: next - 1, bytes };
  }

  /**
   * What all streams together take until the fullest one is full, if they go on to fill as they did. The
   * limits of the account and of the servers are not known here.
   */
  room(): number {
    if (this.maxBytes === Infinity) return Infinity;
    let sum = 0;
    let most = 0;
    for (const { stored } of this.states) {
      sum += stored;
      most = Math.max(most, stored);
    }
    const left = Math.max(0, this.maxBytes - most - OVERHEAD_BYTES);
    return most === 0 ? left : left * (sum / most);
  }

  close(): Promise<void> {
    return (this.closing ??= this.finish());
  }

  private async finish(): Promise<void> {
    if (this.pending.size > 0) await new Promise<void>((resolve) => (this.whenAnswered = resolve));
    await this.cutting;
    this.timer?.cancel();
    const readers = this.states.flatMap((state) => [...state.readers]);
    for (const reader of readers) reader.stop();
    if (this.connected) await Promise.all(readers.map((reader) => reader.removed()));
    await Promise.all([this.nats.close(), this.readNats.close()]);
  }

  // ── Appending ────────────────────────────────────────────────────────────────────────────────

  private publish(token: string, { owner, tasks }: Shard, append: Append): void {
    const head = headers();
    head.set('Nats-Msg-Id', append.id);
    if (append.expectedOwner !== undefined) {
      head.set('Nats-Expected-Last-Subject-Sequence', String(append.expectedOwner));
    }
    const reply = `${this.inbox}.${token}`;
    try {
      this.nats.publish(append.subject === 'owner' ? owner : tasks, append.bytes, { reply, headers: head });
    } catch (error) {
      this.clock.soon(() => this.settle(token, natsFault(error, 'appending to NATS'), 0));
    }
  }

  private answer(message: Msg): void {
    const token = message.subject.slice(this.inbox.length + 1);
    const pending = this.pending.get(token);
    // The answer to an append that was given up is of no use: its retry gets one of its own.
    if (pending === undefined) return;
    if (message.data.length === 0) return this.settle(token, undecided('the stream has no leader'), 0);
    const { seq, error } = message.json<{
      seq?: number;
      error?: { err_code?: number; description?: string };
    }>();
    if (error === undefined) return this.settle(token, undefined, seq ?? 0);
    switch (error.err_code) {
      case API.wrongLastSequence:
        return void this.confirm(token, pending);
      case API.conditionalInFlight:
      case API.sameIdInFlight:
        this.clock.after(UNDECIDED_MS, () => {
          if (this.pending.has(token)) this.publish(token, this.state(pending.shard), pending.append);
        });
        return;
      default:
        this.settle(token, natsFault({ api_error: error }, 'appending to NATS'), 0);
    }
  }

  /** Compared and refused: unless the last record is this very append, whose first answer was lost. */
  private async confirm(token: string, { shard, append }: Pending): Promise<void> {
    const { name, owner } = this.state(shard);
    try {
      const last = await this.jsm.streams.getMessage(name, { last_by_subj: owner });
      if (last.header.get('Nats-Msg-Id') === append.id) return this.settle(token, undefined, last.seq);
    } catch (error) {
      if (apiCode(error) !== API.noMessage)
        return this.settle(token, natsFault(error, 'appending to NATS'), 0);
    }
    this.settle(
      token,
      new HubError(
        'aborted',
        `the last owner record of ${name} is not ${append.expectedOwner ?? 0}: another owner has written; let go of the shard`,
      ),
      0,
    );
  }

  private settle(token: string, error: HubError | undefined, sequence: number): void {
    const pending = this.pending.get(token);
    if (pending === undefined) return;
    this.pending.delete(token);
    const { shard, append, done } = pending;
    const state = this.state(shard);
    if (error === undefined) {
      state.note(sequence, append.subject, append.bytes.length);
      state.stored += append.bytes.length + OVERHEAD_BYTES;
      state.added += append.bytes.length + OVERHEAD_BYTES;
    }
    if (error === undefined && append.subject === 'owner' && !state.readUpTo(sequence)) {
      state.unread.push({ sequence, done });
    } else done(error, sequence);
    if (this.pending.size === 0) this.whenAnswered?.();
  }

  /** Answers the owner records that have been read now. */
  private release(state: Shard): void {
    while (state.unread.length > 0 && state.readUpTo(state.unread[0]!.sequence)) {
      const { done, sequence } = state.unread.shift()!;
      done(undefined, sequence);
    }
  }

  /** Whether it may append at all: by appends that no stream takes. */
  private async probe(): Promise<void> {
    const state = this.state(0);
    for (const subject of [state.tasks, state.owner]) {
      const head = headers();
      head.set('Nats-Expected-Stream', 'none');
      await this.nats
        .request(subject, undefined, { headers: head, timeout: ANSWER_MS })
        .catch((error: unknown) => {
          // No leader yet: appends will wait for one.
          if ((error as { code?: unknown }).code !== '503') throw natsFault(error, `appending to ${subject}`);
        });
    }
  }

  // ── Truncating, and what streams hold ────────────────────────────────────────────────────────

  /** One stream after the other, so that they never all pause together. */
  private async purge(): Promise<void> {
    for (;;) {
      const [next] = this.cuts;
      if (next === undefined) return;
      const [shard, seq] = next;
      const state = this.state(shard);
      try {
        await this.jsm.streams.purge(state.name, { seq });
        if (this.cuts.get(shard) === seq) this.cuts.delete(shard);
        await this.refresh(state);
      } catch (error) {
        this.logger.warn(
          { shard, error: natsFault(error, 'truncating').message },
          'the log was not truncated yet',
        );
        if (this.closing) return;
        await new Promise<void>((resolve) => void this.clock.after(PURGE_RETRY_MS, resolve));
      }
    }
  }

  private async refresh(shard: Shard): Promise<void> {
    const { added } = shard;
    const { state } = await this.jsm.streams.info(shard.name);
    shard.stored = state.bytes + shard.added - added;
    if (state.first_seq > shard.catalog.first) shard.catalog.drop(state.first_seq);
  }

  private async findOwner(state: Shard): Promise<void> {
    try {
      state.catalog.owner = (
        await this.jsm.streams.getMessage(state.name, { last_by_subj: state.owner })
      ).seq;
    } catch (error) {
      if (apiCode(error) !== API.noMessage) throw natsFault(error, `reading the stream ${state.name}`);
    }
  }

  // ── Connections and time ─────────────────────────────────────────────────────────────────────

  private lost(): void {
    this.connected = false;
    this.logger.warn({}, 'the connection to NATS is lost; appends wait for it');
    for (const token of [...this.pending.keys()]) {
      this.settle(token, undecided('the connection to NATS was lost'), 0);
    }
  }

  private denied(subject: string): void {
    for (const [token, { shard, append }] of [...this.pending]) {
      const { tasks, owner } = this.state(shard);
      if (subject !== (append.subject === 'owner' ? owner : tasks)) continue;
      this.settle(
        token,
        new HubError(
          'permission',
          `NATS forbids appending to ${subject}; give the user of the broker that permission`,
        ),
        0,
      );
    }
  }

  private renewReaders(): void {
    for (const { readers } of this.states) for (const reader of readers) reader.renew();
  }

  private look(): void {
    this.timer = this.clock.after(LOOK_MS, () => {
      const now = this.clock.now();
      for (const [token, { sentAt }] of this.pending) {
        if (now - sentAt < ANSWER_MS) break;
        this.settle(token, undecided(`NATS has not answered for ${ANSWER_MS} ms`), 0);
      }
      for (const { readers } of this.states) for (const reader of readers) reader.check(now);
      if (this.connected && now - this.refreshedAt >= REFRESH_MS) {
        this.refreshedAt = now;
        this.turn = (this.turn + 1) % this.shards;
        // What it would say is only an estimate, and the next one comes soon.
        this.refresh(this.state(this.turn)).catch(() => {});
      }
      this.look();
    });
  }

  private state(shard: number): Shard {
    const state = this.states[shard];
    if (state === undefined) throw new RangeError(`shard ${shard} of ${this.shards}`);
    return state;
  }
}

function durabilityOf({ storage, replicas, sync }: JetStreamLogOptions): Durability {
  if (storage === 'memory') return 'memory';
  if (sync === 'always') return 'synced';
  return replicas >= 3 ? 'replicated' : 'stored';
}

function checkServer({ info }: NatsConnection): void {
  if (info === undefined || info.max_payload >= MAX_RECORD_BYTES) return;
  throw new HubError(
    'precondition',
    `this NATS takes messages of at most ${info.max_payload} bytes, and the broker writes up to ` +
      `${MAX_RECORD_BYTES}; set max_payload: 8MB in the configuration of the servers`,
    { field: 'nats.servers' },
  );
}

function undecided(why: string): HubError {
  return new HubError('unavailable', `${why}; the append is undecided: retry it`, { retryAfterMs: 100 });
}
