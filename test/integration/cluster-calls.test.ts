import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker, TaskState, WaitCause } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { CancelOutcome } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { TaskSchema } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { EventBus, TaskStatus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { Agent } from '../support/agent.ts';
import type { TestBroker } from '../support/broker.ts';
import { TestCluster } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';

type TaskInit = MessageInitShape<typeof TaskSchema>;

const SHARDS = 6;
let server: NatsServer | undefined;
let started: TestCluster | undefined;

beforeAll(async () => {
  server = await NatsServer.start();
  started = new TestCluster(server, { shards: SHARDS });
  for (let count = 0; count < 3; count++) await started.add();
  await until(() => cluster().served.every((shards) => shards === 2));
}, 60_000);

afterAll(async () => {
  await started?.remove();
  await server?.remove();
});

function cluster(): TestCluster {
  return started!;
}

/** The broker whose own shards do not hold that mailbox, and the one whose do. */
function farFrom(mailbox: string): { far: TestBroker; near: TestBroker } {
  const near = cluster().ownerOf(mailbox)!;
  return { near, far: cluster().brokers.find((broker) => broker !== near)! };
}

async function publish(broker: TestBroker, ...tasks: TaskInit[]): Promise<void> {
  const { ack } = await broker.call(Broker.method.publish, { tasks });
  expect(ack?.refused).toEqual([]);
}

function named(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${String(index).padStart(2, '0')}`);
}

async function failure(call: Promise<unknown>): Promise<ServiceError> {
  return call.then(
    () => {
      throw new Error('the call did not fail');
    },
    (error: unknown) => error as ServiceError,
  );
}

/** Waits until the owners know the tasks: an acknowledged one is in the log, and is read from there. */
async function queued(prefix: string, count: number): Promise<void> {
  await until(async () => {
    const { mailboxes } = await cluster().brokers[0]!.call(Admin.method.listMailboxes, { prefix });
    return mailboxes.reduce((sum, mailbox) => sum + Number(mailbox.queued), 0) === count;
  });
}

describe('any broker', () => {
  test('finds, shows and cancels tasks, whoever serves their mailbox', async () => {
    for (const mailbox of named('call', 6)) {
      const { far, near } = farFrom(mailbox);
      await publish(
        far,
        { id: 'a', to: mailbox, payload: Buffer.from('x') },
        { id: `b-${mailbox}`, to: mailbox },
      );
      await queued(mailbox, 2);
      const get = (taskId: string, more = {}) => far.call(Broker.method.getTask, { taskId, ...more });
      expect((await get('a', { mailbox, includeTask: true })).task).toMatchObject({
        mailbox,
        state: TaskState.QUEUED,
        task: { payload: Uint8Array.from(Buffer.from('x')) },
      });
      expect((await get(`b-${mailbox}`)).task).toMatchObject({ mailbox });
      const { wait } = await get(`b-${mailbox}`, { explain: true });
      expect(wait).toMatchObject({ cause: WaitCause.NO_WORKER, broker: near.broker.id, ahead: 1 });
      const cancel = (request: object) => far.call(Broker.method.cancelTask, request);
      expect(await cancel({ taskId: 'a', mailbox })).toMatchObject({ outcome: CancelOutcome.CANCELLED });
      expect(await cancel({ taskId: 'a', mailbox })).toMatchObject({ outcome: CancelOutcome.TOO_LATE });
      expect(await cancel({ taskId: `b-${mailbox}` })).toMatchObject({ outcome: CancelOutcome.CANCELLED });
      expect((await get('a', { mailbox })).task?.state).toBe(TaskState.CANCELLED);
    }
  });

  test('says that there is no such task only when all brokers have said so', async () => {
    for (const broker of cluster().brokers) {
      const get = (request: object) => failure(broker.call(Broker.method.getTask, request));
      expect(await get({ taskId: 'nowhere' })).toMatchObject({ code: 5 });
      for (const mailbox of named('none', 6)) {
        expect(await get({ taskId: 'nowhere', mailbox })).toMatchObject({ code: 5 });
      }
      expect(await broker.call(Broker.method.cancelTask, { taskId: 'nowhere' })).toMatchObject({
        outcome: CancelOutcome.NOT_FOUND,
      });
    }
  });

  test('lists the tasks of all, in pages that may be asked for anywhere', async () => {
    const mailboxes = named('list', 12);
    const [first] = cluster().brokers;
    await publish(
      first!,
      ...mailboxes.flatMap((to) => named('t', 10).map((id) => ({ id, to, type: 'listed' }))),
    );
    await queued('list-', 120);
    const seen: string[] = [];
    let pageToken = '';
    let pages = 0;
    do {
      const broker = cluster().brokers[pages++ % 3]!;
      const request = { type: 'listed', pageSize: 17, pageToken };
      const page = await broker.call(Broker.method.listTasks, request);
      expect(page.tasks.length).toBeLessThanOrEqual(17);
      seen.push(...page.tasks.map(({ shard, mailbox, id }) => `${shard} ${mailbox}/${id}`));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(new Set(seen).size).toBe(120);
    expect(pages).toBe(Math.ceil(120 / 17));
    const shards = seen.map((line) => Number(line.split(' ')[0]));
    expect(shards).toEqual([...shards].sort((a, b) => a - b));
    const { far } = farFrom('list-03');
    const { tasks } = await far.call(Broker.method.listTasks, { mailbox: 'list-03', pageSize: 4 });
    expect(tasks.map(({ id }) => id)).toEqual(named('t', 4));
  });

  test('lists whole tasks, however large they are', async () => {
    const [first, second] = cluster().brokers;
    const payload = Buffer.alloc(1024 * 1024, 'x');
    await Promise.all(
      named('large', 6).flatMap((to) =>
        ['a', 'b', 'c'].map((id) => publish(first!, { id, to, type: 'large', payload })),
      ),
    );
    await queued('large-', 18);
    const seen: string[] = [];
    let pageToken = '';
    do {
      const request = { type: 'large', includeTask: true, pageToken };
      const page = await second!.call(Broker.method.listTasks, request);
      for (const { mailbox, id, task } of page.tasks) {
        expect(task?.payload.length).toBe(payload.length);
        seen.push(`${mailbox}/${id}`);
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(seen.sort()).toEqual(
      named('large', 6).flatMap((to) => ['a', 'b', 'c'].map((id) => `${to}/${id}`)),
    );
  });

  test('lists the mailboxes of all, in pages', async () => {
    const names = named('box', 25);
    await publish(cluster().brokers[0]!, ...names.map((to) => ({ to })));
    await queued('box-', 25);
    const seen: string[] = [];
    let pageToken = '';
    let pages = 0;
    do {
      const broker = cluster().brokers[pages++ % 3]!;
      const page = await broker.call(Admin.method.listMailboxes, { prefix: 'box-', pageSize: 10, pageToken });
      seen.push(...page.mailboxes.map(({ mailbox }) => mailbox));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(pages).toBe(3);
    expect(seen).toEqual(names);
  });

  test('lists the agents of all, and lets go of them when their sessions end', async () => {
    const agents = await Promise.all(cluster().brokers.map((broker) => Agent.connect(broker)));
    for (const [index, agent] of agents.entries()) {
      await agent.attach(1, `agent-${index}`);
      await agent.attach(2, 'type:shared', { agent: `agent-${index}` });
    }
    for (const broker of cluster().brokers) {
      const first = await broker.call(Admin.method.listAgents, { prefix: 'agent-', pageSize: 4 });
      const { nextPageToken: pageToken } = first;
      const second = await broker.call(Admin.method.listAgents, { prefix: 'agent-', pageSize: 4, pageToken });
      const all = [...first.agents, ...second.agents];
      expect(all.map(({ agent, mailbox }) => `${agent} ${mailbox}`)).toEqual(
        [0, 1, 2].flatMap((index) => [`agent-${index} agent-${index}`, `agent-${index} type:shared`]),
      );
      expect(second.nextPageToken).toBe('');
    }
    for (const agent of agents) agent.send({ goodbye: true });
    await until(async () => {
      const { agents: left } = await cluster().brokers[0]!.call(Admin.method.listAgents, {
        prefix: 'agent-',
      });
      return left.length === 0;
    });
  });

  test('replays and purges dead letters', async () => {
    for (const mailbox of named('dead', 6)) {
      const { far } = farFrom(mailbox);
      const worker = await Agent.connect(far);
      await worker.attach(1, mailbox, { window: 10 });
      await publish(far, ...['a', 'b'].map((id) => ({ id, to: mailbox })));
      for (const { lease } of await worker.deliveries.take(2))
        worker.fail(lease, { error: 'no', retryable: false });
      for (let left = 2; left > 0; left--) await worker.settled();
      await until(
        async () =>
          (await far.call(Admin.method.replayDeadLetters, { mailbox, taskIds: ['a'] })).replayed === 1n,
      );
      expect(await worker.delivery()).toMatchObject({ task: { id: 'a' }, attempt: 1 });
      expect(await far.call(Admin.method.purgeMailbox, { mailbox: `dead:${mailbox}` })).toMatchObject({
        purged: 1n,
      });
      expect(
        await failure(far.call(Admin.method.replayDeadLetters, { mailbox: `dead:${mailbox}` })),
      ).toMatchObject({
        code: 3,
      });
    }
  });

  test('shows every shard with its owner, and all brokers', async () => {
    const ids = cluster().brokers.map(({ broker }) => broker.id);
    for (const broker of cluster().brokers) {
      const { shards } = await broker.call(Admin.method.listShards, {});
      expect(shards.map(({ shard }) => shard)).toEqual([0, 1, 2, 3, 4, 5]);
      for (const { shard, owner, assigned, epoch } of shards) {
        const serves = cluster().brokers.find((one) => one.broker.shards.owner(shard));
        expect({ owner, assigned }).toEqual({ owner: serves?.broker.id, assigned: serves?.broker.id });
        expect(epoch).toBeGreaterThan(0n);
      }
      const description = await broker.call(Broker.method.describeCluster, {});
      expect(description).toMatchObject({ log: 'jetstream', shards: SHARDS, broker: broker.broker.id });
      expect(description.brokers.map(({ id, pool, shards: served }) => [id, pool, served])).toEqual(
        [...ids].sort().map((id) => [id, 'default', 2]),
      );
    }
  });

  test('says where a mailbox is served', async () => {
    for (const mailbox of named('where', 6)) {
      const { near, far } = farFrom(mailbox);
      expect(await far.call(Broker.method.locate, { mailbox })).toMatchObject({
        pool: 'default',
        shard: near.broker.shardOf(mailbox),
        broker: near.broker.id,
      });
    }
  });

  test('counts what all have done together, if it is asked to', async () => {
    const [one] = cluster().brokers;
    const stats = await one!.call(Admin.method.stats, { cluster: true });
    expect(stats).toMatchObject({ broker: one!.broker.id, brokers: 3 });
    expect(stats.shards.map(({ shard }) => shard)).toEqual([0, 1, 2, 3, 4, 5]);
    const each = await Promise.all(cluster().brokers.map((broker) => broker.call(Admin.method.stats, {})));
    expect(stats.accepted).toBe(each.reduce((sum, { accepted }) => sum + accepted, 0n));
    expect(each.map(({ brokers }) => brokers)).toEqual([1, 1, 1]);
  });
});

test('a session cancels tasks of mailboxes that another broker serves', async () => {
  for (const mailbox of named('cancel', 6)) {
    const { far } = farFrom(mailbox);
    const agent = await Agent.connect(far);
    await publish(far, { id: 'a', to: mailbox });
    await queued(mailbox, 1);
    agent.send({ cancel: [{ call: 7n, mailbox, taskId: 'a', reason: 'enough' }] });
    expect(await agent.cancelAnswers.next()).toMatchObject({ call: 7n, outcome: CancelOutcome.CANCELLED });
    agent.send({ cancel: [{ call: 8n, mailbox: 'x\u0000', taskId: 'a' }] });
    expect(await agent.cancelAnswers.next()).toMatchObject({ call: 8n, refusal: { code: 3 } });
    agent.send({ goodbye: true });
    await agent.status;
  }
});

test('a shard moves to the broker that it is given to, and stays there', async () => {
  const mailbox = 'move-00';
  const { near, far } = farFrom(mailbox);
  await publish(far, { id: 'a', to: mailbox });
  await queued(mailbox, 1);
  const shard = near.broker.shardOf(mailbox);
  const moved = await near.call(Admin.method.moveShard, { shard, broker: far.broker.id });
  expect(moved.broker).toBe(far.broker.id);
  await until(() => cluster().ownerOf(mailbox) === far);
  expect((await near.call(Broker.method.getTask, { taskId: 'a', mailbox })).task?.mailbox).toBe(mailbox);
  expect(await failure(near.call(Admin.method.moveShard, { shard, broker: 'nobody' }))).toMatchObject({
    code: 5,
  });
  expect(
    await failure(near.call(Admin.method.moveShard, { shard: 99, broker: far.broker.id })),
  ).toMatchObject({
    code: 3,
  });
});

describe('the event bus', () => {
  const done = { answer: 42 };

  test('takes results at any broker, and brings them to any other', async () => {
    const [a, b, c] = cluster().brokers as [TestBroker, TestBroker, TestBroker];
    for (const worker of named('legacy', 6)) {
      const requesterAgentId = `asker-${worker}`;
      const tasks = a.subscribe(EventBus.method.subscribeToTasks, { agentId: worker });
      const results = b.subscribe(EventBus.method.subscribeToTaskResults, { requesterAgentId });
      await until(() => attachedTo(worker) && attachedTo(`reply:${requesterAgentId}`));
      const task = { taskId: worker, taskType: 'greet', requesterAgentId, responderAgentId: worker };
      await c.call(EventBus.method.publishTask, { task });
      expect((await tasks.next()).taskId).toBe(worker);
      const result = { taskId: worker, executorAgentId: worker, status: TaskStatus.COMPLETED, result: done };
      const report = () => c.call(EventBus.method.publishTaskResult, { result });
      await until(async () => (await report()).success);
      expect((await results.next()).taskId).toBe(worker);
      tasks.cancel();
      results.cancel();
    }
  });

  test('finds a task that another agent answers than the one it was sent to', async () => {
    const [a, b, c] = cluster().brokers as [TestBroker, TestBroker, TestBroker];
    const tasks = a.subscribe(EventBus.method.subscribeToTasks, { agentId: 'team-00' });
    const results = b.subscribe(EventBus.method.subscribeToTaskResults, { requesterAgentId: 'boss' });
    await until(() => attachedTo('team-00') && attachedTo('reply:boss'));
    const task = { taskId: 't', taskType: 'x', requesterAgentId: 'boss', responderAgentId: 'team-00' };
    await a.call(EventBus.method.publishTask, { task });
    await tasks.next();
    await until(async () => {
      const { task: view } = await c.call(Broker.method.getTask, { taskId: 't', mailbox: 'team-00' });
      return view?.state === TaskState.DELIVERED;
    });
    const result = { taskId: 't', executorAgentId: 'deputy', status: TaskStatus.COMPLETED };
    expect((await c.call(EventBus.method.publishTaskResult, { result })).success).toBe(true);
    expect(await results.next()).toMatchObject({ taskId: 't', executorAgentId: 'deputy' });
    tasks.cancel();
    results.cancel();
  });

  test('gives results and progress of tasks that nobody knows to the streams of all brokers', async () => {
    const [first] = cluster().brokers;
    const results = cluster().brokers.map((broker) =>
      broker.subscribe(EventBus.method.subscribeToTaskResults, { requesterAgentId: 'x', taskIds: ['stray'] }),
    );
    const progresses = cluster().brokers.map((broker) =>
      broker.subscribe(EventBus.method.subscribeToTaskProgress, {
        requesterAgentId: 'x',
        taskIds: ['stray'],
      }),
    );
    await until(() => cluster().brokers.every(({ broker }) => broker.progress.listening));
    const result = { taskId: 'stray', executorAgentId: 'unknown-one', status: TaskStatus.COMPLETED };
    await first!.call(EventBus.method.publishTaskResult, { result });
    const progress = { taskId: 'stray', executorAgentId: 'unknown-one', progressPercentage: 50 };
    await first!.call(EventBus.method.publishTaskProgress, { progress });
    for (const stream of [...results, ...progresses]) {
      expect((await stream.next()).taskId).toBe('stray');
      stream.cancel();
    }
  });
});

describe('progress', () => {
  test('reaches the session that asked, and who listens on the event bus, wherever they are', async () => {
    const [a, b, c] = cluster().brokers as [TestBroker, TestBroker, TestBroker];
    const asker = await Agent.connect(a);
    const worker = await Agent.connect(b);
    for (const mailbox of named('busy', 6)) {
      const requester = `asker-${mailbox}`;
      const stream = c.subscribe(EventBus.method.subscribeToTaskProgress, { requesterAgentId: requester });
      await until(() => c.broker.progress.listening);
      await worker.attach(Number(mailbox.slice(-2)) + 1, mailbox, { agent: 'w' });
      await asker.publish([{ id: mailbox, to: mailbox, requester }]);
      const { lease } = await worker.delivery();
      worker.send({ progress: [{ lease, percent: 40, message: 'on it' }] });
      expect(await asker.progresses.next()).toMatchObject({ taskId: mailbox, percent: 40, message: 'on it' });
      expect(await stream.next()).toMatchObject({ taskId: mailbox, progressPercentage: 40 });
      worker.complete(lease);
      await worker.settled();
      stream.cancel();
      await until(() => !c.broker.progress.listening);
    }
    expect(asker.progresses.pending).toEqual([]);
  });
});

/** Whether the owner of the mailbox knows of somebody who is attached to it. */
function attachedTo(mailbox: string): boolean {
  const owner = cluster().ownerOf(mailbox)?.broker.ownerOf(mailbox);
  if (!owner) return false;
  const id = owner.state.mailboxes.find(mailbox);
  return id >= 0 && owner.subscriptions.workers(id).length + owner.subscriptions.listeners(id).length > 0;
}
