import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import type { JetStreamManager, NatsConnection, StreamInfo } from 'nats';
import { connect as connectNats } from 'nats';
import { Admin, Broker, connect } from '../../src/client/index.ts';
import { Crew } from '../support/crew.ts';
import { until } from '../support/inbox.ts';
import { Ledger } from '../support/ledger.ts';
import { NatsServer } from '../support/nats-server.ts';
import type { Proxy } from '../support/proxy.ts';
import { startProxy } from '../support/proxy.ts';
import { SeededRandom } from '../support/random.ts';
import { ServeProcess } from '../support/serve.ts';

/** How often something happens: make chaos CLUSTER_MOMENTS=1000. */
const MOMENTS = Number(process.env['CLUSTER_MOMENTS'] ?? 8);
const SEED = Number(process.env['SEED'] ?? 7);
const SHARED = 'type:chaos';
const BROKERS = 3;
const SHARDS = 6;
/** Longest time that something stands still, in milliseconds: longer than others need to count it as dead. */
const STILL_MS = 4000;
/** Until everything is whole again after the last fault, in milliseconds, on a machine that does much else. */
const WHOLE_MS = 90_000;

const dir = mkdtempSync(join(tmpdir(), 'agenthub-replicas-'));
const random = new SeededRandom(SEED);

let servers: NatsServer[] = [];
let proxies: Proxy[] = [];
const brokers: ServeProcess[] = [];
let crews: readonly Crew[] = [];
let nats: NatsConnection | undefined;

afterAll(async () => {
  await Promise.all(brokers.map((broker) => broker.end('SIGKILL')));
  await Promise.all(crews.map((crew) => crew.close()));
  await nats?.close();
  await Promise.all(proxies.map((proxy) => proxy.close()));
  await Promise.all(servers.map((server) => server.remove()));
  rmSync(dir, { recursive: true, force: true });
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The first broker reaches NATS over a network that fails. */
function serve(index: number, port = '0'): ServeProcess {
  const urls = index === 0 ? proxies.map(({ address }) => address) : servers.map(({ url }) => url);
  return new ServeProcess(
    join(dir, `data-${index}`),
    [
      ...['--data-log', 'jetstream', '--nats-servers', urls.join(','), '--nats-replicas', '3'],
      ...['--service-name', `b${index}`, '--grpc-port', port, '--shards', `${SHARDS}`],
      ...['--delivery-max-attempts', '1000', '--delivery-backoff-initial-ms', '1ms'],
      ...['--session-grace-ms', '4s', '--log-level', process.env['LOG'] ?? 'warn'],
    ],
    { NODE_COMPILE_CACHE: join(dir, 'compiled') },
  );
}

async function restart(index: number, signal: NodeJS.Signals): Promise<void> {
  const port = brokers[index]!.grpc.split(':')[1];
  await brokers[index]!.end(signal);
  brokers[index] = serve(index, port);
  await brokers[index].ready();
}

async function streams(jsm: JetStreamManager): Promise<StreamInfo[]> {
  const all: StreamInfo[] = [];
  for await (const stream of jsm.streams.list()) all.push(stream);
  return all;
}

/** Waits until every stream has a leader, and every server has all of it. */
function inStep(jsm: JetStreamManager): Promise<void> {
  return until(async () => {
    const all = await streams(jsm).catch(() => []);
    await pause(100);
    return (
      all.length === SHARDS + 1 &&
      all.every(
        ({ cluster }) =>
          cluster?.leader !== undefined &&
          cluster.replicas?.length === 2 &&
          cluster.replicas.every(({ current, offline }) => current && offline !== true),
      )
    );
  });
}

test(
  `three brokers on three NATS servers lose nothing in ${MOMENTS} faults of any of them and of the network ` +
    `(SEED=${SEED})`,
  async () => {
    servers = await NatsServer.cluster(3);
    proxies = await Promise.all(servers.map(({ url }) => startProxy(Number(url.split(':')[1]))));
    const ledger = new Ledger(() => false);
    for (let index = 0; index < BROKERS; index++) brokers.push(serve(index));
    await Promise.all(brokers.map((broker) => broker.ready()));
    crews = await Promise.all(
      brokers.map(({ grpc }, index) => Crew.start(`crew-${index}`, grpc, SHARED, ledger, random)),
    );
    nats = await connectNats({ servers: servers.map(({ url }) => url), maxReconnectAttempts: -1 });
    const jsm = await nats.jetstreamManager();
    await inStep(jsm);

    const faults: Readonly<Record<string, () => Promise<unknown>>> = {
      'a broker dies': () => restart(random.below(BROKERS), 'SIGKILL'),
      'a broker stands still': async () => {
        const broker = brokers[random.below(BROKERS)]!;
        broker.signal('SIGSTOP');
        await pause(random.below(STILL_MS));
        broker.signal('SIGCONT');
      },
      'a server dies': async () => {
        const server = servers[random.below(3)]!;
        await server.kill();
        await pause(random.below(STILL_MS));
        await server.start();
        await inStep(jsm);
      },
      'a server stands still': async () => {
        const server = servers[random.below(3)]!;
        await server.pause();
        await pause(random.below(STILL_MS));
        server.resume();
        await inStep(jsm);
      },
      'the network breaks': () => {
        for (const proxy of proxies) proxy.cut();
        return Promise.resolve();
      },
      'the network stands still': async () => {
        for (const proxy of proxies) proxy.stall(true);
        await pause(random.below(STILL_MS));
        for (const proxy of proxies) proxy.stall(false);
      },
      'a broker joins, and leaves for good': async () => {
        const another = await serve(BROKERS).ready();
        await pause(random.below(2000));
        await another.end(random.chance(0.5) ? 'SIGTERM' : 'SIGKILL');
      },
    };
    const names = Object.keys(faults);
    const happened: string[] = [];
    for (let moment = 0; moment < MOMENTS && ledger.faults.length === 0; moment++) {
      await until(() => crews.every(({ connected }) => connected));
      await pause(random.below(1000));
      // Each of them once, then any.
      const name = names[moment < names.length ? moment : random.below(names.length)]!;
      happened.push(name);
      await faults[name]!();
    }
    // In the end everything is restarted, one after the other.
    for (const server of servers) {
      await server.kill();
      await server.start();
      await inStep(jsm);
    }
    for (let index = 0; index < BROKERS; index++) await restart(index, 'SIGTERM');
    expect(ledger.faults).toEqual([]);

    const within = Date.now() + WHOLE_MS;
    await Promise.all(crews.map((crew) => crew.rest()));
    await until(() => ledger.missing().length === 0 || Date.now() > within);
    expect(ledger.missing()).toEqual([]);
    expect(ledger.ended).toBe(ledger.acknowledged);
    expect(ledger.acknowledged).toBeGreaterThan(MOMENTS * 20);
    await using hub = await connect({ address: brokers[1]!.grpc });
    await until(async () => {
      if (Date.now() > within) throw new Error('the cluster is not whole in time');
      const { shards } = await hub.call(Admin.method.listShards, {});
      const { tasks } = await hub.call(Broker.method.listTasks, {});
      return shards.every(({ owner, assigned }) => owner !== '' && owner === assigned) && tasks.length === 0;
    });

    // At rest NATS holds one stream a shard and the bucket, one consumer a reader, and nothing is written.
    let quiet = { bytes: -1, since: 0 };
    await until(async () => {
      if (Date.now() > within + WHOLE_MS) throw new Error('NATS does not come to rest');
      await pause(500);
      const all = await streams(jsm);
      const bytes = all.reduce((sum, { state }) => sum + state.bytes, 0);
      const consumers = all.reduce((sum, { state }) => sum + state.consumer_count, 0);
      if (bytes !== quiet.bytes) quiet = { bytes, since: Date.now() };
      return consumers === SHARDS + BROKERS && Date.now() - quiet.since > 5000;
    });
    const all = await streams(jsm);
    expect(all).toHaveLength(SHARDS + 1);
    const logs = all.filter(({ config }) => !config.name.startsWith('KV_'));
    expect(logs.filter(({ state }) => state.first_seq > 1)).not.toEqual([]);
    for (const { state } of logs) expect(state.bytes).toBeLessThan(16 * 2 ** 20);
    const { acknowledged, redelivered, late } = ledger;
    if (process.env['CLUSTER_MOMENTS']) console.log({ happened, acknowledged, redelivered, late });
    expect(ledger.faults).toEqual([]);
  },
  240_000 + MOMENTS * 30_000,
);
