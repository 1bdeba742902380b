import { HubError } from '../std/errors.ts';

const DEFAULT = 100;
const MOST = 1000;

/** The size of a page that was asked for. Throws HubError `invalid` if it is too large. */
export function pageSize(asked: number): number {
  if (asked > MOST)
    throw new HubError('invalid', `page_size must be at most ${MOST}`, { field: 'page_size' });
  return asked === 0 ? DEFAULT : asked;
}

/**
 * One page of a list in the order of its keys, from things that come in any order. The token of the
 * next page is the last key of this one, so things may come and go between two pages.
 */
export class Page<T> {
  private readonly size: number;
  private readonly after: string;
  private items: { readonly key: string; readonly make: () => T }[] = [];

  /** @throws HubError `invalid` for a size that is too large or a token that is none. */
  constructor(request: { readonly pageSize: number; readonly pageToken: string }) {
    this.size = pageSize(request.pageSize);
    this.after = Buffer.from(request.pageToken, 'base64url').toString();
    if (tokenOf(this.after) !== request.pageToken) {
      throw new HubError('invalid', 'page_token is not one of this broker', { field: 'page_token' });
    }
  }

  /** `make` is called in the end, for what stands on the page. */
  offer(key: string, make: () => T): void {
    if (this.after !== '' && key <= this.after) return;
    this.items.push({ key, make });
    if (this.items.length > 4 * (this.size + 1)) this.shorten();
  }

  finish(): { readonly items: T[]; readonly nextPageToken: string } {
    this.shorten();
    const page = this.items.slice(0, this.size);
    const more = this.items.length > this.size;
    return { items: page.map(({ make }) => make()), nextPageToken: more ? tokenOf(page.at(-1)!.key) : '' };
  }

  private shorten(): void {
    this.items.sort((a, b) => (a.key < b.key ? -1 : 1));
    this.items.length = Math.min(this.items.length, this.size + 1);
  }
}

/**
 * One page out of those that several brokers gave to the same request, whose things are in the order of their keys
 * and all different.
 */
export function mergedPage<T>(
  pages: readonly { readonly items: readonly T[]; readonly nextPageToken: string }[],
  keyOf: (item: T) => string,
  request: { readonly pageSize: number },
): { readonly items: T[]; readonly nextPageToken: string } {
  const keyed = pages.flatMap(({ items }) => items.map((item) => ({ key: keyOf(item), item })));
  keyed.sort((a, b) => (a.key < b.key ? -1 : 1));
  const page = keyed.slice(0, pageSize(request.pageSize));
  const last = page.at(-1);
  const more = keyed.length > page.length || pages.some(({ nextPageToken }) => nextPageToken !== '');
  return { items: page.map(({ item }) => item), nextPageToken: last && more ? tokenOf(last.key) : '' };
}

function tokenOf(key: string): string {
  return Buffer.from(key).toString('base64url');
}
