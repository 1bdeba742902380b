import { CLUSTER, lines, percentiles, quiet } from './dashboard.ts';
import type { Dashboard } from './dashboard.ts';

/** One broker, in depth. */
export const broker: Dashboard = {
  uid: 'agenthub-broker',
  title: 'AgentHub: one broker',
  about: 'Where the time and the memory of a broker go.',
  variables: [...CLUSTER, { label: 'instance', metric: 'agenthub_shards_owned', many: false }],
  rows: [
    {
      title: 'Work',
      panels: [
        lines(
          'Tasks and results',
          'ops',
          'What comes in, and what goes out.',
          { expr: 'sum(rate(agenthub_tasks_total{$of,status="accepted"}[$rate]))', legend: 'accepted' },
          { expr: 'sum(rate(agenthub_deliveries_total{$of}[$rate]))', legend: 'delivered' },
          { expr: 'sum(rate(agenthub_results_total{$of}[$rate]))', legend: 'results' },
          { expr: 'sum(rate(agenthub_progress_total{$of}[$rate]))', legend: 'progress' },
        ),
        lines(
          'Processing',
          's',
          'From the delivery to a worker until it settled.',
          ...percentiles('agenthub_task_duration_seconds'),
        ),
        lines(
          'Routing',
          's',
          'From a publish until a worker has the task.',
          ...percentiles('agenthub_routing_latency_seconds'),
        ),
        lines('Credit', 'short', 'No free credit and tasks that wait: workers are busy.', {
          expr: 'sum by (state) (agenthub_credit{$of})',
          legend: '{{state}}',
        }),
      ],
    },
    {
      title: 'Log',
      panels: [
        lines(
          'Appends of tasks',
          's',
          'Part of every ack.',
          ...percentiles('agenthub_log_append_latency_seconds'),
        ),
        lines(
          'Appends of decisions',
          's',
          'Leases and ends.',
          ...percentiles('agenthub_log_decision_latency_seconds'),
        ),
        lines(
          'Tasks in one append',
          'short',
          'Batches grow under load.',
          ...percentiles('agenthub_log_batch_tasks'),
        ),
        lines('Bytes appended', 'Bps', 'Tasks and decisions.', {
          expr: 'sum(rate(agenthub_log_append_bytes_total{$of}[$rate]))',
          legend: 'appended',
        }),
        lines('What the log holds', 'bytes', 'Of the shards that this broker owns.', {
          expr: 'sum(agenthub_log_bytes{$of})',
          legend: 'bytes',
        }),
        lines('Appends that failed', 'ops', 'By error code; unavailable ones are tried again.', {
          expr: 'sum by (reason) (rate(agenthub_log_append_failures_total{$of}[$rate]))',
          legend: '{{reason}}',
        }),
        quiet(
          lines(
            'Records not applied yet',
            'short',
            'A lag that grows: the broker is too slow for its shards.',
            {
              expr: 'sum(agenthub_log_lag_records{$of})',
              legend: 'lag',
            },
          ),
        ),
        lines(
          'Replays',
          's',
          'Reading the log of a shard before taking it.',
          ...percentiles('agenthub_replay_seconds'),
        ),
      ],
    },
    {
      title: 'Clients',
      panels: [
        lines(
          'Who is here',
          'short',
          'A connection costs far more than an agent.',
          { expr: 'sum(agenthub_open_connections{$of})', legend: 'connections' },
          { expr: 'sum(agenthub_sessions{$of})', legend: 'sessions' },
          { expr: 'sum(agenthub_active_agents{$of})', legend: 'agents' },
        ),
        lines('What sessions do', 'ops', 'Many lost and resumed: the network, or a proxy.', {
          expr: 'sum by (event) (rate(agenthub_session_events_total{$of}[$rate]))',
          legend: '{{event}}',
        }),
        lines('Streams that stall', 'ops', 'Clients that do not read what they are sent: back-pressure.', {
          expr: 'sum(rate(agenthub_stream_stalls_total{$of}[$rate]))',
          legend: 'stalls',
        }),
        lines('Links with other brokers', 'short', 'Two with each.', {
          expr: 'sum(agenthub_links{$of})',
          legend: 'open',
        }),
      ],
    },
    {
      title: 'Process',
      panels: [
        lines(
          'Memory',
          'bytes',
          'External memory is what tasks and frames are in.',
          { expr: 'sum(process_resident_memory_bytes{$of})', legend: 'resident' },
          { expr: 'sum(nodejs_heap_size_used_bytes{$of})', legend: 'heap in use' },
          { expr: 'sum(nodejs_heap_size_total_bytes{$of})', legend: 'heap reserved' },
          { expr: 'sum(nodejs_external_memory_bytes{$of})', legend: 'external' },
          { expr: 'sum(agenthub_memory_high_water_bytes{$of})', legend: 'high-water mark' },
        ),
        lines('Event loop delay', 's', 'How late timers are.', {
          expr: 'max by (quantile) (agenthub_event_loop_delay_seconds{$of})',
          legend: '{{quantile}}',
        }),
        lines('Garbage collection', 'percentunit', 'Share of the time, by kind.', {
          expr: 'sum by (kind) (rate(nodejs_gc_duration_seconds_sum{$of}[$rate]))',
          legend: '{{kind}}',
        }),
        lines('CPU', 'short', 'Cores.', {
          expr: 'sum(rate(process_cpu_seconds_total{$of}[$rate]))',
          legend: 'cores',
        }),
      ],
    },
  ],
};
