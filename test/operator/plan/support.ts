import { readBrokerCluster } from '../../../operator/api/brokercluster.ts';
import type { BrokerCluster } from '../../../operator/api/brokercluster.ts';
import type { SecretView, Snapshot } from '../../../operator/plan/plan.ts';
import type { BrokerAnswers, PodView } from '../../../operator/plan/pods.ts';
import type { NatsKeys } from '../../../operator/plan/nats-keys.ts';
import type { Capacity } from '../../../src/wire/capacity.ts';

/** 2026-01-01T00:00:00Z */
export const START = 1_767_225_600_000;

/** As whom brokers, and who looks after them, log in to managed NATS. */
export const NATS_KEYS: NatsKeys = {
  current: 'UBROKERS',
  rotation: '',
  system: 'USYSTEM',
};

/** The Secrets that the operator has made for a cluster of that name. */
export function madeSecrets(cluster = 'hub'): Readonly<Record<string, SecretView>> {
  const names = ['internal', 'agent-token', 'nats-credentials', 'nats-system'];
  return Object.fromEntries(
    names.map((name) => [`${cluster}-${name}`, { keys: [], fingerprint: name }] as const),
  );
}

/** A BrokerCluster named hub with this spec. */
export function cluster(
  spec: object = {},
  rest: { status?: object; annotations?: object } = {},
): BrokerCluster {
  const { annotations = {}, status } = rest;
  return readBrokerCluster({
    metadata: { name: 'hub', namespace: 'agents', uid: 'cluster-uid', generation: 1, annotations },
    spec,
    ...(status === undefined ? {} : { status }),
  });
}

/** What a broker says of its load; idle unless said otherwise. */
export function capacity(broker: string, figures: Partial<Capacity> = {}): Capacity {
  return {
    broker,
    version: '0.1.0',
    time: START,
    activeAgents: 0,
    activeTasks: 0,
    tasksPerSecond: 0,
    resultsPerSecond: 0,
    progressPerSecond: 0,
    messagesPerSecond: 0,
    cpu: 0,
    memory: 100 * 2 ** 20,
    memoryHighWater: 700 * 2 ** 20,
    eventLoopUtilization: 0,
    openConnections: 0,
    backlog: 0,
    oldestTaskAgeSeconds: 0,
    draining: false,
    loadScore: 0,
    shards: [],
    ...figures,
  };
}

/** A shard of a capacity document. */
export function shard(number: number, tasksPerSecond = 0, bytes = 0): Capacity['shards'][number] {
  return { shard: number, queued: 0, bytes, tasksPerSecond };
}

/** A pod that works; what differs is said. */
export function pod(ordinal: number, differs: Partial<PodView> = {}): PodView {
  const name = `hub-default-${ordinal}`;
  return {
    name,
    uid: `uid-${ordinal}`,
    ordinal,
    node: 'node-1',
    ip: '10.0.0.1',
    revision: 'new',
    createdAt: START - 3_600_000,
    ready: true,
    since: START - 3_500_000,
    running: true,
    deleting: false,
    trouble: undefined,
    configMaps: [],
    answers: answers(name),
    nodeLostSince: undefined,
    ...differs,
  };
}

/** What a broker answers. */
export function answers(
  broker: string,
  figures: Partial<Capacity> = {},
  drain?: BrokerAnswers['drain'],
): BrokerAnswers {
  return { capacity: capacity(broker, figures), receivedAt: START, drain };
}

/** What is seen of a cluster of which nothing is there yet but its secrets. */
export function unmade(cluster: BrokerCluster): Snapshot {
  return {
    now: START,
    cluster,
    kinds: { serviceMonitor: false, prometheusRule: false, certificate: false },
    defaultImages: { broker: 'agenthub:1', nats: 'nats:2' },
    children: [],
    pods: {},
    natsPods: [],
    foreignAutoscalers: [],
    obstacles: [],
    token: () => 'token',
    natsSeed: () => 'seed',
    natsKeys: NATS_KEYS,
    secrets: madeSecrets(),
  };
}
