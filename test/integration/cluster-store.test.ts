import { afterEach, describe, expect, test } from '@jest/globals';
import type { JetStreamManager } from 'nats';
import { connect } from 'nats';
import type { ClusterListener } from '../../src/cluster/cluster.ts';
import { Membership } from '../../src/cluster/membership.ts';
import type { NatsBusOptions } from '../../src/cluster/nats.ts';
import { NatsBus } from '../../src/cluster/nats.ts';
import type { NatsStoreOptions } from '../../src/cluster/nats-store.ts';
import { NatsStore } from '../../src/cluster/nats-store.ts';
import type { Stored } from '../../src/cluster/store.ts';
import type { ErrorCode } from '../../src/std/errors.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../src/std/system.ts';
import { until } from '../support/inbox.ts';
import type { NatsServerOptions } from '../support/nats-server.ts';
import { NatsServer } from '../support/nats-server.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';

const ends: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function serve(options: NatsServerOptions = {}): Promise<NatsServer> {
  const server = await NatsServer.start(options);
  ends.push(() => server.remove());
  return server;
}

async function proxyTo(server: NatsServer): Promise<Proxy> {
  const proxy = await startProxy(Number(server.url.split(':')[1]));
  ends.push(() => proxy.close());
  return proxy;
}

async function openStore(url: string, options: Partial<NatsStoreOptions> = {}): Promise<NatsStore> {
  const store = await NatsStore.open({
    servers: [url],
    prefix: 't',
    replicas: 1,
    storage: 'file',
    clock: systemClock,
    logger: silent,
    name: 'test',
    ...options,
  });
  ends.push(() => store.close());
  return store;
}

async function openBus(url: string, options: Partial<NatsBusOptions> = {}): Promise<NatsBus> {
  const bus = await NatsBus.open({ servers: [url], prefix: 't', name: 'test', logger: silent, ...options });
  ends.push(() => bus.close());
  return bus;
}

/** What NATS itself says. */
async function ask<T>(server: NatsServer, question: (jsm: JetStreamManager) => Promise<T>): Promise<T> {
  const nats = await connect({ servers: server.url });
  try {
    return await question(await nats.jetstreamManager());
  } finally {
    await nats.close();
  }
}

function get(store: NatsStore, key: string): Promise<Stored | ErrorCode | undefined> {
  return new Promise((resolve) => store.get(key, (error, stored) => resolve(error?.code ?? stored)));
}

function put(store: NatsStore, key: string, value: string, revision: number): Promise<number | ErrorCode> {
  return new Promise((resolve) =>
    store.put(key, value, revision, (error, written) => resolve(error?.code ?? written)),
  );
}

function remove(store: NatsStore, key: string, revision: number): Promise<ErrorCode | 'done'> {
  return new Promise((resolve) => store.remove(key, revision, (error) => resolve(error?.code ?? 'done')));
}

/** Writes until it is written, as brokers do that get no answer. */
async function persist(store: NatsStore, key: string, value: string): Promise<void> {
  await until(async () => {
    const now = await get(store, key);
    if (typeof now === 'string') return false;
    return now?.value === value || typeof (await put(store, key, value, now?.revision ?? 0)) === 'number';
  });
}

/** What a watch has given. */
class Watched {
  readonly values = new Map<string, string>();
  readonly changes: string[] = [];
  ready = 0;

  constructor(store: NatsStore) {
    store.watch(
      (key, stored) => {
        this.changes.push(stored ? `${key}=${stored.value}` : `${key} removed`);
        if (stored) this.values.set(key, stored.value);
        else this.values.delete(key);
      },
      () => this.ready++,
    );
  }

  get all(): string {
    return [...this.values]
      .map(([key, value]) => `${key}=${value}`)
      .sort()
      .join(' ');
  }
}

describe('documents in NATS', () => {
  test('are made, changed and removed by who knows the last revision only', async () => {
    const store = await openStore((await serve()).url);
    expect(await get(store, 'a')).toBeUndefined();
    const first = (await put(store, 'a', 'one', 0)) as number;
    expect(await get(store, 'a')).toMatchObject({ value: 'one', revision: first });
    expect(await put(store, 'a', 'two', 0)).toBe('conflict');
    const second = (await put(store, 'a', 'zwei – 二', first)) as number;
    expect(second).toBeGreaterThan(first);
    expect(await put(store, 'a', 'three', first)).toBe('conflict');
    expect(await remove(store, 'a', first)).toBe('conflict');
    expect(await get(store, 'a')).toMatchObject({ value: 'zwei – 二', revision: second });
    expect(await remove(store, 'a', second)).toBe('done');
    expect(await get(store, 'a')).toBeUndefined();
    expect(await put(store, 'a', 'again', second)).toBe('conflict');
    expect(await put(store, 'a', 'again', 0)).toBeGreaterThan(second);
  });

  test('are changed by one of many who try at once', async () => {
    const server = await serve();
    const stores = await Promise.all([1, 2, 3].map(() => openStore(server.url)));
    let revision = 0;
    for (let round = 0; round < 20; round++) {
      const outcomes = await Promise.all(stores.map((store, index) => put(store, 'a', `${index}`, revision)));
      const written = outcomes.filter((outcome) => typeof outcome === 'number');
      expect(written).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === 'conflict')).toHaveLength(2);
      revision = written[0]!;
    }
  });

  test('of different prefixes are apart', async () => {
    const server = await serve();
    const one = await openStore(server.url);
    const other = await openStore(server.url, { prefix: 'u' });
    await put(one, 'a', 'one', 0);
    expect(await get(other, 'a')).toBeUndefined();
  });

  test('are in a bucket as NATS knows them, read from the leader', async () => {
    const server = await serve();
    const store = await openStore(server.url);
    await put(store, 'member.a', 'one', 0);
    const nats = await connect({ servers: server.url });
    const bucket = await nats.jetstream().views.kv('t-cluster', { bindOnly: true });
    expect((await bucket.get('member.a'))?.string()).toBe('one');
    await nats.close();
    const { config } = await ask(server, (jsm) => jsm.streams.info('KV_t-cluster'));
    expect(config).toMatchObject({ allow_direct: false, max_msgs_per_subject: 1, num_replicas: 1 });
  });

  test('are refused in a bucket of somebody else', async () => {
    const server = await serve();
    const nats = await connect({ servers: server.url });
    await nats.jetstream().views.kv('t-cluster');
    await nats.close();
    await expect(openStore(server.url)).rejects.toMatchObject({ code: 'precondition' });
  });

  test('say that NATS does not answer', async () => {
    const server = await serve();
    const store = await openStore(server.url);
    await server.kill();
    const outcomes = Promise.all([get(store, 'a'), put(store, 'a', 'one', 0), put(store, 'a', 'one', 1)]);
    expect(await remove(store, 'a', 1)).toBe('unavailable');
    expect(await outcomes).toEqual(['unavailable', 'unavailable', 'unavailable']);
  });
});

describe('a watch', () => {
  test('gives all there is, is ready, and gives what changes', async () => {
    const server = await serve();
    const store = await openStore(server.url);
    const empty = new Watched(store);
    await until(() => empty.ready === 1);
    const one = (await put(store, 'a', 'one', 0)) as number;
    await put(store, 'b', 'two', 0);
    await until(() => empty.all === 'a=one b=two');

    const full = new Watched(store);
    await until(() => full.ready === 1);
    expect(full.changes).toEqual(['a=one', 'b=two']);
    await put(store, 'a', 'three', one);
    const b = (await get(store, 'b')) as Stored;
    await remove(store, 'b', b.revision);
    await until(() => full.changes.length === 4);
    expect(full.changes.slice(2)).toEqual(['a=three', 'b removed']);
    expect([empty.ready, full.ready]).toEqual([1, 1]);
  });

  test('gives what has changed while its connection was broken, also what is gone', async () => {
    const server = await serve();
    const store = await openStore(server.url);
    for (const key of ['a', 'b', 'c']) await put(store, key, 'one', 0);
    const proxy = await proxyTo(server);
    const watched = new Watched(await openStore(proxy.address));
    await until(() => watched.all === 'a=one b=one c=one');

    proxy.stall(true);
    await persist(store, 'a', 'two');
    for (const key of ['b', 'c']) await remove(store, key, ((await get(store, key)) as Stored).revision);
    // Nothing is left of one of them.
    await ask(server, (jsm) => jsm.streams.purge('KV_t-cluster', { filter: '$KV.t-cluster.b' }));
    await put(store, 'd', 'one', 0);
    proxy.stall(false);
    proxy.cut();
    await until(() => watched.all === 'a=two d=one');
    expect(watched.ready).toBe(1);
  });

  test('goes on when the server was killed and started again', async () => {
    const server = await serve();
    const [store, other] = [await openStore(server.url), await openStore(server.url)];
    const watched = new Watched(store);
    await persist(other, 'a', 'one');
    await until(() => watched.all === 'a=one');
    await server.kill();
    await server.start();
    await persist(other, 'a', 'two');
    await persist(other, 'b', 'one');
    await until(() => watched.all === 'a=two b=one');
  });

  test('goes on when its consumer is gone', async () => {
    const server = await serve();
    const store = await openStore(server.url);
    const watched = new Watched(store);
    await until(() => watched.ready === 1);
    await ask(server, async (jsm) => {
      for await (const { name } of jsm.consumers.list('KV_t-cluster')) {
        await jsm.consumers.delete('KV_t-cluster', name);
      }
    });
    await put(store, 'a', 'one', 0);
    await until(() => watched.all === 'a=one');
  });

  test('goes on in a new bucket when somebody has deleted it, with revisions that rise', async () => {
    const server = await serve();
    const store = await openStore(server.url);
    const watched = new Watched(store);
    const before = (await put(store, 'a', 'one', 0)) as number;
    await until(() => watched.all === 'a=one');
    await ask(server, async (jsm) => {
      await jsm.streams.delete('KV_t-cluster');
    });
    await until(() => watched.values.size === 0);
    expect(watched.changes).toEqual(['a=one', 'a removed']);
    expect(await put(store, 'a', 'two', 0)).toBeGreaterThan(before);
    await until(() => watched.all === 'a=two');
  });

  test('clears away what is left of documents that were removed long ago', async () => {
    const server = await serve();
    const store = await openStore(server.url);
    const revision = (await put(store, 'a', 'one', 0)) as number;
    await remove(store, 'a', revision);
    const messages = (): Promise<number> =>
      ask(server, async (jsm) => (await jsm.streams.info('KV_t-cluster')).state.messages);
    const watched = new Watched(store);
    await until(() => watched.ready === 1);
    expect(await messages()).toBe(1);
    const later = { ...systemClock, now: () => systemClock.now() + 7_200_000 };
    const watchedLater = new Watched(await openStore(server.url, { clock: later }));
    await until(() => watchedLater.ready === 1);
    await until(async () => (await messages()) === 0);
    expect(await put(store, 'a', 'two', 0)).toBeGreaterThan(revision);
  });

  test('and changes go on when one of three servers dies', async () => {
    const servers = await NatsServer.cluster(3);
    ends.push(() => Promise.all(servers.map((server) => server.remove())));
    const urls = servers.map(({ url }) => url);
    // They say that they are ready before they have a leader.
    let store: NatsStore | undefined;
    await until(async () => {
      store = await openStore(urls[0]!, { servers: urls, replicas: 3 }).catch(() => undefined);
      return store !== undefined;
    });
    const watched = new Watched(store!);
    await persist(store!, 'a', 'one');
    await until(() => watched.all === 'a=one');
    await servers[0]!.kill();
    await persist(store!, 'a', 'two');
    await persist(store!, 'b', 'one');
    await until(() => watched.all === 'a=two b=one');
  }, 60_000);
});

describe('a bus over NATS', () => {
  test('gives every message to exactly its subject, in order, also its own', async () => {
    const server = await serve();
    const [one, other] = [await openBus(server.url), await openBus(server.url)];
    const heard: string[] = [];
    one.subscribe('a.b', (bytes) => heard.push(`one ${bytes.toString()}`));
    other.subscribe('a.b', (bytes) => heard.push(`other ${bytes.toString()}`));
    other.subscribe('a', () => heard.push('a'));
    const foreign = await openBus(server.url, { prefix: 'u' });
    foreign.subscribe('a.b', () => heard.push('foreign'));
    // What one has published is behind what it has subscribed; the others must be known to the server, too.
    for (const bus of [other, foreign]) await roundTrip(bus);
    for (let n = 0; n < 100; n++) one.publish('a.b', Buffer.from(`${n}`));
    await until(() => heard.length === 200);
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    expect(heard.filter((each) => each.startsWith('one'))).toEqual(numbers.map((n) => `one ${n}`));
    expect(heard.filter((each) => each.startsWith('other'))).toEqual(numbers.map((n) => `other ${n}`));
  });

  test('gives bytes that belong to the receiver, and nothing after stop', async () => {
    const bus = await openBus((await serve()).url);
    const heard: Buffer[] = [];
    const subscription = bus.subscribe('a', (bytes) => heard.push(bytes));
    for (let n = 0; n < 10; n++) bus.publish('a', Buffer.alloc(40_000, n));
    await until(() => heard.length === 10);
    // None of them keeps alive what came beside it.
    expect(heard.map(({ buffer }) => buffer.byteLength)).toEqual(Array<number>(10).fill(40_000));
    subscription.stop();
    bus.publish('a', Buffer.alloc(100));
    await roundTrip(bus);
    expect(heard).toHaveLength(10);
  });

  test('says when it is cut off and when it is back, and hears again then', async () => {
    const server = await serve();
    const bus = await openBus(server.url);
    const states: boolean[] = [];
    bus.watch((connected) => states.push(connected));
    const heard: string[] = [];
    bus.subscribe('a', (bytes) => heard.push(bytes.toString()));
    await server.kill();
    await until(() => states.length === 1);
    expect(bus.connected).toBe(false);
    bus.publish('a', Buffer.from('lost'));
    await server.start();
    await until(() => states.length === 2);
    expect(states).toEqual([false, true]);
    expect(bus.connected).toBe(true);
    bus.publish('a', Buffer.from('heard'));
    await until(() => heard.length > 0);
    expect(heard).toEqual(['heard']);
  });
});

describe('a cluster over NATS', () => {
  test('agrees, notices who is gone, and survives a restart of the server', async () => {
    const server = await serve();
    const members = await Promise.all(['a', 'b', 'c'].map((id) => join(server, id)));
    const counts = (cluster: Membership): string => {
      const owners = Array.from({ length: 6 }, (_, shard) => cluster.assigned(shard)?.broker ?? '');
      return ['a', 'b', 'c'].map((id) => owners.filter((owner) => owner === id).length).join(' ');
    };
    await until(() => members.every((cluster) => counts(cluster) === '2 2 2'));
    await server.kill();
    await server.start();
    await new Promise<void>((resolve) => members[2]!.stop(resolve));
    await until(() => members.slice(0, 2).every((cluster) => counts(cluster) === '3 3 0'));
    expect(members[0]!.members().map(({ id }) => id)).toEqual(['a', 'b']);
  });
});

/** Resolves when the server has taken everything that was said before. */
async function roundTrip(bus: NatsBus): Promise<void> {
  const subject = `trip${systemRandom.token(4)}`;
  await new Promise<void>((resolve) => {
    const subscription = bus.subscribe(subject, () => {
      subscription.stop();
      resolve();
    });
    bus.publish(subject, Buffer.alloc(0));
  });
}

async function join(server: NatsServer, id: string): Promise<Membership> {
  const cluster = new Membership({
    bus: await openBus(server.url),
    store: await openStore(server.url),
    clock: systemClock,
    random: systemRandom,
    logger: silent,
    member: { id, address: '', version: '1.0.0', level: 1 },
    shards: 6,
    vitals: () => ({ loadScore: 0, agents: 0, sessions: 0, tasksPerSecond: 0, full: [], recipients: [] }),
  });
  const listener: ClusterListener = {
    assignmentChanged() {},
    layoutChanged() {},
    claimChanged() {},
    membersChanged() {},
    wanted() {},
  };
  await new Promise<void>((resolve, reject) =>
    cluster.start(listener, (error) => (error ? reject(error) : resolve())),
  );
  ends.push(() => new Promise<void>((resolve) => cluster.stop(resolve)));
  return cluster;
}
