import { alertRules } from '../alerts.ts';
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
          rules: alertRules({
            about: 'brokers',
            within: `namespace="${namespace}",service="${nameOf.brokers(cluster)}"`,
            labels: { agenthub_cluster: name },
          }),
        },
      ],
    },
  });
}
