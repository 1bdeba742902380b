import type { JetStreamManager, StreamConfig, StreamInfo } from 'nats';
import { nanos } from 'nats';
import type { Pool } from '../core/pools.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { API, apiCode, natsFault } from '../nats/faults.ts';

/** How the streams of a log are to be. */
export interface StreamsPlan {
  /** Begins the names of its streams and subjects, so that several logs can share one NATS. */
  readonly prefix: string;
  readonly shards: number;
  /** Whose shards these are, if not those with which the log was made. */
  readonly pool?: Pool;
  readonly replicas: number;
  readonly storage: 'file' | 'memory';
  /** The most bytes of one stream; 0: what the account and the servers have. */
  readonly maxBytesPerShard: number;
  /** The name of a log that is made now; an existing one keeps its own. */
  readonly generation: string;
  readonly clock: Clock;
}

/** Appends with the same id within this time are stored once, in milliseconds. */
const DUPLICATE_WINDOW_MS = 30_000;
/** A stream is lent this part of its limit at a time. */
const LENT_SHARE = 0.25;
/** Streams asked for or made at a time. */
const AT_ONCE = 16;
/** Until a stream that others are making is looked for again, in milliseconds, and how often it is. */
const LOOK_AGAIN_MS = 100;
const LOOKS = 100;

/** In the metadata of every stream: what must be the same for its records to mean the same. */
const FORMAT = { 'agenthub.format': '1', 'agenthub.hash': 'fnv1a-32' } as const;
const SHARDS = 'agenthub.shards';
const GENERATION = 'agenthub.generation';
const POOL = 'agenthub.pool';
/** The limit of a stream that has been lent more. */
const LIMIT = 'agenthub.limit';

export function streamName(prefix: string, shard: number): string {
  return `${prefix}-${shard}`;
}

/** Where any broker appends tasks. */
export function tasksSubject(prefix: string, shard: number): string {
  return `${prefix}.q.${shard}`;
}

/** Where the owner of the shard appends decisions. */
export function ownerSubject(prefix: string, shard: number): string {
  return `${prefix}.o.${shard}`;
}

/**
 * Finds or makes one stream per shard, and makes those that exist as strong as the plan wants them; none
 * is ever made weaker. The first stream is made last: where it exists, all others must.
 *
 * @throws HubError `precondition` (made with other shards, by another version, stronger than planned, or
 *   incomplete; the message names the remedy), and what NATS refuses, see {@link natsFault}.
 */
export async function openStreams(jsm: JetStreamManager, plan: StreamsPlan): Promise<StreamInfo[]> {
  const first = plan.pool?.first ?? 0;
  const found = await inTurns(plan.shards, (index) => find(jsm, plan, first + index));
  const existing = found.filter((info) => info !== undefined);
  for (const info of existing) checkMeaning(info, plan);
  let generation = (!plan.pool && generationOf(existing[0])) || plan.generation;
  if (existing.some((info) => generationOf(info) !== generation)) {
    throw refused(plan, 'its streams are of several generations; restore all of them from one backup');
  }
  const missing = found.findIndex((info) => info === undefined);
  if (missing >= 0 && (found[0] !== undefined || existing.some(({ state }) => state.last_seq > 0))) {
    throw refused(
      plan,
      `the stream ${streamName(plan.prefix, first + missing)} is missing; restore it from a backup, or choose another ` +
        'nats.streamPrefix to begin anew',
    );
  }
  if (existing.length === 0 && !plan.pool) generation = await claim(jsm, plan);
  const open = async (index: number): Promise<StreamInfo> => {
    const info = found[index];
    const wanted = wish(plan, first + index, generation);
    return info === undefined ? await make(jsm, wanted) : await strengthen(jsm, info, wanted);
  };
  const others = await inTurns(plan.shards - 1, (index) => open(index + 1));
  return [await open(0), ...others];
}

/**
 * Brokers that begin a log together agree on its generation: that of whoever makes one certain stream first. It is not
 * the stream that is made last, by which a log is known to be complete.
 */
async function claim(jsm: JetStreamManager, plan: StreamsPlan): Promise<string> {
  const shard = plan.shards > 1 ? 1 : 0;
  try {
    await jsm.streams.add(wish(plan, shard, plan.generation));
    return plan.generation;
  } catch (error) {
    const info = apiCode(error) === API.taken ? await appearing(jsm, plan, shard) : undefined;
    if (info === undefined) throw natsFault(error, `making the stream ${streamName(plan.prefix, shard)}`);
    checkMeaning(info, plan);
    return generationOf(info) ?? plan.generation;
  }
}

/** A stream of which a cluster of servers says that it is being made: some of them don't find it yet. */
async function appearing(
  jsm: JetStreamManager,
  plan: StreamsPlan,
  shard: number,
): Promise<StreamInfo | undefined> {
  for (let look = 1; look < LOOKS; look++) {
    const info = await find(jsm, plan, shard);
    if (info !== undefined) return info;
    await new Promise<void>((resolve) => void plan.clock.after(LOOK_AGAIN_MS, resolve));
  }
  return find(jsm, plan, shard);
}

/**
 * Makes room for so many bytes in a stream that has reached its limit, beyond that limit; {@link giveBack} ends it.
 * So what is in there can be settled, and the stream can become shorter.
 */
export async function lend(jsm: JetStreamManager, name: string, bytes: number, limit: number): Promise<void> {
  const { config, state } = await jsm.streams.info(name);
  if (config.max_bytes < 0 || config.max_bytes >= state.bytes + bytes) return;
  const metadata = { ...config.metadata, [LIMIT]: String(limit) };
  const more = Math.ceil(state.bytes + bytes + limit * LENT_SHARE);
  await jsm.streams.update(name, { ...config, max_bytes: more, metadata });
}

/** Sets the limit of a stream again that was lent more and needs it no longer. */
export async function giveBack(
  jsm: JetStreamManager,
  { config, state }: StreamInfo,
  limit: number,
): Promise<void> {
  if (config.metadata?.[LIMIT] === undefined || !isShort(state.bytes, limit)) return;
  const { [LIMIT]: _, ...metadata } = config.metadata;
  await jsm.streams.update(config.name, { ...config, max_bytes: limit, metadata });
}

function isShort(bytes: number, limit: number): boolean {
  return bytes <= limit / 2;
}

/** Which log a stream belongs to: made anew, it is another one. */
export function generationOf(info: StreamInfo | undefined): string | undefined {
  return info?.config.metadata?.[GENERATION];
}

function wish(
  plan: StreamsPlan,
  shard: number,
  generation: string,
): Partial<StreamConfig> & { name: string } {
  const { prefix, replicas, storage, maxBytesPerShard, pool } = plan;
  return {
    name: streamName(prefix, shard),
    subjects: [tasksSubject(prefix, shard), ownerSubject(prefix, shard)],
    storage: storage as StreamConfig['storage'],
    retention: 'limits' as StreamConfig['retention'],
    discard: 'new' as StreamConfig['discard'],
    num_replicas: replicas,
    max_bytes: maxBytesPerShard > 0 ? maxBytesPerShard : -1,
    max_age: 0,
    max_msgs: -1,
    max_msg_size: -1,
    max_msgs_per_subject: -1,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
    allow_direct: false,
    metadata: {
      ...FORMAT,
      [SHARDS]: String(plan.shards),
      [GENERATION]: generation,
      ...(pool && { [POOL]: pool.name }),
    },
  };
}

async function find(
  jsm: JetStreamManager,
  plan: StreamsPlan,
  shard: number,
): Promise<StreamInfo | undefined> {
  const name = streamName(plan.prefix, shard);
  try {
    return await jsm.streams.info(name);
  } catch (error) {
    if (apiCode(error) === API.noStream) return undefined;
    throw natsFault(error, `looking for the stream ${name}`);
  }
}

async function make(
  jsm: JetStreamManager,
  wanted: Partial<StreamConfig> & { name: string },
): Promise<StreamInfo> {
  try {
    return await jsm.streams.add(wanted);
  } catch (error) {
    throw natsFault(error, `making the stream ${wanted.name}`);
  }
}

/** Whether the records of that stream mean what ours do. */
function checkMeaning({ config }: StreamInfo, plan: StreamsPlan): void {
  const { metadata = {} } = config;
  const shards = metadata[SHARDS];
  if (shards === undefined) {
    throw refused(plan, `the stream ${config.name} is not of AgentHub; choose another nats.streamPrefix`);
  }
  if (Number(shards) !== plan.shards) {
    throw refused(
      plan,
      `it was made with ${shards} shards; set shards to ${shards}, or choose another nats.streamPrefix`,
      'shards',
    );
  }
  if (metadata[POOL] !== plan.pool?.name) {
    throw refused(
      plan,
      `the stream ${config.name} is of the pool ${metadata[POOL] ?? 'default'}, not ${plan.pool?.name ?? 'default'}: ` +
        'the document of its pools was lost; restore all from one backup',
    );
  }
  for (const [key, ours] of Object.entries(FORMAT)) {
    if (metadata[key] === ours) continue;
    throw refused(
      plan,
      `${config.name} has ${key} ${String(metadata[key])}, and this version reads ${ours}; run the version that ` +
        'made it, or choose another nats.streamPrefix',
    );
  }
}

async function strengthen(
  jsm: JetStreamManager,
  info: StreamInfo,
  wanted: Partial<StreamConfig> & { name: string },
): Promise<StreamInfo> {
  const { config } = info;
  const weaker = (key: string, has: unknown, says: unknown, how: string): HubError =>
    new HubError(
      'precondition',
      `the stream ${config.name} has ${String(has)}, and ${key} says ${String(says)}: a log is never made weaker ` +
        `by itself; ${how}`,
      { field: key },
    );
  const { num_replicas: replicas = 1, max_bytes: maxBytes = -1 } = wanted;
  if (config.num_replicas > replicas) {
    throw weaker('nats.replicas', config.num_replicas, replicas, `set it to ${config.num_replicas}`);
  }
  if (config.storage !== wanted.storage) {
    throw weaker('nats.storage', config.storage, wanted.storage, `set it to ${config.storage}`);
  }
  const { [LIMIT]: limit, ...former } = config.metadata ?? {};
  const has = config.max_bytes < 0 ? Infinity : Number(limit ?? config.max_bytes);
  if (has > (maxBytes < 0 ? Infinity : maxBytes)) {
    throw weaker(
      'nats.maxBytesPerShard',
      has === Infinity ? 'no limit' : `${has} bytes`,
      maxBytes,
      has === Infinity ? 'set it to 0' : `set it to ${has}`,
    );
  }
  const metadata = { ...former, ...wanted.metadata };
  // What was lent to it is given back once it has become short.
  if (
    limit !== undefined &&
    config.max_bytes > maxBytes &&
    maxBytes > 0 &&
    !isShort(info.state.bytes, maxBytes)
  ) {
    wanted.max_bytes = config.max_bytes;
    metadata[LIMIT] = String(maxBytes);
  }
  const same = Object.entries(wanted).every(
    ([key, value]) =>
      key === 'metadata' ||
      JSON.stringify(config[key as keyof StreamConfig] ?? false) === JSON.stringify(value),
  );
  if (same) return info;
  try {
    return await jsm.streams.update(config.name, { ...config, ...wanted, metadata });
  } catch (error) {
    throw natsFault(error, `upgrading the stream ${config.name}`);
  }
}

function refused(plan: StreamsPlan, why: string, field = 'nats.streamPrefix'): HubError {
  return new HubError('precondition', `the log ${plan.prefix} on NATS can't be used: ${why}`, { field });
}

/** The outcomes of `run` for 0 to `count - 1`, some at a time. */
async function inTurns<T>(count: number, run: (index: number) => Promise<T>): Promise<T[]> {
  const outcomes: T[] = [];
  for (let start = 0; start < count; start += AT_ONCE) {
    const length = Math.min(AT_ONCE, count - start);
    outcomes.push(...(await Promise.all(Array.from({ length }, (_, index) => run(start + index)))));
  }
  return outcomes;
}
