import type { Cluster, Vitals } from './cluster/cluster.ts';
import type { LinkListener } from './cluster/link.ts';
import { Links } from './cluster/links.ts';
import { BusPeers } from './cluster/bus-peers.ts';
import { LocalCluster } from './cluster/local.ts';
import { Membership } from './cluster/membership.ts';
import { NatsBus } from './cluster/nats.ts';
import { NatsStore } from './cluster/nats-store.ts';
import type { Peers } from './cluster/peers.ts';
import type { Config } from './config/schema.ts';
import type { NatsAccess } from './nats/connection.ts';
import type { Logger } from './std/logger.ts';
import { systemClock as clock, systemRandom as random } from './std/system.ts';

/** How this broker meets others; alone, it has nobody to link with and nobody to ask. */
export interface Meeting {
  readonly cluster: Cluster;
  readonly links?: (edge: LinkListener, owner: LinkListener) => Links;
  readonly peers?: Peers;
  /** Lets go of what connects it. */
  close(): Promise<void>;
}

/** What a broker says of itself when it joins. */
export interface Joining {
  readonly id: string;
  readonly version: string;
  readonly level: number;
  readonly vitals: () => Vitals;
}

/**
 * The cluster that the configuration names: one over NATS if the log is there, else a cluster of one.
 *
 * @throws HubError as `NatsBus.open` and `NatsStore.open` do.
 */
export async function meet(
  config: Config,
  joining: Joining,
  logger: Logger,
  connecting: Pick<NatsAccess, 'figures' | 'credentials'>,
): Promise<Meeting> {
  const { id, version, level, vitals } = joining;
  const member = { id, version, level, address: config.cluster.address ?? '' };
  if (config.data.log !== 'jetstream') {
    const alone = { ...member, joinedAt: clock.now(), draining: false, pool: config.cluster.pool };
    return { cluster: new LocalCluster(alone, clock), close: () => Promise.resolve() };
  }
  const { nats, shards } = config;
  const { pulseMs, deadAfterMs, pool, poolShards } = config.cluster;
  const access = { ...nats, ...connecting, prefix: nats.streamPrefix, name: `agenthub ${id}`, logger };
  const bus = await NatsBus.open(access);
  try {
    const store = await NatsStore.open({ ...access, clock });
    const parts = { bus, clock, random, logger, self: id };
    const cluster = new Membership({
      ...parts,
      store,
      member,
      shards,
      vitals,
      pool,
      poolShards,
      pulseMs,
      deadAfterMs,
    });
    return {
      cluster,
      links: (edge, owner) => new Links(parts, { edge, owner }),
      peers: new BusPeers(parts),
      close: async () => {
        await store.close();
        await bus.close();
      },
    };
  } catch (error) {
    await bus.close();
    throw error;
  }
}
