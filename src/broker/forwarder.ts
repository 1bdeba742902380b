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
  private readonly busy: boolean[];
  private readonly marked: number[];
  private closed = false;

  constructor(options: ForwarderOptions) {
    this.options = options;
    this.busy = Array.from({ length: options.state.outbox.shards }, () => false);
    this.marked = this.busy.map(() => 0);
  }

  /** Sends what waits for that shard, unless something is on its way there. */
  pump(destination: number, attempt = 0): void {
    const { state, forward, shard, journal, clock, random } = this.options;
    if (this.closed || this.busy[destination]) return;
    const parcels: Parcel[] = [];
    let bytes = 0;
    for (const parcel of state.outbox.pending(destination)) {
      if (parcel.number <= this.marked[destination]!) continue;
      bytes += parcel.entry.length;
      if (parcels.length > 0 && (parcels.length === PARCELS || bytes > PARCEL_BYTES)) break;
      parcels.push(parcel);
    }
    const last = parcels.at(-1);
    if (!last) return;
    this.busy[destination] = true;
    forward(destination, shard, parcels, (error) => {
      if (this.closed) return;
      this.busy[destination] = false;
      if (error) {
        const wait = backoff(attempt + 1, { initialMs: 20, maxMs: 1000 }, random.float());
        this.busy[destination] = true;
        clock.after(wait, () => {
          this.busy[destination] = false;
          this.pump(destination, attempt + 1);
        });
        return;
      }
      this.marked[destination] = last.number;
      journal.record.forwarded(destination, last.number);
      journal.touch();
      this.pump(destination);
    });
  }

  /** Sends everything that waits. */
  pumpAll(): void {
    for (let destination = 0; destination < this.busy.length; destination++) this.pump(destination);
  }

  close(): void {
    this.closed = true;
  }
}
