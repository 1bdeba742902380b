import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import type { PlacementRule } from '../../src/core/placement.ts';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { writeRules } from '../../src/wire/placement.ts';
import type { TestBroker } from '../support/broker.ts';
import type { TestCluster } from '../support/cluster.ts';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';
import { TestTerminal } from '../support/terminal.ts';

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

/** Two brokers of the default pool with four shards, and one of the pool `eu-west` with two. */
async function twoPools(): Promise<TestCluster> {
  const cluster = await start(server, 2, { shards: 4 });
  await cluster.add({ pool: 'eu-west', poolShards: '2' });
  await until(() => cluster.served.join() === '2,2,2');
  await until(() => cluster.brokers.every(({ broker }) => broker.log.shards === 6));
  return cluster;
}

/** Makes these the rules, which every broker goes by when it is done. */
async function place({ brokers }: TestCluster, ...rules: PlacementRule[]): Promise<void> {
  const { version } = (await brokers[0]!.call(Admin.method.getPlacement, {})).placement!;
  const request = writeRules({ version: Number(version), defaultPool: 'default', rules });
  await brokers[0]!.call(Admin.method.setPlacement, request);
  await until(() => brokers.every(({ broker }) => broker.atlas.layout.rules.version === Number(version) + 1));
}

/** The pools of mailboxes, as any broker says, and whether the broker that serves them is of it. */
async function poolsOf({ brokers }: TestCluster, mailboxes: readonly string[]): Promise<string[]> {
  const located = mailboxes.map((mailbox, at) =>
    brokers[at % brokers.length]!.call(Broker.method.locate, { mailbox }),
  );
  return (await Promise.all(located)).map(({ pool, broker }) => {
    const of = brokers[0]!.broker.cluster.members().find(({ id }) => id === broker)?.pool;
    return of === pool ? pool : `${pool} at a broker of ${of}`;
  });
}

describe('two pools', () => {
  test('have their own shards, on their own brokers only, and any broker says so', async () => {
    const cluster = await twoPools();
    for (const broker of cluster.brokers) {
      const { pools, version } = (await broker.call(Admin.method.getPlacement, {})).placement!;
      expect(pools).toMatchObject([
        { name: 'default', firstShard: 0, shards: 4, brokers: 2 },
        { name: 'eu-west', firstShard: 4, shards: 2, brokers: 1 },
      ]);
      expect(version).toBe(0n);
      const { shards } = await broker.call(Admin.method.listShards, {});
      expect(shards.map(({ pool }) => pool)).toEqual([
        ...['default', 'default', 'default', 'default'],
        ...['eu-west', 'eu-west'],
      ]);
      const id = cluster.brokers[2]!.broker.id;
      expect(shards.map(({ owner }) => owner === id)).toEqual([false, false, false, false, true, true]);
    }
  });

  test('get what ranges, globs, task types and regions say, from any broker, with workers at any of them', async () => {
    const cluster = await twoPools();
    await place(
      cluster,
      { pool: 'default', agents: 'agent_7' },
      { pool: 'eu-west', range: { prefix: 'agent_', first: 1, last: 1000 } },
      { pool: 'eu-west', agents: 'crawler-*' },
      { pool: 'eu-west', taskTypes: 'ocr' },
      { pool: 'eu-west', region: 'eu-west' },
    );
    const there = ['agent_1', 'agent_1000', 'crawler-x', 'type:ocr', 'planner@eu-west'];
    const here = ['agent_0', 'agent_7', 'agent_1001', 'planner', 'type:ocr2', 'planner@us-east'];
    expect(await poolsOf(cluster, there)).toEqual(there.map(() => 'eu-west'));
    expect(await poolsOf(cluster, here)).toEqual(here.map(() => 'default'));

    const [one, two, three] = cluster.brokers as [TestBroker, TestBroker, TestBroker];
    const worker = await hubOf(two);
    const other = await hubOf(three);
    const all = [...there, ...here];
    for (const [at, name] of all.entries())
      await (at % 2 ? worker : other).work(name, (task) => `${name} did ${task.text()}`);
    const askers = await Promise.all([hubOf(one, 'asker'), hubOf(three, 'asker@eu-west')]);
    for (const asker of askers) {
      const results = await Promise.all(all.map((to) => asker.request({ to, payload: 'it' })));
      expect(results.map((result) => result.text())).toEqual(all.map((name) => `${name} did it`));
    }
  });

  test('change while tasks are queued, delayed, dead and at work, and nothing is lost, doubled or put out of order', async () => {
    const cluster = await twoPools();
    const [one, two, three] = cluster.brokers as [TestBroker, TestBroker, TestBroker];
    const asker = await hubOf(one, 'asker');
    const names = ['queue', 'mover', 'busy'];
    const ids = Array.from({ length: 300 }, (_, index) => `${index}`);
    await asker.publishBatch(ids.map((id) => ({ to: 'queue', id })));

    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    const started: string[] = [];
    const worker = await hubOf(two, 'hand');
    await worker.work(
      'busy',
      async ({ id }) => {
        started.push(id);
        await held;
        return `done ${id}`;
      },
      { concurrency: 4 },
    );
    const working = ids.slice(0, 4).map((id) => asker.request({ to: 'busy', id }));
    await until(() => started.length === 4);

    await place(cluster, ...names.map((agents) => ({ pool: 'eu-west', agents })));
    expect(await poolsOf(cluster, names)).toEqual(names.map(() => 'eu-west'));
    const queued = async (broker: TestBroker): Promise<number> => {
      const { mailboxes } = await broker.call(Admin.method.listMailboxes, { prefix: 'queue' });
      return Number(mailboxes.find(({ shard }) => shard >= 4)?.queued ?? 0);
    };
    while ((await queued(one)) < 300) await new Promise((resolve) => setImmediate(resolve));

    const seen: string[] = [];
    await (await hubOf(three)).work('queue', ({ id }) => void seen.push(id), { concurrency: 1 });
    // What is said again is known where it lives now.
    await asker.publishBatch(ids.slice(0, 100).map((id) => ({ to: 'queue', id })));
    await until(() => seen.length >= 300);
    expect(seen).toEqual(ids);

    // Who holds something, holds it; the worker gets more from where the mailbox lives now.
    const more = asker.request({ to: 'busy', id: 'more' });
    const known = await one.call(Broker.method.getTask, { mailbox: 'busy', taskId: '0' });
    expect(known.task).toMatchObject({ mailbox: 'busy', executor: 'hand' });
    release();
    const results = await Promise.all([...working, more]);
    expect(results.map((result) => result.text())).toEqual(
      [...ids.slice(0, 4), 'more'].map((id) => `done ${id}`),
    );
    expect([...started].sort()).toEqual([...ids.slice(0, 4), 'more'].sort());

    await place(cluster);
    expect(await poolsOf(cluster, names)).toEqual(names.map(() => 'default'));
    expect((await asker.request({ to: 'busy', id: 'back' })).text()).toBe('done back');
  });

  test('change again and again under load, and every task is done once', async () => {
    const cluster = await twoPools();
    const [one, two, three] = cluster.brokers as [TestBroker, TestBroker, TestBroker];
    const names = Array.from({ length: 6 }, (_, index) => `worker-${index}`);
    const seen: string[] = [];
    for (const [at, name] of names.entries()) {
      const hub = await hubOf([one, two, three][at % 3]!);
      await hub.work(name, ({ id }) => void seen.push(id), { concurrency: 10 });
    }
    const asker = await hubOf(two, 'asker');
    const sent: string[] = [];
    let changing = true;
    const publishing = (async () => {
      for (let round = 0; changing; round++) {
        const tasks = names.map((to) => ({ to, id: `${to}/${round}` }));
        await asker.publishBatch(tasks);
        sent.push(...tasks.map(({ id }) => id));
      }
    })();
    for (let change = 0; change < 4; change++) {
      await place(cluster, ...(change % 2 ? [] : [{ pool: 'eu-west', agents: 'worker-*' }]));
      const before = seen.length;
      await until(() => seen.length > before + 200);
    }
    changing = false;
    await publishing;
    await until(() => seen.length >= sent.length);
    expect([...seen].sort()).toEqual([...sent].sort());
  });

  test('take rules of the version that is known only, and for pools that there are', async () => {
    const cluster = await twoPools();
    const [one, two] = cluster.brokers as [TestBroker, TestBroker];
    await place(cluster, { pool: 'eu-west', region: 'eu-west' });
    const late = writeRules({ version: 0, defaultPool: 'default', rules: [] });
    await expect(two.call(Admin.method.setPlacement, late)).rejects.toThrow(/changed meanwhile/);
    const mars = writeRules({ version: 1, defaultPool: 'default', rules: [{ pool: 'mars', agents: '*' }] });
    await expect(one.call(Admin.method.setPlacement, mars)).rejects.toThrow(/no pool mars.*default, eu-west/);
    const broken = writeRules({
      version: 1,
      defaultPool: 'default',
      rules: [{ pool: 'default', region: 'a@b' }],
    });
    await expect(one.call(Admin.method.setPlacement, broken)).rejects.toThrow(/rules\[0\]\.region/);
    expect(await poolsOf(cluster, ['planner@eu-west'])).toEqual(['eu-west']);
  });

  test('are shown, changed by a file, and asked for on the command line', async () => {
    const cluster = await twoPools();
    const [one] = cluster.brokers as [TestBroker];
    const run = (...args: string[]) =>
      new TestTerminal().run('placement', ...args, '--broker', `127.0.0.1:${one.embedded.grpcPort}`);
    const file = join(one.dir, 'rules.yaml');
    writeFileSync(
      file,
      'rules: [{pool: eu-west, region: eu-west}, {pool: default, taskTypes: ocr, spread: 2}]',
    );
    expect(await run('set', file)).toMatchObject({ code: 0 });
    const { stdout } = await run('get', '-o', 'json');
    expect(JSON.parse(stdout)).toMatchObject({
      version: 1,
      defaultPool: 'default',
      rules: [
        { pool: 'eu-west', region: 'eu-west' },
        { pool: 'default', taskTypes: 'ocr', spread: 2 },
      ],
      pools: [{ name: 'default' }, { name: 'eu-west' }],
    });
    expect((await run('get')).stdout).toMatch(/agents \*@eu-west +eu-west\n/);
    await until(async () => (await run('check', 'planner@eu-west')).stdout.includes('eu-west\n'));
    // What was read can be written, once.
    writeFileSync(file, stdout);
    expect(await run('set', file)).toMatchObject({ code: 0 });
    expect((await run('set', file)).stderr).toMatch(/changed meanwhile/);
    writeFileSync(file, 'rules: [{pool: mars, agents: "*"}]');
    expect((await run('set', file)).stderr).toMatch(/no pool mars/);
  });

  test('split a capability into parts, whose workers get them all, and whose tasks are found by the whole', async () => {
    const cluster = await twoPools();
    const [one, two, three] = cluster.brokers as [TestBroker, TestBroker, TestBroker];
    const asker = await hubOf(one, 'asker');
    const ids = Array.from({ length: 60 }, (_, index) => `${index}`);
    await asker.publishBatch(ids.map((id) => ({ to: 'type:ocr', id })));
    await place(cluster, { pool: 'default', taskTypes: 'ocr', spread: 4 });
    await asker.publishBatch(ids.slice(0, 30).map((id) => ({ to: 'type:ocr', id })));
    const { mailboxes } = await two.call(Admin.method.listMailboxes, { prefix: 'type:ocr' });
    expect(new Set(mailboxes.map(({ shard }) => shard)).size).toBeGreaterThan(1);
    const found = await three.call(Broker.method.getTask, { mailbox: 'type:ocr', taskId: '59' });
    expect(found.task?.mailbox).toMatch(/^type:ocr(~[0-3])?$/);

    const seen: string[] = [];
    const worker = await hubOf(two);
    await worker.work('type:ocr', ({ id }) => void seen.push(id), { concurrency: 8 });
    await until(() => seen.length >= 60);
    await place(cluster, { pool: 'eu-west', taskTypes: 'ocr', spread: 2 });
    const results = ids.map((id) => asker.request({ to: 'type:ocr', id: `again ${id}` }));
    await Promise.all(results);
    const heard: string[] = [];
    await (
      await hubOf(three)
    ).work('type:slow', async (_task, context) => {
      context.progress(50, 'thinking');
      await until(() => heard.length > 0);
    });
    await place(cluster, { pool: 'eu-west', taskTypes: '*', spread: 2 });
    const slow = { to: 'type:slow', id: 'slow' };
    await asker.request(slow, { onProgress: ({ message }) => void heard.push(message) });
    expect(heard).toEqual(['thinking']);
    expect([...seen].sort()).toEqual([...ids, ...ids.map((id) => `again ${id}`)].sort());
  });
});
