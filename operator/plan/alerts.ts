/** A selector of a metric with these further matchers, within whatever an alert is to be about. */
export type Select = (metric: string, matchers?: string) => string;

/** One alert; docs/runbook.md has a section of its name. */
export interface Alert {
  readonly alert: string;
  /** Who it is about: the brokers of a cluster, or the operator and what it does with its clusters. */
  readonly about: 'brokers' | 'operator';
  readonly expr: (select: Select) => string;
  /** How long it must be so. */
  readonly for: string;
  /** `critical`: somebody is not served now. */
  readonly severity: 'warning' | 'critical';
  readonly summary: string;
  readonly description: string;
}

/** Those of one cluster belong together; `job` is there for those who scrape without Kubernetes. */
const CLUSTER = 'by (namespace, service, job)';
const LIMITS = 'limits.(sessions|agentsPerSession|attachmentsPerSession)';

/** Every alert. The rules of the chart, those that the operator makes, and their tests follow from this. */
export const ALERTS: readonly Alert[] = [
  {
    alert: 'AgentHubBrokerDown',
    about: 'brokers',
    expr: (select) => `${select('up')} == 0`,
    for: '2m',
    severity: 'warning',
    summary: 'A broker can not be scraped',
    description: '{{ $labels.instance }} has not answered for two minutes. Its shards are served by others.',
  },
  {
    alert: 'AgentHubNoBroker',
    about: 'brokers',
    expr: (select) => `sum ${CLUSTER} (${select('up')}) == 0`,
    for: '1m',
    severity: 'critical',
    summary: 'No broker answers',
    description: 'No broker of the cluster has answered for a minute. Agents are not served.',
  },
  {
    alert: 'AgentHubAgentsUnserved',
    about: 'brokers',
    expr: (select) => `max ${CLUSTER} (${select('agenthub_oldest_unserved_task_age_seconds')}) > 300`,
    for: '5m',
    severity: 'warning',
    summary: 'Tasks wait for agents that are not there',
    description:
      'The oldest task in a mailbox that nobody is attached to is {{ $value | humanizeDuration }} old. agenthub mailboxes shows which.',
  },
  {
    alert: 'AgentHubTasksWait',
    about: 'brokers',
    expr: (select) => `max ${CLUSTER} (${select('agenthub_oldest_task_age_seconds')}) > 600`,
    for: '10m',
    severity: 'warning',
    summary: 'Tasks wait for more than ten minutes',
    description:
      'The oldest task is {{ $value | humanizeDuration }} old: some mailbox has no worker, or too few. agenthub mailboxes shows which.',
  },
  {
    alert: 'AgentHubDeadLetters',
    about: 'brokers',
    expr: (select) => `sum ${CLUSTER} (increase(${select('agenthub_dead_letters_total')}[15m])) > 100`,
    for: '1m',
    severity: 'warning',
    summary: 'Many tasks became dead letters',
    description: '{{ $value | humanize }} tasks were given up within 15 minutes. agenthub dead ls shows why.',
  },
  {
    alert: 'AgentHubRefuses',
    about: 'brokers',
    expr: (select) =>
      `sum ${CLUSTER} (rate(${select('agenthub_refused_total', 'reason="exhausted"')}[5m])) > 1`,
    for: '5m',
    severity: 'warning',
    summary: 'Publishes are refused for want of room',
    description:
      '{{ $value | humanize }} publishes a second meet a limit. agenthub_limits_hit_total says which.',
  },
  {
    alert: 'AgentHubSessionsRefused',
    about: 'brokers',
    expr: (select) =>
      `sum ${CLUSTER} (rate(${select('agenthub_limits_hit_total', `limit=~"${LIMITS}"`)}[5m])) > 0`,
    for: '5m',
    severity: 'warning',
    summary: 'Agents are refused because there are too many',
    description: 'Sessions or attachments meet a limit. agenthub_limits_hit_total says which.',
  },
  {
    alert: 'AgentHubCopiesDropped',
    about: 'brokers',
    expr: (select) => `sum ${CLUSTER} (rate(${select('agenthub_listener_copies_dropped_total')}[5m])) > 0`,
    for: '10m',
    severity: 'warning',
    summary: 'Listeners are too slow and miss copies',
    description: '{{ $value | humanize }} copies a second are not sent because their listener does not read.',
  },
  {
    alert: 'AgentHubShardWithoutOwner',
    about: 'brokers',
    expr: (select) => `min ${CLUSTER} (${select('agenthub_shards_unowned')}) > 0`,
    for: '1m',
    severity: 'critical',
    summary: 'Shards are served by nobody',
    description:
      'No broker knows of an owner of {{ $value }} shards. Tasks to their mailboxes are accepted and not delivered.',
  },
  {
    alert: 'AgentHubHandOverStuck',
    about: 'brokers',
    expr: (select) => `${select('agenthub_shards_coming')} > 0`,
    for: '2m',
    severity: 'warning',
    summary: 'A broker does not get the shards that it should have',
    description: '{{ $labels.instance }} waits for {{ $value }} shards that are assigned to it.',
  },
  {
    alert: 'AgentHubLogSlow',
    about: 'brokers',
    expr: (select) =>
      `histogram_quantile(0.99, sum by (namespace, service, job, le) (rate(${select('agenthub_log_append_latency_seconds_bucket')}[5m]))) > 0.5`,
    for: '10m',
    severity: 'warning',
    summary: 'The log is slow',
    description:
      'One append in a hundred takes longer than {{ $value | humanizeDuration }}. It is part of every ack.',
  },
  {
    alert: 'AgentHubMemoryHigh',
    about: 'brokers',
    expr: (select) =>
      `${select('process_resident_memory_bytes')} / ${select('agenthub_memory_high_water_bytes')} > 0.9`,
    for: '5m',
    severity: 'warning',
    summary: 'A broker is about to refuse publishes for want of memory',
    description:
      '{{ $labels.instance }} uses {{ $value | humanizePercentage }} of limits.memoryHighWaterBytes.',
  },
  {
    alert: 'AgentHubLoopBusy',
    about: 'brokers',
    expr: (select) => `${select('agenthub_event_loop_utilization')} > 0.95`,
    for: '10m',
    severity: 'warning',
    summary: 'A broker has no time left',
    description:
      'The event loop of {{ $labels.instance }} is busy {{ $value | humanizePercentage }} of the time: one core is all it has.',
  },
  {
    alert: 'AgentHubNatsUnreachable',
    about: 'brokers',
    expr: (select) => `${select('agenthub_nats_connected')} == 0`,
    for: '1m',
    severity: 'critical',
    summary: 'A broker has lost NATS',
    description:
      '{{ $labels.instance }} has no connection to NATS ({{ $labels.connection }}). It can store nothing, or hears no other broker.',
  },
  {
    alert: 'AgentHubNatsNoQuorum',
    about: 'brokers',
    expr: (select) => `max ${CLUSTER} (${select('agenthub_nats_streams_unavailable')}) > 0`,
    for: '1m',
    severity: 'critical',
    summary: 'Streams of NATS have no leader',
    description:
      'At least {{ $value }} streams do not answer: a majority of their servers is gone. Tasks to their shards are refused.',
  },
  {
    alert: 'AgentHubNatsReplicasBehind',
    about: 'brokers',
    expr: (select) => `sum ${CLUSTER} (${select('agenthub_nats_replicas_behind')}) > 0`,
    for: '10m',
    severity: 'warning',
    summary: 'Copies of the log are missing',
    description:
      '{{ $value }} replicas of streams are offline or not up to date. The loss of one more server may stop them.',
  },
  {
    alert: 'AgentHubCertificateExpires',
    about: 'brokers',
    expr: (select) => `${select('agenthub_tls_certificate_remaining_seconds')} < 1209600`,
    for: '10m',
    severity: 'warning',
    summary: 'The certificate of a broker expires within two weeks',
    description:
      'The certificate that {{ $labels.instance }} shows is good for {{ $value | humanizeDuration }} more.',
  },
  {
    alert: 'AgentHubOperatorNotLeading',
    about: 'operator',
    expr: (select) => `max(${select('agenthub_operator_leading')} or vector(0)) == 0`,
    for: '5m',
    severity: 'warning',
    summary: 'No operator is at work',
    description: 'Brokers serve on, but nothing is scaled, replaced or repaired.',
  },
  {
    alert: 'AgentHubReconcileFails',
    about: 'operator',
    expr: (select) =>
      `sum(rate(${select('agenthub_operator_reconciles_total', 'result!="ok"')}[10m])) by (result) > 0`,
    for: '15m',
    severity: 'warning',
    summary: 'The operator can not do its work',
    description: 'Looks at BrokerClusters have ended with {{ $labels.result }} for a quarter of an hour.',
  },
  {
    alert: 'AgentHubDegraded',
    about: 'operator',
    expr: (select) =>
      `max by (namespace, cluster) (${select('agenthub_operator_condition', 'condition="Degraded"')}) == 1`,
    for: '10m',
    severity: 'warning',
    summary: 'A BrokerCluster is degraded',
    description: 'kubectl -n {{ $labels.namespace }} describe bc {{ $labels.cluster }} says why.',
  },
  {
    alert: 'AgentHubCapacityStale',
    about: 'operator',
    expr: (select) =>
      `max by (namespace, cluster) (${select('agenthub_operator_condition', 'condition="CapacityStale"')}) == 1`,
    for: '5m',
    severity: 'warning',
    summary: 'Brokers do not tell their load',
    description:
      'The operator can not read /capacity of some broker of {{ $labels.cluster }}, and takes none away until it can.',
  },
  {
    alert: 'AgentHubDrainOverdue',
    about: 'operator',
    expr: (select) =>
      `min by (namespace, cluster, pool) (${select('agenthub_operator_drain_left_seconds')}) < 0`,
    for: '1m',
    severity: 'warning',
    summary: 'A broker is not empty by its deadline',
    description:
      'A broker of {{ $labels.cluster }} should have handed over all that it had. drain.onTimeout is Hold, so it stays.',
  },
];

/** A rule as Prometheus reads it. */
export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** What rules are made for. */
export interface RulesOptions {
  readonly about?: Alert['about'];
  /** Matchers that every selector gets: `namespace="agents"`. */
  readonly within?: string;
  /** Matchers that only `up` gets, which every target of Prometheus has. */
  readonly targets?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Where the runbook is. Default: its place in this repository. */
  readonly runbook?: string;
}

/** The rules of those alerts. */
export function alertRules({
  about,
  within = '',
  targets = '',
  labels = {},
  runbook = 'docs/runbook.md',
}: RulesOptions = {}): readonly AlertRule[] {
  const select: Select = (metric, matchers = '') => {
    const all = [within, metric === 'up' ? targets : '', matchers].filter((each) => each !== '');
    return all.length === 0 ? metric : `${metric}{${all.join(',')}}`;
  };
  return ALERTS.filter((alert) => about === undefined || alert.about === about).map((alert) => ({
    alert: alert.alert,
    expr: alert.expr(select),
    for: alert.for,
    labels: { severity: alert.severity, ...labels },
    annotations: {
      summary: alert.summary,
      description: alert.description,
      runbook_url: `${runbook}#${alert.alert.toLowerCase()}`,
    },
  }));
}
