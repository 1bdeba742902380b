import { lines, percentiles, stat } from './dashboard.ts';
import type { Dashboard } from './dashboard.ts';

/** What the operator does, and why. */
export const operator: Dashboard = {
  uid: 'agenthub-operator',
  title: 'AgentHub: operator and scaling',
  about:
    'How many brokers there are and should be, what was decided, and whether the operator gets its work done.',
  variables: [{ label: 'namespace', metric: 'agenthub_operator_pool_brokers', many: true }],
  rows: [
    {
      title: 'Clusters',
      panels: [
        lines(
          'Brokers of each pool',
          'short',
          'Desired and ready; recommended is what the load alone asks for.',
          {
            expr: 'sum by (namespace, cluster, pool, state) (agenthub_operator_pool_brokers{$of})',
            legend: '{{cluster}}/{{pool}} {{state}}',
          },
        ),
        lines('Conditions', 'short', '1: True. Degraded, CapacityStale and ShardHot are bad.', {
          expr: 'max by (namespace, cluster, condition) (agenthub_operator_condition{$of})',
          legend: '{{cluster}} {{condition}}',
        }),
        lines('Decisions', 'short', 'The Events of the cluster say why.', {
          expr: 'sum by (decision) (increase(agenthub_operator_decisions_total[$rate]))',
          legend: '{{decision}}',
        }),
        lines('Time that drains have left', 's', 'Below 0 they are overdue.', {
          expr: 'min by (namespace, cluster, pool) (agenthub_operator_drain_left_seconds{$of})',
          legend: '{{cluster}}/{{pool}}',
        }),
      ],
    },
    {
      title: 'Its work',
      panels: [
        stat('Operators that lead', 'short', 'Exactly one.', 'sum(agenthub_operator_leading)'),
        stat('Clusters that wait', 'short', 'To be looked at.', 'sum(agenthub_operator_queue_depth)'),
        lines('Looks at clusters', 'ops', 'By result.', {
          expr: 'sum by (result) (rate(agenthub_operator_reconciles_total[$rate]))',
          legend: '{{result}}',
        }),
        lines(
          'Time of a look',
          's',
          'Mostly waiting for the API server and for brokers.',
          ...percentiles('agenthub_operator_reconcile_seconds'),
        ),
        lines(
          'Waiting until a look',
          's',
          'In the queue.',
          ...percentiles('agenthub_operator_queue_seconds'),
        ),
        lines(
          'Drains',
          's',
          'From being told until empty, or given up.',
          ...percentiles('agenthub_operator_drain_seconds'),
        ),
        lines(
          'Calls of the API server',
          'reqps',
          'By verb and status; at rest there are none but of the lease.',
          {
            expr: 'sum by (verb, code) (rate(agenthub_operator_api_calls_total[$rate]))',
            legend: '{{verb}} {{code}}',
          },
        ),
        lines(
          'Time of a call',
          's',
          'Until the API server began to answer.',
          ...percentiles('agenthub_operator_api_seconds', 'verb'),
        ),
      ],
    },
  ],
};
