import { describe, expect, test } from '@jest/globals';
import type { BrokerClusterStatus } from '../../operator/api/status.ts';
import type { BrokerClusterObject } from '../../operator/controller/kinds.ts';
import { OPERATOR_METRICS } from '../../operator/metric-table.ts';
import { OperatorMetrics } from '../../operator/metrics.ts';
import type { OperatorState } from '../../operator/metrics.ts';

const NOW = Date.UTC(2026, 0, 1, 12, 0, 0);
const clock = { now: () => NOW, after: () => ({ cancel: () => undefined }), soon: () => undefined };

const DRAINING: BrokerClusterStatus = {
  pools: [
    {
      name: 'default',
      replicas: 3,
      ready: 2,
      updated: 3,
      desired: 2,
      scaling: { recommended: 1, reason: 'little to do' },
      drain: {
        pod: 'hub-2',
        uid: 'u2',
        cause: 'ScaleDown',
        since: '2026-01-01T11:58:00Z',
        deadline: '2026-01-01T11:59:30Z',
      },
    },
  ],
  conditions: [
    { type: 'CapacityStale', status: 'True', lastTransitionTime: '', reason: 'Silent', message: '' },
    { type: 'Degraded', status: 'Unknown', lastTransitionTime: '', reason: 'None', message: '' },
  ],
};

function objectWith(status: BrokerClusterStatus): BrokerClusterObject {
  return { apiVersion: 'v1', kind: 'BrokerCluster', metadata: { namespace: 'ns', name: 'hub' }, status };
}

async function linesOf(metrics: OperatorMetrics): Promise<string[]> {
  return (await metrics.registry.metrics()).split('\n');
}

describe('the metrics of the operator', () => {
  test('are those of the table, with its types and labels', async () => {
    const metrics = new OperatorMetrics(() => ({ leading: true, depth: 0, clusters: [] }), clock);
    const types = (await linesOf(metrics)).filter((line) => line.startsWith('# TYPE '));
    const expected = Object.values(OPERATOR_METRICS).map(({ name, type }) => `# TYPE ${name} ${type}`);
    expect(types.toSorted()).toEqual(expected.toSorted());
  });

  test('show what is known of each cluster, and nothing of those that are gone', async () => {
    const state: { -readonly [K in keyof OperatorState]: OperatorState[K] } = {
      leading: false,
      depth: 2,
      clusters: [objectWith(DRAINING)],
    };
    const metrics = new OperatorMetrics(() => state, clock);
    const pool = 'namespace="ns",cluster="hub",pool="default"';
    const lines = await linesOf(metrics);
    for (const line of [
      'agenthub_operator_leading 0',
      'agenthub_operator_queue_depth 2',
      `agenthub_operator_pool_brokers{${pool},state="desired"} 2`,
      `agenthub_operator_pool_brokers{${pool},state="ready"} 2`,
      `agenthub_operator_pool_brokers{${pool},state="recommended"} 1`,
      `agenthub_operator_drain_left_seconds{${pool}} -30`,
      'agenthub_operator_condition{namespace="ns",cluster="hub",condition="CapacityStale"} 1',
      'agenthub_operator_condition{namespace="ns",cluster="hub",condition="Degraded"} 0',
    ])
      expect(lines).toContain(line);
    state.clusters = [];
    const after = (await linesOf(metrics)).join('\n');
    expect(after).not.toContain('cluster="hub"');
  });

  test('count decisions, and how long drains took', async () => {
    const metrics = new OperatorMetrics(() => ({ leading: true, depth: 0, clusters: [] }), clock);
    const events = ['ScalingDown', 'Removing', 'Recovered'].map((reason) => ({
      type: 'Normal' as const,
      reason,
      message: '',
    }));
    const [pool] = DRAINING.pools!;
    const { drain: _, ...emptied } = pool!;
    metrics.decided({}, DRAINING, []);
    metrics.decided(DRAINING, DRAINING, []);
    metrics.decided(DRAINING, { pools: [emptied] }, events);
    const lines = await linesOf(metrics);
    expect(lines).toContain('agenthub_operator_decisions_total{decision="ScalingDown"} 1');
    expect(lines).toContain('agenthub_operator_decisions_total{decision="Removing"} 1');
    expect(lines).toContain('agenthub_operator_decisions_total{decision="ScalingUp"} 0');
    expect(lines.join('\n')).not.toContain('Recovered');
    expect(lines).toContain('agenthub_operator_drain_seconds_count 1');
    expect(lines).toContain('agenthub_operator_drain_seconds_sum 120');
  });

  test('count calls of the API server by verb and answer', async () => {
    const metrics = new OperatorMetrics(() => ({ leading: true, depth: 0, clusters: [] }), clock);
    metrics.called('list', '200', 3);
    metrics.called('apply', 'none', 30_000);
    const lines = await linesOf(metrics);
    expect(lines).toContain('agenthub_operator_api_calls_total{verb="list",code="200"} 1');
    expect(lines).toContain('agenthub_operator_api_calls_total{verb="apply",code="none"} 1');
    expect(lines).toContain('agenthub_operator_api_seconds_count{verb="list"} 1');
  });
});
