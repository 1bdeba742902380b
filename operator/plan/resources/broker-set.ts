import type { PoolSpec } from '../../api/spec.ts';
import {
  AGENT_TOKEN_KEY,
  host,
  INTERNAL_KEYS,
  labels,
  nameOf,
  PORTS,
  RESTART,
  REVISION,
  selector,
} from '../context.ts';
import type { Context } from '../context.ts';
import { fingerprint } from '../fingerprint.ts';
import { NATS_KEYS } from '../nats-keys.ts';
import { overlay } from '../overlay.ts';
import { brokerConfig, CONFIG_FILE, FILES, STOP_SECONDS } from './broker-config.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';
import { CONTAINER_SECURITY, fieldVariable, podBasics, secretVariable, secretVolume } from './pod.ts';

/** Time that a pod needs besides drain and stop, in seconds. */
const SPARE_SECONDS = 5;

/**
 * The pods of a pool. They are replaced when the operator deletes them (OnDelete), one drained broker at a time, and
 * may come and go all at once otherwise (Parallel): brokers need not wait for each other.
 */
export function brokerSet(context: Context, pool: PoolSpec, replicas: number): Child {
  const { cluster } = context;
  const { spec } = cluster;
  const selected = selector(cluster, 'broker', pool.name);
  const template = {
    metadata: {
      labels: labels(cluster, 'broker', pool.name),
      annotations: {
        [REVISION]: brokerRevision(context, pool),
        'kubectl.kubernetes.io/default-container': 'broker',
      },
    },
    spec: {
      ...podBasics(spec, pool.topology, selected),
      serviceAccountName: nameOf.account(cluster),
      terminationGracePeriodSeconds: spec.drain.terminationGracePeriodSeconds,
      containers: [container(context, pool)],
      volumes: volumes(context, pool),
    },
  };
  const about = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    name: nameOf.pool(cluster, pool.name),
    component: 'broker',
    pool: pool.name,
  } as const;
  return child(cluster, about, {
    spec: {
      replicas,
      serviceName: nameOf.brokers(cluster),
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'OnDelete' },
      revisionHistoryLimit: 3,
      selector: { matchLabels: selected },
      template: overlay(overlay(template, spec.podTemplate ?? {}), pool.podTemplate ?? {}),
    },
  });
}

/**
 * What brokers of a pool are made from, in short. It follows from the spec alone: an operator of another version,
 * which makes other pods of the same spec, replaces none for that.
 */
export function brokerRevision({ cluster, images, secrets, issuer }: Context, pool: PoolSpec): string {
  const { spec, metadata } = cluster;
  const { name, shards, resources, topology, podTemplate } = pool;
  return fingerprint({
    image: images.brokers[name],
    pool: { shards, resources, topology, podTemplate },
    shards: spec.shards,
    durability: spec.durability,
    nats: spec.nats.external ?? 'managed',
    auth: spec.auth,
    issuer: spec.auth.serviceAccounts === undefined ? undefined : issuer,
    tls: spec.tls,
    config: spec.config,
    podTemplate: spec.podTemplate,
    patches: spec.patches.filter(({ kind }) => kind === 'StatefulSet' || kind === 'ConfigMap'),
    pull: [spec.imagePullPolicy, spec.imagePullSecrets],
    grace: spec.drain.terminationGracePeriodSeconds,
    public: spec.monitoring.public,
    advertise: spec.service.advertise,
    restart: metadata.annotations[RESTART],
    secrets,
  });
}

function container({ cluster, images }: Context, pool: PoolSpec): object {
  const { spec } = cluster;
  const probe = (path: string): object => ({
    path,
    port: 'http',
    scheme: spec.tls === undefined ? 'HTTP' : 'HTTPS',
  });
  const drainSeconds = spec.drain.terminationGracePeriodSeconds - STOP_SECONDS - SPARE_SECONDS;
  return {
    name: 'broker',
    image: images.brokers[pool.name],
    imagePullPolicy: spec.imagePullPolicy,
    args: ['serve'],
    env: environment(cluster),
    ports: [
      { name: 'grpc', containerPort: PORTS.grpc, protocol: 'TCP' },
      { name: 'http', containerPort: PORTS.http, protocol: 'TCP' },
    ],
    // Replaying a large log takes its time.
    startupProbe: { httpGet: probe('/healthz'), periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 600 },
    livenessProbe: { httpGet: probe('/healthz'), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    readinessProbe: { httpGet: probe('/readyz'), periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2 },
    ...(drainSeconds > 0
      ? {
          lifecycle: {
            preStop: { exec: { command: preStop(spec.tls !== undefined, drainSeconds) } },
          },
        }
      : {}),
    resources: pool.resources,
    securityContext: CONTAINER_SECURITY,
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: mounts(cluster),
  };
}

/** By its path, since images need not have the same working folder. */
function preStop(tls: boolean, seconds: number): readonly string[] {
  const url = `${tls ? 'https' : 'http'}://127.0.0.1:${PORTS.http}`;
  return ['node', '/app/dist/cli/pre-stop.js', String(seconds), url];
}

function environment(cluster: Context['cluster']): readonly object[] {
  const { spec } = cluster;
  const internal = nameOf.internalSecret(cluster);
  const address = `$(POD_NAME).${host(cluster, nameOf.brokers(cluster))}:${PORTS.grpc}`;
  return [
    fieldVariable('POD_NAME', 'metadata.name'),
    fieldVariable('POD_IP', 'status.podIP'),
    { name: 'AGENTHUB_CONFIG', value: `${FILES.config}/${CONFIG_FILE}` },
    fieldVariable('AGENTHUB_SERVICE_NAME', 'metadata.name'),
    ...(spec.service.advertise ? [{ name: 'AGENTHUB_CLUSTER_ADDRESS', value: address }] : []),
    secretVariable('AGENTHUB_AUTH_ADMIN_TOKENS', internal, INTERNAL_KEYS.adminToken),
    // For commands in the pod, as the drain before it stops.
    secretVariable('AGENTHUB_CLIENT_TOKEN', internal, INTERNAL_KEYS.adminToken),
    ...(spec.tls === undefined ? [] : [{ name: 'AGENTHUB_CLIENT_TLS', value: 'true' }]),
    ...(spec.auth.anonymous || spec.auth.tokens !== undefined
      ? []
      : [secretVariable('AGENTHUB_AUTH_TOKENS', nameOf.agentSecret(cluster), AGENT_TOKEN_KEY)]),
  ];
}

interface Files {
  readonly volume: object;
  readonly mountPath: string;
}

/** Where programs in a pod look for what they need to talk to the API server. */
const ACCOUNT_FILES = '/var/run/secrets/kubernetes.io/serviceaccount';
const ACCOUNT_TOKEN_SECONDS = 3600;
/** A token that says who the brokers are, and nothing else; it is renewed by the kubelet. */
const ACCOUNT_VOLUME = {
  name: 'api-server',
  projected: {
    defaultMode: 0o440,
    sources: [
      { serviceAccountToken: { path: 'token', expirationSeconds: ACCOUNT_TOKEN_SECONDS } },
      { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
    ],
  },
};

/** Each kind of secret file: the volume and where it is mounted. */
function secretFiles(cluster: Context['cluster']): ReadonlyMap<string, Files> {
  const { spec } = cluster;
  const { tokens, adminTokens, policy, jwt } = spec.auth;
  const files = new Map<string, Files>();
  const add = (name: string, mountPath: string, volume: object): void =>
    void files.set(name, { volume, mountPath });
  if (tokens !== undefined) {
    add('tokens', FILES.tokens, secretVolume('tokens', tokens.secretName, [[tokens.key, 'tokens']]));
  }
  if (adminTokens !== undefined) {
    const { secretName, key } = adminTokens;
    add('admin-tokens', FILES.adminTokens, secretVolume('admin-tokens', secretName, [[key, 'tokens']]));
  }
  if (policy !== undefined) {
    add('policy', FILES.policy, secretVolume('policy', policy.secretName, [[policy.key, 'policy.yaml']]));
  }
  if (jwt?.jwks !== undefined) {
    const { secretName, key } = jwt.jwks;
    add('jwks', FILES.jwks, secretVolume('jwks', secretName, [[key, 'jwks.json']]));
  }
  if (jwt?.ca !== undefined) {
    add('jwks-ca', FILES.jwksCa, secretVolume('jwks-ca', jwt.ca.secretName, [[jwt.ca.key, 'ca.crt']]));
  }
  if (spec.auth.serviceAccounts !== undefined) add('api-server', ACCOUNT_FILES, ACCOUNT_VOLUME);
  if (spec.tls !== undefined) {
    add('tls', FILES.tls, secretVolume('tls', nameOf.certificate(cluster)));
    const { clientCa } = spec.tls;
    if (clientCa !== undefined) {
      add(
        'client-ca',
        FILES.clientCa,
        secretVolume('client-ca', clientCa.secretName, [[clientCa.key, 'ca.crt']]),
      );
    }
  }
  const sources = natsFiles(cluster);
  if (sources.length > 0)
    add('nats', FILES.nats, { name: 'nats', projected: { defaultMode: 0o440, sources } });
  return files;
}

function natsFiles(cluster: Context['cluster']): readonly object[] {
  const { external } = cluster.spec.nats;
  const source = (name: string, items: readonly [key: string, path: string][]): object => ({
    secret: { name, items: items.map(([key, path]) => ({ key, path })) },
  });
  if (external === undefined) return [source(nameOf.natsCredentials(cluster), [[NATS_KEYS.seed, 'nkey']])];
  const { credentials, nkey, token, userPassword, tls } = external;
  return [
    ...(token === undefined ? [] : [source(token.secretName, [[token.key, 'token']])]),
    ...(userPassword === undefined
      ? []
      : [
          source(userPassword, [
            ['username', 'username'],
            ['password', 'password'],
          ]),
        ]),
    ...(credentials === undefined
      ? []
      : [source(credentials.secretName, [[credentials.key, 'credentials']])]),
    ...(nkey === undefined ? [] : [source(nkey.secretName, [[nkey.key, 'nkey']])]),
    ...(tls?.ca === undefined ? [] : [source(tls.ca.secretName, [[tls.ca.key, 'ca.crt']])]),
    ...(tls?.certificate === undefined
      ? []
      : [
          source(tls.certificate, [
            ['tls.crt', 'tls.crt'],
            ['tls.key', 'tls.key'],
          ]),
        ]),
  ];
}

function volumes(context: Context, pool: PoolSpec): readonly object[] {
  return [
    { name: 'config', configMap: { name: brokerConfig(context, pool).metadata.name } },
    { name: 'tmp', emptyDir: { sizeLimit: '64Mi' } },
    ...[...secretFiles(context.cluster).values()].map(({ volume }) => volume),
  ];
}

function mounts(cluster: Context['cluster']): readonly object[] {
  return [
    { name: 'config', mountPath: FILES.config, readOnly: true },
    { name: 'tmp', mountPath: '/tmp' },
    ...[...secretFiles(cluster)].map(([name, { mountPath }]) => ({ name, mountPath, readOnly: true })),
  ];
}
