import type { JetStreamManager, NatsConnection, StreamInfo } from 'nats';
import type { Clock, Timer } from '../std/clock.ts';
import type { Pool } from '../core/pools.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { closed, MAX_RECORD_BYTES, refusal } from './admission.ts';
import { type Appended, Appender } from './jetstream-appender.ts';
import type { NatsAccess, NatsRole } from '../nats/connection.ts';
import { connectNats, inboxOf, watchConnection } from '../nats/connection.ts';
import { API, apiCode, natsFault } from '../nats/faults.ts';
import { StreamReader } from './jetstream-reader.ts';
import { OVERHEAD_BYTES, Stream } from './jetstream-stream.ts';
import type { StreamsPlan } from './jetstream-streams.ts';
import { generationOf, giveBack, lend, openStreams } from './jetstream-streams.ts';
import type { Append, Durability, Extent, Fill, Log, LogReader, Reading, Replication } from './log.ts';

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

/** A connection, and JetStream behind it. */
interface Link {
  readonly nats: NatsConnection;
  readonly jsm: JetStreamManager;
}

/** How often a NATS is asked that lets us in and says nothing more. Each time takes some seconds. */
const ATTEMPTS = 4;
/** NATS counts headers as payload; ours are far smaller than this. */
const HEADER_BYTES = 1024;
/** How often unanswered appends and silent readers are looked for, in milliseconds. */
const LOOK_MS = 250;
/** Between two looks at what a stream holds, one stream after the other, in milliseconds. */
const REFRESH_MS = 1000;
const PURGE_RETRY_MS = 1000;

/**
 * A log in NATS JetStream: one stream per shard, with one subject for tasks and one for its owner.
 *
 * An owner record is answered when this process has read it: who takes a shard over knows by then all that
 * was decided before. Callers keep at most one append in flight per shard and subject; otherwise retries may
 * change their order.
 */
export class JetStreamLog implements Log {
  readonly generation: string;
  readonly durability: Durability;
  readonly bound = 'nats.maxBytesPerShard';
  readonly shared = false;
  private readonly options: JetStreamLogOptions;
  private readonly clock: Clock;
  private readonly logger: Logger;
  private readonly writing: Link;
  private readonly reading: Link;
  private readonly streams: Stream[];
  private readonly appender: Appender;
  private readonly maxBytes: number;
  /** Below what each shard is still to be truncated. */
  private readonly cuts = new Map<number, number>();
  private cutting: Promise<void> | undefined;
  private turn = 0;
  private refreshedAt = 0;
  private timer: Timer | undefined;
  private closing: Promise<void> | undefined;

  /**
   * Connects, finds or makes the streams, and checks what can be checked.
   *
   * @throws HubError `unavailable`, `unauthenticated`, `permission`, `precondition` (no JetStream, too few
   *   servers, streams of another kind), `exhausted` (no room for the streams); each says what to do.
   */
  static async open(options: JetStreamLogOptions): Promise<JetStreamLog> {
    const links: Link[] = [];
    try {
      const writing = await link(options, options.name, 'writing');
      links.push(writing);
      checkServer(writing.nats);
      const streams = await patiently(() => openStreams(writing.jsm, options));
      const reading = await link(options, `${options.name} (reading)`, 'reading');
      links.push(reading);
      const log = new JetStreamLog(options, writing, reading, streams);
      await patiently(() => log.findOwners());
      await log.prepare();
      return log;
    } catch (error) {
      await Promise.all(links.map(({ nats }) => nats.close()));
      throw natsFault(error, 'opening the log');
    }
  }

  private constructor(
    options: JetStreamLogOptions,
    writing: Link,
    reading: Link,
    streams: readonly StreamInfo[],
  ) {
    this.options = options;
    this.generation = generationOf(streams[0]) ?? options.generation;
    this.durability = durabilityOf(options);
    this.clock = options.clock;
    this.logger = options.logger;
    this.writing = writing;
    this.reading = reading;
    this.maxBytes = options.maxBytesPerShard > 0 ? options.maxBytesPerShard : Infinity;
    this.streams = streams.map((info, shard) => new Stream(options.prefix, shard, info));
    this.appender = new Appender(writing.nats, writing.jsm, options.clock, inboxOf(options.prefix));
  }

  get shards(): number {
    return this.streams.length;
  }

  grow(pool: Pool, done: (error: HubError | undefined) => void): void {
    void this.open(pool).then(
      () => done(undefined),
      (error: unknown) => done(natsFault(error, `opening the logs of the pool ${pool.name}`)),
    );
  }

  private async open(pool: Pool): Promise<void> {
    const { writing, options, generation } = this;
    const infos = await openStreams(writing.jsm, { ...options, generation, pool, shards: pool.shards });
    const streams = infos.map((info, index) => new Stream(options.prefix, pool.first + index, info));
    await Promise.all(streams.map((stream) => this.findOwner(stream)));
    if (this.shards !== pool.first) throw new RangeError(`the pool ${pool.name} is not the next one`);
    this.streams.push(...streams);
  }

  append(shard: number, append: Append, done: Parameters<Log['append']>[2]): void {
    const stream = this.stream(shard);
    // What the owner expects is compared by the stream, not here.
    const refused = this.closing
      ? closed()
      : refusal(append, append.expectedOwner ?? 0, MAX_RECORD_BYTES - HEADER_BYTES);
    if (refused !== undefined) {
      this.clock.soon(() => done(refused, 0));
      return;
    }
    const stored = (error: HubError | undefined, sequence: number): void => {
      if (error) done(error, sequence);
      else stream.appended(sequence, append.subject, append.bytes.length, done);
    };
    this.appender.append(stream, append, (error, sequence) => {
      if (error?.code === 'exhausted' && append.settles === true && this.maxBytes < Infinity)
        void this.lend(stream, append, error, stored);
      else stored(error, sequence);
    });
  }

  /** The limit is only a configured one: the stream is lent what it needs to become shorter. */
  private async lend(stream: Stream, append: Append, full: HubError, done: Appended): Promise<void> {
    try {
      await lend(this.writing.jsm, stream.name, 2 * (append.bytes.length + HEADER_BYTES), this.maxBytes);
    } catch (error) {
      const { message } = natsFault(error, 'lending it room');
      this.logger.warn(
        { stream: stream.name, error: message },
        'a full stream has no room to settle what it holds',
      );
      return done(full, 0);
    }
    this.appender.append(stream, append, done);
  }

  read(shard: number, from: number, reader: LogReader): Reading {
    const stream = this.stream(shard);
    const reading = new StreamReader({
      ...this.reading,
      clock: this.clock,
      stream: stream.name,
      ownerSubject: stream.subjects.owner,
      inboxes: inboxOf(this.options.prefix),
      from,
      reader,
      first: () => stream.catalog.first,
      coming: (sequence, subject, length) => stream.note(sequence, subject, length),
      moved: () => stream.release(),
      stopped: (ended) => stream.readers.delete(ended),
    });
    stream.readers.add(reading);
    return reading;
  }

  truncate(shard: number, before: number): void {
    const { catalog } = this.stream(shard);
    const cut = Math.min(before, catalog.owner > 0 ? catalog.owner : Infinity, catalog.next);
    if (cut <= catalog.first) return;
    catalog.drop(cut);
    this.cuts.set(shard, cut);
    this.cutting ??= this.purge().finally(() => (this.cutting = undefined));
  }

  extent(shard: number): Extent {
    const { first, next, bytes } = this.stream(shard).catalog;
    return { first, last: next - 1, bytes };
  }

  lag(shard: number): number {
    return this.stream(shard).lag;
  }

  replication(shard: number): Replication {
    return this.stream(shard).replication;
  }

  /**
   * What all streams together take until the fullest one is full, if they go on to fill as they did. The
   * limits of the account and of the servers are not known here.
   */
  room(): number {
    if (this.maxBytes === Infinity) return Infinity;
    let sum = 0;
    let most = 0;
    for (const { taken } of this.streams) {
      sum += taken;
      most = Math.max(most, taken);
    }
    const left = Math.max(0, this.maxBytes - most - OVERHEAD_BYTES);
    return most === 0 ? left : left * (sum / most);
  }

  fill(shard: number): Fill {
    const { taken } = this.stream(shard);
    return { taken, limit: this.maxBytes };
  }

  close(): Promise<void> {
    return (this.closing ??= this.finish());
  }

  private async finish(): Promise<void> {
    await this.appender.idle();
    await this.cutting;
    this.timer?.cancel();
    const readers = this.readers();
    for (const reader of readers) reader.stop();
    if (this.appender.connected) await Promise.all(readers.map((reader) => reader.removed()));
    await Promise.all([this.writing.nats.close(), this.reading.nats.close()]);
  }

  private async findOwners(): Promise<void> {
    await Promise.all(this.streams.map((stream) => this.findOwner(stream)));
  }

  private async prepare(): Promise<void> {
    await this.appender.probe(this.stream(0));
    void watchConnection(this.writing.nats, {
      lost: () => {
        this.logger.warn({}, 'the connection to NATS is lost; appends wait for it');
        this.appender.lost();
      },
      back: () => {
        this.logger.info({}, 'connected to NATS again');
        this.appender.connected = true;
      },
      denied: (subject) => this.appender.denied(subject),
    });
    void watchConnection(this.reading.nats, {
      lost: () => {},
      back: () => {
        for (const reader of this.readers()) reader.renew();
      },
      denied: () => {},
    });
    this.look();
  }

  private async findOwner({ name, subjects, catalog }: Stream): Promise<void> {
    try {
      catalog.owner = (await this.writing.jsm.streams.getMessage(name, { last_by_subj: subjects.owner })).seq;
    } catch (error) {
      if (apiCode(error) !== API.noMessage) throw natsFault(error, `reading the stream ${name}`);
    }
  }

  /** One stream after the other, so that they never all pause together. */
  private async purge(): Promise<void> {
    for (;;) {
      const [next] = this.cuts;
      if (next === undefined) return;
      const [shard, seq] = next;
      const stream = this.stream(shard);
      try {
        await this.writing.jsm.streams.purge(stream.name, { seq });
        if (this.cuts.get(shard) === seq) this.cuts.delete(shard);
        await this.refresh(stream);
      } catch (error) {
        const { message } = natsFault(error, 'truncating');
        this.logger.warn({ shard, error: message }, 'the log was not truncated yet');
        if (this.closing) return;
        await new Promise<void>((resolve) => void this.clock.after(PURGE_RETRY_MS, resolve));
      }
    }
  }

  private async refresh(stream: Stream): Promise<void> {
    const { jsm } = this.writing;
    const info = await stream.refresh((name) => jsm.streams.info(name));
    if (this.maxBytes < Infinity) await giveBack(jsm, info, this.maxBytes);
  }

  private look(): void {
    this.timer = this.clock.after(LOOK_MS, () => {
      const now = this.clock.now();
      this.appender.check(now);
      for (const reader of this.readers()) reader.check(now);
      if (this.appender.connected && now - this.refreshedAt >= REFRESH_MS) {
        this.refreshedAt = now;
        this.turn = (this.turn + 1) % this.shards;
        // Only an estimate becomes better by it, and the next one comes soon.
        this.refresh(this.stream(this.turn)).catch(() => {});
      }
      this.look();
    });
  }

  private readers(): StreamReader[] {
    return this.streams.flatMap(({ readers }) => [...readers]);
  }

  private stream(shard: number): Stream {
    const stream = this.streams[shard];
    if (stream === undefined) throw new RangeError(`shard ${shard} of ${this.shards}`);
    return stream;
  }
}

/** Of streams that were just made nobody answers before their servers have a leader. */
async function patiently<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      const fault = natsFault(error, 'opening the log');
      if (fault.code !== 'unavailable' || attempt === ATTEMPTS) throw fault;
    }
  }
}

async function link(access: NatsAccess, name: string, role: NatsRole): Promise<Link> {
  const nats = await connectNats(access, name, role);
  return { nats, jsm: await nats.jetstreamManager({ checkAPI: false }) };
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
