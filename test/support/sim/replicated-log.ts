import { closed, MAX_RECORD_BYTES, refusal } from '../../../src/log/admission.ts';
import { OVERHEAD_BYTES, Stream } from '../../../src/log/jetstream-stream.ts';
import type { Append, Extent, Fill, Log, LogReader, Reading, Subject } from '../../../src/log/log.ts';
import type { Clock, Timer } from '../../../src/std/clock.ts';
import { HubError } from '../../../src/std/errors.ts';

/** An append without an answer is undecided after this, in milliseconds. */
const ANSWER_MS = 2000;
const HEARTBEAT_MS = 1000;
const SILENCE_MS = 2500;
const RETRY_MS = 200;
const PURGE_RETRY_MS = 1000;
const REFRESH_MS = 1000;
/** Retries of an append are known for so long, in milliseconds. */
const IDS_MS = 30_000;
/** Pieces that a reader may have on their way to it. */
const WINDOW = 8;
/** Records of one such piece. */
const PIECE = 64;

type Done = Parameters<Log['append']>[2];

interface Kept {
  readonly subject: Subject;
  readonly bytes: Uint8Array;
  readonly id: string;
  /** Tells records apart that were given the same sequence, one after the other was lost. */
  readonly stamp: number;
}

/** What became of an append at the servers. */
type Verdict = { readonly sequence: number } | 'fenced' | 'full';

/** One stream. */
class Kind {
  first = 1;
  records: Kept[] = [];
  bytes = 0;
  owner = 0;
  readonly ids = new Map<string, { readonly sequence: number; readonly at: number }>();

  get next(): number {
    return this.first + this.records.length;
  }
}

/** How a {@link ReplicatedLog} is made. */
export interface ReplicatedLogOptions {
  readonly clock: Clock;
  readonly shards: number;
  /** The most bytes of one stream. */
  readonly maxBytesPerShard: number;
  /** A record was stored by that broker. */
  readonly stored: (by: string, shard: number, sequence: number, subject: Subject, bytes: Uint8Array) => void;
}

/** The streams that all brokers share, as the servers of NATS keep them: whatever is said to them, they say again. */
export class ReplicatedLog {
  readonly options: ReplicatedLogOptions;
  /** No server leads: nothing is stored, and nothing is read. */
  leaderless = false;
  readonly #streams: Kind[];
  readonly #ends = new Set<ReplicatedLogEnd>();
  #stamps = 0;

  constructor(options: ReplicatedLogOptions) {
    this.options = options;
    this.#streams = Array.from({ length: options.shards }, () => new Kind());
  }

  /** The log as one process sees it. */
  open(options: EndOptions): ReplicatedLogEnd {
    const end = new ReplicatedLogEnd(this, options);
    this.#ends.add(end);
    return end;
  }

  forget(end: ReplicatedLogEnd): void {
    this.#ends.delete(end);
  }

  extent(shard: number): Extent {
    const { first, next, bytes } = this.#streams[shard]!;
    return { first, last: next - 1, bytes };
  }

  record(shard: number, sequence: number): Kept | undefined {
    const stream = this.#streams[shard]!;
    return stream.records[sequence - stream.first];
  }

  lastOwner(shard: number): { readonly sequence: number; readonly id: string } | undefined {
    const { owner } = this.#streams[shard]!;
    return owner === 0 ? undefined : { sequence: owner, id: this.record(shard, owner)!.id };
  }

  store(by: string, shard: number, { subject, bytes, id, expectedOwner, settles }: Append): Verdict {
    const { clock, maxBytesPerShard, stored } = this.options;
    const stream = this.#streams[shard]!;
    const known = stream.ids.get(id);
    if (known && clock.now() - known.at < IDS_MS) return { sequence: known.sequence };
    if (expectedOwner !== undefined && expectedOwner !== stream.owner) return 'fenced';
    const length = bytes.length + OVERHEAD_BYTES;
    // What settles is lent room.
    const taken = stream.bytes + stream.records.length * OVERHEAD_BYTES;
    if (settles !== true && taken + length > maxBytesPerShard) return 'full';
    const sequence = stream.next;
    stream.records.push({ subject, bytes, id, stamp: ++this.#stamps });
    stream.bytes += bytes.length;
    if (subject === 'owner') stream.owner = sequence;
    stream.ids.set(id, { sequence, at: clock.now() });
    stored(by, shard, sequence, subject, bytes);
    for (const end of this.#ends) end.grown(shard);
    return { sequence };
  }

  purge(shard: number, before: number): void {
    const stream = this.#streams[shard]!;
    const cut = Math.min(before, stream.next);
    if (cut <= stream.first) return;
    for (const { bytes } of stream.records.splice(0, cut - stream.first)) stream.bytes -= bytes.length;
    stream.first = cut;
  }
}

/** What one process finds between itself and the servers. */
export interface EndOptions {
  readonly broker: string;
  /** The time of the servers, and of what is on its way to them. */
  readonly clock: Clock;
  /** The time of the process: what comes while it sleeps waits. */
  readonly life: Clock;
  /** How long the next message takes, in milliseconds. */
  readonly delayMs: () => number;
  /** Whether the next message is lost. */
  readonly lost: () => boolean;
  /** A reader has got that record, and has dealt with it. */
  readonly applied: (shard: number, sequence: number) => void;
}

/** Messages that arrive in the order in which they were sent. */
class Way {
  readonly #clock: Clock;
  readonly #times: Clock;
  readonly #options: EndOptions;
  readonly #open: () => boolean;
  #last = 0;
  #queue: (() => void)[] = [];

  /** Arrivals come by `clock`; while they are on their way, it is the time of `times`. */
  constructor(clock: Clock, options: EndOptions, open: () => boolean) {
    this.#clock = clock;
    this.#times = options.clock;
    this.#options = options;
    this.#open = open;
  }

  send(run: () => void): void {
    const { delayMs, lost } = this.#options;
    const now = this.#times.now();
    this.#last = Math.max(this.#last, now + delayMs());
    const queue = this.#queue;
    queue.push(this.#open() && !lost() ? run : () => {});
    this.#clock.after(this.#last - now, () => {
      if (queue !== this.#queue) return;
      const next = queue.shift();
      if (this.#open()) next?.();
    });
  }

  /** What is on its way is lost. */
  drop(): void {
    this.#queue = [];
  }
}

interface Pending {
  readonly shard: number;
  readonly append: Append;
  readonly done: Done;
  timer: Timer | undefined;
}

/** A {@link ReplicatedLog} as one process sees it; it behaves as `JetStreamLog` does. */
export class ReplicatedLogEnd implements Log {
  readonly durability = 'replicated';
  readonly generation = '0123456789abcdef0123456789abcdef';
  readonly shards: number;
  readonly options: EndOptions;
  /** What is said does not arrive, and nobody notices. */
  deaf = false;
  readonly #log: ReplicatedLog;
  readonly #streams: Stream[];
  readonly #readers: Set<EndReader>[];
  readonly #up: Way;
  readonly #down: Way;
  readonly #pending = new Set<Pending>();
  readonly #cuts = new Map<number, number>();
  #connected = true;
  #closed = false;
  #turn = 0;

  constructor(log: ReplicatedLog, options: EndOptions) {
    this.#log = log;
    this.options = options;
    this.shards = log.options.shards;
    const open = (): boolean => this.#connected && !this.deaf;
    this.#up = new Way(options.clock, options, open);
    this.#down = new Way(options.life, options, open);
    this.#streams = Array.from({ length: this.shards }, (_, shard) => {
      const { first, last, bytes } = log.extent(shard);
      const state = { first_seq: first, last_seq: last, bytes } as never;
      const stream = new Stream('sim', shard, { state } as never);
      stream.catalog.owner = log.lastOwner(shard)?.sequence ?? 0;
      return stream;
    });
    this.#readers = this.#streams.map(({ readers }) => readers as unknown as Set<EndReader>);
    this.#refresh();
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** The connection breaks, or is back, and the process notices. */
  connect(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.#up.drop();
    this.#down.drop();
    this.options.life.soon(() => {
      if (this.#connected !== connected) return;
      if (connected) for (const reader of this.#all()) reader.renew();
      else
        for (const pending of [...this.#pending])
          this.#settle(pending, undecided('the connection is lost'), 0);
    });
  }

  append(shard: number, append: Append, done: Done): void {
    const { life } = this.options;
    const refused = this.#closed ? closed() : refusal(append, append.expectedOwner ?? 0, MAX_RECORD_BYTES);
    if (refused) return life.soon(() => done(refused, 0));
    if (!this.#connected) return life.soon(() => done(undecided('there is no connection'), 0));
    const pending: Pending = { shard, append, done, timer: undefined };
    this.#pending.add(pending);
    pending.timer = life.after(ANSWER_MS, () => this.#settle(pending, undecided('there is no answer'), 0));
    this.#up.send(() => this.#arrive(pending));
  }

  read(shard: number, from: number, reader: LogReader): Reading {
    const stream = this.#streams[shard]!;
    const one = new EndReader(this, this.#log, stream, shard, from, reader, () =>
      this.#readers[shard]!.delete(one),
    );
    this.#readers[shard]!.add(one);
    return one;
  }

  truncate(shard: number, before: number): void {
    const { catalog } = this.#streams[shard]!;
    const cut = Math.min(before, catalog.owner > 0 ? catalog.owner : Infinity, catalog.next);
    if (cut <= catalog.first) return;
    catalog.drop(cut);
    this.#cuts.set(shard, cut);
    this.#purge(shard);
  }

  extent(shard: number): Extent {
    const { first, next, bytes } = this.#streams[shard]!.catalog;
    return { first, last: next - 1, bytes };
  }

  room(): number {
    const { maxBytesPerShard } = this.#log.options;
    if (maxBytesPerShard === Infinity) return Infinity;
    let sum = 0;
    let most = 0;
    for (const { stored } of this.#streams) {
      sum += stored;
      most = Math.max(most, stored);
    }
    const left = Math.max(0, maxBytesPerShard - most - OVERHEAD_BYTES);
    return most === 0 ? left : left * (sum / most);
  }

  fill(shard: number): Fill {
    const { taken } = this.#streams[shard]!;
    return { taken, limit: this.#log.options.maxBytesPerShard };
  }

  get shared(): boolean {
    return false;
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const reader of this.#all()) reader.stop();
    this.#log.forget(this);
    return Promise.resolve();
  }

  /** A message to the servers; `run` there may answer by {@link down}. */
  up(run: () => void): void {
    this.#up.send(run);
  }

  /** A message from the servers. */
  down(run: () => void): void {
    this.#down.send(run);
  }

  /** There is something new in that stream. */
  grown(shard: number): void {
    for (const reader of this.#readers[shard]!) reader.pump();
  }

  #arrive(pending: Pending): void {
    const { shard, append } = pending;
    const { broker, clock } = this.options;
    if (this.#log.leaderless) {
      return this.down(() => this.#settle(pending, undecided('the stream has no leader'), 0));
    }
    const verdict = this.#log.store(broker, shard, append);
    if (verdict === 'full') this.down(() => this.#settle(pending, full(), 0));
    else if (verdict === 'fenced') this.down(() => this.#confirm(pending));
    // Replicas take their time to agree.
    else clock.after(0, () => this.down(() => this.#settle(pending, undefined, verdict.sequence)));
  }

  /** Refused: unless the last record is this very append, whose first answer was lost. */
  #confirm(pending: Pending): void {
    const { shard, append } = pending;
    if (!this.#pending.has(pending)) return;
    this.up(() => {
      if (this.#log.leaderless) return;
      const last = this.#log.lastOwner(shard);
      this.down(() => {
        if (last?.id === append.id) this.#settle(pending, undefined, last.sequence);
        else this.#settle(pending, new HubError('aborted', 'another owner has written'), 0);
      });
    });
  }

  #settle(pending: Pending, error: HubError | undefined, sequence: number): void {
    if (!this.#pending.delete(pending)) return;
    const { shard, append, done, timer } = pending;
    timer?.cancel();
    if (error) done(error, 0);
    else this.#streams[shard]!.appended(sequence, append.subject, append.bytes.length, done);
  }

  #purge(shard: number): void {
    const cut = this.#cuts.get(shard);
    if (cut === undefined || this.#closed) return;
    this.up(() => {
      if (this.#log.leaderless) return;
      this.#log.purge(shard, cut);
      this.down(() => {
        if (this.#cuts.get(shard) === cut) this.#cuts.delete(shard);
      });
    });
    this.options.life.after(PURGE_RETRY_MS, () => this.#purge(shard));
  }

  /** Looks what a stream holds, one after the other. */
  #refresh(): void {
    this.options.life.after(REFRESH_MS, () => {
      if (this.#closed) return;
      this.#turn = (this.#turn + 1) % this.shards;
      const stream = this.#streams[this.#turn]!;
      const shard = this.#turn;
      this.up(() => {
        if (this.#log.leaderless) return;
        const { first, last, bytes } = this.#log.extent(shard);
        this.down(() => {
          stream.stored = bytes + OVERHEAD_BYTES * (last - first + 1);
          if (first > stream.catalog.first) stream.catalog.drop(first);
        });
      });
      this.#refresh();
    });
  }

  #all(): EndReader[] {
    return this.#readers.flatMap((readers) => [...readers]);
  }
}

/** As `StreamReader`: whenever it may have missed something, it begins anew where it was. */
class EndReader implements Reading {
  next: number;
  caughtUp = false;
  readonly #end: ReplicatedLogEnd;
  readonly #log: ReplicatedLog;
  readonly #stream: Stream;
  readonly #shard: number;
  readonly #reader: LogReader;
  readonly #ended: () => void;
  #stopped = false;
  #attempt = 0;
  #target: number | undefined;
  #last: { readonly sequence: number; readonly stamp: number } | undefined;
  /** What the servers push next; `undefined`: there is no consumer. */
  #cursor: number | undefined;
  #coming = 0;
  #pushed = 0;
  #got = 0;
  #heardAt: number;

  constructor(
    end: ReplicatedLogEnd,
    log: ReplicatedLog,
    stream: Stream,
    shard: number,
    from: number,
    reader: LogReader,
    ended: () => void,
  ) {
    this.#end = end;
    this.#log = log;
    this.#stream = stream;
    this.#shard = shard;
    this.#reader = reader;
    this.#ended = ended;
    this.next = Math.max(1, from);
    this.#heardAt = end.options.clock.now();
    this.#open();
    this.#watch();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#cursor = undefined;
    this.#ended();
    this.#stream.release();
  }

  renew(): void {
    if (!this.#stopped) this.#open();
  }

  /** Sends what there is, as long as the process takes it. */
  pump(): void {
    const attempt = this.#attempt;
    while (this.#cursor !== undefined && this.#coming < WINDOW && !this.#log.leaderless) {
      const { first, last } = this.#log.extent(this.#shard);
      const from = Math.max(this.#cursor, first);
      if (from > last) return;
      const upTo = Math.min(last, from + PIECE - 1);
      const piece: { readonly sequence: number; readonly kept: Kept }[] = [];
      for (let at = from; at <= upTo; at++)
        piece.push({ sequence: at, kept: this.#log.record(this.#shard, at)! });
      this.#cursor = upTo + 1;
      this.#coming++;
      const number = ++this.#pushed;
      this.#end.down(() => {
        if (attempt !== this.#attempt || this.#stopped) return;
        this.#coming--;
        if (number !== this.#got + 1) return this.renew();
        this.#got = number;
        this.#heardAt = this.#end.options.clock.now();
        for (const { sequence, kept } of piece) this.#take(sequence, kept);
        this.pump();
      });
    }
  }

  #open(): void {
    const { life } = this.#end.options;
    const attempt = ++this.#attempt;
    this.#cursor = undefined;
    this.#coming = 0;
    this.#pushed = this.#got = 0;
    const retry = life.after(RETRY_MS + this.#end.options.delayMs(), () => {
      if (attempt === this.#attempt && this.#cursor === undefined) this.renew();
    });
    this.#end.up(() => {
      if (this.#log.leaderless) return;
      const { first, last } = this.#log.extent(this.#shard);
      const known = this.#last && this.#log.record(this.#shard, this.#last.sequence);
      const lost = this.#last && this.#last.sequence >= first && known?.stamp !== this.#last.stamp;
      this.#end.down(() => {
        if (attempt !== this.#attempt || this.#stopped) return;
        retry.cancel();
        this.#heardAt = this.#end.options.clock.now();
        if (lost) return this.#fail();
        this.#target ??= last;
        this.next = Math.max(this.next, first, this.#stream.catalog.first);
        this.#settle();
        this.#cursor = this.next;
        this.pump();
      });
    });
  }

  #take(sequence: number, { subject, bytes, stamp }: Kept): void {
    if (this.#stopped) return;
    this.#last = { sequence, stamp };
    if (sequence >= this.next && sequence >= this.#stream.catalog.first) {
      this.next = sequence + 1;
      this.#stream.note(sequence, subject, bytes.length);
      this.#reader.record(sequence, subject, Buffer.from(bytes));
      if (!this.#stopped) this.#end.options.applied(this.#shard, sequence);
    }
    if (this.#stopped) return;
    this.#settle();
    this.#stream.release();
  }

  #settle(): void {
    if (this.caughtUp || this.#target === undefined) return;
    if (Math.max(this.next, this.#last ? this.#last.sequence + 1 : 0) <= this.#target) return;
    this.caughtUp = true;
    this.#reader.caughtUp();
  }

  /** Heartbeats of the consumer, and silence. */
  #watch(): void {
    const { life, clock } = this.#end.options;
    life.after(HEARTBEAT_MS, () => {
      if (this.#stopped) return;
      const attempt = this.#attempt;
      const pushed = this.#pushed;
      if (this.#cursor !== undefined && !this.#log.leaderless) {
        this.#end.down(() => {
          if (attempt !== this.#attempt || this.#stopped) return;
          this.#heardAt = clock.now();
          if (this.#got < pushed || (!this.caughtUp && this.#coming === 0)) this.renew();
        });
      }
      if (clock.now() - this.#heardAt > SILENCE_MS) {
        this.#heardAt = clock.now();
        this.renew();
      }
      this.#watch();
    });
  }

  #fail(): void {
    this.stop();
    this.#reader.failed(new HubError('corrupt', 'the stream has lost acknowledged records'));
  }
}

function undecided(why: string): HubError {
  return new HubError('unavailable', `${why}; the append is undecided: retry it`, { retryAfterMs: 100 });
}

function full(): HubError {
  return new HubError('exhausted', 'the stream is full', { retryAfterMs: 1000 });
}
