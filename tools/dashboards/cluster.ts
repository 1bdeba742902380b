import { CLUSTER, lines, percentiles, quiet, stat } from './dashboard.ts';
import type { Dashboard } from './dashboard.ts';

/** Whether agents are served, at a glance. */
export const cluster: Dashboard = {
  uid: 'agenthub-cluster',
  title: 'AgentHub: cluster',
  about: 'Whether agents are served: brokers, rates, latencies, what waits, who owns what.',
  variables: CLUSTER,
  rows: [
    {
      title: 'Are agents served?',
      panels: [
        stat(
          'Brokers that answer',
          'short',
          'Targets of Prometheus that could be scraped.',
          'count(agenthub_shards_owned{$of})',
        ),
        stat('Agents', 'short', 'Agents that are connected.', 'sum(agenthub_active_agents{$of})'),
        stat(
          'Tasks accepted',
          'ops',
          'Acknowledged to publishers.',
          'sum(rate(agenthub_tasks_total{$of,status="accepted"}[$rate]))',
        ),
        stat('Tasks waiting', 'short', 'In all mailboxes.', 'sum(agenthub_queued_tasks{$of})'),
        stat(
          'Oldest task',
          's',
          'How long the task that waits longest has been waiting.',
          'max(agenthub_oldest_task_age_seconds{$of})',
        ),
        stat(
          'Mailboxes without an agent',
          'short',
          'Tasks wait in them and nobody is attached.',
          'sum(agenthub_unserved_mailboxes{$of})',
        ),
        stat(
          'Shards without owner',
          'short',
          'Must be 0, but for seconds after a broker died.',
          'min(agenthub_shards_unowned{$of})',
        ),
        stat(
          'Dead letters',
          'short',
          'Tasks that were given up, and are kept.',
          'sum(agenthub_dead_letters{$of})',
        ),
      ],
    },
    {
      title: 'Rates and latencies',
      panels: [
        lines('Tasks by what became of them', 'ops', 'Accepted without completed: they wait, or fail.', {
          expr: 'sum by (status) (rate(agenthub_tasks_total{$of}[$rate]))',
          legend: '{{status}}',
        }),
        lines('Refused publishes', 'ops', 'By error code; exhausted is back-pressure.', {
          expr: 'sum by (reason) (rate(agenthub_refused_total{$of}[$rate]))',
          legend: '{{reason}}',
        }),
        lines(
          'End to end',
          's',
          'From the acceptance of a task until it was settled.',
          ...percentiles('agenthub_end_to_end_latency_seconds'),
        ),
        lines(
          'Routing',
          's',
          'From a publish until a worker has the task, if it did not wait for credit.',
          ...percentiles('agenthub_routing_latency_seconds'),
        ),
        lines(
          'Append to the log',
          's',
          'Part of every ack.',
          ...percentiles('agenthub_log_append_latency_seconds'),
        ),
        lines(
          'Sessions',
          'short',
          'Connected, and in their time of grace.',
          {
            expr: 'sum(agenthub_sessions_connected{$of})',
            legend: 'connected',
          },
          { expr: 'sum(agenthub_sessions{$of})', legend: 'all' },
        ),
      ],
    },
    {
      title: 'Brokers',
      panels: [
        lines('Shards owned', 'short', 'Equal to plus or minus one, unless shards were pinned.', {
          expr: 'sum by (instance) (agenthub_shards_owned{$of})',
          legend: '{{instance}}',
        }),
        lines('Brokers that each one hears', 'short', 'If these differ, the network is split.', {
          expr: 'agenthub_members{$of}',
          legend: '{{instance}}',
        }),
        lines('Ownership changes', 'short', 'Shards taken, released and lost.', {
          expr: 'sum by (change) (increase(agenthub_ownership_changes_total{$of}[$rate]))',
          legend: '{{change}}',
        }),
        lines(
          'Pauses of shards that change their owner',
          's',
          'On both sides; milliseconds when planned.',
          ...percentiles('agenthub_handover_pause_seconds', 'side'),
        ),
        lines('Event loop', 'percentunit', 'One core is all that a broker has; above 0.8 it is full.', {
          expr: 'agenthub_event_loop_utilization{$of}',
          legend: '{{instance}}',
        }),
        lines('CPU cores', 'short', 'In use by each broker.', {
          expr: 'agenthub_cpu_cores{$of}',
          legend: '{{instance}}',
        }),
        lines('Memory', 'percentunit', 'Share of the high-water mark, above which publishes are refused.', {
          expr: 'process_resident_memory_bytes{$of} / agenthub_memory_high_water_bytes{$of}',
          legend: '{{instance}}',
        }),
        quiet(
          lines('Draining', 'short', '1 while a broker is being emptied.', {
            expr: 'agenthub_draining{$of}',
            legend: '{{instance}}',
          }),
        ),
      ],
    },
  ],
};
