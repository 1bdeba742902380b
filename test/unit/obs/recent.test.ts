import { describe, expect, test } from '@jest/globals';
import { Metrics } from '../../../src/obs/metrics.ts';
import { RecentLatencies } from '../../../src/obs/recent.ts';
import { VirtualClock } from '../../support/clock.ts';

function start(): { clock: VirtualClock; metrics: Metrics; latencies: RecentLatencies } {
  const clock = new VirtualClock();
  const metrics = new Metrics({ clock, taskTypes: 10 });
  const latencies = new RecentLatencies(clock, metrics);
  latencies.note();
  return { clock, metrics, latencies };
}

describe('recent latencies', () => {
  test('are nothing before anything was measured', () => {
    const { latencies } = start();
    expect(latencies.read().routing).toEqual({ p50: 0, p90: 0, p99: 0, max: 0, count: 0 });
  });

  test('are in milliseconds, and a value is spread over its bucket', () => {
    const { metrics, latencies } = start();
    metrics.routing.observe(0.002, 90);
    metrics.routing.observe(0.02, 10);
    const { p50, p90, p99, max, count } = latencies.read().routing;
    expect(count).toBe(100);
    expect(p50).toBeGreaterThan(1);
    expect(p50).toBeLessThan(2.5);
    expect(p90).toBeCloseTo(2.5);
    expect(p99).toBeGreaterThan(10);
    expect(p99).toBeLessThan(25);
    expect(max).toBe(25);
  });

  test('end with the largest bound for what is beyond all bounds', () => {
    const { metrics, latencies } = start();
    metrics.endToEnd.observe(1000);
    expect(latencies.read().endToEnd).toMatchObject({ p50: 60_000, max: 60_000, count: 1 });
  });

  test('are those of the last minute only', () => {
    const { clock, metrics, latencies } = start();
    const pass = (seconds: number): void => {
      for (let second = 0; second < seconds; second += 3) {
        clock.advance(3000);
        latencies.note();
      }
    };
    metrics.appendSeconds.observe(5, 10);
    pass(30);
    metrics.appendSeconds.observe(0.001, 3);
    expect(latencies.read().append.count).toBe(13);
    pass(36);
    expect(latencies.read().append).toMatchObject({ count: 3, max: 1 });
    pass(60);
    expect(latencies.read().append.count).toBe(0);
  });

  test('of processing are those of all task types together', () => {
    const { metrics, latencies } = start();
    metrics.taskTypes.of('a').duration.observe(0.001);
    metrics.taskTypes.of('b').duration.observe(0.1, 2);
    expect(latencies.read().processing).toMatchObject({ count: 3, max: 100 });
  });
});
