import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import type { TestBroker } from '../support/broker.ts';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';

const { start } = clusters();
const hubs: Hub[] = [];
let server: NatsServer;

beforeAll(async () => {
  server = await NatsServer.start();
});

afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
});

afterAll(() => server.remove());

async function hubOf({ embedded }: TestBroker, agent?: string): Promise<Hub> {
  const hub = await connect({ address: `127.0.0.1:${embedded.grpcPort}`, ...(agent && { agent }) });
  hubs.push(hub);
  return hub;
}

const NAMES = Array.from({ length: 12 }, (_, index) => `worker-${index}`);

describe('three brokers', () => {
  test('share the shards, and each brings tasks from any of them to workers at any of them', async () => {
    const cluster = await start(server, 3, { shards: 6 });
    await until(() => cluster.served.join() === '2,2,2');
    const [one, two, three] = cluster.brokers as [TestBroker, TestBroker, TestBroker];
    const worker = await hubOf(two);
    for (const name of NAMES) await worker.work(name, (task) => `${name} did ${task.text()}`);
    const asker = await hubOf(three, 'asker');
    const results = await Promise.all(NAMES.map((to) => asker.request({ to, payload: 'it' })));
    expect(results.map((result) => result.text())).toEqual(NAMES.map((name) => `${name} did it`));
    expect(one.broker.sessions.size).toBe(0);
  });

  test('draw a session to the broker that owns what it works on, and no task is lost or done twice', async () => {
    const cluster = await start(server, 3, {
      shards: 6,
      cluster: { sessions: 'owner' },
      session: { heartbeatMs: '200ms' },
    });
    await until(() => cluster.served.join() === '2,2,2');
    const owner = cluster.ownerOf('clerk')!;
    const other = cluster.brokers.find((broker) => broker !== owner)!;
    const worker = await hubOf(other);
    const seen: string[] = [];
    await worker.work('clerk', ({ id }) => void seen.push(id), { concurrency: 10 });
    const asker = await hubOf(other, 'asker');
    const sent: string[] = [];
    const works = (broker: TestBroker): boolean =>
      [...broker.broker.sessions.values()].some((session) =>
        [...session.seats()].some(({ mailbox }) => mailbox === 'clerk'),
      );
    while (!works(owner)) {
      const ids = Array.from({ length: 20 }, (_, index) => `${sent.length + index}`);
      await asker.publishBatch(ids.map((id) => ({ to: 'clerk', id })));
      sent.push(...ids);
    }
    await until(() => seen.length >= sent.length);
    expect([...seen].sort()).toEqual([...sent].sort());
  });

  test('empty one of them that is drained, say how far it is, and give it shards again when that is taken back', async () => {
    const cluster = await start(server, 3, { shards: 6 });
    await until(() => cluster.served.join() === '2,2,2');
    const [one, two] = cluster.brokers as [TestBroker, TestBroker];
    const worker = await hubOf(one);
    const seen: string[] = [];
    for (const name of NAMES) await worker.work(name, ({ id }) => void seen.push(id));
    await one.call(Admin.method.drain, {});
    const left = async () => (await one.call(Admin.method.drain, { status: true })).finished;
    while (!(await left())) await new Promise((resolve) => setImmediate(resolve));
    await until(() => cluster.served.join() === '0,3,3');
    expect(one.broker.sessions.connected).toBe(0);
    const asker = await hubOf(two, 'asker');
    await Promise.all(NAMES.map((to) => asker.request({ to, id: `for ${to}` })));
    expect([...seen].sort()).toEqual(NAMES.map((name) => `for ${name}`).sort());

    await one.call(Admin.method.drain, { cancel: true });
    await until(() => cluster.served.join() === '2,2,2');
  });

  test('lose nothing and repeat nothing when one of them leaves under load', async () => {
    const cluster = await start(server, 3, { shards: 6, stop: { deadlineMs: '5s' } });
    await until(() => cluster.served.join() === '2,2,2');
    const [one, two, three] = cluster.brokers as [TestBroker, TestBroker, TestBroker];
    const worker = await hubOf(two);
    const seen: string[] = [];
    for (const name of NAMES) await worker.work(name, ({ id }) => void seen.push(id), { concurrency: 10 });
    const asker = await hubOf(three, 'asker');
    const sent: string[] = [];
    let leaving = true;
    const publishing = (async () => {
      for (let round = 0; leaving || round < 20; round++) {
        const tasks = NAMES.map((to) => ({ to, id: `${to}/${round}` }));
        await asker.publishBatch(tasks);
        sent.push(...tasks.map(({ id }) => id));
      }
    })();
    await one.stop();
    leaving = false;
    await publishing;
    await until(() => seen.length >= sent.length);
    expect([...seen].sort()).toEqual([...sent].sort());
  });
});
