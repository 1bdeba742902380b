import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../support/nats-server.ts';
import { Daemon } from './daemon.ts';
import type { ClientSpec } from './load/client.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
/** Debian's packages, unpacked by tools/compare/install.sh. */
const DEBIAN = join(ROOT, '.tools', 'compare', 'root');

/** The servers of a contender, which run. */
export interface Running {
  readonly daemons: readonly Daemon[];
  /** How clients reach them. */
  readonly spec: ClientSpec;
  /** The one that is killed. */
  readonly victim: Daemon;
  /** What is not measured and ends with them. */
  readonly beside?: readonly Daemon[];
}

/** Starts servers that keep what they have in `dir`. @throws Error if they are not there, saying what is missing. */
export type Start = (dir: string) => Promise<Running>;

/** How an AgentHub keeps tasks, and how its clients hand them over. */
export interface AgentHubKind {
  readonly flags: Readonly<Record<string, string>>;
  /** Tasks that leave together. */
  readonly batch: number;
  /** NATS servers that keep its log; 0: it does so itself. */
  readonly nats?: number;
  readonly sync?: 'always' | '1s';
}

/** AgentHub, as `agenthub serve` runs it. */
export function agentHub({ flags, batch, nats = 0, sync = '1s' }: AgentHubKind): Start {
  return async (dir) => {
    const below = await natsServers(dir, nats, sync);
    const [grpc, http] = [await freePort(), await freePort()];
    const overNats = {
      'data-log': 'jetstream',
      'nats-servers': below.map(({ options }) => `127.0.0.1:${options.port}`).join(','),
      'nats-replicas': `${nats}`,
      'nats-sync': sync === 'always' ? 'always' : 'interval',
    };
    const all = {
      'grpc-port': `${grpc}`,
      'http-port': `${http}`,
      'data-dir': join(dir, 'agenthub'),
      ...(nats > 0 ? overNats : {}),
      ...flags,
    };
    const broker = new Daemon({
      name: 'agenthub',
      command: process.execPath,
      args: [
        join(ROOT, 'src/cli/main.ts'),
        'serve',
        ...Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]),
      ],
      port: grpc,
      dir: join(dir, 'agenthub'),
    });
    await broker.start();
    return {
      daemons: [broker, ...below],
      spec: { client: 'agenthub', port: grpc, batch },
      // With a log that others keep, their loss is the one that counts.
      victim: below[0] ?? broker,
    };
  };
}

/** JetStream: a work queue, a message a task. */
export function jetStream({
  storage,
  sync,
  servers,
}: {
  readonly storage: 'memory' | 'file';
  readonly sync: 'always' | '1s';
  readonly servers: number;
}): Start {
  return async (dir) => {
    const daemons = await natsServers(dir, servers, sync);
    return {
      daemons,
      spec: {
        client: 'jetstream',
        servers: daemons.map(({ options }) => `127.0.0.1:${options.port}`),
        storage,
        replicas: servers,
      },
      victim: daemons[0]!,
    };
  };
}

async function natsServers(dir: string, count: number, sync: 'always' | '1s'): Promise<Daemon[]> {
  if (count === 0) return [];
  const command = join(ROOT, '.tools/bin/nats-server');
  if (!existsSync(command)) throw new Error('there is no nats-server; build it: make nats-server');
  const ports = await Promise.all(Array.from({ length: count }, freePort));
  const routes = await Promise.all(Array.from({ length: count }, freePort));
  const daemons = ports.map((port, index) => {
    const store = join(dir, `nats-${index}`);
    mkdirSync(store, { recursive: true });
    const known = routes.map((route) => `"nats://127.0.0.1:${route}"`).join(', ');
    const cluster = `cluster { name: compare, no_advertise: true, listen: "127.0.0.1:${routes[index]}", routes: [${known}] }`;
    const file = join(dir, `nats-${index}.conf`);
    writeFileSync(
      file,
      `server_name: n${index}\nlisten: "127.0.0.1:${port}"\nmax_payload: 8388608\n` +
        `jetstream { store_dir: "${store}", max_file_store: 8G, max_mem: 2G, sync_interval: ${sync} }\n` +
        (count > 1 ? `${cluster}\n` : ''),
    );
    return new Daemon({ name: 'nats-server', command, args: ['-c', file], port, dir: store });
  });
  await Promise.all(daemons.map((daemon) => daemon.start()));
  // Servers need a while to find a leader for what concerns all of them.
  if (count > 1) await sleep(4000);
  return daemons;
}

/** BullMQ on Redis. */
export function bullMq({ fsync }: { readonly fsync: 'never' | 'everysec' | 'always' }): Start {
  return async (dir) => {
    const command = join(DEBIAN, 'usr/bin/redis-server');
    if (!existsSync(command))
      throw new Error('there is no redis-server: it could not be fetched from Debian');
    const port = await freePort();
    const store = join(dir, 'redis');
    mkdirSync(store, { recursive: true });
    const kept = fsync === 'never' ? ['--appendonly', 'no'] : ['--appendonly', 'yes', '--appendfsync', fsync];
    const network = ['--port', `${port}`, '--bind', '127.0.0.1', '--maxmemory-policy', 'noeviction'];
    const daemon = new Daemon({
      name: 'redis-server',
      command,
      args: [...network, '--dir', store, '--save', '', ...kept],
      env: { LD_LIBRARY_PATH: join(DEBIAN, 'usr/lib/x86_64-linux-gnu') },
      port,
      dir: store,
    });
    await daemon.start();
    return { daemons: [daemon], spec: { client: 'bullmq', port }, victim: daemon };
  };
}

/** RabbitMQ. */
export function rabbitMq({
  queue,
  nodes,
}: {
  readonly queue: 'transient' | 'durable' | 'quorum';
  readonly nodes: number;
}): Start {
  return async (dir) => {
    const erlang = join(DEBIAN, 'usr/lib/erlang');
    const server = join(DEBIAN, 'usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server');
    if (!existsSync(server)) throw new Error('there is no RabbitMQ: it could not be fetched from Debian');
    const epmdPort = await freePort();
    const common = {
      HOME: dir,
      PATH: `${join(erlang, 'bin')}:${process.env['PATH'] ?? ''}`,
      LD_LIBRARY_PATH: join(DEBIAN, 'usr/lib/x86_64-linux-gnu'),
      ERL_EPMD_PORT: `${epmdPort}`,
      ERL_EPMD_ADDRESS: '127.0.0.1',
    };
    const epmd = new Daemon({
      name: 'epmd',
      command: join(erlang, 'bin/epmd'),
      args: ['-address', '127.0.0.1', '-port', `${epmdPort}`],
      env: common,
      port: epmdPort,
      dir: join(dir, 'epmd'),
    });
    await epmd.start();
    const ports = await Promise.all(Array.from({ length: nodes }, freePort));
    const daemons = await Promise.all(
      ports.map(async (port, index) => {
        const home = join(dir, `rabbit-${index}`);
        mkdirSync(home, { recursive: true });
        const peers = ports.map(
          (_, peer) => `cluster_formation.classic_config.nodes.${peer + 1} = c${peer}@localhost`,
        );
        const together = ['cluster_formation.peer_discovery_backend = classic_config', ...peers];
        writeFileSync(
          join(home, 'rabbitmq.conf'),
          [
            `listeners.tcp.1 = 127.0.0.1:${port}`,
            'log.console = true',
            'log.console.level = error',
            'log.file = false',
            'disk_free_limit.absolute = 50MB',
            ...(nodes > 1 ? together : []),
            '',
          ].join('\n'),
        );
        writeFileSync(join(home, 'enabled'), '[].\n');
        return new Daemon({
          name: 'rabbitmq-server',
          command: server,
          args: [],
          env: {
            ...common,
            RABBITMQ_NODENAME: `c${index}@localhost`,
            RABBITMQ_CONFIG_FILE: join(home, 'rabbitmq.conf'),
            RABBITMQ_CONF_ENV_FILE: '/dev/null',
            RABBITMQ_MNESIA_BASE: join(home, 'data'),
            RABBITMQ_LOG_BASE: join(home, 'log'),
            RABBITMQ_ENABLED_PLUGINS_FILE: join(home, 'enabled'),
            RABBITMQ_DIST_PORT: `${await freePort()}`,
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
          },
          port,
          dir: join(home, 'data'),
        });
      }),
    );
    // The first one makes the cookie that the others need.
    const [first, ...others] = daemons as [Daemon, ...Daemon[]];
    await first.start();
    await Promise.all(others.map((daemon) => daemon.start()));
    return {
      daemons,
      beside: [epmd],
      spec: { client: 'rabbitmq', ports, queue, replicas: nodes },
      victim: first,
    };
  };
}

/** Nothing but gRPC: a server that does nothing with what it gets. */
export function bare(frames: boolean): Start {
  return async (dir) => {
    const port = await freePort();
    const daemon = new Daemon({
      name: 'bare grpc-js',
      command: process.execPath,
      args: [fileURLToPath(new URL('no-op.ts', import.meta.url)), `${port}`],
      port,
      dir: join(dir, 'bare'),
    });
    await daemon.start();
    return { daemons: [daemon], spec: { client: 'bare', port, batch: frames ? 100 : 1 }, victim: daemon };
  };
}
