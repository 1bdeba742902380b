import { describe, expect, test } from '@jest/globals';
import { compareVersions } from '../../../src/core/version.ts';

describe('versions', () => {
  test('are in the order of semver.org', () => {
    const ordered = ['1.0.0-alpha', '1.0.0-alpha.1', '1.0.0-alpha.beta', '1.0.0-beta', '1.0.0-beta.2'];
    ordered.push('1.0.0-beta.11', '1.0.0-rc.1', '1.0.0', '1.2.0', '1.10.0', '2.0.0');
    expect(ordered.toReversed().sort(compareVersions)).toEqual(ordered);
  });

  test.each([
    ['1.0.0', '1.0.0'],
    ['1.0.0+a', '1.0.0+b'],
    ['', ''],
  ])('%s is as old as %s', (one, other) => {
    expect(compareVersions(one, other)).toBe(0);
  });
});
