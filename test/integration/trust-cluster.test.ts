import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { CancelOutcome } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { Agent } from '../support/agent.ts';
import type { TestBroker } from '../support/broker.ts';
import type { TestCluster } from '../support/cluster.ts';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';

const { start } = clusters();

const PLANNER = 'token-of-the-planner';
const WORKER = 'token-of-the-worker';
const SPY = 'token-of-some-spy';
const POLICY = `
rules:
  - { who: ['token:planner'], be: [planner], publish: [worker] }
  - { who: ['token:worker'], be: [worker] }
  - { who: ['token:spy'], be: [spy], publish: [spy] }
`;
const PERMISSION_DENIED = 7;

let server: NatsServer;
let dir: string;
let cluster: TestCluster;
/** The broker that serves the worker's mailbox, and the other one. */
let owner: TestBroker;
let other: TestBroker;

beforeAll(async () => {
  server = await NatsServer.start();
  dir = mkdtempSync(join(tmpdir(), 'agenthub-trust-'));
  writeFileSync(join(dir, 'tokens'), `${PLANNER} planner\n${WORKER} worker\n${SPY} spy\n`);
  writeFileSync(join(dir, 'policy.yaml'), POLICY);
});

afterAll(async () => {
  await server.remove();
  rmSync(dir, { recursive: true, force: true });
});

beforeEach(async () => {
  cluster = await start(server, 2, {
    shards: 4,
    auth: { tokensFile: join(dir, 'tokens'), policyFile: join(dir, 'policy.yaml') },
    session: { heartbeatMs: '100ms' },
  });
  await until(() => cluster.served.join() === '2,2');
  await until(() => cluster.ownerOf('worker') !== undefined);
  owner = cluster.ownerOf('worker')!;
  other = cluster.brokers.find((broker) => broker !== owner)!;
});

function as(token: string): Readonly<Record<string, string>> {
  return { authorization: `Bearer ${token}` };
}

function publish(broker: TestBroker, id: string): Promise<unknown> {
  const tasks = [{ to: 'worker', id, requester: 'planner' }];
  return broker.call(Broker.method.publish, { tasks }, as(PLANNER));
}

test('leases hold at every broker: what one gave is settled through another, and kept over a change of broker', async () => {
  const worker = await Agent.connect(other, {}, WORKER);
  await worker.attach(1, 'worker');
  for (const id of ['a', 'b', 'c']) await publish(other, id);
  const [a, b, c] = (await worker.deliveries.take(3)).map(({ lease }) => lease) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  worker.complete(a);
  expect((await worker.settled()).refused).toEqual([]);
  await worker.drop();
  const again = await Agent.connect(
    owner,
    { sessionId: worker.sessionId, incarnation: 1, inFlight: [b, c] },
    WORKER,
  );
  expect(again.welcome?.resumed).toBe(true);
  await again.attach(1, 'worker');
  again.send({ progress: [{ lease: b, percent: 50 }], extend: [{ lease: b }] });
  again.complete(b);
  again.fail(c, { error: 'no', retryable: false });
  for (let settled = 0; settled < 2; settled++) expect((await again.settled()).refused).toEqual([]);
});

test('a session is not taken over at another broker by somebody else', async () => {
  const worker = await Agent.connect(other, {}, WORKER);
  await worker.attach(1, 'worker');
  const thief = Agent.open(owner, SPY);
  thief.send({ hello: { sessionId: worker.sessionId, incarnation: 1 } });
  expect(await thief.status).toMatchObject({ code: PERMISSION_DENIED });
});

test('tasks are shown and cancelled through every broker for who may, whatever others call theirs', async () => {
  await publish(other, 'job');
  for (const broker of [owner, other]) {
    const spy = { tasks: [{ to: 'spy', id: 'job' }] };
    await broker.call(Broker.method.publish, spy, as(SPY));
    const { task } = await broker.call(Broker.method.getTask, { taskId: 'job' }, as(PLANNER));
    expect(task?.mailbox).toBe('worker');
    const mine = await broker.call(Broker.method.getTask, { taskId: 'job' }, as(SPY));
    expect(mine.task?.mailbox).toBe('spy');
  }
  const cancelled = await other.call(Broker.method.cancelTask, { taskId: 'job' }, as(PLANNER));
  expect(cancelled.outcome).toBe(CancelOutcome.CANCELLED);
});
