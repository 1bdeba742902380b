import type { Clock } from '../../src/std/clock.ts';
import { toHubError } from '../../src/std/errors.ts';
import type { BrokerAnswers } from '../plan/pods.ts';
import type { PodAddress, Pods } from '../pods.ts';

/** A pod to be asked. */
export interface Asked {
  readonly uid: string;
  readonly address: PodAddress;
}

/** A pod is not asked again before this time, in milliseconds, however often things change. */
const RESTING_MS = 1500;

interface Known extends BrokerAnswers {
  readonly askedAt: number;
}

/** What brokers said last, and when; asks them anew if that is some time ago. */
export class Answers {
  readonly #pods: Pods;
  readonly #clock: Clock;
  readonly #known = new Map<string, Known>();

  constructor(pods: Pods, clock: Clock) {
    this.#pods = pods;
    this.#clock = clock;
  }

  /** Asks all of them at once. Never fails: who does not answer keeps what it said before, and the failure is told. */
  async ask(pods: readonly Asked[], signal: AbortSignal): Promise<ReadonlyMap<string, BrokerAnswers>> {
    const answers = await Promise.all(
      pods.map(async (pod) => [pod.uid, await this.#ask(pod, signal)] as const),
    );
    return new Map(answers);
  }

  /** Forgets when the pod was asked: what it says has changed. */
  expire(uid: string): void {
    const known = this.#known.get(uid);
    if (known !== undefined) this.#known.set(uid, { ...known, askedAt: -Infinity });
  }

  /** Forgets all pods but these. */
  keep(uids: ReadonlySet<string>): void {
    for (const uid of this.#known.keys()) if (!uids.has(uid)) this.#known.delete(uid);
  }

  async #ask({ uid, address }: Asked, signal: AbortSignal): Promise<BrokerAnswers> {
    const before = this.#known.get(uid);
    if (before !== undefined && this.#clock.now() - before.askedAt < RESTING_MS) return before;
    let known: Known;
    try {
      const capacity = await this.#pods.capacity(address, signal);
      const receivedAt = this.#clock.now();
      const drain = capacity.draining ? await this.#pods.drainStatus(address, signal) : undefined;
      known = { capacity, receivedAt, drain, askedAt: receivedAt };
    } catch (error) {
      known = { ...before, drain: undefined, failure: toHubError(error).message, askedAt: this.#clock.now() };
    }
    this.#known.set(uid, known);
    return known;
  }
}
