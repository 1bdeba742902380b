import { fromBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import type { ServiceError } from '@grpc/grpc-js';
import { describe, expect, test } from '@jest/globals';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker, TaskState } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { Durability } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { Outcome } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import type { TaskSchema } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { EventBus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { Scanner } from '../../src/wire/scanner.ts';
import { identityMethod } from '../../src/wire/service.ts';
import { Agent } from '../support/agent.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { Inbox, until } from '../support/inbox.ts';

const hub = brokers();
const { method } = Admin;

type TaskInit = MessageInitShape<typeof TaskSchema>;

async function publish(broker: TestBroker, ...tasks: TaskInit[]): Promise<void> {
  const { ack } = await broker.call(Broker.method.publish, { tasks });
  expect(ack?.refused).toEqual([]);
}

async function failure(call: Promise<unknown>): Promise<ServiceError> {
  return call.then(
    () => {
      throw new Error('the call did not fail');
    },
    (error: unknown) => error as ServiceError,
  );
}

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${String(index).padStart(3, '0')}`);
}

/** Has tasks fail for good, so that they are dead letters of the mailbox. */
async function deadLetters(broker: TestBroker, mailbox: string, ids: readonly string[]): Promise<void> {
  const agent = await Agent.connect(broker);
  await agent.attach(1, mailbox, { window: 1000 });
  await publish(broker, ...ids.map((id) => ({ id, to: mailbox })));
  for (const { lease } of await agent.deliveries.take(ids.length))
    agent.fail(lease, { error: 'no', retryable: false });
  for (let left = ids.length; left > 0; left--) await agent.settled();
  await agent.drop();
  await until(() => !agent.welcome || !broker.broker.sessions.get(agent.sessionId)?.connected);
}

describe('mailboxes', () => {
  test('are listed with what they hold and who serves them', async () => {
    const broker = await hub.start();
    const worker = await Agent.connect(broker);
    await worker.attach(1, 'busy', { window: 2 });
    await worker.attach(2, 'busy', { listener: true });
    await publish(broker, ...numbered('b', 5).map((id) => ({ id, to: 'busy', payload: Buffer.alloc(100) })));
    await publish(
      broker,
      { id: 'later', to: 'idle', notBeforeMs: BigInt(Date.now() + 60_000) },
      { id: 'now', to: 'idle' },
    );
    await worker.deliveries.take(2);
    const view = async (mailbox: string) => {
      const { mailboxes } = await broker.call(method.listMailboxes, { prefix: mailbox });
      return mailboxes[0];
    };
    await until(async () => (await view('busy'))?.running === 2n);
    const busy = await view('busy');
    expect(busy).toMatchObject({
      mailbox: 'busy',
      queued: 3n,
      delayed: 0n,
      workers: 1,
      listeners: 1,
      credit: 0,
    });
    expect(busy?.bytes).toBeGreaterThan(500n);
    expect(await view('idle')).toMatchObject({
      queued: 2n,
      delayed: 1n,
      running: 0n,
      workers: 0,
      listeners: 0,
    });
    expect(busy?.shard).toBe(broker.broker.shardOf('busy'));
    expect(await view('nobody')).toBeUndefined();
  });

  test('come in pages, each exactly once', async () => {
    const broker = await hub.start();
    const names = numbered('agent-', 250);
    await publish(broker, ...names.map((to) => ({ to })), { to: 'other' });
    const seen: string[] = [];
    let pageToken = '';
    let pages = 0;
    do {
      const page = await broker.call(method.listMailboxes, { prefix: 'agent-', pageSize: 60, pageToken });
      seen.push(...page.mailboxes.map(({ mailbox }) => mailbox));
      pageToken = page.nextPageToken;
      pages++;
    } while (pageToken !== '');
    expect(pages).toBe(5);
    expect(seen).toEqual(names);
  });

  test.each([
    [{ pageSize: 1001 }, 'page_size must be at most 1000'],
    [{ pageToken: '!' }, 'page_token is not one of this broker'],
  ])('are not listed for %o', async (request, details) => {
    const broker = await hub.start();
    for (const list of [method.listMailboxes, method.listAgents]) {
      expect(await failure(broker.call<typeof list>(list, request))).toMatchObject({ code: 3, details });
    }
  });
});

describe('agents', () => {
  test('are listed with their sessions, those of the event bus too', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker, { client: 'test/1' });
    await agent.attach(1, 'planner', { window: 7, types: ['plan'] });
    await agent.attach(2, 'type:ocr', { agent: 'planner', listener: true });
    await publish(broker, { to: 'planner', type: 'plan' });
    await agent.delivery();
    broker.subscribe(EventBus.method.subscribeToTasks, { agentId: 'painter' });
    await until(() => broker.broker.sessions.size === 2);
    const { agents } = await broker.call(method.listAgents, {});
    expect(agents).toMatchObject([
      { agent: 'painter', mailbox: 'painter', client: 'eventbus tasks', listener: true, connected: true },
      {
        agent: 'planner',
        mailbox: 'planner',
        sessionId: agent.sessionId,
        client: 'test/1',
        window: 7,
        inFlight: 1,
        types: ['plan'],
        connected: true,
      },
      { agent: 'planner', mailbox: 'type:ocr', listener: true, inFlight: 0 },
    ]);
    expect(agents.every(({ peer }) => peer.startsWith('127.0.0.1:'))).toBe(true);
    const { agents: some } = await broker.call(method.listAgents, { prefix: 'plan', pageSize: 1 });
    expect(some.map(({ mailbox }) => mailbox)).toEqual(['planner']);
  });

  test('come in pages, each exactly once', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    const names = numbered('agent-', 120);
    await Promise.all(names.map((name, index) => agent.attach(index + 1, name)));
    const first = await broker.call(method.listAgents, {});
    const second = await broker.call(method.listAgents, { pageToken: first.nextPageToken });
    expect([...first.agents, ...second.agents].map((view) => view.agent)).toEqual(names);
    expect(second.nextPageToken).toBe('');
  });
});

describe('dead letters', () => {
  test('are replayed in their old order, as if they were new', async () => {
    const broker = await hub.start({ data: { log: 'file' } });
    const ids = numbered('t', 20);
    await deadLetters(broker, 'worker', ids);
    await publish(broker, { id: 'newer', to: 'worker' });
    expect((await broker.call(method.replayDeadLetters, { mailbox: 'worker' })).replayed).toBe(20n);
    await broker.restart();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker');
    const got = await agent.deliveries.take(21);
    expect(got.map(({ task }) => task?.id)).toEqual([...ids, 'newer']);
    expect(got.every(({ attempt }) => attempt === 1)).toBe(true);
    expect((await broker.call(method.replayDeadLetters, { mailbox: 'worker' })).replayed).toBe(0n);
  });

  test('are replayed or purged by their ids', async () => {
    const broker = await hub.start();
    await deadLetters(broker, 'worker', ['a', 'b', 'c', 'd']);
    const state = async (taskId: string): Promise<TaskState | undefined> =>
      (await broker.call(Broker.method.getTask, { taskId, mailbox: 'worker' })).task?.state;
    expect(await state('a')).toBe(TaskState.DEAD);
    const replayed = await broker.call(method.replayDeadLetters, { mailbox: 'worker', taskIds: ['b', 'x'] });
    expect(replayed.replayed).toBe(1n);
    const purged = await broker.call(method.purgeMailbox, { mailbox: 'dead:worker', taskIds: ['c', 'x'] });
    expect(purged.purged).toBe(1n);
    await until(async () => (await state('b')) === TaskState.QUEUED);
    expect(await state('c')).toBe(TaskState.CANCELLED);
    const { tasks } = await broker.call(Broker.method.listTasks, { mailbox: 'dead:worker' });
    expect(tasks.map(({ id }) => id)).toEqual(['a', 'd']);
    expect((await broker.call(method.purgeMailbox, { mailbox: 'dead:worker' })).purged).toBe(2n);
  });

  test('are meant by the mailbox they came from', async () => {
    const broker = await hub.start();
    const error = await failure(broker.call(method.replayDeadLetters, { mailbox: 'dead:worker' }));
    expect(error).toMatchObject({
      code: 3,
      details: 'mailbox: name the mailbox they came from, without "dead:"',
    });
    expect((await failure(broker.call(method.replayDeadLetters, {}))).code).toBe(3);
    expect((await failure(broker.call(method.purgeMailbox, {}))).code).toBe(3);
  });
});

describe('a purge', () => {
  test('deletes what waits and leaves what is held', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker', { window: 1 });
    await publish(broker, ...['held', 'a', 'b'].map((id) => ({ id, to: 'worker', requester: 'asker' })));
    const { lease } = await agent.delivery();
    await until(async () => (await broker.call(method.purgeMailbox, { mailbox: 'worker' })).purged === 2n);
    agent.complete(lease);
    expect((await agent.settled()).refused).toEqual([]);
    await publish(broker, { id: 'mark', to: 'worker' });
    expect((await agent.delivery()).task?.id).toBe('mark');
    await agent.attach(2, 'reply:asker');
    expect((await agent.delivery()).result).toMatchObject({ taskId: 'held', outcome: Outcome.SUCCEEDED });
    expect(agent.deliveries.pending).toEqual([]);
  });

  test('of replies takes the lanes of all sessions', async () => {
    const broker = await hub.start();
    const asker = await Agent.connect(broker);
    await asker.publish([{ id: 'a', to: 'worker', requester: 'asker' }]);
    await publish(broker, { id: 'b', to: 'worker', requester: 'asker' });
    const worker = await Agent.connect(broker);
    await worker.attach(1, 'worker');
    for (const { lease } of await worker.deliveries.take(2)) worker.complete(lease);
    const queued = async (): Promise<bigint> => {
      const { mailboxes } = await broker.call(method.listMailboxes, { prefix: 'reply:asker' });
      return mailboxes.reduce((sum, one) => sum + one.queued, 0n);
    };
    await until(async () => (await queued()) === 2n);
    expect((await broker.call(method.purgeMailbox, { mailbox: 'reply:asker' })).purged).toBe(2n);
    await until(async () => (await queued()) === 0n);
  });
});

test('shards say where they are in the log', async () => {
  const broker = await hub.start({ shards: 3, data: { log: 'file' } });
  await publish(broker, ...numbered('t', 30).map((id) => ({ id, to: id })));
  const { shards } = await broker.call(method.listShards, {});
  expect(shards.map(({ shard }) => shard)).toEqual([0, 1, 2]);
  expect(shards.reduce((sum, { tasks }) => sum + tasks, 0n)).toBe(30n);
  for (const { owner, epoch, firstSequence, lastSequence, lag, outbox, bytes } of shards) {
    expect({ owner, epoch, lag, outbox }).toEqual({
      owner: broker.broker.id,
      epoch: 1n,
      lag: 0n,
      outbox: 0n,
    });
    expect(lastSequence).toBeGreaterThanOrEqual(firstSequence);
    expect(bytes).toBeGreaterThan(0n);
  }
});

test('a broker on its own has nobody to move its shards to', async () => {
  const broker = await hub.start();
  const move = (request: object) => failure(broker.call(method.moveShard, request));
  expect(await move({ shard: 1, broker: broker.broker.id })).toMatchObject({ code: 9 });
  expect(await move({ shard: 1, broker: 'other' })).toMatchObject({ code: 5 });
  expect(await move({ shard: 4, broker: broker.broker.id })).toMatchObject({
    code: 3,
    details: 'shard must be less than 4',
  });
});

test('stats count what the broker did', async () => {
  const broker = await hub.start();
  const agent = await Agent.connect(broker);
  await agent.attach(1, 'worker');
  await publish(
    broker,
    ...numbered('t', 10).map((id) => ({ id, to: 'worker', type: 'sum', requester: 'asker' })),
  );
  const deliveries = await agent.deliveries.take(10);
  for (const { lease } of deliveries.slice(0, 7)) agent.complete(lease);
  agent.fail(deliveries[7]!.lease, { error: 'no', retryable: false });
  for (let left = 8; left > 0; left--) await agent.settled();
  const refused = await broker.call(Broker.method.publish, { tasks: [{ to: 'dead:x' }] });
  expect(refused.ack?.refused).toHaveLength(1);
  await until(async () => (await broker.call(method.stats, {})).running === 2n);
  const stats = await broker.call(method.stats, {});
  expect(stats).toMatchObject({
    broker: broker.broker.id,
    accepted: 10n,
    completed: 7n,
    failed: 1n,
    dead: 1n,
    refused: 1n,
    sessions: 1,
    agents: 1,
    durability: Durability.MEMORY,
    draining: false,
  });
  expect(stats.routing?.count).toBe(10n);
  expect(stats.processing?.count).toBe(7n);
  const { p50 = 0, p99 = 0, max = 0 } = stats.endToEnd ?? {};
  expect(p50).toBeGreaterThan(0);
  expect(p99).toBeGreaterThanOrEqual(p50);
  expect(max).toBeGreaterThanOrEqual(p99);
  expect(stats.shards).toHaveLength(4);
  expect(stats.memoryBytes).toBeGreaterThan(0n);
});

describe('a drain', () => {
  test('stops accepting, tells sessions to go, and says how far it is', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker', { window: 1 });
    await publish(broker, { id: 'held', to: 'worker' }, { id: 'waits', to: 'worker' });
    const { lease } = await agent.delivery();
    expect(await broker.call(method.drain, { status: true })).toMatchObject({
      draining: false,
      finished: false,
    });
    expect(await broker.call(method.drain, {})).toMatchObject({
      draining: true,
      finished: false,
      sessionsLeft: 1,
      leasesLeft: 1,
    });
    expect(await agent.goAways.next()).toMatchObject({ draining: true, reason: 'this broker is draining' });
    const { ack } = await broker.call(Broker.method.publish, { tasks: [{ to: 'worker' }] });
    expect(ack?.refused).toMatchObject([{ code: 14 }]);
    const newcomer = Agent.open(broker);
    newcomer.send({ hello: {} });
    expect((await newcomer.status).code).toBe(14);
    expect((await broker.subscribe(EventBus.method.subscribeToTasks, { agentId: 'w' }).status).code).toBe(14);
    agent.complete(lease);
    expect((await agent.settled()).refused).toEqual([]);
    agent.send({ goodbye: true });
    await agent.status;
    const status = () => broker.call(method.drain, { status: true });
    await until(async () => (await status()).finished);
    expect(await status()).toMatchObject({ draining: true, sessionsLeft: 0, leasesLeft: 0 });
    expect(agent.deliveries.pending).toEqual([]);
  });

  test('can be taken back: everything goes on where it was', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker');
    await broker.call(method.drain, {});
    expect(await broker.call(method.drain, { cancel: true })).toMatchObject({ draining: false });
    await publish(broker, { id: 'new', to: 'worker' });
    expect((await agent.delivery()).task?.id).toBe('new');
  });

  test('shows in the health of the gRPC services, at once to who watches', async () => {
    const broker = await hub.start();
    const streamed = identityMethod('/grpc.health.v1.Health/Watch', {
      requestStream: false,
      responseStream: true,
    });
    const { path, requestSerialize, responseDeserialize } = streamed;
    const health = new Inbox<Buffer>();
    const name = Buffer.from(EventBus.typeName);
    const request = Buffer.concat([Buffer.of(0x0a, name.length), name]);
    const watch = broker.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    watch.on('data', (message: Buffer) => health.push(message));
    watch.on('error', () => {});
    const SERVING = Buffer.of(0x08, 1);
    const NOT_SERVING = Buffer.of(0x08, 2);
    expect(await health.next()).toEqual(SERVING);
    await broker.call(method.drain, {});
    expect(await health.next()).toEqual(NOT_SERVING);
    await broker.call(method.drain, { cancel: true });
    expect(await health.next()).toEqual(SERVING);
    watch.cancel();
  });
});

test('only administrators may call: an agent is told so, a stranger is not let in', async () => {
  const tokens = { tokens: 'agent-token-0123456789', adminTokens: 'admin-token-0123456789' };
  const broker = await hub.start({ auth: tokens });
  const as = (token: string) => ({ authorization: `Bearer ${token}` });
  for (const rpc of Object.values(method)) {
    const call = (metadata?: Record<string, string>) =>
      broker.call<typeof method.stats>(rpc as never, {}, metadata);
    expect((await failure(call())).code).toBe(16);
    expect((await failure(call(as('agent-token-9999999999')))).code).toBe(16);
    expect((await failure(call(as(tokens.tokens)))).code).toBe(7);
  }
  expect((await broker.call(method.stats, {}, as(tokens.adminTokens))).sessions).toBe(0);
});

describe('reflection', () => {
  async function reflect(broker: TestBroker, version: string, request: Buffer): Promise<Buffer> {
    const { path, requestSerialize, responseDeserialize } = identityMethod(
      `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      { requestStream: true, responseStream: true },
    );
    const call = broker.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    const answers = new Inbox<Buffer>();
    call.on('data', (answer: Buffer) => answers.push(answer));
    call.write(request);
    const answer = await answers.next();
    call.end();
    return answer;
  }

  test.each(['v1', 'v1alpha'])(
    '%s lists the services and describes them with all they import',
    async (version) => {
      const broker = await hub.start();
      const list = await reflect(broker, version, Buffer.of(0x3a, 1, 0x2a));
      for (const service of [Broker, Admin, EventBus]) expect(list.includes(service.typeName)).toBe(true);
      const symbol = Buffer.from(EventBus.typeName);
      const described = await reflect(
        broker,
        version,
        Buffer.concat([Buffer.of(0x22, symbol.length), symbol]),
      );
      expect(filesIn(described).sort()).toEqual([
        'eventbus/eventbus.proto',
        'google/protobuf/struct.proto',
        'google/protobuf/timestamp.proto',
      ]);
    },
  );
});

/** The names of the files in a ServerReflectionResponse. */
function filesIn(response: Buffer): string[] {
  const files: string[] = [];
  const outer = new Scanner();
  const inner = new Scanner();
  outer.open(response, 0, response.length);
  while (outer.next()) {
    if (outer.field !== 4) continue;
    inner.open(response, outer.start, outer.stop);
    while (inner.next()) {
      files.push(
        fromBinary(FileDescriptorProtoSchema, response.subarray(inner.start, inner.stop)).name ?? '',
      );
    }
  }
  return files;
}
