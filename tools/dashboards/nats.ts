import { CLUSTER, lines, percentiles } from './dashboard.ts';
import type { Dashboard } from './dashboard.ts';

/** NATS as the brokers see it. */
export const nats: Dashboard = {
  uid: 'agenthub-nats',
  title: 'AgentHub: NATS',
  about: 'NATS as the brokers see it: connections, round trips, streams and their replicas.',
  variables: CLUSTER,
  rows: [
    {
      title: 'Connections',
      panels: [
        lines('Connections that stand', 'short', 'Of each broker, by what they are for.', {
          expr: 'sum by (connection) (agenthub_nats_connected{$of})',
          legend: '{{connection}}',
        }),
        lines('Connections lost', 'short', 'Servers that end, or networks.', {
          expr: 'sum by (connection) (increase(agenthub_nats_disconnects_total{$of}[$rate]))',
          legend: '{{connection}}',
        }),
        lines('Round trip', 's', 'The slowest broker, by connection.', {
          expr: 'max by (connection) (agenthub_nats_round_trip_seconds{$of})',
          legend: '{{connection}}',
        }),
        lines(
          'Bytes',
          'Bps',
          'All brokers.',
          {
            expr: 'sum by (connection) (rate(agenthub_nats_sent_bytes_total{$of}[$rate]))',
            legend: 'sent {{connection}}',
          },
          {
            expr: 'sum by (connection) (rate(agenthub_nats_received_bytes_total{$of}[$rate]))',
            legend: 'received {{connection}}',
          },
        ),
        lines(
          'Messages',
          'ops',
          'All brokers.',
          {
            expr: 'sum by (connection) (rate(agenthub_nats_sent_messages_total{$of}[$rate]))',
            legend: 'sent {{connection}}',
          },
          {
            expr: 'sum by (connection) (rate(agenthub_nats_received_messages_total{$of}[$rate]))',
            legend: 'received {{connection}}',
          },
        ),
        lines('Messages for a task', 'short', 'Falls as batches grow.', {
          expr: '(sum(rate(agenthub_nats_sent_messages_total{$of}[$rate])) + sum(rate(agenthub_nats_received_messages_total{$of}[$rate]))) / sum(rate(agenthub_tasks_total{$of,status="accepted"}[$rate]))',
          legend: 'messages',
        }),
      ],
    },
    {
      title: 'Streams',
      panels: [
        lines('Streams without a leader', 'short', 'A majority of their servers is gone.', {
          expr: 'sum(agenthub_nats_streams_unavailable{$of})',
          legend: 'streams',
        }),
        lines('Replicas behind', 'short', 'Offline, or not up to date.', {
          expr: 'sum(agenthub_nats_replicas_behind{$of})',
          legend: 'replicas',
        }),
        lines('Lag of replicas', 'short', 'Operations that the slowest one lacks.', {
          expr: 'max(agenthub_nats_replica_lag_records{$of})',
          legend: 'operations',
        }),
        lines('Records stored and not applied', 'short', 'Lag of the brokers behind their logs.', {
          expr: 'sum by (instance) (agenthub_log_lag_records{$of})',
          legend: '{{instance}}',
        }),
        lines(
          'Append of tasks',
          's',
          'Until it is stored, on a majority.',
          ...percentiles('agenthub_log_append_latency_seconds'),
        ),
        lines(
          'Append of decisions',
          's',
          'Until it is stored and read.',
          ...percentiles('agenthub_log_decision_latency_seconds'),
        ),
        lines('Appends that failed', 'ops', 'By error code; unavailable ones are tried again.', {
          expr: 'sum by (reason) (rate(agenthub_log_append_failures_total{$of}[$rate]))',
          legend: '{{reason}}',
        }),
      ],
    },
  ],
};
