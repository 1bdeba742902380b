import { describe, expect, test } from '@jest/globals';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { EventBus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { Agent } from '../support/agent.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { until } from '../support/inbox.ts';

const hub = brokers();

const PLANNER = 'token-of-the-planner';
const WORKER = 'token-of-the-worker';
const ADMIN = 'token-of-the-operator';
const OK = 0;
const EXHAUSTED = 8;

function start(limits: Readonly<Record<string, unknown>>): Promise<TestBroker> {
  return hub.start({ auth: { tokens: [PLANNER, WORKER], adminTokens: [ADMIN] }, limits });
}

const as = (token: string) => ({ authorization: `Bearer ${token}` });

describe('what one principal may have is not what another may', () => {
  test('limits.sessionsPerPrincipal', async () => {
    const broker = await start({ sessionsPerPrincipal: 2 });
    const first = await Agent.connect(broker, {}, PLANNER);
    const stream = broker.subscribe(
      EventBus.method.subscribeToTasks,
      { agentId: 'a' },
      { metadata: as(PLANNER) },
    );
    const third = Agent.open(broker, PLANNER);
    third.send({ hello: {} });
    expect(await third.status).toMatchObject({
      code: EXHAUSTED,
      details: expect.stringMatching(/token:\w+ has 2 sessions .*\(limits\.sessionsPerPrincipal\)/),
    });
    for (const token of [WORKER, ADMIN, ADMIN, ADMIN]) await Agent.connect(broker, {}, token);
    first.send({ goodbye: true });
    await first.status;
    await Agent.connect(broker, {}, PLANNER);
    stream.cancel();
  });

  test('limits.agentsPerPrincipal, over all its sessions', async () => {
    const broker = await start({ agentsPerPrincipal: 2 });
    const [one, two] = [await Agent.connect(broker, {}, PLANNER), await Agent.connect(broker, {}, PLANNER)];
    expect((await one.attach(1, 'a')).code).toBe(OK);
    expect((await two.attach(1, 'b')).code).toBe(OK);
    expect(await two.attach(2, 'c')).toMatchObject({ code: EXHAUSTED, limit: 'limits.agentsPerPrincipal' });
    expect((await two.attach(3, 'type:x', { agent: 'b' })).code).toBe(OK);
    const other = await Agent.connect(broker, {}, WORKER);
    expect((await other.attach(1, 'c')).code).toBe(OK);
    one.send({ detach: [{ attachment: 1 }] });
    // They are counted now and then, not with every agent that leaves.
    await until(async () => (await one.attach(2, 'c')).code === OK);
  });

  test('limits.queuedBytesPerPrincipal, whoever publishes how', async () => {
    const broker = await start({ queuedBytesPerPrincipal: '20KiB' });
    const tasks = [{ to: 'worker', payload: Buffer.alloc(12_000) }];
    const agent = await Agent.connect(broker, {}, PLANNER);
    // Both are here before the log can have the first.
    agent.send({ publish: [1n, 2n].map((batch) => ({ batch, tasks })) });
    const [refused, stored] = [await agent.publishAcks.next(), await agent.publishAcks.next()];
    expect(refused).toMatchObject({
      batch: 2n,
      refused: [{ code: EXHAUSTED, limit: 'limits.queuedBytesPerPrincipal', retryAfterMs: 1000 }],
    });
    expect(stored).toMatchObject({ batch: 1n, refused: [] });
    // One alone is not refused, and what was acknowledged does not count.
    const large = [{ to: 'worker', payload: Buffer.alloc(40_000) }];
    for (let count = 0; count < 3; count++) {
      const { ack } = await broker.call(Broker.method.publish, { tasks: large }, as(PLANNER));
      expect(ack?.refused).toEqual([]);
    }
  });
});
