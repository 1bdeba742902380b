import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { CancelOutcome } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { EventBus, TaskStatus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { Agent } from '../support/agent.ts';
import { TestBroker } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import { as, TOKENS, twoTenants } from '../support/tenants.ts';

const { ACME, GLOBEX, NOBODY, ROOT } = TOKENS;
const PERMISSION_DENIED = 7;
const RESOURCE_EXHAUSTED = 8;

const NAMESPACES = `
namespaces:
  - name: initech
    who: ['group:initech']
    limits: { agents: 2, sessions: 2, queued: 3, tasksPerSecond: 5 }
`;

let dir: string;
let hub: TestBroker;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'agenthub-namespaces-'));
  writeFileSync(join(dir, 'tokens'), `${TOKENS.lines}\ntoken-of-initech initech initech\n`);
  writeFileSync(join(dir, 'namespaces.yaml'), NAMESPACES);
  hub = new TestBroker({
    auth: {
      tokensFile: join(dir, 'tokens'),
      adminTokens: ROOT,
      namespacesFile: join(dir, 'namespaces.yaml'),
    },
    // Nobody beats here, and the machine may be slow.
    session: { timeoutMs: '10m' },
  });
  await hub.start();
});

afterAll(async () => {
  await hub.remove();
  rmSync(dir, { recursive: true, force: true });
});

test('two tenants with the same agents, capabilities and task ids see nothing of each other', async () => {
  await twoTenants(hub, hub);
});

test('a name that says a namespace is nobody, whoever gives it', async () => {
  for (const token of [NOBODY, ACME, ROOT]) {
    const { ack } = await hub.call(
      Broker.method.publish,
      { tasks: [{ to: 'acme\u001fworker' }, { to: 'worker', requester: 'acme\u001fplanner' }] },
      as(token),
    );
    expect(ack?.refused.map(({ field }) => field)).toEqual(['task.to', 'task.requester']);
    const agent = await Agent.connect(hub, {}, token);
    expect(await agent.attach(1, 'acme\u001fworker')).toMatchObject({ code: 3 });
    expect(await agent.attach(2, 'worker', { agent: 'acme\u001fw' })).toMatchObject({ code: 3 });
    await agent.drop();
    for (const mailbox of ['acme\u001fworker', 'type:acme\u001focr', 'dead:acme\u001fworker']) {
      await expect(hub.call(Broker.method.listTasks, { mailbox }, as(token))).rejects.toMatchObject({
        code: 3,
      });
    }
  }
});

test('a session is resumed in its namespace only, and its leases are worth nothing in another', async () => {
  const worker = await Agent.connect(hub, {}, ACME);
  await worker.attach(1, 'worker');
  await hub.call(Broker.method.publish, { tasks: [{ to: 'worker', id: 'held' }] }, as(ACME));
  const { lease } = await worker.delivery();
  for (const token of [GLOBEX, NOBODY]) {
    const thief = Agent.open(hub, token);
    thief.send({ hello: { sessionId: worker.sessionId, incarnation: 1 } });
    expect(await thief.status).toMatchObject({ code: PERMISSION_DENIED });
    const other = await Agent.connect(hub, {}, token);
    other.complete(lease);
    expect((await other.settled()).refused).toHaveLength(1);
    await other.drop();
  }
  worker.complete(lease);
  expect((await worker.settled()).refused).toEqual([]);
  await worker.drop();
});

describe('an administrator of the default namespace', () => {
  const inAcme = { ...as(ROOT), 'agenthub-namespace': 'acme' };

  test('names another one to see and do what is to be seen and done there', async () => {
    await hub.call(Broker.method.publish, { tasks: [{ to: 'admin-box', id: 'a' }] }, as(ACME));
    const list = { prefix: 'admin-box' };
    const names = async (metadata: Record<string, string>) =>
      (await hub.call(Admin.method.listMailboxes, list, metadata)).mailboxes.map(({ mailbox }) => mailbox);
    expect(await names(inAcme)).toEqual(['admin-box']);
    expect(await names(as(ROOT))).toEqual([]);
    expect(await names({ ...as(ROOT), 'agenthub-namespace': 'default' })).toEqual([]);
    const cancelled = await hub.call(Broker.method.cancelTask, { taskId: 'a', mailbox: 'admin-box' }, inAcme);
    expect(cancelled.outcome).toBe(CancelOutcome.CANCELLED);
  });

  test('is the only one who may, and does there what concerns it alone', async () => {
    const elsewhere = (token: string, namespace: string) =>
      hub.call(Broker.method.listTasks, { mailbox: 'x' }, { ...as(token), 'agenthub-namespace': namespace });
    await expect(elsewhere(ACME, 'globex')).rejects.toMatchObject({ code: PERMISSION_DENIED });
    await expect(elsewhere(ACME, 'default')).rejects.toMatchObject({ code: PERMISSION_DENIED });
    await expect(elsewhere(NOBODY, 'acme')).rejects.toMatchObject({ code: PERMISSION_DENIED });
    await expect(elsewhere(ROOT, 'No Such')).rejects.toMatchObject({ code: 3 });
    await elsewhere(ACME, 'acme');
    await expect(hub.call(Admin.method.drain, { status: true }, inAcme)).rejects.toMatchObject({
      code: PERMISSION_DENIED,
    });
  });
});

describe('the limits of a namespace', () => {
  const INITECH = 'token-of-initech';
  const limits = { agents: 'namespaces.agents', sessions: 'namespaces.sessions' };

  test('are named in what is refused, with a time to wait, and concern nobody else', async () => {
    const one = await Agent.connect(hub, {}, INITECH);
    for (const [number, name] of ['a', 'b'].entries())
      expect(await one.attach(number + 1, name)).toMatchObject({ code: 0 });
    expect(await one.attach(3, 'c')).toMatchObject({ code: RESOURCE_EXHAUSTED, limit: limits.agents });
    const two = await Agent.connect(hub, {}, INITECH);
    const three = Agent.open(hub, INITECH);
    three.send({ hello: {} });
    expect(await three.status).toMatchObject({ code: RESOURCE_EXHAUSTED });
    await two.drop();
    await one.drop();
    const publish = async (token: string, count: number) => {
      const tasks = Array.from({ length: count }, () => ({ to: 'nobody' }));
      return (await hub.call(Broker.method.publish, { tasks }, as(token))).ack?.refused ?? [];
    };
    const refused = await publish(INITECH, 100);
    expect(refused).toHaveLength(95);
    expect(refused[0]).toMatchObject({ code: RESOURCE_EXHAUSTED, limit: 'namespaces.tasksPerSecond' });
    expect(refused[0]?.retryAfterMs).toBeGreaterThan(0);
    expect(refused[0]?.message).toContain('the namespace initech may publish 5 tasks a second');
    await until(async () => (await publish(INITECH, 1))[0]?.limit === 'namespaces.queued');
    expect(await publish(ACME, 100)).toEqual([]);
    expect(await publish(NOBODY, 100)).toEqual([]);
  });

  test('are counted, and what each namespace has', async () => {
    let body = '';
    await until(async () => {
      const url = `http://127.0.0.1:${hub.embedded.httpPort}/metrics`;
      body = await (await fetch(url, { headers: as(ROOT) })).text();
      return /agenthub_namespace_queued_tasks\{namespace="default"\} \d/.test(body);
    });
    expect(body).toMatch(
      /agenthub_namespace_refused_total\{namespace="initech",limit="tasksPerSecond"\} 9\d/,
    );
    expect(body).toMatch(/agenthub_namespace_tasks_total\{namespace="acme",status="accepted"\} [1-9]/);
    expect(body).not.toContain('\u001f');
  });
});

test('what nobody knows is told to nobody of another namespace', async () => {
  const results = (token: string) =>
    hub.subscribe(EventBus.method.subscribeToTaskResults, { requesterAgentId: 'r' }, { metadata: as(token) });
  const mine = results(ACME);
  const theirs = [results(GLOBEX), results(NOBODY)];
  const { sessions } = hub.broker;
  await until(
    () => [...sessions.values()].filter(({ client }) => client === 'eventbus results').length === 3,
  );
  const report = (taskId: string, token: string) =>
    hub.call(
      EventBus.method.publishTaskResult,
      { result: { taskId, executorAgentId: 'w', status: TaskStatus.COMPLETED } },
      as(token),
    );
  await report('stray', ACME);
  expect((await mine.next()).taskId).toBe('stray');
  await report('own', GLOBEX);
  await report('own', NOBODY);
  for (const stream of theirs) expect((await stream.next()).taskId).toBe('own');
  for (const stream of [mine, ...theirs]) stream.cancel();
});
