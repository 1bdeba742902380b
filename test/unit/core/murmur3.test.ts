import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { hash128 } from '../../../src/core/murmur3.ts';

const utf8 = new TextEncoder();

function hex(text: string, seed: number): string {
  const bytes = utf8.encode(text);
  const out = new Uint32Array(4);
  hash128(bytes, 0, bytes.length, seed, out);
  return Array.from(out, (word) => word.toString(16).padStart(8, '0')).join('');
}

describe('MurmurHash3_x86_128', () => {
  test("passes the reference implementation's own verification", () => {
    // SMHasher, KeysetTest.cpp, VerificationTest: keys {}, {0}, {0, 1} … with seeds 256, 255 …
    const key = Uint8Array.from({ length: 256 }, (_, index) => index);
    const digests = new DataView(new ArrayBuffer(256 * 16));
    const out = new Uint32Array(4);
    for (let length = 0; length < 256; length++) {
      hash128(key, 0, length, 256 - length, out);
      out.forEach((word, index) => digests.setUint32(length * 16 + index * 4, word, true));
    }
    hash128(new Uint8Array(digests.buffer), 0, digests.byteLength, 0, out);
    expect(out[0]).toBe(0xb3ece62a);
  });

  test.each([
    ['', 0, '00000000000000000000000000000000'],
    ['The quick brown fox jumps over the lazy dog', 0, '2f1583c3ecee2c675d7bf66ce5e91d2c'],
    ['The quick brown fox jumps over the lazy dog', 1223, '7d485923d325727ccaadcb738425e1e4'],
    [
      'MurmurHash3 was written by Austin Appleby, and is placed in the public',
      0,
      '6d3583489d9d1e5a898493af67e2ad10',
    ],
  ])('of %j with seed %d is the published one', (text, seed, digest) => {
    expect(hex(text, seed)).toBe(digest);
  });

  test('does not depend on where in the buffer the bytes stand', () => {
    const slice = fc.record({ before: fc.uint8Array(), key: fc.uint8Array(), after: fc.uint8Array() });
    fc.assert(
      fc.property(slice, fc.nat(), ({ before, key, after }, seed) => {
        const alone = new Uint32Array(4);
        hash128(key, 0, key.length, seed, alone);
        const within = new Uint32Array(4);
        const buffer = Uint8Array.from([...before, ...key, ...after]);
        hash128(buffer, before.length, before.length + key.length, seed, within);
        expect(within).toEqual(alone);
      }),
    );
  });
});
