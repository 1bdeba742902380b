/** A task that was written to a subscriber without acknowledgements and may still get a result. */
export interface Awaited {
  readonly mailbox: string;
  readonly type: string;
  /** The agent that asked; with `#<session>` behind it, if that session did. */
  readonly requester: string;
}

interface Entry {
  readonly id: string;
  readonly awaited: Awaited;
  /** The task of the same id that was added before it, to another mailbox. */
  other: Entry | undefined;
  known: boolean;
}

/** The most that all names together have, in UTF-16 units: a checkpoint of them must fit into a record. */
const TEXT = 1_500_000;
/** Forgotten entries in the queue that are worth a new one. */
const DEAD = 1024;

/**
 * Who asked for the tasks that were delivered through a service without acknowledgements: their
 * results name only the task. The last `capacity` are remembered, fewer if their names are very long. A broadcast is one task in each of
 * its mailboxes.
 */
export class Awaiting {
  private readonly tasks = new Map<string, Entry>();
  /** In the order of their coming; a Map would have to skip all it has forgotten to find the oldest. */
  private queue: Entry[] = [];
  private oldest = 0;
  private readonly capacity: number;
  private count = 0;
  private text = 0;

  constructor(capacity = 16_384) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.count;
  }

  add(id: string, awaited: Awaited): void {
    this.delete(id, awaited.mailbox);
    const entry = { id, awaited, other: this.tasks.get(id), known: true };
    this.tasks.set(id, entry);
    this.queue.push(entry);
    this.count++;
    this.text += textOf(entry);
    while (this.count > this.capacity || this.text > TEXT) this.forgetOldest();
  }

  /** The task of that id in that mailbox; or the last one in any, if none is named. */
  get(id: string, mailbox?: string): Awaited | undefined {
    return this.find(id, (one) => mailbox === undefined || one === mailbox);
  }

  /** The last task of that id in any mailbox that fits. */
  find(id: string, fits: (mailbox: string) => boolean): Awaited | undefined {
    let entry = this.tasks.get(id);
    while (entry && !fits(entry.awaited.mailbox)) entry = entry.other;
    return entry?.awaited;
  }

  delete(id: string, mailbox: string): void {
    let later: Entry | undefined;
    let entry = this.tasks.get(id);
    while (entry && entry.awaited.mailbox !== mailbox) {
      later = entry;
      entry = entry.other;
    }
    if (!entry) return;
    if (later) later.other = entry.other;
    else if (entry.other) this.tasks.set(id, entry.other);
    else this.tasks.delete(id);
    entry.known = false;
    this.count--;
    this.text -= textOf(entry);
    if (this.queue.length > 2 * this.count + DEAD) this.tidy();
  }

  /** All of them, the oldest first. */
  *entries(): Generator<[string, Awaited]> {
    for (const { id, awaited, known } of this.queue) if (known) yield [id, awaited];
  }

  /** Forgets all, to be filled from a checkpoint. */
  clear(): void {
    this.tasks.clear();
    this.queue = [];
    this.oldest = 0;
    this.count = 0;
    this.text = 0;
  }

  private forgetOldest(): void {
    while (!this.queue[this.oldest]!.known) this.oldest++;
    const { id, awaited } = this.queue[this.oldest++]!;
    this.delete(id, awaited.mailbox);
  }

  private tidy(): void {
    this.queue = this.queue.filter(({ known }) => known);
    this.oldest = 0;
  }
}

function textOf({ id, awaited: { mailbox, type, requester } }: Entry): number {
  return id.length + mailbox.length + type.length + requester.length;
}
