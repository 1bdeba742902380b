import { describe, expect, test } from '@jest/globals';
import { churns } from '../../support/churn.ts';

const BROKERS = 100;
const SHARDS = 256;

describe('the assignment of a hundred brokers', () => {
  const all = churns(BROKERS, SHARDS);

  test.each(all.map(({ name, steps }) => ({ name, steps })))(
    'is even, and moves no more than it must: $name',
    ({ steps }) => {
      expect(steps.length).toBeGreaterThan(0);
      // No more shards move than must, all brokers have as many but for one, and nobody gets many at once.
      expect(steps.map(({ moved }) => moved)).toEqual(steps.map(({ least }) => least));
      expect(Math.max(...steps.map(({ uneven }) => uneven))).toBeLessThanOrEqual(1);
      expect(Math.max(...steps.map(({ got }) => got))).toBeLessThanOrEqual(SHARDS / 2);
    },
  );

  test('moves no shard in a rolling update more than thrice, as a mean', () => {
    const roll = all.find(({ name }) => name.startsWith('a rolling update'))!;
    const moved = roll.steps.reduce((sum, step) => sum + step.moved, 0);
    expect(moved / SHARDS).toBeLessThanOrEqual(3);
  });
});
