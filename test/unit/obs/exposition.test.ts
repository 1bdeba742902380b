import { describe, expect, test } from '@jest/globals';
import { Exposition } from '../../../src/obs/exposition.ts';
import type { GaugeName } from '../../../src/obs/exposition.ts';
import { Histogram } from '../../../src/obs/instruments.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { NodeProcess } from '../../../src/obs/process.ts';
import type { ProcessProbe } from '../../../src/obs/process.ts';
import { METRICS } from '../../../src/obs/table.ts';
import type { MetricName } from '../../../src/obs/table.ts';
import type { Clock } from '../../../src/std/clock.ts';

let now = 1_000_000;
const clock: Clock = { now: () => now, after: () => ({ cancel: () => undefined }), soon: () => undefined };

const probe: ProcessProbe = {
  startedAtSeconds: 1,
  cpuSeconds: () => 2,
  cpu: () => 0.5,
  eventLoopUtilization: () => 0.25,
  loopDelay: () => ({ median: 0.001, p99: 0.002, max: 0.003 }),
  memory: () => ({ rss: 4, heapUsed: 3, heapTotal: 2, external: 1 }),
  gcPauses: () => [['minor', new Histogram([1])]],
};

/** All metrics that the instruments and the process don't give. */
function watchAll(exposition: Exposition, of: Metrics): void {
  const counted = new Set([
    ...Object.keys(of),
    'messages',
    'tasks',
    'taskDuration',
    'namespaceTasks',
    'namespaceRefused',
  ]);
  for (const name of Object.keys(METRICS) as (GaugeName | MetricName)[]) {
    if (counted.has(name) || METRICS[name].name.match(/^(process|nodejs)_|_per_second$|_cpu_|event_loop/))
      continue;
    const [label] = METRICS[name].labels;
    exposition.watch({ [name]: () => (label === undefined ? 1 : [['a', 1]]) });
  }
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

describe('the exposition', () => {
  test('says type and help of every metric of the table, and of no other', async () => {
    const metrics = new Metrics({ clock, taskTypes: 2 });
    const exposition = new Exposition(metrics, probe);
    watchAll(exposition, metrics);
    const text = await exposition.text();
    const types = text.split('\n').filter((line) => line.startsWith('# TYPE '));
    const expected = Object.values(METRICS).map(({ name, type }) => `# TYPE ${name} ${type}`);
    expect(types.toSorted()).toEqual(expected.toSorted());
    for (const { name, help } of Object.values(METRICS)) expect(text).toContain(`# HELP ${name} ${help}\n`);
    expect(exposition.contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  });

  test('keeps the names that users of the first AgentHub know', async () => {
    const metrics = new Metrics({ clock, taskTypes: 2 });
    const figures = metrics.taskTypes.of('summarise');
    figures.accepted.add(3);
    figures.completed.add(2);
    figures.duration.observe(0.02, 2);
    const text = lines(await new Exposition(metrics).text());
    expect(text).toContain('agenthub_tasks_total{task_type="summarise",status="accepted"} 3');
    expect(text).toContain('agenthub_tasks_total{task_type="summarise",status="completed"} 2');
    expect(text).toContain('agenthub_task_duration_seconds_bucket{le="0.01",task_type="summarise"} 0');
    expect(text).toContain('agenthub_task_duration_seconds_bucket{le="0.025",task_type="summarise"} 2');
    expect(text).toContain('agenthub_task_duration_seconds_bucket{le="+Inf",task_type="summarise"} 2');
    expect(text).toContain('agenthub_task_duration_seconds_sum{task_type="summarise"} 0.04');
    expect(text).toContain('agenthub_task_duration_seconds_count{task_type="summarise"} 2');
  });

  test('shows what was counted, when it is asked and not before', async () => {
    const metrics = new Metrics({ clock, taskTypes: 2 });
    const exposition = new Exposition(metrics, probe);
    exposition.watch({ queuedTasks: () => 42 });
    metrics.results.add(5);
    metrics.progress.add(7);
    metrics.refused.of('exhausted').add(2);
    metrics.limits.of('limits.mailboxDepth').add(2);
    metrics.dead.of('max_attempts').add();
    metrics.appendTasks.observe(100);
    const text = lines(await exposition.text());
    for (const line of [
      'agenthub_results_total 5',
      'agenthub_messages_total 12',
      'agenthub_refused_total{reason="exhausted"} 2',
      'agenthub_limits_hit_total{limit="limits.mailboxDepth"} 2',
      'agenthub_dead_letters_total{reason="max_attempts"} 1',
      'agenthub_log_batch_tasks_bucket{le="100"} 1',
      'agenthub_log_batch_tasks_bucket{le="30"} 0',
      'agenthub_queued_tasks 42',
      'agenthub_event_loop_delay_seconds{quantile="0.99"} 0.002',
      'process_resident_memory_bytes 4',
    ]) {
      expect(text).toContain(line);
    }
  });

  test('escapes hostile task types', async () => {
    const metrics = new Metrics({ clock, taskTypes: 2 });
    metrics.taskTypes.of('a"} 1\nevil 2').accepted.add();
    const text = lines(await new Exposition(metrics).text());
    expect(text.some((line) => line.startsWith('evil'))).toBe(false);
    expect(text).toContain('agenthub_tasks_total{task_type="a\\"} 1\\nevil 2",status="accepted"} 1');
  });

  test('does not grow with the number of task types', async () => {
    const metrics = new Metrics({ clock, taskTypes: 10 });
    const exposition = new Exposition(metrics);
    for (let i = 0; i < 11; i++) metrics.taskTypes.of(`type-${i}`).accepted.add();
    const before = lines(await exposition.text()).length;
    for (let i = 0; i < 1_000_000; i++) metrics.taskTypes.of(`type-${i}`).accepted.add();
    expect(lines(await exposition.text())).toHaveLength(before);
    expect(metrics.accepted).toBe(1_000_011);
  });
});

describe('the rates', () => {
  test('are per second, and messages are all of them', () => {
    const metrics = new Metrics({ clock, taskTypes: 2 });
    metrics.taskTypes.of('a').accepted.add(100);
    metrics.taskTypes.of('b').accepted.add(100);
    metrics.results.add(50);
    metrics.progress.add(10);
    now += 2000;
    const rates = metrics.rates();
    expect(rates.tasksPerSecond).toBeCloseTo(100, 6);
    expect(rates.resultsPerSecond).toBeCloseTo(25, 6);
    expect(rates.progressPerSecond).toBeCloseTo(5, 6);
    expect(rates.messagesPerSecond).toBeCloseTo(130, 6);
  });
});

describe('the process', () => {
  test('is measured in the units that the probe promises', () => {
    const process = new NodeProcess(clock);
    try {
      now += 1000;
      expect(process.cpuSeconds()).toBeGreaterThan(0);
      expect(process.eventLoopUtilization()).toBeGreaterThanOrEqual(0);
      expect(process.eventLoopUtilization()).toBeLessThanOrEqual(1);
      expect(process.cpu()).toBeGreaterThanOrEqual(0);
      expect(process.memory().rss).toBeGreaterThan(process.memory().heapUsed);
      expect(process.startedAtSeconds).toBeLessThan(Date.now() / 1000);
      expect(Array.from(process.gcPauses(), ([kind]) => kind)).toEqual([
        'minor',
        'major',
        'incremental',
        'weakcb',
      ]);
      expect(process.loopDelay().max).toBeGreaterThanOrEqual(process.loopDelay().median);
    } finally {
      process.close();
    }
  });
});
