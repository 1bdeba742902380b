import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { hashId, idKey } from '../../../src/core/id-hash.ts';

function nameOf(secret: string, bytes: Uint8Array, start = 0, end = bytes.length): string {
  const out = new Uint32Array(4);
  hashId(bytes, start, end, idKey(secret), out);
  return Buffer.from(out.buffer).toString('hex');
}

describe('the name of an id', () => {
  test('stays the same for ever: it stands in logs', () => {
    const names = ['', 'a', 'order-17', '0b9e6a0e-2f6b-4c1e-9a3c-5d2f8e7b1c4d'].map((id) =>
      nameOf('0123456789abcdef0123456789abcdef', Buffer.from(id)),
    );
    expect(names).toEqual([
      '23d0b9a5a0aadb41469f2df0d7c531d9',
      'f4a267977a126da2a8d14eee2f71bf93',
      '9e54c0947affbbdde918145b987ceda0',
      '9e4c747c4699b6b9b6b715bd29b38154',
    ]);
  });

  test('can not be foretold without the secret of the log', () => {
    const id = Buffer.from('order-17');
    const names = Array.from({ length: 1000 }, (_, log) => nameOf(`log ${log}`, id));
    expect(new Set(names.map((name) => name.slice(0, 16))).size).toBe(1000);
  });

  test('changes in about half of its bits with any bit of the id, and with its length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.nat(), (id, nat) => {
        const other = Uint8Array.from(id);
        const bit = nat % (8 * id.length);
        other[bit >> 3]! ^= 1 << (bit & 7);
        for (const changed of [other, Uint8Array.of(...id, 0), id.subarray(1)]) {
          const [a, b] = [id, changed].map((bytes) => BigInt(`0x${nameOf('secret', bytes)}`));
          const different = [...(a! ^ b!).toString(2)].filter((digit) => digit === '1').length;
          // Of 128 fair coins so many or so few are heads once in 10^12 times.
          expect(Math.abs(different - 64)).toBeLessThan(41);
        }
      }),
    );
  });

  test('is that of the bytes, wherever they stand', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), fc.uint8Array(), (before, id, after) => {
        const around = Buffer.concat([before, id, after]);
        expect(nameOf('secret', around, before.length, before.length + id.length)).toBe(nameOf('secret', id));
      }),
    );
  });
});
