import type { Broker } from './broker/broker.ts';
import type { NatsFigures } from './nats/figures.ts';
import type { GaugeName, Readings } from './obs/exposition.ts';
import { OTHER } from './obs/instruments.ts';
import type { Clock } from './std/clock.ts';
import { attached } from './edge/census.ts';
import type { BrokerStatus } from './edge/status.ts';
import type { Tenants } from './edge/tenants.ts';

/** What {@link gauges} read. */
export interface GaugeSources {
  readonly broker: Broker;
  readonly status: BrokerStatus;
  readonly clock: Clock;
  readonly tenants: Tenants;
  /** Namespaces with readings of their own. */
  readonly mostNamespaces: number;
  readonly connections: () => number;
  readonly memoryHighWaterBytes: number;
  readonly nats: NatsFigures;
  /** Seconds; nothing without TLS. */
  readonly certificateRemaining: () => Readings;
}

/** Gauges that are read together count only once what takes long to count, in milliseconds. */
const TOGETHER_MS = 100;

/** Where each gauge of the exposition gets its value from. */
export function gauges(sources: GaugeSources): Readonly<Record<GaugeName, () => Readings>> {
  const { broker, status, clock, connections, memoryHighWaterBytes, nats, certificateRemaining } = sources;
  const { tenants, mostNamespaces } = sources;
  const { log, cluster, sessions } = broker;
  const tasks = together(clock, () => status.tasks());
  const attachments = together(clock, () => attached(broker.owners));
  const ofShards = (read: (shard: number) => number): number[] =>
    broker.owners.map(({ shard }) => read(shard));
  const replication = (): { available: boolean; behind: number; lag: number }[] =>
    broker.owners.flatMap(({ shard }) => log.replication?.(shard) ?? []);
  const ofNamespaces = (what: 'agents' | 'queued' | 'queuedBytes'): Readings => {
    const figures = tenants.figures();
    const shown = figures.slice(0, mostNamespaces).map(([name, amount]) => [name, amount[what]] as const);
    const rest = figures.slice(mostNamespaces);
    return rest.length === 0 ? shown : [...shown, [OTHER, sum(rest.map(([, amount]) => amount[what]))]];
  };
  return {
    certificateRemaining,
    namespaceAgents: () => ofNamespaces('agents'),
    namespaceQueued: () => ofNamespaces('queued'),
    namespaceBytes: () => ofNamespaces('queuedBytes'),
    activeAgents: () => status.activeAgents,
    activeTasks: () => tasks().active,
    queuedTasks: () => tasks().queued,
    queuedBytes: () => tasks().queuedBytes,
    oldestTask: () => tasks().oldestSeconds,
    unservedTasks: () => tasks().unserved,
    unservedMailboxes: () => tasks().unservedMailboxes,
    oldestUnserved: () => tasks().oldestUnservedSeconds,
    deadLetters: () => tasks().deadLetters,
    mailboxes: () => tasks().mailboxes,
    workers: () => attachments().workers,
    listeners: () => attachments().listeners,
    credit: () => [
      ['used', attachments().usedCredit],
      ['free', attachments().freeCredit],
    ],
    sessions: () => sessions.size,
    connectedSessions: () => sessions.connected,
    connections,
    shardsOwned: () => broker.owners.length,
    shardsComing: () => broker.shards.coming,
    shardsUnowned: () => unowned(broker),
    shardsTotal: () => broker.shards.count,
    shardQueued: () => broker.owners.map(({ shard, state }) => [String(shard), state.tasks.count] as const),
    shardArrivals: () => broker.owners.map(({ shard, arrivals }) => [String(shard), arrivals] as const),
    members: () => cluster.members().length,
    links: () => broker.openLinks,
    logBytes: () => sum(ofShards((shard) => log.extent(shard).bytes)),
    logRoom: () => log.room(),
    logLag: () => sum(ofShards((shard) => log.lag?.(shard) ?? 0)),
    memoryLimit: () => memoryHighWaterBytes,
    natsConnected: () => nats.connected(),
    natsDisconnects: () => nats.disconnects(),
    natsRoundTrip: () => nats.roundTrips(),
    natsSent: () => nats.sentBytes(),
    natsReceived: () => nats.receivedBytes(),
    natsSentMessages: () => nats.sentMessages(),
    natsReceivedMessages: () => nats.receivedMessages(),
    streamsUnavailable: () => replication().filter(({ available }) => !available).length,
    replicasBehind: () => sum(replication().map(({ behind }) => behind)),
    replicaLag: () => Math.max(0, ...replication().map(({ lag }) => lag)),
    draining: () => (broker.phase === 'draining' ? 1 : 0),
  };
}

function unowned(broker: Broker): number {
  let count = 0;
  for (let shard = 0; shard < broker.shards.count; shard++) {
    if (!broker.shards.owner(shard) && !broker.cluster.claim(shard)) count++;
  }
  return count;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** The same answer for all who ask at about the same time. */
function together<T>(clock: Clock, count: () => T): () => T {
  let last: { readonly at: number; readonly counted: T } | undefined;
  return () => {
    const now = clock.now();
    if (last === undefined || Math.abs(now - last.at) >= TOGETHER_MS) last = { at: now, counted: count() };
    return last.counted;
  };
}
