import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  checkPlacementRules,
  lane,
  place,
  PlacementTable,
  type PlacementRule,
  type PlacementRules,
} from '../../../src/core/placement.ts';
import { regionOf } from '../../../src/core/shard.ts';

const document = (...rules: PlacementRule[]): PlacementRules => ({
  version: 1,
  defaultPool: 'rest',
  rules,
});

const poolOf = (mailbox: string, ...rules: PlacementRule[]): string =>
  place(mailbox, document(...rules)).pool;

describe('placement', () => {
  const thousand: PlacementRule = { pool: 'static', range: { prefix: 'agents_', first: 1, last: 1000 } };

  test.each([
    ['agents_1', 'static'],
    ['agents_1000', 'static'],
    ['reply:agents_7#session', 'static'],
    ['dead:reply:agents_7', 'static'],
    ['agents_0', 'rest'],
    ['agents_1001', 'rest'],
    ['agents_007', 'rest'],
    ['agents_', 'rest'],
    ['agents_7x', 'rest'],
    ['agents_7@eu', 'rest'],
    ['xagents_7', 'rest'],
    ['type:agents_7', 'rest'],
    ['agents_99999999999999999999', 'rest'],
  ])('by a static range: %s → %s', (mailbox, pool) => {
    expect(poolOf(mailbox, thousand)).toBe(pool);
  });

  test('a range may start at 0 and may have no prefix', () => {
    const numbers: PlacementRule = { pool: 'numbers', range: { prefix: '', first: 0, last: 9 } };
    expect(['0', '9', '10', '00', 'a0', ''].map((agent) => poolOf(agent, numbers))).toEqual([
      'numbers',
      'numbers',
      'rest',
      'rest',
      'rest',
      'rest',
    ]);
  });

  test.each([
    ['planner', 'exact'],
    ['planner2', 'glob'],
    ['dead:planner2', 'glob'],
    ['type:planner', 'rest'],
    ['*', 'rest'],
  ])('by the glob of an agent id: %s → %s', (mailbox, pool) => {
    const rules: PlacementRule[] = [
      { pool: 'exact', agents: 'planner' },
      { pool: 'glob', agents: 'plan*' },
    ];
    expect(poolOf(mailbox, ...rules)).toBe(pool);
  });

  test.each([
    ['type:ocr', 'gpu'],
    ['type:render-3d', 'gpu'],
    ['dead:type:ocr', 'gpu'],
    ['type:ocr~3', 'gpu'],
    ['type:ocr~x', 'rest'],
    ['ocr', 'rest'],
  ])('by task type: %s → %s', (mailbox, pool) => {
    expect(poolOf(mailbox, { pool: 'gpu', taskTypes: 'ocr' }, { pool: 'gpu', taskTypes: 'render-*' })).toBe(
      pool,
    );
  });

  test.each([
    ['planner@eu-west', 'europe'],
    ['reply:a@b@eu-west#1', 'europe'],
    ['planner@us', 'rest'],
    ['planner', 'rest'],
    ['eu-west', 'rest'],
  ])('by region: %s → %s', (mailbox, pool) => {
    expect(poolOf(mailbox, { pool: 'europe', region: 'eu-west' })).toBe(pool);
  });

  test('the first rule that matches counts, whatever its kind', () => {
    const range: PlacementRule = { pool: 'range', range: { prefix: 'a', first: 1, last: 5 } };
    const glob: PlacementRule = { pool: 'glob', agents: 'a?' };
    const exact: PlacementRule = { pool: 'exact', agents: 'a3' };
    expect(poolOf('a3', range, glob, exact)).toBe('range');
    expect(poolOf('a3', glob, exact, range)).toBe('glob');
    expect(poolOf('a3', exact, range, glob)).toBe('exact');
    expect(poolOf('a3', { ...range, pool: 'first' }, range)).toBe('first');
    expect(poolOf('a3', { ...exact, pool: 'first' }, exact)).toBe('first');
  });

  test('says into how many mailboxes a capability is split', () => {
    const rules = document({ pool: 'gpu', taskTypes: 'ocr', spread: 4 }, { pool: 'gpu', taskTypes: '*' });
    expect(place('type:ocr', rules)).toEqual({ pool: 'gpu', spread: 4 });
    expect(place('type:ocr~2', rules)).toEqual({ pool: 'gpu', spread: 4 });
    expect(place('type:draw', rules)).toEqual({ pool: 'gpu', spread: 1 });
    expect(place('ocr', rules)).toEqual({ pool: 'rest', spread: 1 });
  });

  test('the parts of a split capability are chosen by number', () => {
    expect([0, 1, 2, 3, 4].map((number) => lane('type:ocr', 3, number))).toEqual([
      'type:ocr~0',
      'type:ocr~1',
      'type:ocr~2',
      'type:ocr~0',
      'type:ocr~1',
    ]);
    expect(lane('type:ocr', 1, 7)).toBe('type:ocr');
    expect(lane('type:ocr~1', 3, 0)).toBe('type:ocr~1');
  });

  test('a table answers as trying one rule after the other does', () => {
    const pools = fc.constantFrom('one', 'two', 'three');
    const rule: fc.Arbitrary<PlacementRule> = fc.oneof(
      fc.record({
        pool: pools,
        range: fc
          .tuple(fc.constantFrom('a', 'ab', 'a1b'), fc.nat(15), fc.nat(15))
          .map(([prefix, from, count]) => ({ prefix, first: from, last: from + count })),
      }),
      fc.record({ pool: pools, agents: fc.constantFrom('a*', 'a?', 'ab1', 'a1b*@eu', '*@us', 'b', '*7') }),
      fc.record({ pool: pools, region: fc.constantFrom('eu', 'us') }),
      fc.record({
        pool: pools,
        taskTypes: fc.constantFrom('*', 'ocr', 'o?r', 'x*'),
        spread: fc.nat(3).map((n) => n + 1),
      }),
    );
    const owner = fc.oneof(
      fc.constantFrom('type:ocr', 'type:ocr~1', 'type:xyz', 'type:b'),
      fc
        .tuple(
          fc.constantFrom('a', 'ab', 'a1b', 'b'),
          fc.constantFrom('', 0, 1, 7, 16, 30),
          fc.constantFrom('', '@eu', '@us'),
        )
        .map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 8, size: 'max' }), owner, (rules, mailbox) => {
        const expected = rules.find((each) => matches(each, mailbox));
        const spread = expected && 'taskTypes' in expected ? expected.spread : 1;
        const table = new PlacementTable(document(...rules));
        expect(table.place(mailbox)).toEqual({ pool: expected?.pool ?? 'rest', spread });
        expect(table.place(`dead:${mailbox}`)).toEqual(table.place(mailbox));
      }),
      { numRuns: 1000 },
    );
  });
});

/** What a rule means, spelled out. */
function matches(rule: PlacementRule, mailbox: string): boolean {
  const taskType = mailbox.startsWith('type:') ? mailbox.slice(5).split('~')[0]! : undefined;
  if ('taskTypes' in rule) return taskType !== undefined && globToRegExp(rule.taskTypes).test(taskType);
  if (taskType !== undefined) return false;
  if ('agents' in rule) return globToRegExp(rule.agents).test(mailbox);
  if ('region' in rule) return regionOf(mailbox) === rule.region;
  const { prefix, first, last } = rule.range;
  for (let number = first; number <= last; number++) if (mailbox === `${prefix}${number}`) return true;
  return false;
}

function globToRegExp(glob: string): RegExp {
  return new RegExp(`^${glob.replaceAll('*', '.*').replaceAll('?', '.')}$`);
}

describe('placement rules', () => {
  const range = (prefix: string, first: number, last: number): PlacementRule => ({
    pool: 'a',
    range: { prefix, first, last },
  });

  test.each<[string, PlacementRule]>([
    ['rules[1].pool', { pool: '', agents: '*' }],
    ['rules[1].pool', { pool: 'Upper', agents: '*' }],
    ['rules[1].pool', { pool: '-a', agents: '*' }],
    ['rules[1].pool', { pool: 'a'.repeat(64), agents: '*' }],
    ['rules[1].agents', { pool: 'a', agents: '' }],
    ['rules[1].agents', { pool: 'a', agents: 'x'.repeat(257) }],
    ['rules[1].taskTypes', { pool: 'a', taskTypes: '' }],
    ['rules[1].spread', { pool: 'a', taskTypes: '*', spread: 0 }],
    ['rules[1].spread', { pool: 'a', taskTypes: '*', spread: 257 }],
    ['rules[1].spread', { pool: 'a', taskTypes: '*', spread: 1.5 }],
    ['rules[1].spread', { pool: 'a', agents: '*', spread: 2 }],
    ['rules[1].region', { pool: 'a', region: '' }],
    ['rules[1].region', { pool: 'a', region: 'a@b' }],
    ['rules[1].range.prefix', range('agents1', 1, 2)],
    ['rules[1].range.first', range('agents_', -1, 2)],
    ['rules[1].range.first', range('agents_', 0.5, 2)],
    ['rules[1].range.last', range('agents_', 3, 2)],
    ['rules[1].range.last', range('agents_', 3, Infinity)],
    ['rules[1]', { pool: 'a' } as PlacementRule],
    ['rules[1]', { pool: 'a', agents: '*', region: 'eu' }],
  ])('are refused, naming %s', (field, rule) => {
    const rules = document({ pool: 'a', agents: '*' }, rule);
    const refusal = expect.objectContaining({ code: 'invalid', field: `placement.${field}` });
    expect(() => checkPlacementRules(rules)).toThrow(refusal);
    expect(() => new PlacementTable(rules)).toThrow(refusal);
  });

  test('are refused with the name that the caller gave them', () => {
    expect(() => checkPlacementRules({ ...document(), version: -1 }, 'spec.placement')).toThrow(
      expect.objectContaining({ code: 'invalid', field: 'spec.placement.version' }),
    );
    expect(() => checkPlacementRules({ ...document(), defaultPool: '' }, 'spec.placement')).toThrow(
      expect.objectContaining({ code: 'invalid', field: 'spec.placement.defaultPool' }),
    );
    const many = document(...Array.from({ length: 10_001 }, () => range('a', 1, 2)));
    expect(() => checkPlacementRules(many)).toThrow(
      expect.objectContaining({ code: 'invalid', field: 'placement.rules' }),
    );
  });

  test('that make sense are taken', () => {
    const rules = document(
      range('agents_', 1, 1),
      { pool: 'a', taskTypes: '*', spread: 256 },
      { pool: 'b', region: 'eu' },
    );
    expect(() => checkPlacementRules(rules)).not.toThrow();
    expect(new PlacementTable({ ...rules, version: 9 }).version).toBe(9);
  });
});
