/** A page of a long list. */
export interface Page<T> {
  readonly items: readonly T[];
  /** Empty: there are no more. */
  readonly nextPageToken: string;
}

/** All of a long list; the next page is asked for when the last one was read. */
export async function* paged<T>(ask: (pageToken: string) => Promise<Page<T>>): AsyncGenerator<T, undefined> {
  let token = '';
  do {
    const { items, nextPageToken } = await ask(token);
    yield* items;
    token = nextPageToken;
  } while (token !== '');
}

/** The first of what comes. */
export async function take<T>(all: AsyncIterable<T>, limit: number): Promise<T[]> {
  const taken: T[] = [];
  for await (const one of all) {
    taken.push(one);
    if (taken.length >= limit) break;
  }
  return taken;
}
