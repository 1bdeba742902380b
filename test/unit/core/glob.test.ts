import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Glob } from '../../../src/core/glob.ts';

describe('a glob', () => {
  test.each([
    ['planner', 'planner'],
    ['', ''],
    ['*', ''],
    ['*', 'anything at all'],
    ['**', 'x'],
    ['agents_*', 'agents_'],
    ['agents_*', 'agents_17'],
    ['*@eu-west', 'planner@eu-west'],
    ['a*b*c', 'a-b-b-c'],
    ['?', 'x'],
    ['?', '🤖'],
    ['*🤖?', 'x🤖é'],
    ['v?.*', 'v1.'],
    ['*?', 'x'],
    ['a.b', 'a.b'],
    ['[ab]\\*', '[ab]\\*'],
    [`${'long-'.repeat(20)}*${'tail-'.repeat(20)}`, `${'long-'.repeat(20)}${'tail-'.repeat(21)}`],
  ])('%j matches %j', (pattern, text) => {
    expect(new Glob(pattern).matches(text)).toBe(true);
  });

  test.each([
    ['planner', 'planners'],
    ['planner', 'Planner'],
    ['', 'x'],
    ['?', ''],
    ['?', 'xy'],
    ['agents_*', 'agent_17'],
    ['*@eu-west', 'planner@eu-west-1'],
    ['a*b*c', 'acb'],
    ['a*a', 'a'],
    ['a.b', 'axb'],
    ['*?', ''],
    [`*${'x'.repeat(64)}`, 'x'.repeat(63)],
  ])('%j does not match %j', (pattern, text) => {
    expect(new Glob(pattern).matches(text)).toBe(false);
  });

  test('without * and ? is literal', () => {
    expect(new Glob('a.b').literal).toBe(true);
    expect(new Glob('a*').literal).toBe(false);
    expect(new Glob('a?').literal).toBe(false);
  });

  test('means what the regular expression means that it stands for', () => {
    const parts = fc.constantFrom('a', 'b', 'ab', '🤖', '*', '?', '.');
    const patterns = fc.array(parts, { maxLength: 80, size: 'max' }).map((symbols) => symbols.join(''));
    // Readings of a pattern that come close to its texts find more than random ones.
    const cases = patterns.chain((pattern) =>
      fc.record({
        pattern: fc.constant(pattern),
        fill: fc.array(fc.constantFrom('', 'a', 'b', 'abab', '🤖', '.'), { minLength: 1, maxLength: 9 }),
      }),
    );
    fc.assert(
      fc.property(cases, ({ pattern, fill }) => {
        let holes = 0;
        const text = pattern.replace(/[*?]/g, () => fill[holes++ % fill.length]!);
        const source = pattern.replace(/\./g, '\\.').replace(/\*+/g, '.*').replace(/\?/g, '.');
        // The regular expression may need exponential time where the glob does not.
        fc.pre((pattern.match(/\*+/g) ?? []).length <= 6);
        expect(new Glob(pattern).matches(text)).toBe(new RegExp(`^${source}$`, 'su').test(text));
      }),
      { numRuns: 1000 },
    );
  });

  test('that would take a backtracking matcher for ever is done at once', () => {
    const pattern = '*a?'.repeat(80) + 'b';
    expect(new Glob(pattern).matches('a'.repeat(100_000))).toBe(false);
    expect(new Glob(pattern).matches('a'.repeat(100_000) + 'b')).toBe(true);
  });
});
