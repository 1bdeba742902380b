import { expect, test } from '@jest/globals';
import { bytes, milliseconds, rate, span } from '../../../src/cli/format.ts';
import { PassThrough } from 'node:stream';
import { Output } from '../../../src/cli/output.ts';

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [1_500_000, '1.4 MiB'],
  [5 * 2 ** 40, '5 TiB'],
])('%p bytes are %s', (value, text) => expect(bytes(value)).toBe(text));

test.each([
  [0, '0ms'],
  [999, '999ms'],
  [1000, '1s'],
  [61_000, '1m1s'],
  [3_600_000, '1h'],
  [5 * 3_600_000 + 59_000, '5h'],
  [9 * 86_400_000 + 3_600_000, '9d1h'],
  [12 * 86_400_000 + 3_600_000, '12d'],
])('%p milliseconds take %s', (ms, text) => expect(span(ms)).toBe(text));

test('figures keep the digits that count', () => {
  expect([0.1234, 12.34, 1234].map(milliseconds)).toEqual(['0.12', '12.3', '1,234']);
  expect([0, 0.25, 12, 12.34, 1234.5].map(rate)).toEqual(['0', '0.3', '12', '12.3', '1,235']);
});

test('what others have written can neither break a table nor command the terminal', () => {
  const output = new Output(new PassThrough(), false);
  const text = output.table([{ name: 'a\nb\u001b[2Jc' }], [{ head: 'NAME', value: ({ name }) => name }]);
  expect(text).toContain('a b [2Jc');
});
