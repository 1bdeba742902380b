/** What has become of a task, as its publisher and its worker have seen it. */
interface Entry {
  readonly lane: string;
  readonly place: number;
  acknowledged: boolean;
  refused: boolean;
  deliveries: number;
  ended: boolean;
  /** Unix milliseconds. */
  endedAt: number;
}

/** A delivery that was on its way when its task ended may be held up for so long, by a process that stands still. */
const LATE_MS = 30_000;

/**
 * Keeps account of every task, and finds what must never happen.
 *
 * A lane is what keeps its order: the tasks of one publisher for one mailbox with one priority. What is told
 * must have been seen in that order: for lanes whose publisher, worker and requester share a session
 * it is the broker's own.
 */
export class Ledger {
  /** What has gone wrong, for people. */
  readonly faults: string[] = [];
  acknowledged = 0;
  /** Tasks that have left, and neither were refused nor have ended. */
  open = 0;
  ended = 0;
  redelivered = 0;
  /** Deliveries of tasks that had ended. */
  late = 0;
  private readonly tasks = new Map<string, Entry>();
  private readonly places = new Map<string, number>();
  private readonly newest = new Map<string, Entry>();
  private readonly strict: (lane: string) => boolean;

  /** @param strict whether the lane's publisher, worker and requester share a session. */
  constructor(strict: (lane: string) => boolean = () => true) {
    this.strict = strict;
  }

  /** A task leaves its publisher. */
  publish(lane: string, id: string): void {
    const place = this.places.get(lane) ?? 0;
    this.places.set(lane, place + 1);
    this.open++;
    this.tasks.set(id, {
      lane,
      place,
      acknowledged: false,
      refused: false,
      deliveries: 0,
      ended: false,
      endedAt: 0,
    });
  }

  /** The broker has accepted it. */
  acknowledge(id: string): void {
    const task = this.find(id, 'acknowledged');
    if (task === undefined) return;
    task.acknowledged = true;
    this.acknowledged++;
  }

  /** The broker has not accepted it, and knows so. */
  refuse(id: string): void {
    const task = this.find(id, 'refused');
    if (task === undefined) return;
    task.refused = true;
    this.open--;
  }

  /** A worker has got it. @param delivery 1: for the first time, as far as the broker knows. */
  deliver(id: string, delivery: number): void {
    const task = this.find(id, 'delivered');
    if (task === undefined) return;
    if (task.refused) this.faults.push(`${id} was refused, and is delivered`);
    if (task.deliveries++ > 0) this.redelivered++;
    if (task.ended) this.late++;
    if (task.ended && Date.now() - task.endedAt > LATE_MS)
      this.faults.push(`${id} is delivered long after its end`);
    if (!this.strict(task.lane)) return;
    if (task.ended) this.faults.push(`${id} is delivered after its end was acknowledged`);
    // One that was on its way when the broker died was delivered before, and comes back when it can.
    if (task.deliveries > 1 || delivery > 1) return;
    const newest = this.newest.get(task.lane);
    if (newest !== undefined && task.place < newest.place) {
      this.faults.push(
        `${id}, number ${task.place} of ${task.lane}, was overtaken by number ${newest.place}`,
      );
    } else this.newest.set(task.lane, task);
  }

  /** Its requester has got the result. */
  end(id: string): void {
    const task = this.find(id, 'ended');
    if (task === undefined) return;
    if (task.ended) return;
    task.ended = true;
    task.endedAt = Date.now();
    this.ended++;
    this.open--;
  }

  /** Tasks that were accepted, and have not ended. */
  missing(): string[] {
    return [...this.tasks].filter(([, { acknowledged, ended }]) => acknowledged && !ended).map(([id]) => id);
  }

  private find(id: string, what: string): Entry | undefined {
    const task = this.tasks.get(id);
    if (task === undefined) this.faults.push(`${id} is ${what}, but was never published`);
    return task;
  }
}
