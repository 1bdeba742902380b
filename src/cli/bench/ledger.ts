/** What a {@link Ledger} has found. All but `accepted` and `ended` should be 0. */
export interface LedgerSums {
  readonly accepted: number;
  /** Completed as far as the publisher knows; without results, delivered. */
  readonly ended: number;
  /** Accepted, but not ended. */
  readonly lost: number;
  /** Not accepted: the broker has said no. */
  readonly refused: number;
  /** Neither accepted nor refused: there was no answer. */
  readonly undecided: number;
  /** Deliveries beyond the first of a task. */
  readonly redelivered: number;
  /** Results beyond the first of a task. */
  readonly doubled: number;
  /** First deliveries that overtook a task which the same publisher had sent to the same agent before. */
  readonly disordered: number;
}

const ACCEPTED = 1;
const REFUSED = 2;
const UNDECIDED = 4;
const DELIVERED = 8;
const COMPLETED = 16;

/** Knows of every task what has become of it, in a byte each. Tasks of a publisher are numbered from 0. */
export class Ledger {
  private readonly pages: Uint8Array[];
  /** The newest task that an agent has got from a publisher. */
  private readonly newest: Int32Array;
  private readonly agents: number;
  private readonly priorities: number;
  /** The mark of a task that has come to its end. */
  private readonly end: number;
  private readonly counts = {
    accepted: 0,
    refused: 0,
    undecided: 0,
    redelivered: 0,
    doubled: 0,
    disordered: 0,
  };
  /** Tasks that have come to an end, or never were accepted. */
  private over = 0;
  private sent = 0;
  /** Tasks that have come to their end. */
  ended = 0;

  /**
   * @param results whether completions are heard of; else a delivery is the end.
   * @param priorities tasks have so many, one after the other; order is kept within each.
   */
  constructor(publishers: number, agents: number, results: boolean, priorities = 1) {
    this.pages = Array.from({ length: publishers }, () => new Uint8Array(1024));
    this.newest = new Int32Array(publishers * agents * priorities).fill(-1);
    this.priorities = priorities;
    this.agents = agents;
    this.end = results ? COMPLETED : DELIVERED;
  }

  get accepted(): number {
    return this.counts.accepted;
  }

  /** Tasks that are on their way. */
  get open(): number {
    return this.sent - this.over;
  }

  /** Tasks leave a publisher. */
  send(tasks: number): void {
    this.sent += tasks;
  }

  /** The broker has acknowledged it. */
  accept(publisher: number, task: number): void {
    this.counts.accepted++;
    this.mark(publisher, task, ACCEPTED);
  }

  /** The broker has refused it. */
  refuse(publisher: number, task: number): void {
    this.counts.refused++;
    this.mark(publisher, task, REFUSED);
  }

  /** There was no answer: it may have been accepted or not. */
  doubt(publisher: number, task: number): void {
    this.counts.undecided++;
    this.mark(publisher, task, UNDECIDED);
  }

  /** An agent has got it. */
  deliver(publisher: number, task: number, agent: number): void {
    if (this.mark(publisher, task, DELIVERED) & DELIVERED) {
      this.counts.redelivered++;
      return;
    }
    const lane = (publisher * this.agents + agent) * this.priorities + (task % this.priorities);
    if (task < this.newest[lane]!) this.counts.disordered++;
    else this.newest[lane] = task;
  }

  /** Its publisher has got the result. */
  complete(publisher: number, task: number): void {
    if (this.mark(publisher, task, COMPLETED) & COMPLETED) this.counts.doubled++;
  }

  /** What has become of all tasks. */
  sums(): LedgerSums {
    let lost = 0;
    for (const page of this.pages) {
      for (const marks of page) if ((marks & (ACCEPTED | this.end)) === ACCEPTED) lost++;
    }
    return { ...this.counts, ended: this.ended, lost };
  }

  /** Adds a mark; answers with those that were there before. */
  private mark(publisher: number, task: number, mark: number): number {
    let page = this.pages[publisher]!;
    if (task >= page.length) {
      const larger = new Uint8Array(Math.max(task + 1, page.length * 2));
      larger.set(page);
      page = this.pages[publisher] = larger;
    }
    const before = page[task]!;
    page[task] = before | mark;
    const over = this.end | REFUSED | UNDECIDED;
    if (mark & over && !(before & over)) this.over++;
    if (mark & this.end && !(before & mark)) this.ended++;
    return before;
  }
}
