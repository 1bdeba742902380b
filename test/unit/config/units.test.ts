import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatDuration, formatSize, parseDuration, parseSize } from '../../../src/config/units.ts';

describe('a duration', () => {
  test.each([
    [500, 500],
    ['500', 500],
    ['0', 0],
    ['500ms', 500],
    ['1.5s', 1500],
    ['2.3s', 2300],
    [' 30 s ', 30_000],
    ['1h30m', 5_400_000],
    ['1h 30m', 5_400_000],
    ['7d', 604_800_000],
  ])('%j is %d ms', (written, ms) => {
    expect(parseDuration(written)).toBe(ms);
  });

  test.each([
    '',
    ' ',
    'soon',
    '5 parsecs',
    '-1s',
    '1.5',
    '0.0001s',
    '1s!',
    's',
    '1e3',
    NaN,
    -1,
    0.5,
    null,
    [],
    true,
  ])('%j is none', (written) => {
    expect(parseDuration(written)).toBeUndefined();
  });

  test('shows in a form that reads back as the same', () => {
    fc.assert(
      fc.property(fc.nat(1e12), (ms) => {
        expect(parseDuration(formatDuration(ms))).toBe(ms);
      }),
    );
    expect(['7d', '90m', '1500ms', '0'].map(parseDuration).map((ms) => formatDuration(ms ?? -1))).toEqual([
      '7d',
      '90m',
      '1500ms',
      '0',
    ]);
  });
});

describe('a size', () => {
  test.each([
    [4096, 4096],
    ['4096', 4096],
    ['64KiB', 65_536],
    ['64kib', 65_536],
    ['64Ki', 65_536],
    ['10MB', 10_000_000],
    ['1.5 GiB', 1_610_612_736],
    ['1TiB', 2 ** 40],
    ['12B', 12],
  ])('%j is %d bytes', (written, bytes) => {
    expect(parseSize(written)).toBe(bytes);
  });

  test.each(['', '1 M', '-5', '0.3B', '9007199254740993', '1PiB', 'MiB', {}])('%j is none', (written) => {
    expect(parseSize(written)).toBeUndefined();
  });

  test('shows in a form that reads back as the same', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        expect(parseSize(formatSize(bytes))).toBe(bytes);
      }),
    );
    expect(formatSize(64 * 2 ** 20)).toBe('64MiB');
  });
});
