import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { JetStreamManager, NatsConnection } from 'nats';
import { connect as connectNats } from 'nats';
import type { Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import type { Settings, TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import type { NatsServerOptions } from '../support/nats-server.ts';
import { NatsServer } from '../support/nats-server.ts';
import { natsPermissions, natsPermissionsText } from '../../src/wire/nats-permissions.ts';

const LARGE = 'x'.repeat(200_000);
const { start } = brokers();
const { start: startCluster } = clusters();
const hubs: Hub[] = [];
const servers: NatsServer[] = [];
let server: NatsServer;

beforeAll(async () => {
  server = await NatsServer.start();
});

afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
});

afterAll(async () => {
  await Promise.all([server, ...servers].map((one) => one.remove()));
});

async function serve(options: NatsServerOptions): Promise<NatsServer> {
  const one = await NatsServer.start(options);
  servers.push(one);
  return one;
}

async function hubOf({ embedded }: TestBroker, agent?: string): Promise<Hub> {
  const hub = await connect({ address: `127.0.0.1:${embedded.grpcPort}`, ...(agent && { agent }) });
  hubs.push(hub);
  return hub;
}

function on(at: NatsServer, streamPrefix: string, more: object = {}): Settings {
  return { data: { log: 'jetstream' }, nats: { servers: at.url, streamPrefix, ...more } };
}

/** Speaks with NATS itself, beside the brokers. */
async function beside<T>(
  at: NatsServer,
  speak: (nats: NatsConnection, jsm: JetStreamManager) => Promise<T>,
): Promise<T> {
  const nats = await connectNats({ servers: at.url });
  try {
    return await speak(nats, await nats.jetstreamManager());
  } finally {
    await nats.close();
  }
}

/** Where the streams of the cluster called `cell` begin. */
async function firstRecords(at: NatsServer, user: string): Promise<number[]> {
  const nats = await connectNats({ servers: at.url, user, pass: user });
  try {
    const jsm = await nats.jetstreamManager();
    const infos = await Promise.all([0, 1, 2, 3].map((shard) => jsm.streams.info(`cell-${shard}`)));
    return infos.map(({ state }) => state.first_seq);
  } finally {
    await nats.close();
  }
}

/** Tasks get through, to workers of every shard. */
async function works(broker: TestBroker, round: string, payload = ''): Promise<void> {
  const [worker, asker] = [await hubOf(broker), await hubOf(broker, `asker-${round}`)];
  const names = Array.from({ length: 8 }, (_, index) => `${round}-${index}`);
  await Promise.all(names.map((name) => worker.work(name, () => name)));
  const results = await Promise.all(names.map((to) => asker.request({ to, payload })));
  expect(results.map((result) => result.text())).toEqual(names);
}

describe('records of others on the subjects of the cluster', () => {
  test('are skipped, whatever they are, by this owner and by those after it', async () => {
    const broker = await start(on(server, 'foreign'));
    await works(broker, 'before');
    await beside(server, async (nats) => {
      const js = nats.jetstream();
      for (let shard = 0; shard < 4; shard++) {
        for (const subject of [`foreign.q.${shard}`, `foreign.o.${shard}`]) {
          for (const bytes of ['', 'hello', '\0'.repeat(100), '\x01\xff'.repeat(50_000)])
            await js.publish(subject, Buffer.from(bytes, 'latin1'));
          // A record of the cluster, cut off, and one of which a bit is wrong.
          const { data } = await (
            await nats.jetstreamManager()
          ).streams.getMessage(`foreign-${shard}`, { seq: 1 });
          await js.publish(subject, data.subarray(0, data.length - 1));
          const bent = Buffer.from(data);
          bent[bent.length >> 1]! ^= 0x10;
          await js.publish(subject, bent);
        }
      }
    });
    await works(broker, 'after');
    await broker.restart();
    await works(broker, 'again');
  }, 60_000);
});

describe('a second cluster of the same name', () => {
  test('with other shards is refused, and the first one does not notice', async () => {
    const first = await start(on(server, 'taken'));
    await expect(start({ ...on(server, 'taken'), shards: 8 })).rejects.toMatchObject({
      code: 'precondition',
      field: 'shards',
      message: expect.stringContaining('set shards to 4'),
    });
    await works(first, 'still');
  });

  test('of a later version is refused by this one, which changes nothing', async () => {
    const name = 'later';
    await (await start(on(server, name))).stop();
    for (const stream of [`KV_${name}-cluster`, `${name}-0`]) {
      const mark = (format: string) =>
        beside(server, async (_, jsm) => {
          const { config } = await jsm.streams.info(stream);
          await jsm.streams.update(stream, { metadata: { ...config.metadata, 'agenthub.format': format } });
        });
      const { state } = await beside(server, (_, jsm) => jsm.streams.info(stream));
      await mark('9');
      await expect(start(on(server, name))).rejects.toMatchObject({
        code: 'precondition',
        field: 'nats.streamPrefix',
      });
      const after = await beside(server, (_, jsm) => jsm.streams.info(stream));
      expect(after.state.last_seq).toBe(state.last_seq);
      await mark('1');
    }
    await works(await start(on(server, name)), 'back');
  });
});

test('a full store refuses tasks by name of its limit, settles what it holds, and goes on by itself', async () => {
  const PAYLOAD = Buffer.alloc(10_000, 'x');
  const cluster = await startCluster(server, 2, {
    shards: 2,
    nats: { servers: server.url, streamPrefix: 'full', maxBytesPerShard: '4MiB' },
  });
  await until(() => cluster.served.join() === '1,1');
  const [one, two] = cluster.brokers as [TestBroker, TestBroker];
  const requester = await hubOf(one, 'requester');
  let accepted = 0;
  let refused;
  while (refused === undefined) {
    const tasks = Array.from({ length: 20 }, (_, index) => ({ to: `worker-${index % 4}`, payload: PAYLOAD }));
    const { outcomes } = await requester.publishBatch(tasks);
    for (const { error } of outcomes) {
      if (error) refused = error;
      else accepted++;
    }
  }
  expect(refused).toMatchObject({
    code: 'exhausted',
    limit: 'nats.maxBytesPerShard',
    retryAfterMs: expect.any(Number),
  });
  expect(accepted).toBeGreaterThan(50);
  const waits = requester.publish({ to: 'worker-0', payload: PAYLOAD });
  const worker = await hubOf(two);
  for (let index = 0; index < 4; index++) await worker.work(`worker-${index}`, () => 'done');
  let answered = 0;
  for await (const { outcome } of requester.results()) {
    expect(outcome).toBe('succeeded');
    if (++answered === accepted + 1) break;
  }
  await waits;
}, 120_000);

describe('a NATS that forbids', () => {
  const asUser = { user: 'u', password: 'p' };
  const permissions = (text: string): NatsServerOptions => ({
    more: `authorization { users: [{ user: u, password: p, permissions: { ${text} } }, { user: x, password: x }] }`,
  });

  test.each([
    ['an account of its own', undefined],
    ['an account that it shares with others', 4],
  ])(
    'all but what the handbook names: a cluster needs no more, in %s',
    async (_, streams) => {
      const text = natsPermissionsText(natsPermissions('cell', streams)).slice(1, -1);
      const locked = await serve(permissions(text));
      const cluster = await startCluster(locked, 2, {
        shards: 4,
        nats: { servers: locked.url, streamPrefix: 'cell', maxBytesPerShard: '4MiB', ...asUser },
      });
      await until(() => cluster.served.join() === '2,2');
      for (const [index, broker] of cluster.brokers.entries()) await works(broker, `locked-${index}`);
      // One leaves and comes back, so that shards are handed over, and consumers made anew.
      const [first, second] = cluster.brokers as [TestBroker, TestBroker];
      await first.restart();
      await until(() => cluster.served.join() === '2,2');
      await works(second, 'after');
      // The log is cut by and by, and what is left of a broker is taken away.
      for (let round = 0; (await firstRecords(locked, 'x')).every((sequence) => sequence === 1); round++)
        await works(second, `cut-${round}`, LARGE);
      await second.stop();
      await works(first, 'alone');
      expect(locked.log).not.toMatch(/violation/i);
    },
    60_000,
  );

  test.each([
    ['listening to other brokers', 'subscribe: { deny: ["n.b.>"] }', 'n.b.'],
    ['speaking to other brokers', 'publish: { deny: ["n.b.>"] }', 'n.b.'],
    ['writing the documents of the cluster', 'publish: { deny: ["$KV.>"] }', '$KV.n-cluster.'],
    [
      'reading the documents of the cluster',
      'publish: { deny: ["$JS.API.STREAM.MSG.GET.KV_n-cluster"] }',
      'KV_n-cluster',
    ],
    [
      'watching the documents of the cluster',
      'publish: { deny: ["$JS.API.CONSUMER.CREATE.KV_n-cluster.>", "$JS.API.CONSUMER.CREATE.KV_n-cluster"] }',
      'KV_n-cluster',
    ],
    [
      'reading the log',
      'publish: { deny: ["$JS.API.CONSUMER.CREATE.n-0.>", "$JS.API.CONSUMER.CREATE.n-0"] }',
      'n-0',
    ],
    ['answers', 'subscribe: { deny: ["_INBOX.>"] }', '_INBOX'],
  ])('%s is named when the broker starts', async (_, text, subject) => {
    const locked = await serve(permissions(text));
    await expect(start(on(locked, 'n', asUser))).rejects.toMatchObject({
      code: 'permission',
      message: expect.stringContaining(subject),
    });
  });
});

describe('a NATS that can not hold a cluster says so when the broker starts', () => {
  test.each<[string, NatsServerOptions, object, object]>([
    ['without JetStream', { jetstream: false }, {}, { code: 'precondition', field: 'nats.servers' }],
    ['with small messages', { maxPayload: 2 ** 20 }, {}, { code: 'precondition', field: 'nats.servers' }],
    [
      'without room',
      { maxStore: 2 ** 20 },
      { maxBytesPerShard: '1GiB' },
      { code: 'exhausted', limit: 'nats.maxBytesPerShard' },
    ],
  ])('%s', async (_, options, more, error) => {
    await expect(start(on(await serve(options), 'p', more))).rejects.toMatchObject(error);
  });

  test('one server, three replicas: after it has waited for the others', async () => {
    await expect(start(on(server, 'three', { replicas: 3 }))).rejects.toMatchObject({
      code: 'precondition',
      field: 'nats.replicas',
    });
  }, 60_000);
});
