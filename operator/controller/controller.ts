import type { Clock, Random, Timer } from '../../src/std/clock.ts';
import { toHubError } from '../../src/std/errors.ts';
import type { Logger } from '../../src/std/logger.ts';
import type { WorkQueueHooks } from '../kube/workqueue.ts';
import { WorkQueue } from '../kube/workqueue.ts';

/** What came of one look at a key. */
export type Result =
  /** The key is gone: forget all about it. */
  | { readonly next: 'never' }
  /** Look again then, if nothing happens before. */
  | { readonly next: 'later'; readonly afterMs: number };

/** What a controller is made of. */
export interface ControllerOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Makes what the key names as it should be. What it throws is tried again, ever more slowly. */
  readonly reconcile: (key: string, signal: AbortSignal) => Promise<Result>;
  /** Keys that are worked on at a time. Default: 4. */
  readonly workers?: number;
  readonly hooks?: WorkQueueHooks;
  /** Told of every result: `ok`, or the code of the error. */
  readonly reconciled?: (outcome: string, tookMs: number) => void;
}

/** Works on keys as they become due, each at most once at a time, as long as it leads. */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #queue: WorkQueue;
  readonly #running = new Set<Promise<void>>();
  #abort: AbortController | undefined;
  #timer: Timer | undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const { random, hooks = {} } = options;
    this.#queue = new WorkQueue({ random, hooks });
  }

  /** Keys that wait to be worked on. */
  get depth(): number {
    return this.#queue.depth;
  }

  /** Something about the key has changed. */
  enqueue(key: string): void {
    this.#queue.add(key, this.#options.clock.now());
    this.#pump();
  }

  /** Begins to work. */
  start(): void {
    this.#abort ??= new AbortController();
    this.#pump();
  }

  /** Begins nothing more, gives up what is under way, and waits until that has ended. */
  async stop(): Promise<void> {
    this.#abort?.abort();
    this.#abort = undefined;
    this.#timer?.cancel();
    await Promise.all(this.#running);
  }

  #pump(): void {
    const abort = this.#abort;
    if (abort === undefined) return;
    const { clock, workers = 4 } = this.#options;
    while (this.#running.size < workers) {
      const key = this.#queue.take(clock.now());
      if (key === undefined) break;
      const work = this.#work(key, abort.signal).finally(() => {
        this.#running.delete(work);
        this.#pump();
      });
      this.#running.add(work);
    }
    this.#timer?.cancel();
    const due = this.#queue.nextDue(clock.now());
    if (due !== Infinity && this.#running.size < workers) {
      this.#timer = clock.after(Math.max(0, due - clock.now()), () => this.#pump());
    }
  }

  async #work(key: string, signal: AbortSignal): Promise<void> {
    const { clock, logger, reconcile, reconciled } = this.#options;
    const began = clock.now();
    let result: Result | { readonly next: 'retry'; readonly error: unknown };
    try {
      result = await reconcile(key, signal);
    } catch (error) {
      result = { next: 'retry', error };
    }
    const now = clock.now();
    switch (result.next) {
      case 'never':
        this.#queue.forget(key);
        break;
      case 'later':
        this.#queue.forget(key);
        this.#queue.addAfter(key, result.afterMs, now);
        break;
      case 'retry': {
        const { code, message, retryAfterMs } = toHubError(result.error);
        const delayMs = this.#queue.retry(key, now, retryAfterMs);
        if (!signal.aborted)
          logger.warn({ cluster: key, code, delayMs, error: message }, 'will be tried again');
        break;
      }
    }
    reconciled?.(result.next === 'retry' ? toHubError(result.error).code : 'ok', now - began);
    this.#queue.done(key, now);
  }
}
