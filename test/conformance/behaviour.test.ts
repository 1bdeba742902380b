import { shardOf } from '../../src/core/shard.ts';
import { TestBroker } from '../support/broker.ts';
import { TestCluster } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';
import type { Deployment } from './behaviour.ts';
import { describeBehaviour, SETTINGS } from './behaviour.ts';

/** Names with numbers, those that are refused left out. */
function naming(takes: (name: string) => boolean): Deployment['name'] {
  let count = 0;
  return (what) => {
    for (;;) {
      const name = `${what}-${count++}`;
      if (takes(name)) return name;
    }
  };
}

describeBehaviour('one broker', async () => {
  const broker = new TestBroker(SETTINGS);
  await broker.start();
  return {
    brokers: [broker],
    near: broker,
    far: broker,
    name: naming(() => true),
    remove: () => broker.remove(),
  };
});

describeBehaviour('one broker on NATS', async () => {
  const server = await NatsServer.start();
  const cluster = new TestCluster(server, SETTINGS);
  const broker = await cluster.add();
  return {
    brokers: [broker],
    near: broker,
    far: broker,
    name: naming(() => true),
    remove: async () => {
      await cluster.remove();
      await server.remove();
    },
  };
});

describeBehaviour('three brokers', async () => {
  const server = await NatsServer.start();
  const cluster = new TestCluster(server, SETTINGS);
  const [near, far, owner] = [await cluster.add(), await cluster.add(), await cluster.add()];
  await until(() => cluster.served.join() === '2,2,2');
  const shards = new Set(owner.broker.owners.map(({ shard }) => shard));
  return {
    brokers: cluster.brokers,
    near,
    far,
    // `home` of a capability is its whole name, so both forms are looked at.
    name: naming((name) => [name, `type:${name}`].every((id) => shards.has(shardOf(id, 6)))),
    remove: async () => {
      await cluster.remove();
      await server.remove();
    },
  };
});
