import { SlotHeap } from '../core/heap.ts';
import type { Clock, Timer } from '../std/clock.ts';

/** The longest wait of one timer, in milliseconds: clocks that jump are noticed by then. */
const LONGEST_MS = 60_000;

/** At most one time per task at which something is to be done, and one timer for all of them. */
export class Alarms {
  private readonly clock: Clock;
  private readonly ring: (slots: Iterable<number>) => void;
  private readonly heap = new SlotHeap();
  private timer: Timer | undefined;
  private timerAt = Infinity;

  /** `ring` gets the tasks whose time has come; it may set alarms. */
  constructor(clock: Clock, ring: (slots: Iterable<number>) => void) {
    this.clock = clock;
    this.ring = ring;
  }

  /** Sets the task's alarm, in place of the one it had, to that time in Unix milliseconds. */
  set(slot: number, at: number): void {
    this.heap.push(slot, at);
    this.arm();
  }

  clear(slot: number): void {
    this.heap.remove(slot);
  }

  /** No alarm rings any more. */
  close(): void {
    this.timer?.cancel();
    this.timerAt = -Infinity;
  }

  private arm(): void {
    const at = this.heap.peekKey();
    if (at >= this.timerAt) return;
    this.timer?.cancel();
    this.timerAt = at;
    const wait = Math.min(Math.max(0, at - this.clock.now()), LONGEST_MS);
    this.timer = this.clock.after(wait, () => {
      this.timerAt = Infinity;
      this.ring(this.due());
      this.arm();
    });
  }

  private *due(): Generator<number> {
    const now = this.clock.now();
    while (this.heap.peekKey() <= now) yield this.heap.pop();
  }
}
