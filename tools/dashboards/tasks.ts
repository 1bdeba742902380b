import { CLUSTER, lines, percentiles } from './dashboard.ts';
import type { Dashboard } from './dashboard.ts';

/** What happens to tasks, and where they wait. */
export const tasks: Dashboard = {
  uid: 'agenthub-tasks',
  title: 'AgentHub: tasks and mailboxes',
  about: 'What becomes of tasks by their type, where they wait, and why some are not done.',
  variables: CLUSTER,
  rows: [
    {
      title: 'By type',
      panels: [
        lines('Accepted', 'ops', 'The types that come most.', {
          expr: 'topk(10, sum by (task_type) (rate(agenthub_tasks_total{$of,status="accepted"}[$rate])))',
          legend: '{{task_type}}',
        }),
        lines('Completed', 'ops', 'The types that are done most.', {
          expr: 'topk(10, sum by (task_type) (rate(agenthub_tasks_total{$of,status="completed"}[$rate])))',
          legend: '{{task_type}}',
        }),
        lines('Processing, 99th percentile', 's', 'The slowest types.', {
          expr: 'topk(10, histogram_quantile(0.99, sum by (le, task_type) (rate(agenthub_task_duration_seconds_bucket{$of}[$rate]))))',
          legend: '{{task_type}}',
        }),
        lines('Failed, expired, cancelled, dead', 'ops', 'Ends that are no completion.', {
          expr: 'sum by (task_type, status) (rate(agenthub_tasks_total{$of,status!~"accepted|completed"}[$rate])) > 0',
          legend: '{{task_type}} {{status}}',
        }),
      ],
    },
    {
      title: 'Waiting',
      panels: [
        lines(
          'Tasks',
          'short',
          'In mailboxes, with workers, and in mailboxes that nobody is attached to.',
          { expr: 'sum(agenthub_queued_tasks{$of})', legend: 'waiting' },
          { expr: 'sum(agenthub_active_tasks{$of})', legend: 'with workers' },
          { expr: 'sum(agenthub_unserved_tasks{$of})', legend: 'without an agent' },
        ),
        lines(
          'Oldest',
          's',
          'Grows by a second each second when nobody comes.',
          { expr: 'max(agenthub_oldest_task_age_seconds{$of})', legend: 'of all' },
          { expr: 'max(agenthub_oldest_unserved_task_age_seconds{$of})', legend: 'without an agent' },
        ),
        lines('Bytes', 'bytes', 'Of all that waits; it is in memory.', {
          expr: 'sum(agenthub_queued_bytes{$of})',
          legend: 'queued',
        }),
        lines(
          'Who could work',
          'short',
          'Attachments, and what workers hold and would still take.',
          { expr: 'sum(agenthub_workers{$of})', legend: 'workers' },
          { expr: 'sum(agenthub_listeners{$of})', legend: 'listeners' },
          { expr: 'sum(agenthub_credit{$of,state="used"})', legend: 'credit used' },
          { expr: 'sum(agenthub_credit{$of,state="free"})', legend: 'credit free' },
        ),
        lines('Hottest shards', 'ops', 'Tasks and results that come; one shard is one core.', {
          expr: 'topk(5, sum by (shard) (rate(agenthub_shard_arrivals_total{$of}[$rate])))',
          legend: '{{shard}}',
        }),
        lines('Fullest shards', 'short', 'Tasks that they hold.', {
          expr: 'topk(5, sum by (shard) (agenthub_shard_queued_tasks{$of}))',
          legend: '{{shard}}',
        }),
        lines(
          'Mailboxes',
          'short',
          'That hold something or have somebody attached.',
          {
            expr: 'sum(agenthub_mailboxes{$of})',
            legend: 'all',
          },
          { expr: 'sum(agenthub_unserved_mailboxes{$of})', legend: 'without an agent' },
        ),
        lines(
          'End to end',
          's',
          'From the acceptance of a task until it was settled.',
          ...percentiles('agenthub_end_to_end_latency_seconds'),
        ),
      ],
    },
    {
      title: 'What goes wrong',
      panels: [
        lines('Redeliveries', 'ops', 'Workers die, fail, or run longer than they said.', {
          expr: 'sum(rate(agenthub_redeliveries_total{$of}[$rate]))',
          legend: 'redelivered',
        }),
        lines('Dead letters by reason', 'ops', 'agenthub dead ls shows them.', {
          expr: 'sum by (reason) (rate(agenthub_dead_letters_total{$of}[$rate]))',
          legend: '{{reason}}',
        }),
        lines('Refused by reason', 'ops', 'Publishers get an error.', {
          expr: 'sum by (reason) (rate(agenthub_refused_total{$of}[$rate]))',
          legend: '{{reason}}',
        }),
        lines('Limits met', 'ops', 'By configuration key.', {
          expr: 'sum by (limit) (rate(agenthub_limits_hit_total{$of}[$rate]))',
          legend: '{{limit}}',
        }),
        lines('Known ids', 'ops', 'Published again; acknowledged, not stored again.', {
          expr: 'sum(rate(agenthub_duplicates_total{$of}[$rate]))',
          legend: 'duplicates',
        }),
        lines('Copies dropped', 'ops', 'Listeners that are too slow.', {
          expr: 'sum(rate(agenthub_listener_copies_dropped_total{$of}[$rate]))',
          legend: 'dropped',
        }),
      ],
    },
  ],
};
