import type { HubError } from '../std/errors.ts';
import type { Heard } from './bus.ts';

/** A value in a {@link Store}. */
export interface Stored {
  readonly value: string;
  /** Rises with every change of the whole store. */
  readonly revision: number;
}

/**
 * A few small documents that all brokers of a cluster share, changed by compare-and-set: a bucket of NATS
 * KV, or the simulation's. Reads come from the leader. All callbacks are called once, later; errors are
 * `conflict` (somebody else has changed it since; nothing was written) and `unavailable` (undecided).
 */
export interface Store {
  /** The value now, or `undefined`. */
  get(key: string, done: (error: HubError | undefined, stored: Stored | undefined) => void): void;
  /** Writes if the key still has that revision; 0: if it does not exist. */
  put(
    key: string,
    value: string,
    revision: number,
    done: (error: HubError | undefined, revision: number) => void,
  ): void;
  /** Removes if the key still has that revision. */
  remove(key: string, revision: number, done: (error: HubError | undefined) => void): void;
  /**
   * Gives everything there is, then calls `ready` once, then gives every change (`undefined`: removed),
   * in order and with no gap that is not made good; a value may be given twice.
   */
  watch(changed: (key: string, stored: Stored | undefined) => void, ready: () => void): Heard;
}
