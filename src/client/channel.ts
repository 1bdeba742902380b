/**
 * Values on their way from who has them to who asks for them, one after the other. Asking for the
 * next one says that the one before is done with.
 */
export class Channel<T> implements AsyncIterableIterator<T> {
  private readonly take: () => T | undefined;
  private readonly finished: (value: T) => void;
  private readonly closed: () => void;
  private handed: T | undefined;
  private waiting: PromiseWithResolvers<IteratorResult<T>> | undefined;
  private end: { readonly error: Error | undefined } | undefined;

  /**
   * @param take the next value, if there is one; called again after {@link wake}
   * @param finished the reader is done with the value
   * @param closed nothing will be asked for any more
   */
  constructor(take: () => T | undefined, finished: (value: T) => void, closed: () => void) {
    this.take = take;
    this.finished = finished;
    this.closed = closed;
  }

  next(): Promise<IteratorResult<T>> {
    this.finish();
    if (this.waiting !== undefined) {
      return Promise.reject(new TypeError('ask for the next one when the last one has come'));
    }
    const value = this.end === undefined ? this.take() : undefined;
    if (value !== undefined) return Promise.resolve(this.hand(value));
    if (this.end === undefined) {
      this.waiting = Promise.withResolvers();
      return this.waiting.promise;
    }
    const { error } = this.end;
    this.end = { error: undefined };
    return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
  }

  return(): Promise<IteratorResult<T>> {
    this.finish();
    this.stop(undefined);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** There may be a value. False if nobody waits for one. */
  wake(): boolean {
    const { waiting } = this;
    if (waiting === undefined) return false;
    const value = this.take();
    if (value === undefined) return false;
    this.waiting = undefined;
    waiting.resolve(this.hand(value));
    return true;
  }

  /** Ends it; with an error, the reader gets that. */
  stop(error: Error | undefined): void {
    if (this.end !== undefined) return;
    const { waiting } = this;
    this.waiting = undefined;
    this.end = { error: waiting === undefined ? error : undefined };
    this.closed();
    if (error === undefined) waiting?.resolve({ done: true, value: undefined });
    else waiting?.reject(error);
  }

  private hand(value: T): IteratorResult<T> {
    this.handed = value;
    return { done: false, value };
  }

  private finish(): void {
    const { handed } = this;
    this.handed = undefined;
    if (handed !== undefined) this.finished(handed);
  }
}
