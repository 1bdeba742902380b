import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { fnv1a, fnv1aText } from '../../../src/core/fnv1a.ts';

const utf8 = new TextEncoder();

describe('FNV-1a', () => {
  // Test vectors of the authors: http://www.isthe.com/chongo/src/fnv/test_fnv.c
  test.each([
    ['', 0x811c9dc5],
    ['a', 0xe40c292c],
    ['b', 0xe70c2de5],
    ['c', 0xe60c2c52],
    ['foobar', 0xbf9cf968],
    ['chongo was here', 0xc59c990e],
    ['chongo was here!\n', 0xd49930d5],
    ['127.0.0.1', 0x08a3d11e],
    ['cho\0', 0x0229fe89],
  ])('of %j is the published one', (text, hash) => {
    expect(fnv1a(utf8.encode(text))).toBe(hash);
    expect(fnv1aText(text)).toBe(hash);
  });

  test('of a range is that of the bytes inside', () => {
    expect(fnv1a(utf8.encode('<foobar>'), 1, 7)).toBe(0xbf9cf968);
    expect(fnv1aText('<foobar>', 1, 7)).toBe(0xbf9cf968);
  });

  test('of text equals that of its UTF-8 bytes, whatever the text', () => {
    const codeUnit = fc.nat(0xffff).map((code) => String.fromCharCode(code));
    const anyText = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: codeUnit }));
    fc.assert(
      fc.property(anyText, (text) => {
        expect(fnv1aText(text)).toBe(fnv1a(utf8.encode(text)));
      }),
    );
  });

  test.each(['\ud800', '\udc00x', 'x\ud83d', '\ud83d\ud83d\ude00', '\ude00\ud83d', '🤖', 'é€𐍈'])(
    'of %j equals that of what TextEncoder makes of it',
    (text) => {
      expect(fnv1aText(text)).toBe(fnv1a(utf8.encode(text)));
    },
  );
});
