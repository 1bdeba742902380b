import { labels, nameOf, NATS_PORTS, RESTART, REVISION, selector } from '../context.ts';
import type { Context } from '../context.ts';
import { fingerprint } from '../fingerprint.ts';
import { overlay } from '../overlay.ts';
import { parseQuantity } from '../quantity.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';
import { LAME_DUCK_SECONDS, natsConfig, natsConfigText, NATS_DATA, NATS_PID } from './nats-config.ts';
import { CONTAINER_SECURITY, fieldVariable, podBasics } from './pod.ts';

type Managed = NonNullable<Context['cluster']['spec']['nats']['managed']>;

/** The share of the memory limit at which Go collects harder. */
const GO_MEMORY_SHARE = 0.9;
/** Time that a server has besides its lame duck time, in seconds. */
const SPARE_SECONDS = 30;

/** The managed NATS servers. They start together, since each waits for the others; the operator replaces them. */
export function natsSet(context: Context, managed: Managed): Child {
  const { cluster } = context;
  const { spec } = cluster;
  const { size, storageClassName, onDelete } = managed.volume;
  const selected = selector(cluster, 'nats');
  const template = {
    metadata: {
      labels: labels(cluster, 'nats'),
      annotations: {
        [REVISION]: natsRevision(context, managed),
        'kubectl.kubernetes.io/default-container': 'nats',
      },
    },
    spec: {
      ...podBasics(spec, managed.topology, selected),
      serviceAccountName: nameOf.account(cluster),
      terminationGracePeriodSeconds: LAME_DUCK_SECONDS + SPARE_SECONDS,
      containers: [container(context, managed)],
      volumes: [
        { name: 'config', configMap: { name: natsConfig(context).metadata.name } },
        { name: 'pid', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
      ],
    },
  };
  const about = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    name: nameOf.nats(cluster),
    component: 'nats',
  } as const;
  return child(cluster, about, {
    spec: {
      replicas: managed.servers,
      serviceName: nameOf.natsPeers(cluster),
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'OnDelete' },
      revisionHistoryLimit: 3,
      persistentVolumeClaimRetentionPolicy: { whenDeleted: onDelete, whenScaled: 'Retain' },
      selector: { matchLabels: selected },
      template: overlay(template, managed.podTemplate ?? {}),
      volumeClaimTemplates: [
        {
          apiVersion: 'v1',
          kind: 'PersistentVolumeClaim',
          metadata: { name: 'data', labels: selected },
          spec: {
            accessModes: ['ReadWriteOnce'],
            resources: { requests: { storage: size } },
            ...(storageClassName === '' ? {} : { storageClassName }),
          },
        },
      ],
    },
  });
}

/** What the servers are made from, in short, as far as the spec says. */
export function natsRevision(context: Context, managed: Managed): string {
  const { cluster, images } = context;
  const { resources, topology, podTemplate } = managed;
  return fingerprint({
    image: images.nats,
    config: natsConfigText(context),
    servers: { resources, topology, podTemplate },
    patches: cluster.spec.patches.filter(({ name }) => name === nameOf.nats(cluster)),
    pull: [cluster.spec.imagePullPolicy, cluster.spec.imagePullSecrets],
    restart: cluster.metadata.annotations[RESTART],
  });
}

function container({ cluster, images }: Context, { resources }: Managed): object {
  const health = (query: string): object => ({ path: `/healthz${query}`, port: 'monitor' });
  const memory = parseQuantity(resources.limits?.['memory'] ?? '');
  return {
    name: 'nats',
    image: images.nats,
    imagePullPolicy: cluster.spec.imagePullPolicy,
    args: ['--config', '/etc/nats/nats.conf'],
    env: [
      fieldVariable('POD_NAME', 'metadata.name'),
      ...(memory === undefined
        ? []
        : [{ name: 'GOMEMLIMIT', value: `${Math.floor(memory * GO_MEMORY_SHARE)}` }]),
    ],
    ports: [
      { name: 'client', containerPort: NATS_PORTS.client, protocol: 'TCP' },
      { name: 'cluster', containerPort: NATS_PORTS.cluster, protocol: 'TCP' },
      { name: 'monitor', containerPort: NATS_PORTS.monitor, protocol: 'TCP' },
    ],
    // Healthy once all its streams have caught up: so the next one is replaced only when this one counts again.
    startupProbe: { httpGet: health(''), periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 900 },
    livenessProbe: {
      httpGet: health('?js-enabled-only=true'),
      periodSeconds: 10,
      timeoutSeconds: 5,
      failureThreshold: 6,
    },
    readinessProbe: {
      httpGet: health('?js-server-only=true'),
      periodSeconds: 5,
      timeoutSeconds: 5,
      failureThreshold: 3,
    },
    // Leaders move away and clients reconnect to the others before the server ends. Process 1 is the server, wherever
    // the image has it.
    lifecycle: { preStop: { exec: { command: ['/proc/1/exe', '--signal', `ldm=${NATS_PID}`] } } },
    resources,
    securityContext: CONTAINER_SECURITY,
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: 'config', mountPath: '/etc/nats', readOnly: true },
      { name: 'data', mountPath: NATS_DATA },
      { name: 'pid', mountPath: '/var/run/nats' },
    ],
  };
}
