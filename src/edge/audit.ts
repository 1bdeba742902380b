import type { Metrics } from '../obs/metrics.ts';
import type { Clock } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import { toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';

/** Refusals that are written in a second; more are only counted, so that nobody fills a disk with them. */
const REFUSALS_PER_SECOND = 20;

/** Who did it, from where. */
export interface Actor {
  /** The name of a principal; empty: it is not known. */
  readonly who: string;
  readonly peer: string;
  /** Where it is about; absent: the default namespace. */
  readonly namespace?: string;
}

/**
 * What was done to the broker, and by whom: each act of an administrator, each change of what is allowed, and who was
 * refused something. A line of the log for each, with `audit: true`, and a counter.
 */
export class Audit {
  private readonly logger: Logger;
  private readonly metrics: Metrics;
  private readonly clock: Clock;
  private second = 0;
  private written = 0;
  private left = 0;

  constructor(logger: Logger, metrics: Metrics, clock: Clock) {
    this.logger = logger.child({ audit: true });
    this.metrics = metrics;
    this.clock = clock;
  }

  /** An act was done, or failed. `on`: what it was done to. */
  act(actor: Actor, action: string, on: string, error?: HubError): void {
    this.metrics.audited.of(action).add();
    const result = error ? error.code : 'done';
    const more = error ? { error: error.message } : {};
    this.logger.info({ ...actor, action, on, result, ...more }, `${action}: ${result}`);
  }

  /** Waits for the act, and writes down what became of it. */
  async during<T>(actor: Actor, action: string, on: string, act: () => T | Promise<T>): Promise<T> {
    try {
      const value = await act();
      this.act(actor, action, on);
      return value;
    } catch (error) {
      this.act(actor, action, on, toHubError(error));
      throw error;
    }
  }

  /** Somebody was not let in, or not allowed something. Other errors are nothing to write down. */
  refused(actor: Actor, action: string, error: HubError): void {
    const { code, message } = error;
    if (code !== 'unauthenticated' && code !== 'permission') return;
    this.metrics.denied.of(code).add();
    const second = Math.floor(this.clock.now() / 1000);
    if (second !== this.second) {
      this.second = second;
      this.written = 0;
    }
    if (this.written >= REFUSALS_PER_SECOND) {
      this.left++;
      return;
    }
    this.written++;
    const more = this.left > 0 ? { notWritten: this.left } : {};
    this.left = 0;
    this.logger.warn({ ...actor, action, result: code, error: message, ...more }, `${action}: refused`);
  }
}
