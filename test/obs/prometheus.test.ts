import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { AlertRule } from '../../operator/plan/alerts.ts';
import { ALERTS, alertRules } from '../../operator/plan/alerts.ts';
import { DASHBOARDS } from '../../tools/dashboards/all.ts';
import { filled } from '../../tools/dashboards/dashboard.ts';
import type { Dashboard, Panel } from '../../tools/dashboards/dashboard.ts';
import { drawDashboard } from '../../tools/dashboards/picture.ts';
import { until } from '../support/inbox.ts';
import type { Series } from '../support/prometheus.ts';
import { Prometheus } from '../support/prometheus.ts';
import { Landscape } from './cluster.ts';

/** Where to draw the dashboards: DRAW=docs/dashboards make obs-test. */
const DRAW = process.env['DRAW'];
const RATE = '10s';
const BROKERS = [0, 1, 2];

/** A test has no minutes: alerts fire at once, look back for seconds, and some are content with less. */
const LESS: Readonly<Record<string, readonly [string, string]>> = {
  AgentHubAgentsUnserved: ['> 300', '> 5'],
  AgentHubTasksWait: ['> 600', '> 5'],
  AgentHubDeadLetters: ['> 100', '> 10'],
  AgentHubLoopBusy: ['> 0.95', '> 0.3'],
  AgentHubCertificateExpires: ['< 1209600', '< 1e11'],
};

function hurried(rule: AlertRule): AlertRule {
  const [from, to] = LESS[rule.alert] ?? ['', ''];
  if (!rule.expr.includes(from)) throw new Error(`${rule.alert} has no ${from}`);
  const expr = rule.expr.replace(from, to).replaceAll(/\[\d+m\]/g, `[${RATE}]`);
  return { ...rule, expr, for: '0s' };
}

const land = new Landscape();
let prometheus: Prometheus;
let start = 0;
let end = 0;

/** Waits until that alert fires, or has fired: what causes some of them passes. */
function firing(alert: string): Promise<void> {
  const times = `count_over_time(ALERTS{alertname="${alert}",alertstate="firing"}[10m])`;
  return until(async () => (await prometheus.value(times)) !== undefined);
}

/** Waits until the expression, of the brokers of the cluster, has that value. */
function becomes(query: string, value: number): Promise<void> {
  return until(async () => (await prometheus.value(query)) === value);
}

beforeAll(async () => {
  await land.start();
  const rules = alertRules({ targets: 'job=~".*agenthub.*"' }).map(hurried);
  prometheus = await Prometheus.start({
    targets: land.targets,
    rules: [{ groups: [{ name: 'all', rules }] }],
  });
  start = Date.now() / 1000;
  const [b0, b1, b2] = land.brokers as [
    (typeof land.brokers)[0],
    (typeof land.brokers)[0],
    (typeof land.brokers)[0],
  ];
  const owned = 'sum(agenthub_shards_owned{job="agenthub"})';
  await becomes(owned, 6);
  await becomes('min(agenthub_shards_owned{job="agenthub"})', 2);
  for (const alert of [
    'AgentHubAgentsUnserved',
    'AgentHubTasksWait',
    'AgentHubDeadLetters',
    'AgentHubCopiesDropped',
  ])
    await firing(alert);
  for (const alert of [
    'AgentHubMemoryHigh',
    'AgentHubRefuses',
    'AgentHubSessionsRefused',
    'AgentHubLoopBusy',
  ])
    await firing(alert);
  await firing('AgentHubCertificateExpires');
  land.troubleOperator();

  // A broker dies, and comes back.
  await b2.end('SIGKILL');
  await firing('AgentHubBrokerDown');
  await becomes(owned, 6);
  await land.revive(2);
  await becomes('min(agenthub_shards_owned{job="agenthub"})', 2);

  // One stands still while another one is to have a shard of it.
  b1.signal('SIGSTOP');
  await land.move(1, 0);
  await firing('AgentHubHandOverStuck');
  await becomes(`agenthub_shards_owned{instance="${land.targetOf(1)}"} or vector(-1)`, -1);
  await until(async () => (await prometheus.value('min(agenthub_members{job="agenthub"})')) === 2);
  b1.signal('SIGCONT');
  await becomes('min(agenthub_members{job="agenthub"})', 3);
  await until(
    async () => (await prometheus.value('sum(agenthub_ownership_changes_total{change="lost"})'))! > 0,
  );

  // NATS loses one server, then its quorum, then all; without a quorum nobody takes the shards of a broker that dies.
  const [n0, n1, n2] = land.servers as [
    (typeof land.servers)[0],
    (typeof land.servers)[0],
    (typeof land.servers)[0],
  ];
  await n2.kill();
  await firing('AgentHubNatsReplicasBehind');
  await n1.kill();
  await firing('AgentHubNatsNoQuorum');
  await land.brokers[2]!.end('SIGKILL');
  await firing('AgentHubShardWithoutOwner');
  await n0.kill();
  await firing('AgentHubNatsUnreachable');
  await Promise.all([n0.start(), n1.start(), n2.start()]);
  await firing('AgentHubLogSlow');
  await Promise.all([b0, b1].map((broker) => broker.end('SIGKILL')));
  await firing('AgentHubNoBroker');
  end = Date.now() / 1000 + 1;
}, 400_000);

afterAll(async () => {
  await land.remove();
  await prometheus?.remove();
}, 60_000);

/** What a panel shows of what there was to see; of one broker, if the dashboard has but one. */
async function seriesOf(
  { variables }: Dashboard,
  { queries }: Panel,
  broker = 0,
): Promise<[string, Series[]][]> {
  const job = variables.some(({ label }) => label === 'job') ? 'job="agenthub"' : '';
  const instance = variables.some(({ label }) => label === 'instance')
    ? `,instance="${land.targetOf(broker)}"`
    : '';
  return Promise.all(
    queries.map(async (query): Promise<[string, Series[]]> => [
      query.legend,
      await prometheus.range(filled(query, job + instance, RATE), start, end),
    ]),
  );
}

describe.each(DASHBOARDS)('the dashboard $uid', (dashboard) => {
  const panels = dashboard.rows.flatMap((row) => row.panels);

  test.each(panels)('shows $title', async (panel) => {
    const brokers = await Promise.all(BROKERS.map((broker) => seriesOf(dashboard, panel, broker)));
    for (const [index, { legend }] of panel.queries.entries()) {
      const values = brokers
        .flatMap((queries) => queries[index]![1])
        .flatMap((series) => series.values.map(([, value]) => value))
        .filter(Number.isFinite);
      const shown = values.length > 0 && (panel.mayBeZero === true || values.some((value) => value !== 0));
      expect([legend, shown]).toEqual([legend, true]);
    }
  });

  test('is drawn, if somebody wants it', async () => {
    const pictures = await Promise.all(
      panels.map(async (panel) => ({ panel, series: await seriesOf(dashboard, panel) })),
    );
    const svg = drawDashboard(dashboard.title, pictures, [start, end]);
    expect(svg.match(/<polyline/g)!.length).toBeGreaterThan(panels.length);
    if (DRAW === undefined) return;
    mkdirSync(DRAW, { recursive: true });
    writeFileSync(join(DRAW, `${dashboard.uid}.svg`), svg);
  });
});

describe('the alerts', () => {
  test.each(ALERTS.map(({ alert }) => alert))('%s fires when it is so', async (alert) => {
    expect(await prometheus.fired(start, end)).toContain(alert);
  });
});
