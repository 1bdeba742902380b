import { API_VERSION, KIND, PLURAL } from '../api/brokercluster.ts';
import type { BrokerClusterStatus } from '../api/status.ts';
import type { KubeObject } from '../api/object.ts';
import type { KubeType } from '../kube/kube.ts';
import type { PodObject } from '../plan/pods.ts';

/** A BrokerCluster before anybody has read its spec. */
export type BrokerClusterObject = KubeObject<unknown, BrokerClusterStatus>;

/** A Secret. */
export interface SecretObject extends KubeObject {
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
}

/** A Node, as far as it is looked at here. */
export type NodeObject = KubeObject<
  unknown,
  {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly lastTransitionTime?: string;
    }[];
  }
>;

/** A HorizontalPodAutoscaler, as far as it is looked at here. */
export type AutoscalerObject = KubeObject<{
  readonly scaleTargetRef?: { readonly apiVersion?: string; readonly kind?: string; readonly name?: string };
}>;

function type<T extends KubeObject = KubeObject>(
  apiVersion: string,
  kind: string,
  plural: string,
): KubeType<T> {
  return { apiVersion, kind, plural, namespaced: true };
}

export const BROKER_CLUSTER = type<BrokerClusterObject>(API_VERSION, KIND, PLURAL);
export const POD = type<PodObject>('v1', 'Pod', 'pods');
export const SECRET = type<SecretObject>('v1', 'Secret', 'secrets');
export const NODE: KubeType<NodeObject> = {
  apiVersion: 'v1',
  kind: 'Node',
  plural: 'nodes',
  namespaced: false,
};
export const AUTOSCALER = type<AutoscalerObject>(
  'autoscaling/v2',
  'HorizontalPodAutoscaler',
  'horizontalpodautoscalers',
);

/** Kinds of child objects that every Kubernetes has. */
export const CHILDREN: readonly KubeType[] = [
  type('apps/v1', 'StatefulSet', 'statefulsets'),
  type('v1', 'Service', 'services'),
  type('v1', 'ConfigMap', 'configmaps'),
  type('v1', 'ServiceAccount', 'serviceaccounts'),
  type('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets'),
  type('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies'),
];

/** That of cert-manager. */
export const CERTIFICATE = type('cert-manager.io/v1', 'Certificate', 'certificates');
/** Those that come with Prometheus' operator. */
export const SERVICE_MONITOR = type('monitoring.coreos.com/v1', 'ServiceMonitor', 'servicemonitors');
export const PROMETHEUS_RULE = type('monitoring.coreos.com/v1', 'PrometheusRule', 'prometheusrules');
/** Kinds of child objects that may be installed later than the operator, or never. */
export const OPTIONAL: readonly KubeType[] = [SERVICE_MONITOR, PROMETHEUS_RULE, CERTIFICATE];
