/** A task that was written to a subscriber without acknowledgements and may still get a result. */
export interface Awaited {
  readonly mailbox: string;
  readonly type: string;
  /** The agent that asked; with `#<session>` behind it, if that session did. */
  readonly requester: string;
}

/**
 * Who asked for the tasks that were delivered through a service without acknowledgements: their
 * results name only the task. The last `capacity` are remembered. A broadcast is one task in each of
 * its mailboxes.
 */
export class Awaiting {
  private readonly tasks = new Map<string, Awaited[]>();
  private readonly capacity: number;
  private count = 0;

  constructor(capacity = 16_384) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.count;
  }

  add(id: string, awaited: Awaited): void {
    const others = this.remove(id, awaited.mailbox);
    this.tasks.delete(id);
    this.tasks.set(id, [...others, awaited]);
    this.count++;
    while (this.count > this.capacity) this.forgetOldest();
  }

  /** The task of that id in that mailbox; or in any, if none is named. */
  get(id: string, mailbox?: string): Awaited | undefined {
    const known = this.tasks.get(id);
    return mailbox === undefined ? known?.[0] : known?.find((one) => one.mailbox === mailbox);
  }

  delete(id: string, mailbox: string): void {
    const others = this.remove(id, mailbox);
    if (others.length > 0) this.tasks.set(id, others);
    else this.tasks.delete(id);
  }

  /** All of them, those of the oldest id first. */
  *entries(): Generator<[string, Awaited]> {
    for (const [id, known] of this.tasks) for (const awaited of known) yield [id, awaited];
  }

  /** Forgets all, to be filled from a checkpoint. */
  clear(): void {
    this.tasks.clear();
    this.count = 0;
  }

  /** The tasks of that id in other mailboxes; the caller notes them. */
  private remove(id: string, mailbox: string): Awaited[] {
    const known = this.tasks.get(id) ?? [];
    const others = known.filter((one) => one.mailbox !== mailbox);
    this.count -= known.length - others.length;
    return others;
  }

  private forgetOldest(): void {
    for (const [id, known] of this.tasks) {
      this.tasks.delete(id);
      this.count -= known.length;
      return;
    }
  }
}
