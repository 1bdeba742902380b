import { afterAll, afterEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JetStreamManager } from 'nats';
import { connect, nkeys } from 'nats';
import type { JetStreamLogOptions } from '../../src/log/jetstream.ts';
import type { JetStreamLog } from '../../src/log/jetstream.ts';
import type { Append, Log } from '../../src/log/log.ts';
import { toHubError } from '../../src/std/errors.ts';
import { CERTIFICATE, KEY } from '../support/certificate.ts';
import { openJetStream } from '../support/jetstream.ts';
import { until } from '../support/inbox.ts';
import type { Outcome } from '../support/log-reader.ts';
import { append, owner, readAll, Recorder, tasks } from '../support/log-reader.ts';
import type { NatsServerOptions } from '../support/nats-server.ts';
import { freePort, NatsServer } from '../support/nats-server.ts';
import { startProxy } from '../support/proxy.ts';

/** What its own types don't say. */
interface UserKey {
  getPublicKey(): string;
  getSeed(): Uint8Array;
}

const servers: NatsServer[] = [];
const logs: Log[] = [];

afterEach(async () => {
  await Promise.all(logs.splice(0).map((log) => log.close()));
  await Promise.all(servers.splice(0).map((server) => server.remove()));
});

async function serve(options: NatsServerOptions = {}): Promise<NatsServer> {
  const server = await NatsServer.start(options);
  servers.push(server);
  return server;
}

async function open(server: NatsServer, options: Partial<JetStreamLogOptions> = {}): Promise<JetStreamLog> {
  const log = await openJetStream(server.url, options);
  logs.push(log);
  return log;
}

/** What NATS itself says, beside the log. */
async function ask<T>(server: NatsServer, question: (jsm: JetStreamManager) => Promise<T>): Promise<T> {
  const nats = await connect({ servers: server.url });
  try {
    return await question(await nats.jetstreamManager());
  } finally {
    await nats.close();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Appends as brokers do: what is undecided is tried again with the same id. */
async function persist(log: Log, shard: number, record: Append): Promise<Outcome> {
  for (;;) {
    const outcome = await append(log, shard, record);
    if (outcome !== 'unavailable') return outcome;
    await pause(20);
  }
}

/** Writes to a shard, as an edge and as its owner, until it is told to stop; answers with what was acknowledged. */
class Writer {
  readonly acknowledged = new Map<number, string>();
  private stopped = false;
  private readonly ended: Promise<unknown>;

  constructor(log: Log, shard: number) {
    this.ended = Promise.all([
      this.write(async (count) => {
        const text = `task ${shard} ${count}`;
        return [await persist(log, shard, tasks(text)), text];
      }),
      this.write(async (count, last) => {
        const text = `decision ${shard} ${count}`;
        return [await persist(log, shard, owner(text, last)), text];
      }),
    ]);
  }

  private async write(step: (count: number, last: number) => Promise<[Outcome, string]>): Promise<void> {
    let last = 0;
    for (let count = 0; !this.stopped; count++) {
      const [outcome, text] = await step(count, last);
      if (typeof outcome !== 'number') throw new Error(`${text}: ${outcome}`);
      last = outcome;
      this.acknowledged.set(outcome, text);
    }
  }

  async stop(): Promise<ReadonlyMap<number, string>> {
    this.stopped = true;
    await this.ended;
    return this.acknowledged;
  }
}

/** Holds what was acknowledged against what one reader has seen all along, and what another reads now. */
async function expectNothingLost(log: Log, shard: number, writer: Writer, recorder: Recorder): Promise<void> {
  const acknowledged = await writer.stop();
  const { last } = log.extent(shard);
  await recorder.has(last);
  const retained = await readAll(log, shard);
  expect(recorder.seen).toEqual(retained);
  expect(new Map(retained.map(({ sequence, text }) => [sequence, text]))).toEqual(
    new Map([...acknowledged].sort(([a], [b]) => a - b)),
  );
}

describe('a log that others write and truncate', () => {
  test('is not read on past a gap: who has missed records begins anew', async () => {
    const server = await serve();
    const far = await startProxy(Number(server.url.split(':')[1]));
    try {
      const prefix = 'shared';
      const log = await open(server, { prefix });
      const follower = await openJetStream(far.address, { prefix });
      const recorder = new Recorder();
      follower.read(0, 1, recorder);
      await append(log, 0, tasks('first'));
      await recorder.has(1);
      far.stall(true);
      for (let count = 2; count <= 10; count++) await persist(log, 0, tasks(`task ${count}`));
      log.truncate(0, 8);
      const first = (): Promise<number> =>
        ask(server, async (jsm) => (await jsm.streams.info(`${prefix}-0`)).state.first_seq);
      while ((await first()) < 8) await pause(20);
      far.cut();
      await until(() => recorder.error !== undefined || recorder.seen.length > 1);
      expect(recorder.sequences).toEqual([1]);
      expect(recorder.error).toMatchObject({ code: 'aborted' });
      await follower.close();
    } finally {
      await far.close();
    }
  });
});

describe('when NATS fails', () => {
  test('kill -9 under load loses, repeats and reorders nothing, and readers go on', async () => {
    const server = await serve();
    const log = await open(server);
    const recorders = [0, 1].map(() => new Recorder());
    recorders.forEach((recorder, shard) => log.read(shard, 1, recorder));
    const writers = [0, 1].map((shard) => new Writer(log, shard));
    for (let round = 0; round < 4; round++) {
      const before = writers[0]!.acknowledged.size;
      await until(() => writers[0]!.acknowledged.size > before + 50);
      await server.kill();
      await pause(100 * round);
      await server.start();
    }
    const before = writers[0]!.acknowledged.size;
    await until(() => writers[0]!.acknowledged.size > before + 50);
    for (const shard of [0, 1]) await expectNothingLost(log, shard, writers[shard]!, recorders[shard]!);
  });

  test('a server that stands still makes appends undecided; retries are stored once', async () => {
    const server = await serve();
    const log = await open(server);
    const recorder = new Recorder();
    log.read(0, 1, recorder);
    await recorder.isCaughtUp();
    expect(await append(log, 0, owner('epoch'))).toBe(1);
    await server.pause();
    const task = tasks('task');
    const decision = owner('decision', 1);
    expect(await Promise.all([append(log, 0, task), append(log, 0, decision)])).toEqual([
      'unavailable',
      'unavailable',
    ]);
    server.resume();
    const outcomes = await Promise.all([persist(log, 0, task), persist(log, 0, decision)]);
    expect(outcomes).toEqual([2, 3]);
    expect((await readAll(log, 0)).map(({ text }) => text)).toEqual(['epoch', 'task', 'decision']);
    await recorder.has(3);
    expect(recorder.seen.map(({ text }) => text)).toEqual(['epoch', 'task', 'decision']);
  });

  test('a decision whose answer was lost is not refused as that of a former owner', async () => {
    const log = await open(await serve());
    const first = owner('first', 0);
    const second = owner('second', 1);
    expect(await append(log, 0, first)).toBe(1);
    expect(await append(log, 0, second)).toBe(2);
    expect(await append(log, 0, second)).toBe(2);
    expect(await append(log, 0, first)).toBe('aborted');
    expect(await append(log, 0, owner('other', 1))).toBe('aborted');
  });

  test('an owner record is answered after its readers have been given it', async () => {
    const log = await open(await serve());
    const recorder = new Recorder();
    log.read(0, 1, recorder);
    await recorder.isCaughtUp();
    let last = 0;
    for (let count = 1; count <= 50; count++) {
      await append(log, 0, tasks('task'));
      last = (await append(log, 0, owner('decision', last))) as number;
      expect(recorder.sequences.at(-1)).toBe(last);
    }
  });

  test('a stream that lost its tail is noticed, before and after its sequences are used again', async () => {
    for (const reused of [0, 8]) {
      const server = await serve();
      const prefix = `tail${reused}`;
      const log = await open(server, { prefix });
      const recorder = new Recorder();
      log.read(0, 1, recorder);
      for (let i = 1; i <= 3; i++) await append(log, 0, tasks(`${i}`));
      await server.kill();
      server.keepStore();
      await server.start();
      for (let i = 4; i <= 6; i++) await persist(log, 0, tasks(`${i}`));
      await recorder.has(6);
      await server.kill();
      server.loseSince();
      if (reused > 0) {
        const port = await freePort();
        await server.start(port);
        const other = await openJetStream(`127.0.0.1:${port}`, { prefix });
        for (let i = 4; i <= reused; i++) expect(await append(other, 0, tasks(`new ${i}`))).toBe(i);
        await other.close();
        await server.kill();
      }
      await server.start();
      await until(() => recorder.error !== undefined);
      expect(recorder.error).toMatchObject({ code: 'corrupt', message: expect.stringContaining('restart') });
      expect(recorder.sequences).toEqual([1, 2, 3, 4, 5, 6]);
    }
  });

  test('three servers: the death of any one of them loses nothing', async () => {
    const cluster = await NatsServer.cluster(3);
    servers.push(...cluster);
    const urls = cluster.map(({ url }) => url);
    const start = async (): Promise<JetStreamLog> => {
      for (;;) {
        try {
          return await open(cluster[0]!, { servers: urls, replicas: 3 });
        } catch (error) {
          if (!['unavailable', 'precondition'].includes(toHubError(error).code)) throw error;
          await pause(200);
        }
      }
    };
    const log = await start();
    expect(log.durability).toBe('replicated');
    const recorders = [0, 1].map(() => new Recorder());
    recorders.forEach((recorder, shard) => log.read(shard, 1, recorder));
    const writers = [0, 1].map((shard) => new Writer(log, shard));
    await until(() => writers.every(({ acknowledged }) => acknowledged.size > 50));
    await cluster[1]!.kill();
    const before = writers.map(({ acknowledged }) => acknowledged.size);
    await until(() => writers.every(({ acknowledged }, shard) => acknowledged.size > before[shard]! + 50));
    await cluster[1]!.start();
    for (const shard of [0, 1]) await expectNothingLost(log, shard, writers[shard]!, recorders[shard]!);
  }, 60_000);
});

describe('what NATS holds', () => {
  test('one stream per shard, one consumer per reading, and none that nobody reads', async () => {
    const server = await serve();
    const log = await open(server, { prefix: 'facts', shards: 3 });
    const readings = [0, 1, 2].map((shard) => log.read(shard, 1, new Recorder()));
    const consumers = (): Promise<number> =>
      ask(server, async (jsm) => {
        const streams = await jsm.streams.list().next();
        expect(streams.map(({ config }) => config.name).sort()).toEqual(['facts-0', 'facts-1', 'facts-2']);
        return streams.reduce((sum, { state }) => sum + state.consumer_count, 0);
      });
    await until(async () => (await consumers()) === 3);
    await server.kill();
    await server.start();
    await until(async () => (await consumers()) === 3);
    for (const reading of readings) reading.stop();
    await until(async () => (await consumers()) === 0);
  });

  test('truncation gives its room back to the stream', async () => {
    const server = await serve();
    const log = await open(server, { prefix: 'cut' });
    for (let i = 0; i < 20; i++) await append(log, 0, tasks('x'.repeat(10_000)));
    await append(log, 0, owner('last'));
    log.truncate(0, 22);
    const state = () => ask(server, async (jsm) => (await jsm.streams.info('cut-0')).state);
    await until(async () => (await state()).messages === 1);
    expect(await state()).toMatchObject({ first_seq: 21, last_seq: 21 });
  });

  test('what is given a name by its settings: memory, stored, synced', async () => {
    const server = await serve({ sync: 'always' });
    expect((await open(server, { storage: 'memory' })).durability).toBe('memory');
    expect((await open(server)).durability).toBe('stored');
    expect((await open(server, { sync: 'always' })).durability).toBe('synced');
  });
});

describe('a stream that is full', () => {
  const limit = 256 * 1024;
  const most = (server: NatsServer): Promise<number> =>
    ask(server, async (jsm) => (await jsm.streams.info('lent-0')).config.max_bytes);

  test('is lent what its owner needs, also across restarts, until it is short again', async () => {
    const server = await serve();
    const settings = { prefix: 'lent', shards: 1, maxBytesPerShard: limit };
    let log = await open(server, settings);
    const text = 'x'.repeat(20_000);
    while (typeof (await append(log, 0, tasks(text))) === 'number') expect(await most(server)).toBe(limit);
    let last = 0;
    for (let count = 0; count < 10; count++) {
      last = (await append(log, 0, { ...owner(text, last), settles: true })) as number;
      expect(last).toEqual(expect.any(Number));
    }
    expect(await most(server)).toBeGreaterThan(limit);
    await log.close();
    log = await open(server, settings);
    expect(await most(server)).toBeGreaterThan(limit);
    log.truncate(0, last);
    await until(async () => (await most(server)) === limit);
    expect(await append(log, 0, tasks(text))).toBe(last + 1);
  });
});

describe('streams that exist', () => {
  test('are one log, also if several brokers begin it at the same time', async () => {
    const server = await serve();
    const together = { prefix: 'together', shards: 16 };
    // Each on a connection of its own, with a generation of its own.
    const logs = await Promise.all(Array.from({ length: 4 }, () => open(server, together)));
    expect(new Set(logs.map(({ generation }) => generation)).size).toBe(1);
    await open(server, together);
  });

  test('are one log, also if a cluster of servers has yet to agree on them', async () => {
    const members = await NatsServer.cluster(3);
    servers.push(...members);
    await until(() =>
      ask(members[0]!, (jsm) => jsm.streams.list().next()).then(
        () => true,
        () => false,
      ),
    );
    const together = { prefix: 'together', shards: 6, replicas: 3 };
    const logs = await Promise.all([...members, ...members].map((server) => open(server, together)));
    expect(new Set(logs.map(({ generation }) => generation)).size).toBe(1);
  }, 60_000);

  test('are made stronger, but never weaker', async () => {
    const server = await serve();
    const prefix = 'grow';
    const config = () => ask(server, async (jsm) => (await jsm.streams.info('grow-1')).config);
    await (await open(server, { prefix, maxBytesPerShard: 2 ** 20 })).close();
    expect(await config()).toMatchObject({ max_bytes: 2 ** 20, discard: 'new', allow_direct: false });
    await (await open(server, { prefix, maxBytesPerShard: 2 ** 21 })).close();
    expect((await config()).max_bytes).toBe(2 ** 21);
    await expect(open(server, { prefix, maxBytesPerShard: 2 ** 20 })).rejects.toMatchObject({
      code: 'precondition',
      field: 'nats.maxBytesPerShard',
      message: expect.stringContaining(`set it to ${2 ** 21}`),
    });
    await expect(
      open(server, { prefix, maxBytesPerShard: 2 ** 21, storage: 'memory' }),
    ).rejects.toMatchObject({ code: 'precondition', field: 'nats.storage' });
    expect((await config()).max_bytes).toBe(2 ** 21);
  });

  test('are refused if they mean something else, and stay as they are', async () => {
    const server = await serve();
    await (await open(server, { prefix: 'p' })).close();
    await expect(open(server, { prefix: 'p', shards: 4 })).rejects.toMatchObject({
      code: 'precondition',
      field: 'shards',
      message: expect.stringContaining('set shards to 2'),
    });
    await ask(server, async (jsm) => {
      const { config } = await jsm.streams.info('p-1');
      await jsm.streams.update('p-1', { metadata: { ...config.metadata, 'agenthub.format': '9' } });
    });
    await expect(open(server, { prefix: 'p' })).rejects.toMatchObject({
      code: 'precondition',
      message: expect.stringContaining('run the version that made it'),
    });
    await ask(server, (jsm) => jsm.streams.delete('p-1'));
    await expect(open(server, { prefix: 'p' })).rejects.toMatchObject({
      code: 'precondition',
      message: expect.stringContaining('p-1 is missing; restore it'),
    });
    await ask(server, (jsm) => jsm.streams.add({ name: 'q-0', subjects: ['q.>'] }));
    await expect(open(server, { prefix: 'q' })).rejects.toMatchObject({
      code: 'precondition',
      message: expect.stringContaining('not of AgentHub'),
    });
    await ask(server, (jsm) => jsm.streams.add({ name: 'foreign', subjects: ['r.q.>'] }));
    await expect(open(server, { prefix: 'r' })).rejects.toMatchObject({
      code: 'conflict',
      field: 'nats.streamPrefix',
    });
  });
});

describe('a NATS with a lock on its door lets in who has', () => {
  const dir = mkdtempSync(join(tmpdir(), 'agenthub-keys-'));
  const file = (name: string, content: string): string => {
    writeFileSync(join(dir, name), content);
    return join(dir, name);
  };
  const user = (nkeys as { createUser(): UserKey }).createUser();

  afterAll(() => rmSync(dir, { recursive: true }));

  test.each<[string, string, Partial<JetStreamLogOptions>]>([
    ['the token', 'authorization { token: "a token" }', { token: 'a token' }],
    [
      'the password',
      'authorization { users: [{ user: u, password: "a password" }] }',
      { user: 'u', password: 'a password' },
    ],
    [
      'the nkey',
      `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`,
      { nkeyFile: file('user.nk', `# a comment\n${Buffer.from(user.getSeed()).toString()}\n`) },
    ],
    [
      'the authority of its certificate',
      `tls { cert_file: "${file('cert.pem', CERTIFICATE)}", key_file: "${file('key.pem', KEY)}" }`,
      { caFile: file('ca.pem', CERTIFICATE) },
    ],
  ])('%s', async (_, more, options) => {
    const server = await serve({ more });
    const log = await open(server, options);
    expect(await append(log, 0, tasks('inside'))).toBe(1);
    expect(await readAll(log, 0)).toHaveLength(1);
    await expect(open(server)).rejects.toMatchObject({
      code: options.caFile === undefined ? 'unauthenticated' : 'precondition',
    });
  });

  test('says which of its files is missing', async () => {
    await expect(open(await serve(), { credentialsFile: join(dir, 'none') })).rejects.toMatchObject({
      code: 'invalid',
      field: 'nats.credentialsFile',
    });
  });
});

describe('a NATS that can not hold the log says so at once', () => {
  const users = (permissions: string): string =>
    `authorization { users: [{ user: u, password: p, permissions: { ${permissions} } }] }`;
  const asUser = { user: 'u', password: 'p' };

  test.each<[string, NatsServerOptions, Partial<JetStreamLogOptions>, object]>([
    ['without JetStream', { jetstream: false }, {}, { code: 'precondition', field: 'nats.servers' }],
    ['with small messages', { maxPayload: 2 ** 20 }, {}, { code: 'precondition', field: 'nats.servers' }],
    ['one server, three replicas', {}, { replicas: 3 }, { code: 'precondition', field: 'nats.replicas' }],
    [
      'without room',
      { maxStore: 2 ** 20 },
      { maxBytesPerShard: 2 ** 30 },
      { code: 'exhausted', limit: 'nats.maxBytesPerShard' },
    ],
    [
      'that wants another password',
      { more: users('') },
      { user: 'u', password: 'x' },
      { code: 'unauthenticated' },
    ],
    ['that wants a name', { more: users('') }, {}, { code: 'unauthenticated' }],
    [
      'that forbids streams',
      { more: users('publish: { deny: ["$JS.API.STREAM.>"] }') },
      asUser,
      { code: 'permission', message: expect.stringContaining('$JS.API.STREAM') },
    ],
    [
      'that forbids appending',
      { more: users('publish: { deny: ["p.q.>"] }') },
      { ...asUser, prefix: 'p' },
      { code: 'permission', message: expect.stringContaining('p.q.0') },
    ],
  ])('%s', async (_, server, options, error) => {
    await expect(open(await serve(server), options)).rejects.toMatchObject(error);
  });

  test('that nobody can reach', async () => {
    const server = `127.0.0.1:${await freePort()}`;
    await expect(openJetStream(server)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining(server),
    });
  });

  test('that forbids consumers ends a reading with the reason', async () => {
    const server = await serve({ more: users('publish: { deny: ["$JS.API.CONSUMER.>"] }') });
    const log = await open(server, asUser);
    const recorder = new Recorder();
    log.read(0, 1, recorder);
    await until(() => recorder.error !== undefined);
    expect(recorder.error).toMatchObject({ code: 'permission' });
  });
});
