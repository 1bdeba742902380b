import { afterEach, describe, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { ConnectOptions, Hub, ReceivedTask, TaskContext } from '../../src/client/index.ts';
import { connect, PermanentError } from '../../src/client/index.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { CERTIFICATE, KEY } from '../support/certificate.ts';
import { startProxy } from '../support/proxy.ts';
import type { Proxy } from '../support/proxy.ts';

const hubs: Hub[] = [];
const proxies: Proxy[] = [];

afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
});

const { start } = brokers();

async function hubAt(address: string, options: ConnectOptions = {}): Promise<Hub> {
  const hub = await connect({ address, ...options });
  hubs.push(hub);
  return hub;
}

const hubOf = ({ embedded }: TestBroker, options: ConnectOptions = {}): Promise<Hub> =>
  hubAt(`127.0.0.1:${embedded.grpcPort}`, options);

async function proxyOf({ embedded }: TestBroker): Promise<Proxy> {
  const proxy = await startProxy(embedded.grpcPort);
  proxies.push(proxy);
  return proxy;
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** A port that nobody listens on now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Something that a test waits for, and then goes on. */
function gate(): { promise: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { promise, open: () => resolve() };
}

describe('asking and working', () => {
  test('a request finds its worker, hears how far it is, and gets the answer', async () => {
    const broker = await start();
    const worker = await hubOf(broker);
    await worker.work(
      'type:greet',
      async (task, context) => {
        context.progress(50, 'thinking', { half: true });
        await new Promise((resolve) => setImmediate(resolve));
        return { hello: task.json<{ name: string }>()?.name, by: task.headers['tenant'] };
      },
      { agent: 'greeter' },
    );
    const hub = await hubOf(broker, { agent: 'planner' });
    const heard: unknown[] = [];
    const result = await hub.request(
      { capability: 'greet', payload: { name: 'Ada' }, headers: { tenant: 'x' }, contextId: 'c' },
      { onProgress: (progress) => heard.push([progress.percent, progress.message, progress.json()]) },
    );
    expect(result.json()).toEqual({ hello: 'Ada', by: 'x' });
    expect(result).toMatchObject({
      executor: 'greeter',
      requester: 'planner',
      attempts: 1,
      contextId: 'c',
      outcome: 'succeeded',
    });
    expect(heard).toEqual([[50, 'thinking', { half: true }]]);
  });

  test('many agents share a connection, and each gets its own', async () => {
    const broker = await start();
    const hub = await hubOf(broker, { agent: 'planner' });
    const names = Array.from({ length: 100 }, (_, index) => `agent-${index}`);
    await Promise.all(names.map((name) => hub.work(name, (task) => `${name} did ${task.text()}`)));
    const results = await Promise.all(names.map((name) => hub.request({ to: name, payload: name })));
    expect(results.map((result) => result.text())).toEqual(names.map((name) => `${name} did ${name}`));
  });

  test('workers compete, within their concurrency, and none is done twice', async () => {
    const broker = await start();
    const seen: string[] = [];
    let most = 0;
    for (const name of ['a', 'b', 'c']) {
      const hub = await hubOf(broker);
      let running = 0;
      await hub.work(
        'type:job',
        async (task) => {
          most = Math.max(most, ++running);
          await new Promise((resolve) => setImmediate(resolve));
          running--;
          seen.push(task.id);
          return name;
        },
        { concurrency: 4 },
      );
    }
    const hub = await hubOf(broker, { agent: 'planner' });
    const results = await Promise.all(Array.from({ length: 300 }, () => hub.request({ capability: 'job' })));
    expect(new Set(results.map((result) => result.text()))).toEqual(new Set(['a', 'b', 'c']));
    expect(new Set(seen).size).toBe(300);
    expect(seen).toHaveLength(300);
    expect(most).toBeLessThanOrEqual(4);
  });

  test('a listener gets copies of what the worker does', async () => {
    const broker = await start();
    const hub = await hubOf(broker, { agent: 'planner' });
    const copies: string[] = [];
    await hub.listen('planner', (task) => copies.push(task.text()));
    await hub.work('planner', (task) => task.text().toUpperCase());
    const results = await Promise.all(['a', 'b'].map((payload) => hub.request({ to: 'planner', payload })));
    expect(results.map((result) => result.text())).toEqual(['A', 'B']);
    expect(copies.sort()).toEqual(['a', 'b']);
  });

  test('batches of raw bytes arrive in order, and are settled as fast', async () => {
    const broker = await start();
    const hub = await hubOf(broker, { agent: 'planner' });
    const total = 20_000;
    const ids: string[] = [];
    const complete = gate();
    const worker = await hub.workBatch('sink', (deliveries, batch) => {
      for (const { frame, start: from } of deliveries) {
        // The id is the first field of what this client publishes.
        ids.push(Buffer.from(frame.buffer, frame.byteOffset + from + 2, frame[from + 1]).toString());
      }
      batch.settleAll(deliveries);
      if (ids.length >= total) complete.open();
    });
    const wanted: string[] = [];
    for (let from = 0; from < total; from += 500) {
      const tasks = Array.from({ length: 500 }, (_, index) => ({
        to: 'sink',
        type: 't',
        id: `task-${from + index}`,
        requester: '',
      }));
      wanted.push(...tasks.map(({ id }) => id));
      void hub.publishBatch(tasks);
    }
    await complete.promise;
    await worker.close();
    expect(ids).toEqual(wanted);
    expect(await all(hub.listTasks({ mailbox: 'sink' }))).toEqual([]);
  });

  test('results wait for a requester that was away, and are given once', async () => {
    const broker = await start({ session: { graceMs: '100ms' } });
    const worker = await hubOf(broker);
    const done = gate();
    const before = await hubOf(broker, { agent: 'planner' });
    await before.publish({ to: 'clerk', id: 'a', payload: 'form' });
    await before.publish({ to: 'clerk', id: 'b', payload: 'form' });
    await before.close();
    let count = 0;
    await worker.work('clerk', () => {
      if (++count === 2) done.open();
      return 'stamped';
    });
    await done.promise;
    const after = await hubOf(broker, { agent: 'planner' });
    const got: string[] = [];
    for await (const result of after.results()) {
      got.push(`${result.taskId} ${result.text()}`);
      if (got.length === 2) break;
    }
    expect(got.sort()).toEqual(['a stamped', 'b stamped']);
    await after.close();
    const again = await hubOf(broker, { agent: 'planner' });
    const echo = await hubOf(broker);
    await echo.work('echo', () => 'echo');
    const nothing = again.results();
    expect((await again.request({ to: 'echo' })).text()).toBe('echo');
    await nothing.return!();
  });
});

describe('looking', () => {
  test('lists all that is queued, page by page, in order of acceptance', async () => {
    const broker = await start();
    const hub = await hubOf(broker, { agent: 'planner' });
    const ids = Array.from({ length: 250 }, (_, index) => `task-${index}`);
    await hub.publishBatch(ids.map((id) => ({ to: 'pile', type: id === 'task-7' ? 'odd' : 'even', id })));
    const listed = await all(hub.listTasks({ mailbox: 'pile', pageSize: 100 }));
    expect(listed.map(({ id }) => id)).toEqual(ids);
    const [odd] = await all(hub.listTasks({ mailbox: 'pile', type: 'odd', includeTask: true }));
    expect(odd).toMatchObject({ id: 'task-7', state: 'queued', requester: 'planner', task: { type: 'odd' } });
    expect(await hub.getTask({ id: 'task-9' })).toMatchObject({ mailbox: 'pile', state: 'queued' });
    expect(await hub.getTask({ id: 'task-9', mailbox: 'elsewhere' })).toBeUndefined();
  });
});

describe('what does not go well', () => {
  test('a task that fails for good says why, and is a dead letter', async () => {
    const broker = await start();
    const hub = await hubOf(broker, { agent: 'planner' });
    await hub.work('clerk', (task) => {
      if (task.type === 'poison') throw new Error('every time');
      throw new PermanentError('no such form');
    });
    await expect(hub.request({ to: 'clerk', type: 'form', id: 'a' })).rejects.toMatchObject({
      message: expect.stringContaining('no such form'),
      result: { outcome: 'failed', attempts: 1 },
    });
    await expect(
      hub.request({ to: 'clerk', type: 'poison', id: 'b', maxAttempts: 3, backoffMs: 1 }),
    ).rejects.toMatchObject({
      result: { outcome: 'failed', attempts: 3, error: expect.stringContaining('every time') },
    });
    expect(await hub.getTask({ mailbox: 'clerk', id: 'b' })).toMatchObject({ state: 'dead', attempts: 3 });
    const dead = await all(hub.listTasks({ states: ['dead'] }));
    expect(dead.map(({ id }) => id).sort()).toEqual(['a', 'b']);
  });

  test('a cancellation reaches the handler, and the requester', async () => {
    const broker = await start();
    const hub = await hubOf(broker, { agent: 'planner' });
    const begun = gate();
    const aborted = gate();
    await hub.work('slow', (_task, { signal }) => {
      signal.addEventListener('abort', aborted.open);
      begun.open();
      return new Promise((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(new Error('stopped'))),
      );
    });
    const request = hub.request({ to: 'slow', id: 'a' });
    request.catch(() => {});
    await begun.promise;
    expect(await hub.cancel({ mailbox: 'slow', id: 'a', reason: 'not needed' })).toBe('cancelled');
    await aborted.promise;
    await expect(request).rejects.toMatchObject({ code: 'cancelled', result: { outcome: 'cancelled' } });
    expect(await hub.cancel({ mailbox: 'slow', id: 'a' })).toBe('too_late');
    expect(await hub.cancel({ mailbox: 'slow', id: 'nobody knows' })).toBe('not_found');
  });

  test('an aborted request takes its task along', async () => {
    const broker = await start();
    const hub = await hubOf(broker, { agent: 'planner' });
    const controller = new AbortController();
    const request = hub.request({ to: 'nobody', id: 'a' }, { signal: controller.signal });
    request.catch(() => {});
    await hub.publish({ to: 'other' });
    controller.abort();
    await expect(request).rejects.toMatchObject({ code: 'cancelled' });
    let state = 'queued';
    while (state === 'queued') state = (await hub.getTask({ mailbox: 'nobody', id: 'a' }))?.state ?? 'gone';
    expect(state).toBe('cancelled');
  });

  test('a full mailbox is named, with when to try again; a publish that may wait does', async () => {
    const broker = await start({ limits: { mailboxDepth: 2 } });
    const hub = await hubOf(broker, { agent: 'planner' });
    await hub.publish({ to: 'small' });
    await hub.publish({ to: 'small' });
    await expect(hub.publish({ to: 'small' }, { retry: false })).rejects.toMatchObject({
      code: 'exhausted',
      limit: 'limits.mailboxDepth',
      retryAfterMs: expect.any(Number),
    });
    const { outcomes } = await hub.publishBatch([{ to: 'small' }, { to: 'large' }]);
    expect(outcomes.map(({ error }) => error?.limit)).toEqual(['limits.mailboxDepth', undefined]);
    const waits = hub.publish({ to: 'small', id: 'patient' });
    await hub.work('small', () => {});
    expect(await waits).toMatchObject({ id: 'patient' });
  });

  test('a task or a result that is too large is refused, and the connection lives', async () => {
    const broker = await start({ limits: { taskBytes: '64KiB' } });
    const hub = await hubOf(broker, { agent: 'planner' });
    await expect(hub.publish({ to: 'x', payload: new Uint8Array(65_536) })).rejects.toMatchObject({
      code: 'invalid',
      limit: 'limits.taskBytes',
    });
    await hub.work('x', () => new Uint8Array(65_537));
    await expect(hub.request({ to: 'x' })).rejects.toMatchObject({
      result: { outcome: 'failed', error: expect.stringContaining('65536 bytes') },
    });
  });

  test('a durability that the broker does not have is refused', async () => {
    const broker = await start();
    const hub = await hubOf(broker);
    await expect(hub.publish({ to: 'x' }, { durability: 'synced' })).rejects.toMatchObject({
      code: 'precondition',
    });
    expect(await hub.publish({ to: 'x' }, { durability: 'memory' })).toMatchObject({ durability: 'memory' });
  });

  test('without the token the door stays shut', async () => {
    const broker = await start({ auth: { tokens: ['a-token-for-agents'] } });
    await expect(hubOf(broker, { token: 'another' })).rejects.toMatchObject({ code: 'unauthenticated' });
    const hub = await hubOf(broker, { token: 'a-token-for-agents' });
    expect(await hub.publish({ to: 'x' })).toMatchObject({ mailbox: 'x' });
  });

  test('over TLS only who has the right certificate is believed', async () => {
    const files = await start();
    const [certFile, keyFile] = [join(files.dir, 'cert.pem'), join(files.dir, 'key.pem')];
    writeFileSync(certFile, CERTIFICATE);
    writeFileSync(keyFile, KEY);
    const broker = await start({ tls: { certFile, keyFile } });
    const hub = await hubOf(broker, { tls: { ca: CERTIFICATE } });
    expect(await hub.publish({ to: 'x' })).toMatchObject({ mailbox: 'x' });
    await expect(hubOf(broker, { tls: {}, connectTimeoutMs: 300 })).rejects.toMatchObject({
      code: 'unavailable',
    });
  });
});

describe('when the connection breaks', () => {
  test('a worker keeps its task, finishes it on the next connection, and nobody does it again', async () => {
    const broker = await start();
    const proxy = await proxyOf(broker);
    const states: string[] = [];
    const worker = await hubAt(proxy.address, { onStateChange: (state) => states.push(state) });
    const begun = gate();
    const go = gate();
    const runs: TaskContext[] = [];
    const handler = async (_task: ReceivedTask, context: TaskContext): Promise<string> => {
      runs.push(context);
      begun.open();
      await go.promise;
      return context.signal.aborted ? 'aborted' : 'done';
    };
    await worker.work('type:long', handler);
    const hub = await hubOf(broker, { agent: 'planner' });
    const other = await hubOf(broker);
    const request = hub.request({ capability: 'long' });
    await begun.promise;
    await other.work('type:long', handler);
    proxy.cut();
    while (states.at(-1) !== 'reconnecting') await new Promise((resolve) => setImmediate(resolve));
    go.open();
    expect((await request).text()).toBe('done');
    expect(runs).toHaveLength(1);
    while (worker.state !== 'connected') await new Promise((resolve) => setImmediate(resolve));
    expect(states).toEqual(['connected', 'reconnecting', 'connected']);
  });

  test('whatever is published meanwhile arrives once, in order', async () => {
    const broker = await start();
    const proxy = await proxyOf(broker);
    const hub = await hubAt(proxy.address, { agent: 'planner' });
    const published: Promise<unknown>[] = [];
    for (let round = 0; round < 20; round++) {
      for (let index = 0; index < 10; index++) {
        published.push(hub.publish({ to: 'sink', payload: `${round * 10 + index}`, requester: '' }));
      }
      await new Promise((resolve) => setImmediate(resolve));
      if (round % 5 === 4) proxy.cut();
    }
    await Promise.all(published);
    const got: number[] = [];
    const complete = gate();
    await hub.work('sink', (task) => {
      got.push(Number(task.text()));
      if (got.length === 200) complete.open();
    });
    await complete.promise;
    expect(got).toEqual(Array.from({ length: 200 }, (_, index) => index));
  });

  test('without a word, it is noticed by its silence', async () => {
    const broker = await start({ session: { heartbeatMs: '100ms', timeoutMs: '10s' } });
    const proxy = await proxyOf(broker);
    const states: string[] = [];
    const hub = await hubAt(proxy.address, {
      agent: 'planner',
      onStateChange: (state) => states.push(state),
    });
    proxy.stall(true);
    while (!states.includes('reconnecting')) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await hub.publish({ to: 'x' })).toMatchObject({ mailbox: 'x' });
  });

  test('a broker that restarts is come back to: every task is done once, every result arrives', async () => {
    const port = await freePort();
    const broker = await start({ data: { log: 'file', sync: 'none' }, grpc: { port } });
    const worker = await hubOf(broker);
    const hub = await hubOf(broker, { agent: 'planner' });
    const done: string[] = [];
    await worker.work('type:job', (task) => {
      done.push(task.id);
      return task.id;
    });
    const requests: Promise<unknown>[] = [];
    const request = (id: string): void => {
      requests.push(hub.request({ capability: 'job', id }).then((result) => result.text()));
    };
    for (let index = 0; index < 100; index++) request(`before-${index}`);
    const restarted = broker.restart();
    for (let index = 0; index < 100; index++) request(`meanwhile-${index}`);
    await restarted;
    const results = await Promise.all(requests);
    expect(new Set(results).size).toBe(200);
    expect(done.sort()).toEqual([...results].sort());
  });
});

describe('a worker that closes', () => {
  test('finishes what runs, and leaves the rest to others', async () => {
    const broker = await start();
    const first = await hubOf(broker);
    const begun = gate();
    const go = gate();
    const done: string[] = [];
    const worker = await first.work(
      'type:job',
      async (task) => {
        begun.open();
        await go.promise;
        done.push(`first ${task.id}`);
      },
      { concurrency: 1, window: 3 },
    );
    const hub = await hubOf(broker, { agent: 'planner' });
    const requests = ['a', 'b', 'c'].map((id) => hub.request({ capability: 'job', id }));
    await begun.promise;
    const second = await hubOf(broker);
    const closed = worker.close();
    await second.work('type:job', (task) => {
      done.push(`second ${task.id}`);
    });
    await Promise.all([requests[1], requests[2]]);
    go.open();
    await closed;
    const results = await Promise.all(requests);
    expect(results.map(({ attempts }) => attempts)).toEqual([1, expect.any(Number), expect.any(Number)]);
    expect(done.sort()).toEqual(['first a', 'second b', 'second c']);
  });
});
