import { DirtySet } from '../core/dirty-set.ts';
import type { Parcel } from '../core/outbox.ts';
import type { ShardState } from '../core/shard-state.ts';
import { backoff } from '../std/backoff.ts';
import type { Clock, Random } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import type { Journal } from './journal.ts';

/** Parcels and bytes that one append carries at most. */
const PARCELS = 2000;
const PARCEL_BYTES = 200 * 1024;

/** Appends parcels to another shard's log, in order; `done` when they are durable there. */
export type Forward = (
  destination: number,
  source: number,
  parcels: readonly Parcel[],
  done: (error: HubError | undefined) => void,
) => void;

/** What a {@link Forwarder} is made of. */
export interface ForwarderOptions {
  readonly shard: number;
  readonly state: ShardState;
  readonly journal: Journal;
  readonly forward: Forward;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Empties a shard's outbox: parcels leave in order, one append in flight per destination, and are
 * marked as forwarded when that append is durable. What is sent twice, the receiver ignores.
 */
export class Forwarder {
  private readonly options: ForwarderOptions;
  private readonly busy = new Set<number>();
  private readonly marked: number[] = [];
  /** Shards for which parcels have come. */
  private readonly dirty = new DirtySet();
  private closed = false;

  constructor(options: ForwarderOptions) {
    this.options = options;
  }

  /** Something has come for that shard: {@link run} shall send it, with what comes until then. */
  mark(destination: number): void {
    this.dirty.add(destination);
  }

  run(): void {
    this.dirty.drain((destination) => this.pump(destination));
  }

  /** Sends everything that waits. */
  runAll(): void {
    for (let destination = 0; destination < this.options.state.outbox.shards; destination++)
      this.pump(destination);
  }

  /** Sends what waits for that shard, unless something is on its way there. */
  private pump(destination: number, attempt = 0): void {
    const { state, forward, shard, journal, clock, random } = this.options;
    if (this.closed || this.busy.has(destination)) return;
    const parcels: Parcel[] = [];
    let bytes = 0;
    const pending = state.outbox.pending(destination);
    // Those up to the mark have arrived; only the log has not said so yet.
    for (let at = arrived(pending, this.marked[destination] ?? 0); at < pending.length; at++) {
      const parcel = pending[at]!;
      bytes += parcel.entry.length;
      if (parcels.length > 0 && (parcels.length === PARCELS || bytes > PARCEL_BYTES)) break;
      parcels.push(parcel);
    }
    const last = parcels.at(-1);
    if (!last) return;
    this.busy.add(destination);
    forward(destination, shard, parcels, (error) => {
      if (this.closed) return;
      if (error) {
        const wait = backoff(attempt + 1, { initialMs: 20, maxMs: 1000 }, random.float());
        clock.after(wait, () => {
          this.busy.delete(destination);
          this.pump(destination, attempt + 1);
        });
        return;
      }
      this.busy.delete(destination);
      this.marked[destination] = last.number;
      journal.record.forwarded(destination, last.number);
      journal.touch();
      this.pump(destination);
    });
  }

  close(): void {
    this.closed = true;
  }
}

/** How many of the parcels have a number up to `mark`; their numbers ascend. */
function arrived(parcels: readonly Parcel[], mark: number): number {
  let low = 0;
  let high = parcels.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (parcels[middle]!.number <= mark) low = middle + 1;
    else high = middle;
  }
  return low;
}
