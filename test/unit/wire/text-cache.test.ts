import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { text } from './arbitrary.ts';

describe('texts that were read lately', () => {
  test('are what their bytes say, known or not', () => {
    const cache = new TextCache(8);
    fc.assert(
      fc.property(
        fc.array(fc.oneof(text, fc.constantFrom('planner', 'type:ocr', 'ü')), { maxLength: 8 }),
        (texts) => {
          for (const one of texts) {
            const bytes = Buffer.from(`<${one}>`);
            expect(cache.get(bytes, 1, bytes.length - 1)).toBe(one);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test('are never found by bytes that are not their UTF-8', () => {
    const cache = new TextCache(1);
    const latin1 = Buffer.from('ü', 'latin1');
    cache.find(Buffer.from('ü'), 0, 2);
    cache.add('ü');
    expect(cache.find(latin1, 0, 1)).toBeUndefined();
  });
});
