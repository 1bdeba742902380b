import { create, toBinary } from '@bufbuild/protobuf';
import type { Cluster } from '../cluster/cluster.ts';
import type { Clock } from '../std/clock.ts';
import { ByteWriter } from '../wire/bytes.ts';
import { decode } from '../wire/decode.ts';
import { ProgressSchema } from '../wire/gen/agenthub/v1/task_pb.ts';
import { SpanReader } from '../wire/span-reader.ts';
import type { Progress } from './consumer.ts';
import type { Codec } from './question.ts';
import type { BrokersQuestion, Router } from './router.ts';

/** A batch grows to about this size. */
const BATCH_BYTES = 1024 * 1024;
/** What may wait for one broker; what comes then is dropped. */
const WAITING_BYTES = 8 * 1024 * 1024;
/** How long a broker has to take a batch, in milliseconds. */
const TIMEOUT_MS = 1000;
/** A broker that nobody listens at is not told for this long, in milliseconds. */
const DEAF_MS = 1000;

/**
 * For whom progress is: its publisher, or else the requester's other sessions, and who listens; only for who
 * listens; or, as nobody knows the task, for all who listen to whatever.
 */
export type Audience = (typeof AUDIENCES)[number];
const AUDIENCES = ['requester', 'listeners', 'all'] as const;

/** Progress on its way to another broker. */
export interface Posted {
  /** The session that published the task, or ''. */
  readonly origin: string;
  readonly audience: Audience;
  readonly progress: Progress;
}

/** Takes progress that other brokers post. */
export interface Recipient {
  take(posted: Posted): void;
  /** Whether anybody listens here to the progress of whatever tasks an agent asked for. */
  readonly listening: boolean;
}

interface Route {
  /** By task, the newest of each. */
  readonly waiting: Map<string, Buffer>;
  bytes: number;
  inFlight: boolean;
  scheduled: boolean;
}

/**
 * Brings progress to other brokers: to those where somebody listens, or perhaps the task's publisher is. Best
 * effort: while one batch is on its way to a broker, the next one gathers, and of each task has only the newest.
 */
export class ProgressPost {
  private readonly cluster: Cluster;
  private readonly clock: Clock;
  private readonly question: BrokersQuestion<readonly Buffer[], boolean>;
  private readonly announcement: BrokersQuestion<string, undefined>;
  private readonly routes = new Map<string, Route>();
  private readonly deafUntil = new Map<string, number>();

  constructor(router: Router, recipient: Recipient) {
    const { cluster, clock } = router.options;
    this.cluster = cluster;
    this.clock = clock;
    this.question = router.toBrokers(
      { name: 'Progress', request: batch, response: flag },
      (entries, done) => {
        for (const entry of entries) recipient.take(readPosted(entry));
        done(undefined, recipient.listening);
      },
    );
    this.announcement = router.toBrokers(
      { name: 'ProgressIsHeard', request: text, response: nothing },
      (broker, done) => {
        this.deafUntil.delete(broker);
        done(undefined, undefined);
      },
    );
  }

  /** Somebody has begun to listen here. */
  announce(): void {
    const { self } = this.cluster;
    for (const { id } of this.cluster.members()) {
      if (id !== self) this.announcement.of(id, self, TIMEOUT_MS, () => {});
    }
  }

  /**
   * Posts progress to all other brokers at which somebody may listen to it, and, whether or not that is so, to the
   * one that is named or, if the publisher may be anywhere, to all.
   */
  post(posted: Posted, to: { readonly everywhere: boolean; readonly broker: string | undefined }): void {
    const { self } = this.cluster;
    const now = this.clock.now();
    let entry: Buffer | undefined;
    for (const { id } of this.cluster.members()) {
      const deaf = (this.deafUntil.get(id) ?? 0) > now;
      if (id === self || (deaf && !to.everywhere && id !== to.broker)) continue;
      this.add(id, posted.progress, (entry ??= writePosted(posted)));
    }
  }

  private add(broker: string, { to, taskId }: Progress, entry: Buffer): void {
    let route = this.routes.get(broker);
    if (!route)
      this.routes.set(broker, (route = { waiting: new Map(), bytes: 0, inFlight: false, scheduled: false }));
    const key = `${to ?? ''}\n${taskId ?? ''}`;
    const former = route.waiting.get(key)?.length ?? 0;
    if (route.bytes - former + entry.length > WAITING_BYTES) return;
    route.bytes += entry.length - former;
    route.waiting.set(key, entry);
    this.schedule(broker, route);
  }

  private schedule(broker: string, route: Route): void {
    if (route.inFlight || route.scheduled) return;
    route.scheduled = true;
    this.clock.soon(() => {
      route.scheduled = false;
      this.send(broker, route);
    });
  }

  private send(broker: string, route: Route): void {
    const entries: Buffer[] = [];
    let bytes = 0;
    for (const [key, entry] of route.waiting) {
      if (entries.length > 0 && bytes + entry.length > BATCH_BYTES) break;
      route.waiting.delete(key);
      entries.push(entry);
      bytes += entry.length;
    }
    route.bytes -= bytes;
    if (entries.length === 0) return;
    route.inFlight = true;
    this.question.of(broker, entries, TIMEOUT_MS, (error, listening) => {
      route.inFlight = false;
      if (!error && !listening) this.deafUntil.set(broker, this.clock.now() + DEAF_MS);
      if (error && !this.cluster.isLive(broker)) {
        this.routes.delete(broker);
        this.deafUntil.delete(broker);
      } else if (route.waiting.size > 0) this.schedule(broker, route);
    });
  }
}

/** `u8 audience | origin | Progress`, the origin after its length in 32 bits. */
function writePosted({ origin, audience, progress }: Posted): Buffer {
  const writer = new ByteWriter(256);
  writer.u8(AUDIENCES.indexOf(audience));
  writer.longText(origin);
  writer.bytes(toBinary(ProgressSchema, create(ProgressSchema, progress)));
  return writer.take();
}

function readPosted(entry: Buffer): Posted {
  const reader = new SpanReader('progress from another broker');
  reader.open(entry, 0, entry.length);
  const audience = AUDIENCES[reader.u8()] ?? 'listeners';
  const origin = reader.longText();
  return { audience, origin, progress: decode(ProgressSchema, entry.subarray(reader.at)) };
}

/** Entries, each after its length in 32 bits. */
const batch: Codec<readonly Buffer[]> = {
  write(entries) {
    const writer = new ByteWriter(entries.reduce((sum, { length }) => sum + 4 + length, 0));
    for (const entry of entries) {
      writer.u32(entry.length);
      writer.bytes(entry);
    }
    return writer.take();
  },
  read(bytes) {
    const reader = new SpanReader('progress from another broker');
    reader.open(bytes, 0, bytes.length);
    const entries: Buffer[] = [];
    while (!reader.done) {
      const length = reader.u32();
      const at = reader.skip(length);
      entries.push(bytes.subarray(at, at + length));
    }
    return entries;
  },
};
const flag: Codec<boolean> = { write: (value) => Buffer.of(value ? 1 : 0), read: ([value]) => value === 1 };
const text: Codec<string> = { write: (value) => Buffer.from(value), read: (bytes) => bytes.toString() };
const nothing: Codec<undefined> = { write: () => Buffer.alloc(0), read: () => undefined };
