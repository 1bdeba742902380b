/** Things that arrive one after the other, for tests that wait for the next one. */
export class Inbox<T> {
  private readonly arrived: T[] = [];
  private waiters: {
    matches: (item: T) => boolean;
    resolve: (item: T) => void;
    reject: (error: Error) => void;
  }[] = [];
  private ended: Error | undefined;

  /** What has arrived and was not asked for yet. */
  get pending(): readonly T[] {
    return this.arrived;
  }

  push(item: T): void {
    const waiter = this.waiters.find(({ matches }) => matches(item));
    if (!waiter) {
      this.arrived.push(item);
      return;
    }
    this.waiters = this.waiters.filter((one) => one !== waiter);
    waiter.resolve(item);
  }

  /** The next thing that matches, which it waits for; rejects once no more can arrive. */
  next(matches: (item: T) => boolean = () => true): Promise<T> {
    const index = this.arrived.findIndex(matches);
    if (index >= 0) return Promise.resolve(this.arrived.splice(index, 1)[0]!);
    if (this.ended) return Promise.reject(this.ended);
    return new Promise((resolve, reject) => this.waiters.push({ matches, resolve, reject }));
  }

  /** The next `count` things. */
  async take(count: number): Promise<T[]> {
    const items: T[] = [];
    while (items.length < count) items.push(await this.next());
    return items;
  }

  /** Nothing arrives any more. */
  end(error: Error = new Error('nothing arrives any more')): void {
    this.ended = error;
    for (const { reject } of this.waiters.splice(0)) reject(error);
  }
}

/** Waits until the condition holds; the test's own time limit is the only one. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}
