import { describe, expect, test } from '@jest/globals';
import { officeDay, replay } from '../../support/scaling-day.ts';
import { cluster } from './support.ts';

const { spec } = cluster();
const POOL = { minReplicas: 2, maxReplicas: 12, shards: 16, cpuCores: 1 };
const TARGET = spec.autoscaling.targets.tasksPerSecond;
const day = replay(officeDay(), spec.autoscaling, POOL);
const changes = day.filter(({ replicas }, at) => at > 0 && replicas !== day[at - 1]!.replicas);

describe('through the day that docs/scaling.svg shows', () => {
  test('the busiest broker is seldom above its target, and never for long', () => {
    const above = day.map(({ busiest }) => busiest > TARGET * 1.1);
    let longest = 0;
    let run = 0;
    for (const each of above) longest = Math.max(longest, (run = each ? run + 1 : 0));
    expect(longest).toBeLessThanOrEqual(4);
    expect(above.filter(Boolean).length / above.length).toBeLessThan(0.02);
  });

  test('brokers come and go with the load, and do not flap', () => {
    expect(new Set(day.map(({ replicas }) => replicas)).size).toBeGreaterThan(3);
    expect(changes.length).toBeLessThan(60);
    expect(day.at(-1)!.replicas).toBe(POOL.minReplicas);
  });

  test('each goes alone, a minute at least after the one before, and after five minutes without need', () => {
    const downs = changes.filter(({ minute, replicas }) => {
      const before = day[day.findIndex((each) => each.minute === minute) - 1]!;
      return replicas < before.replicas;
    });
    downs.forEach(({ minute }, at) => {
      if (at > 0) expect(minute - downs[at - 1]!.minute).toBeGreaterThanOrEqual(1);
    });
    for (const down of downs) {
      const up = changes
        .filter(({ minute }) => minute < down.minute && !downs.some((d) => d.minute === minute))
        .at(-1);
      if (up !== undefined) expect(down.minute - up.minute).toBeGreaterThanOrEqual(5);
    }
  });

  test('none goes while brokers do not answer', () => {
    const blind = day.filter(({ told }) => !told);
    expect(new Set(blind.map(({ replicas }) => replicas)).size).toBe(1);
  });
});
