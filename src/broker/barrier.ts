import type { Clock, Timer } from '../std/clock.ts';

/** What other brokers have not said by then, in milliseconds, is not waited for. */
const PATIENCE_MS = 500;

interface Waiting {
  readonly epoch: number;
  readonly left: Set<string>;
  readonly passed: () => void;
  readonly timer: Timer;
}

/**
 * Holds a shard that was just taken until every edge has said which of its tasks their sessions hold: what the
 * former owner gave out last is not in the log if it died.
 */
export class Barrier {
  private readonly clock: Clock;
  private readonly waiting = new Map<number, Waiting>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Calls `passed` when all of these edges have reported to that epoch of the shard, or after a while. */
  raise(shard: number, epoch: number, edges: Iterable<string>, passed: () => void): void {
    this.drop(shard);
    const left = new Set(edges);
    if (left.size === 0) return passed();
    const timer = this.clock.after(PATIENCE_MS, () => this.pass(shard));
    this.waiting.set(shard, { epoch, left, passed, timer });
  }

  /** That edge has said all to that epoch of the shard. */
  reported(shard: number, epoch: number, edge: string): void {
    const waiting = this.waiting.get(shard);
    if (waiting?.epoch !== epoch) return;
    waiting.left.delete(edge);
    if (waiting.left.size === 0) this.pass(shard);
  }

  /** Only these edges are there any more. */
  live(isLive: (edge: string) => boolean): void {
    for (const [shard, { left }] of this.waiting) {
      for (const edge of left) if (!isLive(edge)) left.delete(edge);
      if (left.size === 0) this.pass(shard);
    }
  }

  /** The shard is not ours any more. */
  drop(shard: number): void {
    this.waiting.get(shard)?.timer.cancel();
    this.waiting.delete(shard);
  }

  /** Nothing is waited for any more. */
  close(): void {
    for (const shard of [...this.waiting.keys()]) this.drop(shard);
  }

  private pass(shard: number): void {
    const waiting = this.waiting.get(shard);
    this.drop(shard);
    waiting?.passed();
  }
}
