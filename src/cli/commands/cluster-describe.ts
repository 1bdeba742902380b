import type { Command } from 'commander';
import { durabilityName } from '../../client/messages.ts';
import type { BrokerView } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import { Broker } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Cli } from '../cli.ts';
import { count, percent, rate, span, time } from '../format.ts';
import { examples } from '../options.ts';
import type { Column } from '../output.ts';
import { figures } from '../output.ts';

/** `agenthub cluster describe` */
export function addClusterDescribe(cluster: Command, cli: Cli): void {
  const command = cluster
    .command('describe', { isDefault: true })
    .description('Show the brokers with their pools, and how they keep tasks')
    .addHelpText('after', examples(['agenthub cluster', 'the same as agenthub cluster describe']))
    .action(async () => {
      using broker = cli.caller(command);
      const cluster = await broker.call(Broker.method.describeCluster, {});
      const output = cli.output(command);
      const { log, shards } = cluster;
      const brokers = cluster.brokers.map(brokerView);
      const durability = durabilityName(cluster.durability);
      if (output.json) return output.document({ log, durability, shards, broker: cluster.broker, brokers });
      const now = cli.clock.now();
      output.item({}, { log, durability, shards, asked: cluster.broker });
      output.say('');
      output.list(brokers, brokerColumns(now), 'No brokers.');
    });
}

/** A broker for programs. */
export type BrokerRow = ReturnType<typeof brokerView>;

/** How brokers are shown to people at that time. */
export function brokerColumns(now: number): readonly Column<BrokerRow>[] {
  return [
    { head: 'BROKER', value: ({ id }) => id },
    { head: 'POOL', value: ({ pool }) => pool },
    { head: 'ADDRESS', value: ({ address }) => address },
    { head: 'VERSION', value: ({ version }) => version },
    figures('SHARDS', (row) => row.shards),
    figures('SESSIONS', ({ sessions }) => count(sessions)),
    figures('AGENTS', ({ agents }) => count(agents)),
    figures('TASKS/S', ({ tasksPerSecond }) => rate(tasksPerSecond)),
    figures('LOAD', ({ load }) => percent(load)),
    { head: 'STATE', value: ({ draining }) => (draining ? 'draining' : 'serving') },
    figures('UP', ({ startedAt }) => span(now - Date.parse(startedAt))),
  ];
}

/** A broker as programs see it. */
export function brokerView(view: BrokerView) {
  const { id, pool, address, version, level, shards, sessions, agents, tasksPerSecond, load, draining } =
    view;
  const startedAt = time(Number(view.startedAtMs));
  return {
    id,
    pool,
    address,
    version,
    level,
    shards,
    sessions,
    agents,
    tasksPerSecond,
    load,
    draining,
    startedAt,
  };
}
