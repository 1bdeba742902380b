import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Page } from '../../../src/edge/page.ts';

describe('a list in pages', () => {
  test('is complete, in order and without repeats, whatever order its things come in', () => {
    const keys = fc.uniqueArray(fc.string({ minLength: 1, unit: 'grapheme-ascii' }), { maxLength: 300 });
    fc.assert(
      fc.property(keys, fc.integer({ min: 1, max: 40 }), (all, pageSize) => {
        const seen: string[] = [];
        let pageToken = '';
        do {
          const page = new Page<string>({ pageSize, pageToken });
          for (const key of all) page.offer(key, () => key);
          const { items, nextPageToken } = page.finish();
          expect(items.length).toBeLessThanOrEqual(pageSize);
          seen.push(...items);
          pageToken = nextPageToken;
        } while (pageToken !== '');
        expect(seen).toEqual([...all].sort((a, b) => (a < b ? -1 : 1)));
      }),
    );
  });

  test('goes on behind what is gone meanwhile', () => {
    const first = new Page<string>({ pageSize: 2, pageToken: '' });
    for (const key of ['a', 'b', 'c', 'd']) first.offer(key, () => key);
    const { nextPageToken: pageToken } = first.finish();
    const second = new Page<string>({ pageSize: 2, pageToken });
    for (const key of ['a', 'd']) second.offer(key, () => key);
    expect(second.finish()).toEqual({ items: ['d'], nextPageToken: '' });
  });

  test.each([
    [{ pageSize: 1001, pageToken: '' }, 'page_size'],
    [{ pageSize: 1, pageToken: 'no token!' }, 'page_token'],
    [{ pageSize: 1, pageToken: '_w' }, 'page_token'],
  ])('is refused for %o', (request, field) => {
    expect(() => new Page(request)).toThrow(expect.objectContaining({ code: 'invalid', field }));
  });
});
