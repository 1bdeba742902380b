import { grown, NONE } from '../core/task-table.ts';

/** What the owner has decided about a task and the log does not say yet. */
export const Decided = {
  nothing: 0,
  /** It is leased: delivered, and the log will say so. */
  leasing: 1,
  /** It goes back to its mailbox. */
  returning: 2,
  /** It is done, cancelled, or given up. */
  ending: 3,
} as const;

/** Columns beside the task table: what a live owner knows and a replay need not. */
export class Holds {
  decided = new Uint8Array(0);
  /** The attachment that holds the task, or `NONE`. */
  holder = new Uint32Array(0);
  /** Unix milliseconds of the delivery. */
  deliveredAt = new Float64Array(0);

  /** Makes the columns as long as the table. */
  fit(capacity: number): void {
    const from = this.decided.length;
    if (capacity <= from) return;
    this.decided = grown(this.decided, new Uint8Array(capacity));
    this.holder = grown(this.holder, new Uint32Array(capacity));
    this.holder.fill(NONE, from);
    this.deliveredAt = grown(this.deliveredAt, new Float64Array(capacity));
  }

  /** Forgets what was known of a slot. */
  clear(slot: number): void {
    this.decided[slot] = Decided.nothing;
    this.holder[slot] = NONE;
  }
}
