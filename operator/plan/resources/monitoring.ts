import type { Context } from '../context.ts';
import { LABEL, nameOf, selector } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

const MONITORING = 'monitoring.coreos.com/v1';

/** What Prometheus' operator is told, as far as it is wanted and there. */
export function monitoringObjects(context: Context): readonly Child[] {
  const { monitoring } = context.cluster.spec;
  const { kinds } = context;
  return [
    ...(monitoring.serviceMonitor.enabled && kinds.serviceMonitor ? [serviceMonitor(context)] : []),
    ...(monitoring.prometheusRule.enabled && kinds.prometheusRule ? [prometheusRule(context)] : []),
  ];
}

function serviceMonitor({ cluster }: Context): Child {
  const { monitoring, tls } = cluster.spec;
  const about = {
    apiVersion: MONITORING,
    kind: 'ServiceMonitor',
    name: nameOf.monitoring(cluster),
    component: 'broker',
    labels: monitoring.serviceMonitor.labels,
  } as const;
  return child(cluster, about, {
    spec: {
      selector: { matchLabels: { ...selector(cluster, 'broker'), [LABEL.service]: 'brokers' } },
      podTargetLabels: [LABEL.cluster, LABEL.pool],
      endpoints: [
        {
          port: 'http',
          path: '/metrics',
          interval: `${monitoring.intervalSeconds}s`,
          // A broker that drains is not ready and is watched all the same.
          ...(tls === undefined ? {} : { scheme: 'https', tlsConfig: { insecureSkipVerify: true } }),
          ...(monitoring.public
            ? {}
            : {
                authorization: {
                  credentials: { name: nameOf.internalSecret(cluster), key: 'admin-token' },
                },
              }),
        },
      ],
    },
  });
}

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly severity: 'warning' | 'critical';
  readonly summary: string;
  readonly description: string;
}

function prometheusRule({ cluster }: Context): Child {
  const about = {
    apiVersion: MONITORING,
    kind: 'PrometheusRule',
    name: nameOf.monitoring(cluster),
    component: 'broker',
    labels: cluster.spec.monitoring.prometheusRule.labels,
  } as const;
  const { name, namespace } = cluster.metadata;
  return child(cluster, about, {
    spec: {
      groups: [
        {
          name: `agenthub.${namespace}.${name}`,
          rules: alerts(namespace, nameOf.brokers(cluster)).map(
            ({ alert, expr, for: time, severity, summary, description }) => ({
              alert,
              expr,
              for: time,
              labels: { severity, agenthub_cluster: name },
              annotations: { summary, description },
            }),
          ),
        },
      ],
    },
  });
}

function alerts(namespace: string, service: string): readonly Alert[] {
  const of = `{namespace="${namespace}",service="${service}"}`;
  return [
    {
      alert: 'AgentHubBrokerDown',
      expr: `up${of} == 0`,
      for: '2m',
      severity: 'warning',
      summary: 'A broker can not be scraped',
      description:
        '{{ $labels.pod }} has not answered for two minutes. Its shards are served by others; see kubectl describe bc.',
    },
    {
      alert: 'AgentHubNoBroker',
      expr: `sum(up${of}) == 0`,
      for: '1m',
      severity: 'critical',
      summary: 'No broker answers',
      description: 'No broker of the cluster has answered for a minute. Agents are not served.',
    },
    {
      alert: 'AgentHubTasksWait',
      expr: `max(agenthub_oldest_task_age_seconds${of}) > 600`,
      for: '10m',
      severity: 'warning',
      summary: 'Tasks wait for more than ten minutes',
      description: 'Some mailbox has no worker, or too few: agenthub mailboxes shows which.',
    },
    {
      alert: 'AgentHubRefuses',
      expr: `sum(rate(agenthub_refused_total{namespace="${namespace}",service="${service}",reason="exhausted"}[5m])) > 1`,
      for: '5m',
      severity: 'warning',
      summary: 'Publishes are refused for want of room',
      description: 'A limit is met: agenthub_limits_hit_total says which.',
    },
    {
      alert: 'AgentHubDeadLetters',
      expr: `sum(increase(agenthub_dead_letters_total${of}[15m])) > 100`,
      for: '1m',
      severity: 'warning',
      summary: 'Many tasks became dead letters',
      description: 'More than a hundred tasks were given up within 15 minutes: agenthub dead ls shows why.',
    },
    {
      alert: 'AgentHubLoopBusy',
      expr: `max(agenthub_event_loop_utilization${of}) > 0.95`,
      for: '10m',
      severity: 'warning',
      summary: 'A broker has no time left',
      description:
        'The busiest broker is at its limit: raise maxReplicas, or look at the condition ShardHot.',
    },
  ];
}
