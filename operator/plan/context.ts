import { DEFAULT_POOL } from '../../src/core/pools.ts';
import type { BrokerCluster } from '../api/brokercluster.ts';
import type { PoolSpec } from '../api/spec.ts';
import type { NatsKeys } from './nats-keys.ts';

/** Kinds that not every Kubernetes knows. */
export interface OptionalKinds {
  readonly serviceMonitor: boolean;
  readonly prometheusRule: boolean;
  /** That of cert-manager. */
  readonly certificate: boolean;
}

/** All from which the child objects of a cluster follow. */
export interface Context {
  readonly cluster: BrokerCluster;
  readonly images: Images;
  readonly kinds: OptionalKinds;
  /** By the name of a Secret that brokers read at their start only: something that changes when its contents do. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Who may log in to the managed NATS servers; absent until the operator has made that. */
  readonly natsKeys: NatsKeys | undefined;
  /** Who signs the tokens of service accounts here, if it is known. */
  readonly issuer: string | undefined;
}

/** The images that are in force, see {@link imagesOf}. */
export interface Images {
  /** By pool. */
  readonly brokers: Readonly<Record<string, string>>;
  readonly nats: string;
}

/** What brokers listen on. */
export const PORTS = { grpc: 50_051, http: 8080 } as const;
/** What NATS servers listen on. */
export const NATS_PORTS = { client: 4222, cluster: 6222, monitor: 8222 } as const;

/** The user that everything runs as: `nonroot` of the distroless images. */
export const USER_ID = 65_532;

/** The names of all that belongs to a cluster. */
export const nameOf = {
  /** StatefulSet, PodDisruptionBudget, NetworkPolicy of a pool. */
  pool: ({ metadata }: BrokerCluster, pool: string): string => `${metadata.name}-${pool}`,
  /** The Service that agents use. */
  clients: ({ metadata }: BrokerCluster): string => metadata.name,
  /** The headless Service that gives each broker its name. */
  brokers: ({ metadata }: BrokerCluster): string => `${metadata.name}-brokers`,
  account: ({ metadata }: BrokerCluster): string => `${metadata.name}-broker`,
  nats: ({ metadata }: BrokerCluster): string => `${metadata.name}-nats`,
  /** The headless Service of the NATS servers. */
  natsPeers: ({ metadata }: BrokerCluster): string => `${metadata.name}-nats-peers`,
  /** Secret with what only operator and brokers need to know. */
  internalSecret: ({ metadata }: BrokerCluster): string => `${metadata.name}-internal`,
  /** Secret with the token that the operator made for agents. */
  agentSecret: ({ metadata }: BrokerCluster): string => `${metadata.name}-agent-token`,
  /** Secret with what brokers show the managed NATS servers. */
  natsCredentials: ({ metadata }: BrokerCluster): string => `${metadata.name}-nats-credentials`,
  /** Secret with what those show who look after these servers. */
  natsSystem: ({ metadata }: BrokerCluster): string => `${metadata.name}-nats-system`,
  /** Secret with the certificate of the brokers: that of the spec, or what cert-manager makes. */
  certificate: ({ metadata, spec }: BrokerCluster): string => spec.tls?.secretName ?? `${metadata.name}-tls`,
  monitoring: ({ metadata }: BrokerCluster): string => metadata.name,
} as const;

/** Keys of the internal Secret. */
export const INTERNAL_KEYS = { adminToken: 'admin-token' } as const;
/** The key of the Secret for agents. */
export const AGENT_TOKEN_KEY = 'token';
/** What the names of streams, subjects and inboxes in managed NATS begin with. */
export const NATS_PREFIX = 'agenthub';

/** Annotations that people set on a BrokerCluster. */
export const PAUSE_UPDATE = 'agenthub.io/pause-update';
/** Any new value replaces all brokers, one at a time. */
export const RESTART = 'agenthub.io/restart';
/** Any new value exchanges the credential of the brokers with managed NATS. */
export const ROTATE_NATS = 'agenthub.io/rotate-nats-credentials';
/** Pauses everything the operator does with this cluster. */
export const PAUSE = 'agenthub.io/pause';
/** On pods: what of the spec they were made from. */
export const REVISION = 'agenthub.io/revision';

/** Labels by which objects and pods are found. */
export const LABEL = {
  cluster: 'agenthub.io/cluster',
  pool: 'agenthub.io/pool',
  /** On the headless Service of the brokers, so that a ServiceMonitor finds it alone. */
  service: 'agenthub.io/service',
  component: 'app.kubernetes.io/component',
} as const;

/** What an object is a part of. */
export type Component = 'broker' | 'nats';

/** The labels that select the pods of a component, or of one pool. */
export function selector(
  { metadata }: BrokerCluster,
  component: Component,
  pool?: string,
): Readonly<Record<string, string>> {
  return {
    [LABEL.cluster]: metadata.name,
    [LABEL.component]: component,
    ...(pool === undefined ? {} : { [LABEL.pool]: pool }),
  };
}

/** The labels of an object. */
export function labels(
  cluster: BrokerCluster,
  component: Component,
  pool?: string,
): Readonly<Record<string, string>> {
  return {
    'app.kubernetes.io/name': 'agenthub',
    'app.kubernetes.io/instance': cluster.metadata.name,
    'app.kubernetes.io/part-of': 'agenthub',
    'app.kubernetes.io/managed-by': 'agenthub-operator',
    ...selector(cluster, component, pool),
  };
}

/** The pool that takes what no rule matches. The API server lets exactly one be without rules. */
export function defaultPool({ spec }: BrokerCluster): PoolSpec {
  return spec.pools.find(({ rules }) => rules.length === 0) ?? spec.pools[0]!;
}

/** What brokers call a pool: that without rules is their default pool, whatever its name here. */
export function brokerPool(cluster: BrokerCluster, pool: PoolSpec): string {
  return pool.name === defaultPool(cluster).name ? DEFAULT_POOL : pool.name;
}

/** Shards of a pool. */
export function shardsOf({ spec }: BrokerCluster, pool: PoolSpec): number {
  return pool.shards ?? spec.shards;
}

/** The DNS name of a Service within Kubernetes. */
export function host({ metadata }: BrokerCluster, service: string): string {
  return `${service}.${metadata.namespace}.svc`;
}
