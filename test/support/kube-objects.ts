import type { KubeObject, OwnerReference } from '../../operator/api/object.ts';
import type { KubeType } from '../../operator/kube/kube.ts';

/** An object of any kind, to be applied. */
export interface Sample {
  readonly type: KubeType;
  readonly object: KubeObject;
}

/** A ConfigMap. */
export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

function type<T extends KubeObject>(apiVersion: string, kind: string, plural: string): KubeType<T> {
  return { apiVersion, kind, plural, namespaced: true };
}

/** How these kinds are called in URLs. */
export const STATEFUL_SET = type('apps/v1', 'StatefulSet', 'statefulsets');
export const CONFIG_MAP = type<ConfigMap>('v1', 'ConfigMap', 'configmaps');
export const POD = type('v1', 'Pod', 'pods');
export const POD_DISRUPTION_BUDGET = type('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets');
export const CUSTOM_RESOURCE_DEFINITION: KubeType = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
};

/** A ConfigMap that says one thing. */
export function configMap(name: string, value: string, owner?: OwnerReference): ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name,
      namespace: 'default',
      labels: { test: 'yes' },
      ...(owner === undefined ? {} : { ownerReferences: [owner] }),
    },
    data: { value },
  };
}

/**
 * One object of every kind that the operator makes, written as nobody should: amounts in other spellings,
 * empty values, defaults that are left out or stated. The API server stores all of them differently.
 */
export function samples(name: string, owner: OwnerReference): Sample[] {
  const labels = { 'app.kubernetes.io/instance': name };
  const metadata = {
    name,
    namespace: 'default',
    labels,
    annotations: { 'agenthub.io/note': '' },
    ownerReferences: [owner],
  };
  const sample = (kind: KubeType, content: object): Sample => ({
    type: kind,
    object: { apiVersion: kind.apiVersion, kind: kind.kind, metadata, ...content },
  });
  return [
    sample(CONFIG_MAP, { data: { 'agenthub.yaml': 'log: jetstream\n', empty: '' } }),
    sample(type('v1', 'Secret', 'secrets'), { type: 'Opaque', data: { token: 'c2VjcmV0' } }),
    sample(type('v1', 'ServiceAccount', 'serviceaccounts'), { automountServiceAccountToken: false }),
    sample(type('v1', 'Service', 'services'), {
      spec: {
        clusterIP: 'None',
        publishNotReadyAddresses: true,
        selector: labels,
        ports: [
          { name: 'grpc', port: 50051, targetPort: 'grpc' },
          { name: 'http', port: 8080, targetPort: 8080, protocol: 'TCP', appProtocol: 'http' },
        ],
      },
    }),
    sample(STATEFUL_SET, {
      spec: {
        serviceName: name,
        replicas: 3,
        podManagementPolicy: 'Parallel',
        updateStrategy: { type: 'OnDelete' },
        selector: { matchLabels: labels },
        persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Delete', whenScaled: 'Delete' },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: name,
            hostNetwork: false,
            securityContext: {},
            terminationGracePeriodSeconds: 120,
            tolerations: [{ key: 'spot', operator: 'Exists' }],
            topologySpreadConstraints: [
              {
                maxSkew: 1,
                topologyKey: 'kubernetes.io/hostname',
                whenUnsatisfiable: 'ScheduleAnyway',
                labelSelector: { matchLabels: labels },
              },
            ],
            initContainers: [],
            containers: [
              {
                name: 'broker',
                image: 'agenthub:1',
                args: ['serve', '--port', '50051'],
                command: [],
                env: [
                  { name: 'EMPTY', value: '' },
                  { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
                  { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
                ],
                ports: [
                  { name: 'grpc', containerPort: 50051 },
                  { name: 'http', containerPort: 8080, protocol: 'TCP' },
                ],
                resources: {
                  requests: { cpu: '0.5', memory: '1024Mi' },
                  limits: { cpu: '2000m', memory: '1073741824' },
                },
                readinessProbe: { httpGet: { path: '/readyz', port: 'http' }, periodSeconds: 5 },
                lifecycle: { preStop: { exec: { command: ['agenthub', 'cluster', 'drain'] } } },
                volumeMounts: [
                  { name: 'config', mountPath: '/etc/agenthub', readOnly: true },
                  { name: 'data', mountPath: '/data' },
                ],
                securityContext: { readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
              },
            ],
            volumes: [
              { name: 'config', configMap: { name } },
              { name: 'tmp', emptyDir: {} },
            ],
          },
        },
        volumeClaimTemplates: [
          {
            metadata: { name: 'data' },
            spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '10240Mi' } } },
          },
        ],
      },
    }),
    sample(POD_DISRUPTION_BUDGET, { spec: { maxUnavailable: 1, selector: { matchLabels: labels } } }),
    sample(type('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies'), {
      spec: {
        podSelector: {},
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 50051 }] }],
        egress: [{}],
      },
    }),
    sample(type('rbac.authorization.k8s.io/v1', 'Role', 'roles'), {
      rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get', 'list'] }],
    }),
    sample(type('rbac.authorization.k8s.io/v1', 'RoleBinding', 'rolebindings'), {
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: 'default' }],
    }),
    sample(type('autoscaling/v2', 'HorizontalPodAutoscaler', 'horizontalpodautoscalers'), {
      spec: {
        maxReplicas: 5,
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'StatefulSet', name },
        metrics: [
          {
            type: 'Resource',
            resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 60 } },
          },
        ],
      },
    }),
  ];
}

/** A kind of its own, with a status. */
export const PROBE = type('test.agenthub.io/v1', 'Probe', 'probes');

/** What makes {@link PROBE} known. */
export const PROBE_DEFINITION: KubeObject = {
  apiVersion: CUSTOM_RESOURCE_DEFINITION.apiVersion,
  kind: CUSTOM_RESOURCE_DEFINITION.kind,
  metadata: { name: 'probes.test.agenthub.io' },
  spec: {
    group: 'test.agenthub.io',
    names: { kind: 'Probe', plural: 'probes', singular: 'probe' },
    scope: 'Namespaced',
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                properties: {
                  size: { type: 'integer' },
                  flavour: { type: 'string', default: 'plain' },
                  hosts: { type: 'array', items: { type: 'string' } },
                },
              },
              status: {
                type: 'object',
                properties: {
                  ready: { type: 'integer' },
                  phase: { type: 'string', default: 'new' },
                  conditions: {
                    type: 'array',
                    'x-kubernetes-list-type': 'map',
                    'x-kubernetes-list-map-keys': ['type'],
                    items: {
                      type: 'object',
                      required: ['type'],
                      properties: { type: { type: 'string' }, status: { type: 'string' } },
                    },
                  },
                },
              },
            },
          },
        },
      },
    ],
  },
};
