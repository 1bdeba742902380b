/** A task that was written to a subscriber without acknowledgements and may still get a result. */
export interface Awaited {
  readonly mailbox: string;
  readonly type: string;
  readonly requester: string;
}

/**
 * Who asked for the tasks that were delivered through a service without acknowledgements: their
 * results name only the task. The last `capacity` are remembered.
 */
export class Awaiting {
  private readonly tasks = new Map<string, Awaited>();
  private readonly capacity: number;

  constructor(capacity = 16_384) {
    this.capacity = capacity;
  }

  get size(): number {
    return this.tasks.size;
  }

  add(id: string, awaited: Awaited): void {
    this.tasks.delete(id);
    this.tasks.set(id, awaited);
    if (this.tasks.size <= this.capacity) return;
    const oldest = this.tasks.keys().next();
    if (!oldest.done) this.tasks.delete(oldest.value);
  }

  get(id: string): Awaited | undefined {
    return this.tasks.get(id);
  }

  delete(id: string): void {
    this.tasks.delete(id);
  }

  entries(): IterableIterator<[string, Awaited]> {
    return this.tasks.entries();
  }

  /** Forgets all, to be filled from a checkpoint. */
  clear(): void {
    this.tasks.clear();
  }
}
