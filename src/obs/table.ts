/** What is known of a metric before anything was measured. */
export interface MetricSpec {
  /** As Prometheus knows it; totals end in `_total`, the unit comes last. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly unit: string;
  readonly help: string;
}

/** Upper bounds of latency histograms, in seconds: 0.1 ms to 60 s. */
export const LATENCY_BOUNDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;

/** Upper bounds of the histogram of garbage collections, in seconds. */
export const PAUSE_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1] as const;

/** Upper bounds of the histogram of batch sizes, in records. */
export const BATCH_BOUNDS = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000] as const;

/** What may become of an accepted task; each ends in exactly one of those after the first. */
export const TASK_STATUS = ['accepted', 'completed', 'failed', 'cancelled', 'expired', 'dead'] as const;

/** Every metric that the broker measures itself. docs/metrics.md is made from this. */
export const METRICS = {
  tasks: {
    name: 'agenthub_tasks_total',
    type: 'counter',
    labels: ['task_type', 'status'],
    unit: 'tasks',
    help: 'Tasks by what became of them: accepted (acknowledged to the publisher), then one of completed, failed (its worker said so for good), cancelled, expired (past its deadline) or dead (given up).',
  },
  taskDuration: {
    name: 'agenthub_task_duration_seconds',
    type: 'histogram',
    labels: ['task_type'],
    unit: 'seconds',
    help: 'Processing latency: from the delivery of a task to its worker until that worker settled it.',
  },
  routing: {
    name: 'agenthub_routing_latency_seconds',
    type: 'histogram',
    labels: [],
    unit: 'seconds',
    help: 'Routing latency: from the receipt of a publish until the task was first written to a session; for tasks that did not wait for credit.',
  },
  endToEnd: {
    name: 'agenthub_end_to_end_latency_seconds',
    type: 'histogram',
    labels: [],
    unit: 'seconds',
    help: 'End-to-end latency: from the acceptance of a task until it was settled.',
  },
  delivered: {
    name: 'agenthub_deliveries_total',
    type: 'counter',
    labels: [],
    unit: 'tasks',
    help: 'Tasks and copies of tasks written to sessions and streams.',
  },
  redelivered: {
    name: 'agenthub_redeliveries_total',
    type: 'counter',
    labels: [],
    unit: 'tasks',
    help: 'Deliveries that were not the first attempt of their task.',
  },
  results: {
    name: 'agenthub_results_total',
    type: 'counter',
    labels: [],
    unit: 'results',
    help: 'Results accepted from workers.',
  },
  progress: {
    name: 'agenthub_progress_total',
    type: 'counter',
    labels: [],
    unit: 'reports',
    help: 'Progress reports accepted from workers.',
  },
  messages: {
    name: 'agenthub_messages_total',
    type: 'counter',
    labels: [],
    unit: 'messages',
    help: 'Tasks, results and progress reports accepted, together.',
  },
  duplicates: {
    name: 'agenthub_duplicates_total',
    type: 'counter',
    labels: [],
    unit: 'tasks',
    help: 'Publishes of a task id that was known already; acknowledged, not stored again.',
  },
  refused: {
    name: 'agenthub_refused_total',
    type: 'counter',
    labels: ['reason'],
    unit: 'tasks',
    help: 'Publishes refused, by error code: invalid, exhausted, unavailable and so on.',
  },
  limits: {
    name: 'agenthub_limits_hit_total',
    type: 'counter',
    labels: ['limit'],
    unit: 'refusals',
    help: 'Refusals because of a limit, by its configuration key.',
  },
  dead: {
    name: 'agenthub_dead_letters_total',
    type: 'counter',
    labels: ['reason'],
    unit: 'tasks',
    help: 'Tasks that became dead letters, by reason.',
  },
  copiesDropped: {
    name: 'agenthub_listener_copies_dropped_total',
    type: 'counter',
    labels: [],
    unit: 'copies',
    help: 'Copies not sent because their listener was too slow to take them.',
  },
  appendRecords: {
    name: 'agenthub_log_batch_records',
    type: 'histogram',
    labels: [],
    unit: 'records',
    help: 'Records written to the log together, by one flush.',
  },
  appendSeconds: {
    name: 'agenthub_log_append_latency_seconds',
    type: 'histogram',
    labels: [],
    unit: 'seconds',
    help: 'From an append to the log until it was durable.',
  },
  appendBytes: {
    name: 'agenthub_log_append_bytes_total',
    type: 'counter',
    labels: [],
    unit: 'bytes',
    help: 'Bytes appended to the log.',
  },
  tasksPerSecond: {
    name: 'agenthub_tasks_per_second',
    type: 'gauge',
    labels: [],
    unit: 'tasks/s',
    help: 'Tasks accepted per second, averaged over about 10 s.',
  },
  resultsPerSecond: {
    name: 'agenthub_results_per_second',
    type: 'gauge',
    labels: [],
    unit: 'results/s',
    help: 'Results accepted per second, averaged over about 10 s.',
  },
  progressPerSecond: {
    name: 'agenthub_progress_per_second',
    type: 'gauge',
    labels: [],
    unit: 'reports/s',
    help: 'Progress reports accepted per second, averaged over about 10 s.',
  },
  messagesPerSecond: {
    name: 'agenthub_messages_per_second',
    type: 'gauge',
    labels: [],
    unit: 'messages/s',
    help: 'Tasks, results and progress reports accepted per second, averaged over about 10 s.',
  },
  activeAgents: {
    name: 'agenthub_active_agents',
    type: 'gauge',
    labels: [],
    unit: 'agents',
    help: 'Agents that are connected.',
  },
  activeTasks: {
    name: 'agenthub_active_tasks',
    type: 'gauge',
    labels: [],
    unit: 'tasks',
    help: 'Tasks that a worker holds now.',
  },
  queuedTasks: {
    name: 'agenthub_queued_tasks',
    type: 'gauge',
    labels: [],
    unit: 'tasks',
    help: 'Tasks that wait in mailboxes.',
  },
  queuedBytes: {
    name: 'agenthub_queued_bytes',
    type: 'gauge',
    labels: [],
    unit: 'bytes',
    help: 'Bytes of the tasks that wait in mailboxes.',
  },
  oldestTask: {
    name: 'agenthub_oldest_task_age_seconds',
    type: 'gauge',
    labels: [],
    unit: 'seconds',
    help: 'How long the task that waits longest has been waiting; 0 if none waits.',
  },
  mailboxes: {
    name: 'agenthub_mailboxes',
    type: 'gauge',
    labels: [],
    unit: 'mailboxes',
    help: 'Mailboxes that hold something or have subscribers.',
  },
  sessions: {
    name: 'agenthub_sessions',
    type: 'gauge',
    labels: [],
    unit: 'sessions',
    help: 'Sessions of clients, connected or in their time of grace.',
  },
  connections: {
    name: 'agenthub_open_connections',
    type: 'gauge',
    labels: [],
    unit: 'connections',
    help: 'Open gRPC connections.',
  },
  logBytes: {
    name: 'agenthub_log_bytes',
    type: 'gauge',
    labels: [],
    unit: 'bytes',
    help: 'Bytes that the log holds.',
  },
  draining: {
    name: 'agenthub_draining',
    type: 'gauge',
    labels: [],
    unit: '',
    help: '1 while the broker drains, else 0.',
  },
  cpu: {
    name: 'agenthub_cpu_cores',
    type: 'gauge',
    labels: [],
    unit: 'cores',
    help: 'CPU cores in use by the process, averaged over about 10 s.',
  },
  eventLoop: {
    name: 'agenthub_event_loop_utilization',
    type: 'gauge',
    labels: [],
    unit: '',
    help: 'Share of time that the event loop was busy, 0 to 1, averaged over about 10 s.',
  },
  eventLoopDelay: {
    name: 'agenthub_event_loop_delay_seconds',
    type: 'gauge',
    labels: ['quantile'],
    unit: 'seconds',
    help: 'How late timers ran in the last 10 s, or since the last scrape if that was earlier; quantile 1 is the maximum.',
  },
  gcPauses: {
    name: 'nodejs_gc_duration_seconds',
    type: 'histogram',
    labels: ['kind'],
    unit: 'seconds',
    help: 'Garbage collections by kind: minor, major, incremental or weakcb.',
  },
  cpuSeconds: {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    labels: [],
    unit: 'seconds',
    help: 'CPU time of the process, user and system.',
  },
  startTime: {
    name: 'process_start_time_seconds',
    type: 'gauge',
    labels: [],
    unit: 'seconds',
    help: 'When the process started, since the Unix epoch.',
  },
  resident: {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    labels: [],
    unit: 'bytes',
    help: 'Memory of the process that is in RAM.',
  },
  heapUsed: {
    name: 'nodejs_heap_size_used_bytes',
    type: 'gauge',
    labels: [],
    unit: 'bytes',
    help: 'JavaScript heap in use.',
  },
  heapTotal: {
    name: 'nodejs_heap_size_total_bytes',
    type: 'gauge',
    labels: [],
    unit: 'bytes',
    help: 'JavaScript heap reserved.',
  },
  external: {
    name: 'nodejs_external_memory_bytes',
    type: 'gauge',
    labels: [],
    unit: 'bytes',
    help: 'Memory outside of the heap that JavaScript objects hold, as buffers do.',
  },
} as const satisfies Record<string, MetricSpec>;

/** The key of a row of {@link METRICS}. */
export type MetricName = keyof typeof METRICS;
