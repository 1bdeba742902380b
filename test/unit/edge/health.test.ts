import { describe, expect, test } from '@jest/globals';
import { goDuration } from '../../../src/edge/health.ts';

describe('a duration as Go writes it', () => {
  test.each([
    [-1, '0s'],
    [0, '0s'],
    [0.0123, '12µs'],
    [0.9999, '999µs'],
    [1, '1ms'],
    [1.5, '1.5ms'],
    [999.9999, '999.999ms'],
    [1000, '1s'],
    [59_999.9, '59.9999s'],
    [60_000, '1m0s'],
    [3_599_000, '59m59s'],
    [3_600_000, '1h0m0s'],
    [90_061_001, '25h1m1.001s'],
  ])('%d ms is %s', (ms, expected) => {
    expect(goDuration(ms)).toBe(expected);
  });
});
