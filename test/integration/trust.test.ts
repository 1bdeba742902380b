import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Lease, writeLease } from '../../src/wire/lease.ts';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { CancelOutcome } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { EventBus, TaskStatus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { Agent } from '../support/agent.ts';
import type { Settings, TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import { replacedFile } from '../support/replaced-file.ts';

const running = brokers();

const PLANNER = 'token-of-the-planner';
const WORKER = 'token-of-the-worker';
const SPY = 'token-of-some-spy';
const ADMIN = 'token-of-the-admin';

const TOKENS = `${PLANNER} planner\n${WORKER} worker\n${SPY} spy\n`;

const POLICY = `
rules:
  - { who: ['token:planner'], be: [planner], publish: [worker, 'type:ocr', '*'] }
  - { who: ['token:worker'], be: [worker], work: ['type:ocr'], publish: [planner] }
  - { who: ['token:spy'], be: [spy], publish: [spy] }
`;

const OK = 0;
const NOT_FOUND = 5;
const PERMISSION_DENIED = 7;
const UNAUTHENTICATED = 16;

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'agenthub-trust-'));
});

afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

const put = (name: string, text: string): string => replacedFile(dir, name, text);

function start(settings: Settings = {}): Promise<TestBroker> {
  return running.start({
    auth: {
      tokensFile: put('tokens', TOKENS),
      adminTokens: ADMIN,
      policyFile: put('policy.yaml', POLICY),
    },
    ...settings,
  });
}

function as(token: string): Readonly<Record<string, string>> {
  return { authorization: `Bearer ${token}` };
}

/** How a call ended. */
async function ending(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  try {
    await call;
    return { code: OK, details: '' };
  } catch (error) {
    return error as { code: number; details: string };
  }
}

describe('a session', () => {
  test('is the agents that its principal may be, and no others', async () => {
    const broker = await start();
    const spy = await Agent.connect(broker, {}, SPY);
    expect(await spy.attach(1, 'spy')).toMatchObject({ code: OK });
    for (const [number, mailbox] of [
      [2, 'worker'],
      [3, 'reply:planner'],
      [4, 'type:ocr'],
    ] as const) {
      const { code, message } = await spy.attach(number, mailbox);
      expect(code).toBe(PERMISSION_DENIED);
      expect(message).toContain(`token:spy may not work on ${mailbox}`);
      expect(message).toContain('policy.yaml');
    }
    expect(await spy.attach(5, 'planner', { listener: true })).toMatchObject({ code: PERMISSION_DENIED });
    expect(await spy.attach(6, 'spy', { agent: 'worker' })).toMatchObject({ code: PERMISSION_DENIED });
  });

  test('publishes where its principal may, and in no other name', async () => {
    const broker = await start();
    const worker = await Agent.connect(broker, {}, WORKER);
    const { refused } = await worker.publish([
      { to: 'planner', requester: 'worker' },
      { to: 'spy' },
      { to: 'planner', requester: 'planner' },
      { to: '*' },
      { to: 'planner' },
    ]);
    expect(refused.map(({ index, code }) => [index, code])).toEqual([
      [1, PERMISSION_DENIED],
      [2, PERMISSION_DENIED],
      [3, PERMISSION_DENIED],
    ]);
    expect(refused[1]?.message).toContain('names planner as the requester');
  });

  test('is resumed by nobody else', async () => {
    const broker = await start();
    const worker = await Agent.connect(broker, {}, WORKER);
    const thief = Agent.open(broker, SPY);
    thief.send({ hello: { sessionId: worker.sessionId, incarnation: 1 } });
    expect(await thief.status).toMatchObject({ code: PERMISSION_DENIED });
    const again = await Agent.connect(broker, { sessionId: worker.sessionId, incarnation: 1 }, WORKER);
    expect(again.welcome?.resumed).toBe(true);
  });

  test('is resumed by nobody else after a restart of the broker either, and by its own principal', async () => {
    const broker = await start({ data: { log: 'file' } });
    const worker = await Agent.connect(broker, {}, WORKER);
    const { sessionId } = worker;
    await broker.restart();
    const thief = Agent.open(broker, SPY);
    thief.send({ hello: { sessionId, incarnation: 1 } });
    expect(await thief.status).toMatchObject({ code: PERMISSION_DENIED });
    const again = await Agent.connect(broker, { sessionId, incarnation: 1 }, WORKER);
    expect(again.welcome?.resumed).toBe(true);
  });

  test('completes what it was given, and not what was published beside it', async () => {
    const broker = await start({ shards: 1 });
    const planner = await Agent.connect(broker, {}, PLANNER);
    const worker = await Agent.connect(broker, {}, WORKER);
    const spy = await Agent.connect(broker, {}, SPY);
    await worker.attach(1, 'worker');
    await spy.attach(1, 'spy');
    // One append: both tasks have the tag that tells leases of different records apart.
    put('policy.yaml', POLICY.replace('publish: [worker, ', 'publish: [spy, worker, '));
    await until(async () => (await planner.publish([{ to: 'spy', id: 'try' }])).refused.length === 0);
    await spy.delivery();
    await planner.publish([
      { to: 'spy', id: 'for-the-spy' },
      { to: 'worker', id: 'secret', requester: 'planner' },
    ]);
    const mine = new Lease();
    const { lease } = await spy.delivery();
    const { lease: theirs } = await worker.delivery();
    mine.read(lease, 0, lease.length);
    const forged = Buffer.alloc(lease.length);
    writeLease(forged, 0, { ...mine, order: mine.order + 1 });
    for (const stolen of [forged, Buffer.from(theirs)]) {
      spy.complete(stolen, { payload: Buffer.from('forged') });
      expect((await spy.settled()).refused).toHaveLength(1);
    }
    // Nor by saying that it has held it all along.
    await spy.drop();
    const back = await Agent.connect(
      broker,
      { sessionId: spy.sessionId, incarnation: 1, inFlight: [lease, forged, Buffer.from(theirs)] },
      SPY,
    );
    expect((await back.aborts.take(2)).map((abort) => Buffer.from(abort.lease))).toEqual([
      forged,
      Buffer.from(theirs),
    ]);
    worker.complete(theirs);
    expect((await worker.settled()).refused).toEqual([]);
    back.complete(lease);
    expect((await back.settled()).refused).toEqual([]);
  });

  test('loses what is taken from its principal, and goes on with the rest', async () => {
    const broker = await start();
    const worker = await Agent.connect(broker, {}, WORKER);
    await worker.attach(1, 'worker');
    await worker.attach(2, 'type:ocr');
    put('policy.yaml', POLICY.replace("work: ['type:ocr'], ", ''));
    const { attachment, code } = await worker.attachments.next();
    expect({ attachment, code }).toEqual({ attachment: 2, code: PERMISSION_DENIED });
    await broker.call(Broker.method.publish, { tasks: [{ to: 'worker', id: 'a' }] }, as(PLANNER));
    expect(await worker.ids(1)).toEqual(['a']);
  });

  test('a policy with a fault leaves the former one in force', async () => {
    const broker = await start();
    const worker = await Agent.connect(broker, {}, WORKER);
    put('policy.yaml', 'rules: [{ who: [], everything: yes }]');
    await until(async () => {
      const response = await fetch(`http://127.0.0.1:${broker.embedded.httpPort}/metrics`, {
        headers: as(ADMIN),
      });
      return (await response.text()).includes('agenthub_audit_total{action="reload"} 1');
    });
    expect(await worker.attach(1, 'worker')).toMatchObject({ code: OK });
    expect(await worker.attach(2, 'planner')).toMatchObject({ code: PERMISSION_DENIED });
  });
});

describe('calls about tasks', () => {
  let broker: TestBroker;

  beforeEach(async () => {
    broker = await start();
    const tasks = [{ to: 'worker', id: 'job', requester: 'planner', payload: Buffer.from('secret') }];
    await broker.call(Broker.method.publish, { tasks }, as(PLANNER));
  });

  test('show a task to who asked for it and to whom it is for, and to nobody else', async () => {
    for (const token of [PLANNER, WORKER, ADMIN]) {
      const named = await broker.call(Broker.method.getTask, { taskId: 'job', mailbox: 'worker' }, as(token));
      const unnamed = await broker.call(
        Broker.method.getTask,
        { taskId: 'job', includeTask: true },
        as(token),
      );
      expect(named.task?.id).toBe('job');
      expect(unnamed.task?.task?.payload).toEqual(new Uint8Array(Buffer.from('secret')));
    }
    const spied = (request: object) => ending(broker.call(Broker.method.getTask, request, as(SPY)));
    expect(await spied({ taskId: 'job', mailbox: 'worker' })).toMatchObject({ code: PERMISSION_DENIED });
    expect(await spied({ taskId: 'no-job', mailbox: 'worker' })).toMatchObject({ code: PERMISSION_DENIED });
    expect(await spied({ taskId: 'job' })).toMatchObject({ code: NOT_FOUND });
  });

  test('show a task although somebody else has made one of the same id', async () => {
    await broker.call(Broker.method.publish, { tasks: [{ to: 'spy', id: 'job' }] }, as(SPY));
    const mine = await broker.call(Broker.method.getTask, { taskId: 'job' }, as(SPY));
    expect(mine.task?.mailbox).toBe('spy');
    const theirs = await broker.call(Broker.method.getTask, { taskId: 'job' }, as(PLANNER));
    expect(theirs.task?.mailbox).toBe('worker');
  });

  test('cancel for who asked, and for nobody else', async () => {
    const cancel = (request: object, token: string) =>
      broker.call(Broker.method.cancelTask, request, as(token));
    const at = { taskId: 'job', mailbox: 'worker' };
    expect(await ending(cancel(at, SPY))).toMatchObject({ code: PERMISSION_DENIED });
    expect((await cancel({ taskId: 'job' }, SPY)).outcome).toBe(CancelOutcome.NOT_FOUND);
    const spy = await Agent.connect(broker, {}, SPY);
    spy.send({ cancel: [{ call: 1n, ...at }] });
    expect((await spy.cancelAnswers.next()).refusal?.code).toBe(PERMISSION_DENIED);
    const planner = await Agent.connect(broker, {}, PLANNER);
    planner.send({ cancel: [{ call: 1n, ...at }] });
    expect((await planner.cancelAnswers.next()).outcome).toBe(CancelOutcome.CANCELLED);
    expect((await cancel(at, PLANNER)).outcome).toBe(CancelOutcome.TOO_LATE);
  });

  test('list what may be read, and hide which session holds it', async () => {
    const list = (request: object, token: string) => broker.call(Broker.method.listTasks, request, as(token));
    const worker = await Agent.connect(broker, {}, WORKER);
    await worker.attach(1, 'worker');
    await worker.delivery();
    const ids = async (request: object, token: string) =>
      (await list(request, token)).tasks.map(({ id, sessionId }) => [id, sessionId]);
    expect(await ids({ mailbox: 'worker' }, WORKER)).toEqual([['job', '']]);
    expect(await ids({ requester: 'planner' }, PLANNER)).toEqual([['job', '']]);
    expect(await ids({}, ADMIN)).toEqual([['job', worker.sessionId]]);
    for (const request of [
      {},
      { mailbox: 'worker' },
      { requester: 'planner' },
      { mailbox: 'reply:planner' },
    ]) {
      expect(await ending(list(request, SPY))).toMatchObject({ code: PERMISSION_DENIED });
    }
  });

  test('replay and purge dead letters of an own mailbox, and of no other', async () => {
    const worker = await Agent.connect(broker, {}, WORKER);
    await worker.attach(1, 'worker');
    worker.fail((await worker.delivery()).lease, { error: 'no' });
    await worker.settled();
    const replay = { mailbox: 'worker' };
    for (const token of [SPY, PLANNER]) {
      const refused = await ending(broker.call(Admin.method.replayDeadLetters, replay, as(token)));
      expect(refused).toMatchObject({ code: PERMISSION_DENIED });
      const purge = broker.call(Admin.method.purgeMailbox, { mailbox: 'dead:worker' }, as(token));
      expect(await ending(purge)).toMatchObject({ code: PERMISSION_DENIED });
    }
    expect((await broker.call(Admin.method.replayDeadLetters, replay, as(WORKER))).replayed).toBe(1n);
    expect((await worker.delivery()).task?.id).toBe('job');
  });
});

describe('the event bus', () => {
  test('streams only what is for an agent that its caller may be', async () => {
    const broker = await start();
    const { subscribeToTasks, subscribeToTaskResults, subscribeToTaskProgress } = EventBus.method;
    const spied = [
      broker.subscribe(subscribeToTasks, { agentId: 'worker' }, { metadata: as(SPY) }),
      broker.subscribe(subscribeToTaskResults, { requesterAgentId: 'planner' }, { metadata: as(SPY) }),
      broker.subscribe(subscribeToTaskProgress, { requesterAgentId: 'planner' }, { metadata: as(SPY) }),
    ];
    for (const stream of spied) expect((await stream.status).code).toBe(PERMISSION_DENIED);
  });

  test('takes results of who was asked, and of nobody else', async () => {
    const broker = await start();
    const results = broker.subscribe(
      EventBus.method.subscribeToTaskResults,
      { requesterAgentId: 'planner' },
      { metadata: as(PLANNER) },
    );
    const task = { taskId: 'job', taskType: 'ocr', requesterAgentId: 'planner', responderAgentId: 'worker' };
    await broker.call(EventBus.method.publishTask, { task }, as(PLANNER));
    const report = (executorAgentId: string, taskId: string, token: string) =>
      ending(
        broker.call(
          EventBus.method.publishTaskResult,
          { result: { taskId, executorAgentId, status: TaskStatus.COMPLETED } },
          as(token),
        ),
      );
    expect(await report('worker', 'job', SPY)).toMatchObject({ code: PERMISSION_DENIED });
    expect(await report('spy', 'job', SPY)).toMatchObject({ code: NOT_FOUND });
    // A result of a task that nobody knows would go to every open stream.
    expect(await report('spy', 'unheard-of', SPY)).toMatchObject({ code: NOT_FOUND });
    expect(await report('worker', 'job', WORKER)).toMatchObject({ code: OK });
    expect(await results.next()).toMatchObject({ taskId: 'job', executorAgentId: 'worker' });
    const forged = { ...task, requesterAgentId: 'worker', responderAgentId: 'planner' };
    expect(await ending(broker.call(EventBus.method.publishTask, { task: forged }, as(SPY)))).toMatchObject({
      code: PERMISSION_DENIED,
    });
    results.cancel();
  });

  test('ends a stream whose agent was taken from its caller', async () => {
    const broker = await start();
    const stream = broker.subscribe(
      EventBus.method.subscribeToTasks,
      { agentId: 'worker' },
      { metadata: as(WORKER) },
    );
    await until(() => broker.broker.sessions.size === 1);
    put('policy.yaml', POLICY.replace('be: [worker]', 'be: [another]'));
    expect((await stream.status).code).toBe(PERMISSION_DENIED);
  });
});

test('a token that is taken out of its file lets nobody in any more, and ends the sessions of its holder', async () => {
  const broker = await start({ session: { heartbeatMs: '100ms', graceMs: '200ms' } });
  const worker = await Agent.connect(broker, {}, WORKER);
  const planner = await Agent.connect(broker, {}, PLANNER);
  put('tokens', `${PLANNER} planner\n`);
  const call = () => broker.call(Broker.method.publish, { tasks: [{ to: 'planner' }] }, as(WORKER));
  await until(async () => (await ending(call())).code === UNAUTHENTICATED);
  expect((await worker.goAways.next()).reason).toContain('withdrawn');
  expect((await worker.status).code).toBe(UNAUTHENTICATED);
  expect((await planner.publish([{ to: 'worker' }])).refused).toEqual([]);
});

test('a token is replaced by another one of the same name, and nothing is interrupted', async () => {
  const broker = await start({ session: { heartbeatMs: '100ms', graceMs: '200ms' } });
  const worker = await Agent.connect(broker, {}, WORKER);
  await worker.attach(1, 'worker');
  put('tokens', `${TOKENS}another-token-01234 worker\n`);
  const next = (): Promise<unknown> =>
    broker.call(Broker.method.publish, { tasks: [{ to: 'planner' }] }, as('another-token-01234'));
  await until(async () => (await ending(next())).code === OK);
  put('tokens', TOKENS.replace(`${WORKER} worker`, 'another-token-01234 worker'));
  await until(async () => (await ending(next())).code === OK && (await lockedOut(broker)));
  await broker.call(Broker.method.publish, { tasks: [{ to: 'worker', id: 'a' }] }, as(PLANNER));
  expect(await worker.ids(1)).toEqual(['a']);
});

async function lockedOut(broker: TestBroker): Promise<boolean> {
  const call = broker.call(Broker.method.publish, { tasks: [{ to: 'planner' }] }, as(WORKER));
  return (await ending(call)).code === UNAUTHENTICATED;
}
