import type { BackoffOptions } from '../../src/std/backoff.ts';
import { backoff } from '../../src/std/backoff.ts';
import type { Clock, Random, Timer } from '../../src/std/clock.ts';
import type { Logger } from '../../src/std/logger.ts';
import type { KubeObject } from '../api/object.ts';
import { isExpired, KubeError } from './errors.ts';
import type { Kube, KubeType, Selection, Watch } from './kube.ts';
import { isLater } from './store.ts';

/** Where the reflector puts what it sees. Nothing here may throw. */
export interface Reflection<T extends KubeObject> {
  /**
   * All there was at `resourceVersion`; what is missing had been deleted by then. `regressed`: the server
   * has gone back in time for good (it was restored from a backup), so versions prove nothing.
   */
  replaced(objects: readonly T[], resourceVersion: string, regressed: boolean): void;
  /** It is new or has changed. */
  changed(object: T): void;
  /** Its last state. */
  deleted(object: T): void;
}

/** What a reflector is made of. */
export interface ReflectorOptions<T extends KubeObject> {
  readonly kube: Kube;
  readonly type: KubeType<T>;
  readonly selection?: Selection;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly into: Reflection<T>;
  /** Default: 500. */
  readonly pageSize?: number;
  /**
   * A watch that has said nothing, not even a bookmark (about one a minute), for this long, or at most
   * twice as long, is taken for dead. Default: 90 s.
   */
  readonly silenceMs?: number;
  /** Waits after failures. Default: 0.5 s doubling to 30 s, half of it left to chance. */
  readonly backoff?: BackoffOptions;
}

type State =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'listing'; readonly stop: AbortController }
  | {
      readonly kind: 'watching';
      watch: Watch | undefined;
      silence: Timer;
      heard: boolean;
      heardLately: boolean;
    }
  | { readonly kind: 'waiting'; readonly timer: Timer };

const BACKOFF: BackoffOptions = { initialMs: 500, maxMs: 30_000 };
/** The longest that a server may tell us to wait. */
const MAX_RETRY_AFTER_MS = 120_000;
/** Watches are ended by the server after one to two times this, so that they spread over its replicas. */
const WATCH_SECONDS = 300;
/** So many lists may show an older state than was seen before; after that it is the state. */
const MAX_STALE_LISTS = 4;
/** So many watches in a row may be silent before the version they started from is doubted. */
const MAX_SILENT_WATCHES = 2;
/** So many lists may expire between two pages; after that everything is asked for at once. */
const MAX_EXPIRED_LISTS = 2;

/**
 * Keeps a copy of all objects of one kind: lists them page by page, then watches from there.
 *
 * It goes on for ever, whatever fails. A watch that ended, broke or went silent is resumed from the last
 * version that was seen; only if the server no longer keeps that version is everything listed anew. An
 * object counts as deleted only if a watch said so or a complete list lacks it.
 */
export class Reflector<T extends KubeObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #silenceMs: number;
  #state: State = { kind: 'stopped' };
  #synced = false;
  #failure: KubeError | undefined;
  /** Where to watch from; absent: list first. */
  #version: string | undefined;
  /** The latest version ever seen. */
  #newest: string | undefined;
  #attempts = 0;
  #staleLists = 0;
  #silentWatches = 0;
  #expiredLists = 0;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#silenceMs = options.silenceMs ?? 90_000;
  }

  /** Whether everything has been seen once; from then on what is missing does not exist. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Why it is behind now; absent while all goes well. */
  get failure(): KubeError | undefined {
    return this.#failure;
  }

  /** Everything up to this version has been told. */
  get version(): string | undefined {
    return this.#newest;
  }

  start(): void {
    if (this.#state.kind === 'stopped') this.#proceed();
  }

  stop(): void {
    this.#leave();
    this.#state = { kind: 'stopped' };
  }

  #proceed(): void {
    if (this.#version === undefined) void this.#list();
    else this.#watch(this.#version);
  }

  async #list(): Promise<void> {
    const { kube, type, selection, pageSize = 500, into, logger } = this.#options;
    const state: State = { kind: 'listing', stop: new AbortController() };
    this.#enter(state);
    const objects: T[] = [];
    let next: string | undefined;
    let version: string;
    try {
      do {
        const page = await kube.list(type, {
          ...selection,
          ...(this.#expiredLists < MAX_EXPIRED_LISTS ? { limit: pageSize } : {}),
          ...(next === undefined ? {} : { continue: next }),
          signal: state.stop.signal,
        });
        if (this.#state !== state) return;
        for (const item of page.items) objects.push(item);
        version = page.resourceVersion;
        next = page.continue;
      } while (next !== undefined);
    } catch (error) {
      if (this.#state !== state) return;
      if (isExpired(error)) this.#expiredLists++;
      this.#retry(error);
      return;
    }
    this.#expiredLists = 0;
    const stale = isLater(this.#newest, version);
    if (stale && ++this.#staleLists < MAX_STALE_LISTS) {
      this.#retry(
        new KubeError(
          'unavailable',
          `the list is of version ${version}, but ${this.#newest} was seen before`,
        ),
      );
      return;
    }
    if (stale)
      logger.warn({ kind: type.kind, version, newest: this.#newest }, 'the API server has gone back in time');
    this.#staleLists = 0;
    this.#silentWatches = 0;
    this.#version = version;
    this.#newest = version;
    this.#failure = undefined;
    try {
      into.replaced(objects, version, stale);
    } catch (error) {
      this.#version = undefined;
      this.#retry(error);
      return;
    }
    this.#synced = true;
    // The one who was told may have stopped us.
    if (this.#state === state) this.#watch(version);
  }

  #watch(version: string): void {
    const { kube, type, selection, random, into } = this.#options;
    const state: State = {
      kind: 'watching',
      watch: undefined,
      silence: this.#listen(),
      heard: false,
      heardLately: false,
    };
    this.#enter(state);
    const hear = (object: T, tell: () => void): void => {
      if (this.#state !== state) return;
      this.#hear(object.metadata.resourceVersion);
      tell();
    };
    state.watch = kube.watch(
      type,
      {
        ...selection,
        resourceVersion: version,
        timeoutSeconds: Math.round(WATCH_SECONDS * (1 + random.float())),
      },
      {
        opened: () => {
          if (this.#state === state) this.#failure = undefined;
        },
        added: (object) => hear(object, () => into.changed(object)),
        modified: (object) => hear(object, () => into.changed(object)),
        deleted: (object) => hear(object, () => into.deleted(object)),
        bookmark: (resourceVersion) => {
          if (this.#state === state) this.#hear(resourceVersion);
        },
        ended: (error) => {
          if (this.#state === state) this.#ended(state.heard, error);
        },
      },
    );
  }

  /** The watch is alive, and has told everything up to that version. */
  #hear(version: string | undefined): void {
    if (this.#state.kind !== 'watching') return;
    this.#state.heard = true;
    this.#state.heardLately = true;
    this.#attempts = 0;
    this.#silentWatches = 0;
    if (version === undefined || version === '') return;
    this.#version = version;
    this.#newest = version;
  }

  #ended(heard: boolean, error: Error | undefined): void {
    if (isExpired(error)) {
      this.#version = undefined;
      // Once at once: what the server said is the cure. Again and again is a failure.
      if (this.#attempts++ === 0) this.#proceed();
      else this.#retry(error);
    } else if (error !== undefined) {
      if (error instanceof KubeError && error.code === 'deadline') this.#doubt();
      this.#retry(error);
    } else if (heard) this.#proceed();
    else this.#retry(new KubeError('unavailable', 'the API server ended a watch before it said anything'));
  }

  /** A timer that finds out whether the watch is still alive. */
  #listen(): Timer {
    return this.#options.clock.after(this.#silenceMs, () => {
      const state = this.#state;
      if (state.kind !== 'watching') return;
      if (state.heardLately) {
        state.heardLately = false;
        state.silence = this.#listen();
        return;
      }
      this.#doubt();
      this.#retry(new KubeError('deadline', `a watch has said nothing for ${this.#silenceMs} ms`));
    });
  }

  /** A server that was restored from a backup has not reached our version yet, and says nothing until then. */
  #doubt(): void {
    if (++this.#silentWatches >= MAX_SILENT_WATCHES) this.#version = undefined;
  }

  #retry(error: unknown): void {
    const { clock, random, logger, type, backoff: options = BACKOFF } = this.#options;
    const failure =
      error instanceof KubeError ? error : new KubeError('internal', String(error), { cause: error });
    this.#failure = failure;
    const attempt = ++this.#attempts;
    const told = Math.min(failure.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS);
    const delayMs = Math.max(told, backoff(attempt, options, random.float()));
    logger.warn(
      { kind: type.kind, attempt, delayMs: Math.round(delayMs), error: failure.message },
      'can not follow the objects of this kind; trying again',
    );
    this.#enter({ kind: 'waiting', timer: clock.after(delayMs, () => this.#proceed()) });
  }

  #enter(state: State): void {
    this.#leave();
    this.#state = state;
  }

  #leave(): void {
    const state = this.#state;
    switch (state.kind) {
      case 'listing':
        state.stop.abort();
        break;
      case 'watching':
        state.silence.cancel();
        state.watch?.close();
        break;
      case 'waiting':
        state.timer.cancel();
        break;
      case 'stopped':
    }
  }
}
