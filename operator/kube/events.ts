import type { Clock, Random, Timer } from '../../src/std/clock.ts';
import type { Logger } from '../../src/std/logger.ts';
import type { KubeObject } from '../api/object.ts';
import { isNotFound } from './errors.ts';
import type { Kube, KubeType } from './kube.ts';
import { microTime } from './lease.ts';

/** What is to be told about an object. */
export interface EventNote {
  readonly type: 'Normal' | 'Warning';
  /** Why, in one word for machines: `ScaledUp`. */
  readonly reason: string;
  /** What was done, in one word for machines: `Scaling`. */
  readonly action: string;
  /** What happened, for people. What is too long for an Event is cut. */
  readonly note: string;
}

/** What a recorder is made of. */
export interface EventRecorderOptions {
  readonly kube: Kube;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Who tells it: `agenthub.io/operator`. */
  readonly controller: string;
  /** Which process of it: the pod's name. */
  readonly instance: string;
}

/** An Event of events.k8s.io/v1. */
interface Event extends KubeObject {
  readonly eventTime: string;
  readonly reportingController: string;
  readonly reportingInstance: string;
  readonly action: string;
  readonly reason: string;
  readonly type: string;
  readonly note: string;
  readonly regarding: object;
  readonly series?: { readonly count: number; readonly lastObservedTime: string };
}

const EVENT: KubeType<Event> = {
  apiVersion: 'events.k8s.io/v1',
  kind: 'Event',
  plural: 'events',
  namespaced: true,
};

/** The same note again within this time is counted in the Event that there is. */
const SERIES_MS = 600_000;
/** Counts are written this often. */
const SWEEP_MS = 15_000;
/** So many Events about one object may come at once, and then one more every {@link REFILL_MS}. */
const BURST = 25;
const REFILL_MS = 60_000;
/** So many may wait for a slow API server. */
const MAX_PENDING = 100;
/** So many notes, and objects, are remembered. */
const MAX_KNOWN = 2048;
/** The API server refuses longer notes. */
const MAX_NOTE_BYTES = 1024;

/** A note and its repetitions: one Event. */
interface Series {
  readonly about: KubeObject;
  readonly note: EventNote;
  readonly name: string;
  readonly firstAt: number;
  lastAt: number;
  count: number;
  /** The count that the API server has; 0: it has no such Event. */
  written: number;
}

/**
 * Tells people what the operator does, as Events of Kubernetes, which `kubectl describe` shows.
 *
 * Best effort: repetitions become a count, an object that is told about too much loses the rest, and what
 * the API server does not take is logged and forgotten. Nothing ever waits for it.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #known = new Map<string, Series>();
  readonly #buckets = new Map<string, { readonly tokens: number; readonly at: number }>();
  readonly #pending = new Set<Series>();
  /** What was repeated since it was written. */
  readonly #repeated = new Set<Series>();
  #sweep: Timer | undefined;
  #writing: Promise<void> | undefined;
  #stopped = false;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Tells something about `about`, an object that the API server has. */
  record(about: KubeObject, note: EventNote): void {
    if (this.#stopped) return;
    const { clock, random, logger } = this.#options;
    const now = clock.now();
    const uid = about.metadata.uid ?? '';
    const key = [uid, note.type, note.reason, note.action, note.note].join('\0');
    const known = this.#known.get(key);
    if (known !== undefined && now - known.lastAt < SERIES_MS) {
      known.lastAt = now;
      known.count++;
      this.#repeated.add(known);
      this.#sweep ??= clock.after(SWEEP_MS, () => this.#writeRepeated());
      return;
    }
    if (!this.#allows(uid, now) || this.#pending.size >= MAX_PENDING) {
      logger.debug({ object: about.metadata.name, ...note }, 'too many events: one is not written');
      return;
    }
    const name = `${about.metadata.name.slice(0, 230)}.${random.token(8)}`;
    const series = { about, note, name, firstAt: now, lastAt: now, count: 1, written: 0 };
    remember(this.#known, key, series);
    this.#enqueue(series);
  }

  /** Writes what is left, and takes no more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#writeRepeated();
    await this.#writing;
  }

  #writeRepeated(): void {
    this.#sweep?.cancel();
    this.#sweep = undefined;
    for (const series of this.#repeated) this.#enqueue(series);
    this.#repeated.clear();
  }

  #enqueue(series: Series): void {
    this.#pending.add(series);
    this.#writing ??= this.#write().finally(() => (this.#writing = undefined));
  }

  /** One at a time, so that a count never overtakes its Event. */
  async #write(): Promise<void> {
    for (const series of this.#pending) {
      this.#pending.delete(series);
      const { count } = series;
      try {
        if (series.written === 0) await this.#create(series);
        else if (series.written < count) await this.#count(series);
        series.written = count;
      } catch (error) {
        const { note, about } = series;
        this.#options.logger.debug(
          { object: about.metadata.name, ...note, error: (error as Error).message },
          'an event was not written',
        );
      }
    }
  }

  async #create(series: Series): Promise<void> {
    const { kube, controller, instance } = this.#options;
    const { about, note, name, firstAt } = series;
    const { namespace, uid, resourceVersion } = about.metadata;
    await kube.create(EVENT, {
      apiVersion: EVENT.apiVersion,
      kind: EVENT.kind,
      metadata: { name, namespace: namespaceOf(about) },
      ...note,
      note: shorten(note.note),
      eventTime: microTime(firstAt),
      reportingController: controller,
      reportingInstance: instance.slice(0, 128),
      regarding: {
        apiVersion: about.apiVersion,
        kind: about.kind,
        name: about.metadata.name,
        namespace,
        uid,
        resourceVersion,
      },
      ...(series.count === 1 ? {} : { series: seriesOf(series) }),
    });
  }

  async #count(series: Series): Promise<void> {
    const at = { namespace: namespaceOf(series.about), name: series.name };
    try {
      await this.#options.kube.patch(EVENT, at, { series: seriesOf(series) });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      // The API server keeps Events for an hour.
      await this.#create(series);
    }
  }

  /** A token bucket for each object. */
  #allows(uid: string, now: number): boolean {
    const bucket = this.#buckets.get(uid) ?? { tokens: BURST, at: now };
    const tokens = Math.min(BURST, bucket.tokens + Math.max(0, now - bucket.at) / REFILL_MS);
    if (tokens < 1) return false;
    remember(this.#buckets, uid, { tokens: tokens - 1, at: now });
    return true;
  }
}

function seriesOf({ count, lastAt }: Series): NonNullable<Event['series']> {
  return { count, lastObservedTime: microTime(lastAt) };
}

/** Events about what belongs to the whole cluster are in `default`. */
function namespaceOf({ metadata }: KubeObject): string {
  return metadata.namespace ?? 'default';
}

function shorten(note: string): string {
  if (Buffer.byteLength(note) <= MAX_NOTE_BYTES) return note;
  // Cutting may split a character; its remains are left out.
  const cut = Buffer.from(note)
    .subarray(0, MAX_NOTE_BYTES - 3)
    .toString('utf8')
    .replace(/\uFFFD$/, '');
  return `${cut}…`;
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= MAX_KNOWN) break;
    map.delete(oldest);
  }
}
