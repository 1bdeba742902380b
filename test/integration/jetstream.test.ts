import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import type { Settings, TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';

const { start } = brokers();
const hubs: Hub[] = [];
let server: NatsServer;
let logs = 0;

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

/** On a log that nobody else has. */
function onNats(): Settings {
  return { data: { log: 'jetstream' }, nats: { servers: server.url, streamPrefix: `broker-${++logs}` } };
}

describe('a broker whose log is in NATS', () => {
  test('brings tasks to workers and results back, and says how durable they are', async () => {
    const broker = await start(onNats());
    const worker = await hubOf(broker);
    await worker.work('type:shout', (task) => task.text().toUpperCase());
    const hub = await hubOf(broker, 'planner');
    const results = await Promise.all(
      Array.from({ length: 200 }, (_, index) => hub.request({ capability: 'shout', payload: `a${index}` })),
    );
    expect(results.map((result) => result.text())).toEqual(
      Array.from({ length: 200 }, (_, index) => `A${index}`),
    );
    expect((await hub.publish({ to: 'nobody' })).durability).toBe('stored');
    await expect(hub.publish({ to: 'nobody' }, { durability: 'synced' })).rejects.toMatchObject({
      code: 'precondition',
    });
  });

  test('finds everything again when it is started again', async () => {
    const broker = await start(onNats());
    const before = await hubOf(broker, 'planner');
    const ids = Array.from({ length: 50 }, (_, index) => `task-${index}`);
    await Promise.all(ids.map((id) => before.publish({ to: 'clerk', id })));
    await before.close({ graceMs: 0 });
    await broker.restart();
    const seen: string[] = [];
    const worker = await hubOf(broker);
    await worker.work('clerk', ({ id }) => void seen.push(id));
    await until(() => seen.length === ids.length);
    expect(seen.sort()).toEqual(ids.sort());
  });

  test('lives through the death of NATS, and loses and repeats nothing', async () => {
    const broker = await start(onNats());
    const hub = await hubOf(broker, 'planner');
    const worker = await hubOf(broker);
    const seen: string[] = [];
    await worker.work('type:job', ({ id }) => void seen.push(id), { concurrency: 20 });
    const acknowledged: string[] = [];
    let stopped = false;
    const publishing = Promise.all(
      Array.from({ length: 8 }, async (_, writer) => {
        for (let count = 0; !stopped; count++) {
          const { id } = await hub.publish({ capability: 'job', id: `${writer}-${count}` });
          acknowledged.push(id);
        }
      }),
    );
    for (let round = 1; round <= 3; round++) {
      const before = seen.length;
      await until(() => seen.length > before + 50);
      await server.kill();
      await server.start();
    }
    const before = seen.length;
    await until(() => seen.length > before + 50);
    stopped = true;
    await publishing;
    await until(() => broker.broker.leases() === 0 && seen.length >= acknowledged.length);
    expect(seen.sort()).toEqual(acknowledged.sort());
  });
});
