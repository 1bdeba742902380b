import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import type { AlertRule } from '../../operator/plan/alerts.ts';
import { ALERTS, alertRules } from '../../operator/plan/alerts.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const PROMTOOL = join(ROOT, '.tools/bin/promtool');
const RULES = join(ROOT, 'charts/agenthub/alerts/agenthub.rules.yaml');

/** What an alert is tried with, a value a minute: when it must not fire yet, when it must, and when all is well. */
interface Trial {
  /** Series and their values in promtool's notation. */
  readonly ill: Readonly<Record<string, string>>;
  readonly well: Readonly<Record<string, string>>;
  /** Minutes after which it must be silent still, and after which it must have fired. */
  readonly silent: number;
  readonly firing: number;
  /** Labels that it must have when it fires, beside its severity. */
  readonly labels?: Readonly<Record<string, string>>;
}

const JOB = 'job="agenthub"';
const B1 = `${JOB},instance="b1"`;
const B2 = `${JOB},instance="b2"`;

/** A trial of a gauge of two brokers, of which the second is well. */
function gauge(
  metric: string,
  ill: number,
  [silent, firing]: readonly [number, number],
  labels: Readonly<Record<string, string>> = { job: 'agenthub' },
): Trial {
  return {
    ill: { [`${metric}{${B1}}`]: `${ill}x30`, [`${metric}{${B2}}`]: '0x30' },
    well: { [`${metric}{${B1}}`]: '0x30', [`${metric}{${B2}}`]: '0x30' },
    silent,
    firing,
    labels,
  };
}

/** A trial of a counter that grows by so many a minute. */
function counter(
  metric: string,
  matchers: string,
  perMinute: number,
  [silent, firing]: readonly [number, number],
): Trial {
  const more = matchers === '' ? '' : `,${matchers}`;
  return {
    ill: { [`${metric}{${B1}${more}}`]: `0+${perMinute}x30` },
    well: { [`${metric}{${B1}${more}}`]: '7x30' },
    silent,
    firing,
    labels: { job: 'agenthub' },
  };
}

const CLUSTER = 'namespace="ns",cluster="hub"';
const condition = (type: string, times: readonly [number, number]): Trial => ({
  ill: { [`agenthub_operator_condition{${CLUSTER},condition="${type}"}`]: '1x30' },
  well: { [`agenthub_operator_condition{${CLUSTER},condition="${type}"}`]: '0x30' },
  silent: times[0],
  firing: times[1],
  labels: { namespace: 'ns', cluster: 'hub' },
});

const TRIALS: Readonly<Record<string, Trial>> = {
  AgentHubBrokerDown: {
    ill: { [`up{${B1}}`]: '0x30', [`up{${B2}}`]: '1x30' },
    well: { [`up{${B1}}`]: '1x30' },
    silent: 1,
    firing: 3,
    labels: { job: 'agenthub', instance: 'b1' },
  },
  AgentHubNoBroker: {
    ill: { [`up{${B1}}`]: '0x30', [`up{${B2}}`]: '0x30' },
    well: { [`up{${B1}}`]: '0x30', [`up{${B2}}`]: '1x30' },
    silent: 0,
    firing: 2,
    labels: { job: 'agenthub' },
  },
  AgentHubAgentsUnserved: gauge('agenthub_oldest_unserved_task_age_seconds', 400, [4, 6]),
  AgentHubTasksWait: gauge('agenthub_oldest_task_age_seconds', 700, [9, 11]),
  AgentHubDeadLetters: counter('agenthub_dead_letters_total', 'reason="attempts"', 60, [1, 5]),
  AgentHubRefuses: counter('agenthub_refused_total', 'reason="exhausted"', 120, [3, 9]),
  AgentHubSessionsRefused: counter('agenthub_limits_hit_total', 'limit="limits.sessions"', 1, [3, 9]),
  AgentHubCopiesDropped: counter('agenthub_listener_copies_dropped_total', '', 5, [8, 14]),
  AgentHubShardWithoutOwner: {
    ill: { [`agenthub_shards_unowned{${B1}}`]: '2x30', [`agenthub_shards_unowned{${B2}}`]: '1x30' },
    // One that hears nobody believes that nobody serves.
    well: { [`agenthub_shards_unowned{${B1}}`]: '16x30', [`agenthub_shards_unowned{${B2}}`]: '0x30' },
    silent: 0,
    firing: 2,
    labels: { job: 'agenthub' },
  },
  AgentHubHandOverStuck: gauge('agenthub_shards_coming', 2, [1, 3], { job: 'agenthub', instance: 'b1' }),
  AgentHubLogSlow: {
    ill: {
      [`agenthub_log_append_latency_seconds_bucket{${B1},le="0.5"}`]: '0+90x30',
      [`agenthub_log_append_latency_seconds_bucket{${B1},le="1"}`]: '0+100x30',
      [`agenthub_log_append_latency_seconds_bucket{${B1},le="+Inf"}`]: '0+100x30',
    },
    well: {
      [`agenthub_log_append_latency_seconds_bucket{${B1},le="0.5"}`]: '0+100x30',
      [`agenthub_log_append_latency_seconds_bucket{${B1},le="1"}`]: '0+100x30',
      [`agenthub_log_append_latency_seconds_bucket{${B1},le="+Inf"}`]: '0+100x30',
    },
    silent: 8,
    firing: 14,
    labels: { job: 'agenthub' },
  },
  AgentHubMemoryHigh: {
    ill: {
      [`process_resident_memory_bytes{${B1}}`]: '95x30',
      [`agenthub_memory_high_water_bytes{${B1}}`]: '100x30',
    },
    well: {
      [`process_resident_memory_bytes{${B1}}`]: '80x30',
      [`agenthub_memory_high_water_bytes{${B1}}`]: '100x30',
    },
    silent: 4,
    firing: 6,
    labels: { job: 'agenthub', instance: 'b1' },
  },
  AgentHubLoopBusy: gauge('agenthub_event_loop_utilization', 0.99, [9, 11], {
    job: 'agenthub',
    instance: 'b1',
  }),
  AgentHubNatsUnreachable: {
    ill: {
      [`agenthub_nats_connected{${B1},connection="bus"}`]: '0x30',
      [`agenthub_nats_connected{${B1},connection="writing"}`]: '1x30',
    },
    well: { [`agenthub_nats_connected{${B1},connection="bus"}`]: '1x30' },
    silent: 0,
    firing: 2,
    labels: { job: 'agenthub', instance: 'b1', connection: 'bus' },
  },
  AgentHubNatsNoQuorum: gauge('agenthub_nats_streams_unavailable', 3, [0, 2]),
  AgentHubNatsReplicasBehind: gauge('agenthub_nats_replicas_behind', 4, [9, 11]),
  AgentHubCertificateExpires: {
    ill: { [`agenthub_tls_certificate_remaining_seconds{${B1}}`]: '864000x30' },
    well: { [`agenthub_tls_certificate_remaining_seconds{${B1}}`]: '2592000x30' },
    silent: 9,
    firing: 11,
    labels: { job: 'agenthub', instance: 'b1' },
  },
  AgentHubOperatorNotLeading: {
    ill: {
      'agenthub_operator_leading{instance="o1"}': '0x30',
      'agenthub_operator_leading{instance="o2"}': '0x30',
    },
    well: {
      'agenthub_operator_leading{instance="o1"}': '0x30',
      'agenthub_operator_leading{instance="o2"}': '1x30',
    },
    silent: 4,
    firing: 6,
  },
  AgentHubReconcileFails: {
    ill: { 'agenthub_operator_reconciles_total{result="unavailable"}': '0+6x40' },
    well: {
      'agenthub_operator_reconciles_total{result="unavailable"}': '9x40',
      'agenthub_operator_reconciles_total{result="ok"}': '0+6x40',
    },
    silent: 13,
    firing: 20,
    labels: { result: 'unavailable' },
  },
  AgentHubDegraded: condition('Degraded', [9, 11]),
  AgentHubCapacityStale: condition('CapacityStale', [4, 6]),
  AgentHubDrainOverdue: {
    ill: { [`agenthub_operator_drain_left_seconds{${CLUSTER},pool="default"}`]: '-5x30' },
    well: { [`agenthub_operator_drain_left_seconds{${CLUSTER},pool="default"}`]: '60x30' },
    silent: 0,
    firing: 2,
    labels: { namespace: 'ns', cluster: 'hub', pool: 'default' },
  },
};

/** promtool's own document of one trial. Annotations are left to Prometheus, but for the runbook's. */
function testsOf(name: string, { ill, well, silent, firing, labels = {} }: Trial): object[] {
  const series = (values: Trial['ill']): object[] =>
    Object.entries(values).map(([each, run]) => ({ series: each, values: run }));
  const fired = ALERTS.find(({ alert }) => alert === name)!;
  const firingNow = `count(ALERTS{alertname="${name}",alertstate="firing"}) or vector(0)`;
  const count = (minutes: number, value: number): object => ({
    expr: firingNow,
    eval_time: `${minutes}m`,
    exp_samples: [{ labels: '{}', value }],
  });
  const matchers = Object.entries({ alertname: name, severity: fired.severity, ...labels })
    .map(([label, value]) => `${label}="${value}"`)
    .join(',');
  return [
    {
      interval: '1m',
      input_series: series(ill),
      promql_expr_test: [
        count(silent, 0),
        count(firing, 1),
        {
          expr: `ALERTS{alertstate="firing",alertname="${name}"}`,
          eval_time: `${firing}m`,
          exp_samples: [{ labels: `ALERTS{alertstate="firing",${matchers}}`, value: 1 }],
        },
      ],
    },
    { interval: '1m', input_series: series(well), promql_expr_test: [count(firing, 0), count(29, 0)] },
  ];
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agenthub-alerts-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function promtool(...args: string[]): Promise<string> {
  const { stdout, stderr } = await run(PROMTOOL, args).catch((error: { stdout: string; stderr: string }) => {
    throw new Error(`${error.stdout}\n${error.stderr}`);
  });
  return stdout + stderr;
}

describe('the rules', () => {
  test('are what promtool takes, in the chart and for one cluster', async () => {
    const own = join(folder, 'own.yaml');
    const rules = alertRules({
      within: 'namespace="ns",service="hub-brokers"',
      labels: { agenthub_cluster: 'hub' },
    });
    writeFileSync(own, stringify({ groups: [{ name: 'one', rules }] }));
    for (const file of [RULES, join(ROOT, 'charts/agenthub/alerts/operator.rules.yaml'), own]) {
      expect(await promtool('check', 'rules', '--lint=all', '--lint-fatal', file)).toContain('SUCCESS');
    }
  });

  test('are about one cluster only, if they are for one', () => {
    for (const { expr } of alertRules({ about: 'brokers', within: 'namespace="ns"' })) {
      const selectors = [...expr.matchAll(/\b(agenthub_\w+|process_\w+|up)\b(\{[^}]*\})?/g)];
      expect(selectors).not.toHaveLength(0);
      for (const [, , matchers] of selectors) expect(matchers).toContain('namespace="ns"');
    }
  });

  test.each(ALERTS.map(({ alert }) => alert))('%s fires when it must, and not before', async (name) => {
    const trial = TRIALS[name];
    expect(trial).toBeDefined();
    const file = join(folder, `${name}.test.yaml`);
    writeFileSync(
      file,
      stringify({ rule_files: [RULES], evaluation_interval: '1m', tests: testsOf(name, trial!) }),
    );
    expect(await promtool('test', 'rules', file)).toContain('SUCCESS');
  });
});

describe('the runbook', () => {
  const runbook = readFileSync(join(ROOT, 'docs/runbook.md'), 'utf8');

  test.each(ALERTS.map(({ alert }) => alert))('says of %s what it is, means, and what to do', (name) => {
    const section = runbook.split(/^## /m).find((text) => text.startsWith(`${name}\n`));
    expect(section).toBeDefined();
    for (const word of ['**Symptom**', '**Meaning**', '**Check**', '**Fix**'])
      expect(section).toContain(word);
    const { groups } = parse(readFileSync(RULES, 'utf8')) as { groups: { rules: AlertRule[] }[] };
    const rule = groups.flatMap(({ rules }) => rules).find(({ alert }) => alert === name);
    expect(rule?.annotations['runbook_url']).toBe(`docs/runbook.md#${name.toLowerCase()}`);
  });
});
