import type { MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, test } from '@jest/globals';
import { Broker, TaskState } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import type { Refusal } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { CancelOutcome, Durability } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { TaskSchema } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { Outcome, Priority } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { leaseHashOf } from '../../src/wire/lease.ts';
import { Agent } from '../support/agent.ts';
import type { Settings, TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { until } from '../support/inbox.ts';

const hub = brokers();

type TaskInit = MessageInitShape<typeof TaskSchema>;

/** Sessions are given up soon, failed tasks come back at once. */
const HASTY: Settings = {
  session: { heartbeatMs: '50ms', timeoutMs: '60s', graceMs: '100ms' },
  delivery: { backoffInitialMs: '0', backoffMaxMs: '0' },
};
/** Nothing is given up while a test runs. */
const PATIENT: Settings = {
  session: { graceMs: '60s' },
  delivery: { backoffInitialMs: '0', backoffMaxMs: '0' },
};

function tasks(to: string, ...ids: string[]): TaskInit[] {
  return ids.map((id) => ({ id, to }));
}

async function taskOf(broker: TestBroker, taskId: string, mailbox: string) {
  return (await broker.call(Broker.method.getTask, { taskId, mailbox })).task;
}

async function state(broker: TestBroker, taskId: string, mailbox: string): Promise<TaskState | undefined> {
  return (await taskOf(broker, taskId, mailbox))?.state;
}

async function refusalOf(agent: Agent, task: TaskInit): Promise<Refusal | undefined> {
  return (await agent.publish([task])).refused[0];
}

/** A session with one attachment. */
async function worker(broker: TestBroker, mailbox: string, window = 100): Promise<Agent> {
  const agent = await Agent.connect(broker);
  expect((await agent.attach(1, mailbox, { window })).code).toBe(0);
  return agent;
}

describe('a session', () => {
  test('is welcomed with what it must know', async () => {
    const broker = await hub.start({ data: { log: 'file' }, limits: { window: 50, batchTasks: 500 } });
    const { welcome } = await Agent.connect(broker);
    expect(welcome).toMatchObject({
      resumed: false,
      heartbeatMs: 3000,
      graceMs: 10_000,
      durability: Durability.SYNCED,
      broker: broker.broker.id,
      level: 1,
      limits: { window: 50, batchTasks: 500, taskBytes: 4 * 2 ** 20, frameBytes: 8 * 2 ** 20 },
    });
    expect(welcome?.sessionId).toMatch(/^[0-9a-f]{16}$/);
  });

  test('keeps its leases and attachments when it resumes', async () => {
    const broker = await hub.start(PATIENT);
    const before = await worker(broker, 'worker');
    await before.publish(tasks('worker', 'a'));
    const { lease } = await before.delivery();
    await before.drop();
    const after = await Agent.connect(broker, {
      sessionId: before.sessionId,
      incarnation: 1,
      inFlight: [lease],
    });
    expect(after.welcome).toMatchObject({ resumed: true, sessionId: before.sessionId });
    expect(await state(broker, 'a', 'worker')).toBe(TaskState.RUNNING);
    after.complete(lease);
    expect((await after.settled()).refused).toEqual([]);
    await after.publish(tasks('worker', 'b'));
    expect(await after.ids(1)).toEqual(['b']);
  });

  test('gives back what it does not list when it resumes, and that is no attempt', async () => {
    const broker = await hub.start(PATIENT);
    const before = await worker(broker, 'worker');
    await before.publish(tasks('worker', 'a', 'b', 'c'));
    const [, b] = await before.deliveries.take(3);
    await before.drop();
    const inFlight = [b!.lease];
    const after = await Agent.connect(broker, { sessionId: before.sessionId, incarnation: 1, inFlight });
    const again = await after.deliveries.take(2);
    expect(again.map(({ task, attempt }) => [task?.id, attempt])).toEqual([
      ['a', 1],
      ['c', 1],
    ]);
    after.complete(b!.lease);
    expect((await after.settled()).refused).toEqual([]);
  });

  test('has the window that it says when it resumes: a change of it may have been lost', async () => {
    const broker = await hub.start(PATIENT);
    const before = await worker(broker, 'worker', 1);
    await before.publish(tasks('worker', 'a', 'b'));
    const { lease } = await before.delivery();
    await before.drop();
    const hello = { sessionId: before.sessionId, incarnation: 1, inFlight: [lease] };
    const after = await Agent.connect(broker, hello);
    expect((await after.attach(1, 'worker', { window: 2 })).code).toBe(0);
    expect(await after.ids(1)).toEqual(['b']);
  });

  test('gets what came while it was away', async () => {
    const broker = await hub.start(PATIENT);
    const before = await worker(broker, 'worker');
    await before.drop();
    await until(() => !broker.broker.sessions.get(before.sessionId)?.connected);
    const other = await Agent.connect(broker);
    await other.publish(tasks('worker', 'a', 'b'));
    expect(before.deliveries.pending).toEqual([]);
    const after = await Agent.connect(broker, { sessionId: before.sessionId, incarnation: 1 });
    expect(await after.ids(2)).toEqual(['a', 'b']);
  });

  test('belongs to the highest incarnation: a lower one is closed, or refused', async () => {
    const broker = await hub.start(PATIENT);
    const first = await worker(broker, 'worker');
    const { sessionId } = first;
    const second = await Agent.connect(broker, { sessionId, incarnation: 3 });
    expect((await first.status).code).toBe(10);
    for (const incarnation of [0, 2, 3]) {
      const stale = Agent.open(broker);
      stale.send({ hello: { sessionId, incarnation } });
      expect((await stale.status).code).toBe(10);
    }
    await second.publish(tasks('worker', 'a'));
    expect(await second.ids(1)).toEqual(['a']);
  });

  test('loses its leases with its grace, and cannot be resumed after', async () => {
    const broker = await hub.start(HASTY);
    const lost = await worker(broker, 'worker');
    await lost.publish([{ id: 'a', to: 'worker' }]);
    const { lease } = await lost.delivery();
    await lost.drop();
    const other = await worker(broker, 'worker');
    const { task, attempt } = await other.delivery();
    expect({ id: task?.id, attempt }).toEqual({ id: 'a', attempt: 2 });
    const late = await Agent.connect(broker, {
      sessionId: lost.sessionId,
      incarnation: 1,
      inFlight: [lease],
    });
    expect(late.welcome).toMatchObject({ resumed: false });
    expect(late.sessionId).not.toBe(lost.sessionId);
  });

  test('ends at once with a goodbye: its tasks go to others, and that is no attempt', async () => {
    const broker = await hub.start(PATIENT);
    const leaving = await worker(broker, 'worker');
    await leaving.publish(tasks('worker', 'a'));
    await leaving.delivery();
    const other = await worker(broker, 'worker');
    leaving.send({ goodbye: true });
    expect((await leaving.status).code).toBe(0);
    const { task, attempt } = await other.delivery();
    expect({ id: task?.id, attempt }).toEqual({ id: 'a', attempt: 1 });
    expect(broker.broker.sessions.get(leaving.sessionId)).toBeUndefined();
  });

  test('is asked for its list when its heartbeats disagree twice, and what it has not got is delivered again', async () => {
    const broker = await hub.start(PATIENT);
    const agent = await worker(broker, 'worker');
    await agent.publish(tasks('worker', 'a', 'b'));
    const [a, b] = await agent.deliveries.take(2);
    const hash = (leases: Uint8Array[]): number =>
      leases.reduce((sum, lease) => sum ^ leaseHashOf(lease, 0), 0) >>> 0;
    agent.send({ heartbeat: { inFlight: 2, hash: hash([a!.lease, b!.lease]) } });
    expect(await agent.heartbeats.next()).toMatchObject({ inFlight: 2, hash: hash([a!.lease, b!.lease]) });
    agent.send({ heartbeat: { inFlight: 1, hash: hash([a!.lease]) } });
    await agent.heartbeats.next();
    expect(agent.listRequests.pending).toEqual([]);
    agent.send({ heartbeat: { inFlight: 1, hash: hash([a!.lease]) } });
    await agent.listRequests.next();
    agent.send({ inFlight: { leases: [a!.lease] } });
    const again = await agent.delivery();
    expect([again.task?.id, again.attempt]).toEqual(['b', 1]);
    agent.send({ heartbeat: { inFlight: 2, hash: hash([a!.lease, again.lease]) } });
    await agent.heartbeats.next((beat) => beat.hash === hash([a!.lease, again.lease]));
  });

  test('is told to go when the broker stops, and what it settles in time counts', async () => {
    const broker = await hub.start({ ...PATIENT, data: { log: 'file' }, stop: { deadlineMs: '5s' } });
    const agent = await worker(broker, 'worker');
    await agent.publish(tasks('worker', 'a'));
    const { lease } = await agent.delivery();
    const stopped = broker.stop();
    const { draining, deadlineMs } = await agent.goAways.next();
    expect({ draining, deadlineMs }).toEqual({ draining: true, deadlineMs: 5000 });
    agent.complete(lease);
    expect((await agent.settled()).refused).toEqual([]);
    await stopped;
    await agent.status;
    await broker.start();
    expect(await state(broker, 'a', 'worker')).toBe(TaskState.SUCCEEDED);
  });

  test('may go on after the broker was started again; what it held was handed back, and that is no attempt', async () => {
    const broker = await hub.start({ ...PATIENT, data: { log: 'file' }, stop: { deadlineMs: '0' } });
    const before = await worker(broker, 'worker');
    await before.publish(tasks('worker', 'a', 'b'));
    const [a] = await before.deliveries.take(2);
    await broker.restart();
    const { sessionId } = before;
    const after = await Agent.connect(broker, { sessionId, incarnation: 1, inFlight: [a!.lease] });
    expect(after.welcome).toMatchObject({ resumed: true, sessionId });
    expect((await after.abort()).lease).toEqual(a!.lease);
    await after.attach(1, 'worker');
    const again = await after.deliveries.take(2);
    expect(again.map(({ task, attempt }) => [task?.id, attempt])).toEqual([
      ['a', 1],
      ['b', 1],
    ]);
  });
});

describe('work', () => {
  test('ends when it is completed, and its result reaches who asked', async () => {
    const broker = await hub.start();
    const asker = await worker(broker, 'reply:asker');
    const doer = await worker(broker, 'worker');
    await asker.publish([{ id: 'a', to: 'worker', type: 'sum', requester: 'asker', contextId: 'talk' }]);
    const { lease } = await doer.delivery();
    doer.complete(lease, { payload: Buffer.from('4'), contentType: 'text/plain', headers: { cost: '1' } });
    const { result, lease: resultLease } = await asker.delivery();
    expect(result).toMatchObject({
      taskId: 'a',
      to: 'worker',
      type: 'sum',
      requester: 'asker',
      outcome: Outcome.SUCCEEDED,
      executor: 'worker',
      contentType: 'text/plain',
      attempts: 1,
      headers: { cost: '1' },
      contextId: 'talk',
    });
    expect(Buffer.from(result!.payload).toString()).toBe('4');
    asker.complete(resultLease);
    expect((await asker.settled()).refused).toEqual([]);
    expect(await state(broker, 'a', 'worker')).toBe(TaskState.SUCCEEDED);
  });

  test('that fails for good is a dead letter, and its requester gets what its worker said', async () => {
    const broker = await hub.start();
    const agent = await worker(broker, 'worker');
    await agent.attach(2, 'reply:asker');
    await agent.publish([{ id: 'a', to: 'worker', requester: 'asker' }]);
    const { lease } = await agent.delivery();
    agent.fail(lease, {
      error: 'too hard',
      retryable: false,
      payload: Buffer.from('why'),
      contentType: 'text/plain',
    });
    const { result } = await agent.delivery();
    expect(result).toMatchObject({
      taskId: 'a',
      outcome: Outcome.FAILED,
      error: 'too hard',
      executor: 'worker',
      attempts: 1,
      contentType: 'text/plain',
    });
    expect(Buffer.from(result!.payload).toString()).toBe('why');
    const seen = await taskOf(broker, 'a', 'worker');
    expect(seen).toMatchObject({
      mailbox: 'dead:worker',
      state: TaskState.DEAD,
      deadReason: 'rejected',
      deadError: 'too hard',
      attempts: 1,
    });
  });

  test('that fails is tried again until its attempts are used up', async () => {
    const broker = await hub.start(PATIENT);
    const agent = await worker(broker, 'worker');
    await agent.attach(2, 'reply:asker');
    await agent.publish([{ id: 'a', to: 'worker', requester: 'asker', maxAttempts: 3 }]);
    for (const attempt of [1, 2, 3]) {
      const delivery = await agent.delivery();
      expect(delivery.attempt).toBe(attempt);
      agent.fail(delivery.lease, { error: `attempt ${attempt}`, retryable: true });
    }
    const { result } = await agent.delivery();
    expect(result).toMatchObject({ outcome: Outcome.FAILED, error: 'attempt 3', attempts: 3 });
    expect(await taskOf(broker, 'a', 'worker')).toMatchObject({
      state: TaskState.DEAD,
      deadReason: 'attempts',
      attempts: 3,
      maxAttempts: 3,
    });
  });

  test('that fails waits for as long as its worker or the task says', async () => {
    const broker = await hub.start();
    const agent = await worker(broker, 'worker');
    await agent.publish([
      { id: 'by worker', to: 'worker' },
      { id: 'by task', to: 'worker', backoffMs: 40_000 },
    ]);
    const [first, second] = await agent.deliveries.take(2);
    agent.fail(first!.lease, { retryable: true, retryAfterMs: 1_000_000 });
    agent.fail(second!.lease, { retryable: true });
    await agent.settleAcks.take(2);
    for (const [id, least, most] of [
      ['by worker', 990_000, 1_000_000],
      ['by task', 10_000, 40_000],
    ] as const) {
      await until(async () => (await state(broker, id, 'worker')) === TaskState.DELAYED);
      const { notBeforeMs = 0n } = (await taskOf(broker, id, 'worker')) ?? {};
      expect(Number(notBeforeMs) - Date.now()).toBeGreaterThan(least);
      expect(Number(notBeforeMs) - Date.now()).toBeLessThanOrEqual(most);
    }
  });

  test('that is handed back returns to the front, and that is no attempt', async () => {
    const broker = await hub.start();
    const agent = await worker(broker, 'worker', 1);
    await agent.publish(tasks('worker', 'a', 'b', 'c'));
    agent.release((await agent.delivery()).lease);
    expect((await agent.settled()).refused).toEqual([]);
    // Until the log says so, it is nobody's: the next one is delivered meanwhile.
    const b = await agent.delivery();
    agent.complete(b.lease);
    const a = await agent.delivery();
    expect([b.task?.id, a.task?.id, a.attempt]).toEqual(['b', 'a', 1]);
    agent.complete(a.lease);
    expect(await agent.ids(1)).toEqual(['c']);
  });

  test('comes in the order in which it was accepted', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    const ids = Array.from({ length: 500 }, (_, index) => `t${index}`);
    for (let from = 0; from < ids.length; from += 50)
      await agent.publish(tasks('worker', ...ids.slice(from, from + 50)));
    await agent.attach(1, 'worker', { window: 1000 });
    expect(await agent.ids(ids.length)).toEqual(ids);
  });

  test('comes by priority, and unspecified is medium', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    const { LOW, UNSPECIFIED, MEDIUM, HIGH, CRITICAL, URGENT } = Priority;
    const levels = [LOW, UNSPECIFIED, MEDIUM, HIGH, CRITICAL, URGENT];
    await agent.publish(levels.map((priority) => ({ id: `p${priority}`, to: 'worker', priority })));
    await agent.attach(1, 'worker');
    expect(await agent.ids(6)).toEqual(['p5', 'p4', 'p3', 'p0', 'p2', 'p1']);
  });

  test('is shared by the workers of a capability, and stays within their windows', async () => {
    const broker = await hub.start();
    const one = await worker(broker, 'type:ocr', 3);
    const two = await worker(broker, 'type:ocr', 5);
    await one.publish(Array.from({ length: 20 }, (_, index) => ({ id: `t${index}`, to: 'type:ocr' })));
    const first = [...(await one.deliveries.take(3)), ...(await two.deliveries.take(5))];
    expect(new Set(first.map(({ task }) => task?.id)).size).toBe(8);
    one.send({ heartbeat: {} });
    two.send({ heartbeat: {} });
    await Promise.all([one.heartbeats.next(), two.heartbeats.next()]);
    expect([...one.deliveries.pending, ...two.deliveries.pending]).toEqual([]);
    one.send({ window: [{ attachment: 1, window: 15 }] });
    expect(await one.deliveries.take(12)).toHaveLength(12);
  });

  test('goes to the next worker when one lets go of its mailbox, but what that one holds stays its', async () => {
    const broker = await hub.start();
    const leaving = await worker(broker, 'worker', 1);
    await leaving.publish(tasks('worker', 'a', 'b'));
    const { lease } = await leaving.delivery();
    leaving.send({ detach: [{ attachment: 1 }] });
    const staying = await worker(broker, 'worker');
    expect(await staying.ids(1)).toEqual(['b']);
    leaving.complete(lease);
    expect((await leaving.settled()).refused).toEqual([]);
  });

  test('can be completed once', async () => {
    const broker = await hub.start(PATIENT);
    const agent = await worker(broker, 'worker');
    await agent.publish(tasks('worker', 'a'));
    const { lease } = await agent.delivery();
    agent.complete(lease);
    agent.complete(lease);
    agent.fail(lease, { retryable: true });
    const acks = await agent.settleAcks.take(3);
    expect(acks.map(({ refused }) => refused.map(({ code }) => code)).sort()).toEqual([[], [9], [9]]);
    await agent.publish(tasks('worker', 'mark'));
    expect(await agent.ids(1)).toEqual(['mark']);
  });

  test('may be completed by a worker that lost it, as long as nobody else was faster', async () => {
    const broker = await hub.start(PATIENT);
    const slow = await worker(broker, 'worker', 1);
    await slow.publish([{ id: 'a', to: 'worker', maxRunMs: 50 }]);
    const { lease } = await slow.delivery();
    await slow.abort();
    const { lease: second, attempt } = await slow.delivery();
    expect(attempt).toBe(2);
    slow.complete(lease);
    expect((await slow.settled()).refused).toEqual([]);
    slow.complete(second);
    expect((await slow.settled()).refused).toMatchObject([{ code: 9 }]);
    await slow.publish(tasks('worker', 'b'));
    expect(await slow.ids(1)).toEqual(['b']);
  });

  test('may run for as long as it is extended', async () => {
    const broker = await hub.start(PATIENT);
    const agent = await worker(broker, 'worker');
    await agent.publish([
      { id: 'short', to: 'worker', maxRunMs: 100 },
      { id: 'long', to: 'worker', maxRunMs: 100 },
    ]);
    const [short, long] = await agent.deliveries.take(2);
    agent.send({ extend: [{ lease: long!.lease, runMs: 60_000 }] });
    const { lease, reason } = await agent.abort();
    expect({ lease, reason }).toEqual({
      lease: short!.lease,
      reason: 'the task ran longer than its max_run_ms',
    });
    expect(await agent.ids(1)).toEqual(['short']);
    agent.complete(long!.lease);
    expect((await agent.settled()).refused).toEqual([]);
    agent.send({ extend: [{ lease: long!.lease }] });
    expect(await agent.abort()).toMatchObject({ lease: long!.lease, reason: 'the lease has ended' });
  });

  test('of types that a worker does not take waits for one that does', async () => {
    const broker = await hub.start();
    const painter = await Agent.connect(broker);
    await painter.attach(1, 'studio', { types: ['paint'] });
    await painter.publish([
      { id: 'song', to: 'studio', type: 'sing' },
      { id: 'picture', to: 'studio', type: 'paint' },
    ]);
    expect(await painter.ids(1)).toEqual(['picture']);
    const singer = await Agent.connect(broker);
    await singer.attach(1, 'studio', { types: ['sing'] });
    expect(await singer.ids(1)).toEqual(['song']);
  });

  test('of other types does not hold up what is behind it, however much there is', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    const others = Array.from({ length: 500 }, (_, index) => ({
      id: `o${index}`,
      to: 'studio',
      type: 'sing',
    }));
    await agent.publish([...others, { id: 'before', to: 'studio', type: 'paint' }]);
    await agent.attach(1, 'studio', { types: ['paint'] });
    expect(await agent.ids(1)).toEqual(['before']);
    await agent.publish([{ id: 'after', to: 'studio', type: 'paint' }]);
    expect(await agent.ids(1)).toEqual(['after']);
    const all = await worker(broker, 'studio', 1000);
    expect(await all.ids(others.length)).toEqual(others.map(({ id }) => id));
  });

  test('is copied to listeners beside the workers, and ends with the first copy if there are none', async () => {
    const broker = await hub.start();
    const doer = await worker(broker, 'worker');
    const ear = await Agent.connect(broker);
    await ear.attach(1, 'worker', { listener: true });
    await doer.publish(tasks('worker', 'a'));
    const { lease } = await doer.delivery();
    const copy = await ear.delivery();
    expect({ id: copy.task?.id, lease: copy.lease }).toEqual({ id: 'a', lease: Buffer.alloc(0) });
    doer.complete(lease);
    await doer.settled();
    doer.send({ detach: [{ attachment: 1 }] });
    await doer.publish(tasks('worker', 'b'));
    expect(await ear.ids(1)).toEqual(['b']);
    await until(async () => (await state(broker, 'b', 'worker')) === TaskState.DELIVERED);
  });
});

describe('publishing', () => {
  test('the same id to the same mailbox again has no effect, while it lives and after', async () => {
    const broker = await hub.start({ ...PATIENT, data: { log: 'file' } });
    const agent = await worker(broker, 'worker');
    expect((await agent.publish(tasks('worker', 'a', 'a'))).refused).toEqual([]);
    expect((await agent.publish(tasks('worker', 'a'))).refused).toEqual([]);
    const { lease } = await agent.delivery();
    agent.complete(lease);
    await agent.settled();
    expect((await agent.publish(tasks('worker', 'a'))).refused).toEqual([]);
    await broker.restart();
    const again = await worker(broker, 'worker');
    await again.attach(2, 'other');
    await again.publish([...tasks('worker', 'a'), ...tasks('other', 'a'), ...tasks('worker', 'mark')]);
    const got = await again.deliveries.take(2);
    expect(got.map(({ task }) => [task?.to, task?.id]).sort()).toEqual([
      ['other', 'a'],
      ['worker', 'mark'],
    ]);
  });

  test('without an id the broker makes one and tells it', async () => {
    const broker = await hub.start();
    const agent = await worker(broker, 'worker');
    const { assigned } = await agent.publish([
      { to: 'worker' },
      { id: 'mine', to: 'worker' },
      { to: 'worker' },
    ]);
    expect(assigned.map(({ index }) => index)).toEqual([0, 2]);
    expect(await agent.ids(3)).toEqual([assigned[0]!.id, 'mine', assigned[1]!.id]);
  });

  test('later: the task is not delivered before its time', async () => {
    const broker = await hub.start();
    const agent = await worker(broker, 'worker');
    const notBefore = Date.now() + 300;
    await agent.publish([
      { id: 'later', to: 'worker', notBeforeMs: BigInt(notBefore) },
      { id: 'now', to: 'worker' },
    ]);
    expect(await state(broker, 'later', 'worker')).toBe(TaskState.DELAYED);
    expect(await agent.ids(2)).toEqual(['now', 'later']);
    expect(Date.now()).toBeGreaterThanOrEqual(notBefore);
  });

  test('with a deadline: after it the task is a dead letter, never delivered, and its requester knows', async () => {
    const broker = await hub.start();
    const asker = await worker(broker, 'reply:asker');
    await asker.publish([
      { id: 'a', to: 'worker', requester: 'asker', deadlineMs: BigInt(Date.now() + 100) },
    ]);
    const { result } = await asker.delivery();
    expect(result).toMatchObject({ taskId: 'a', outcome: Outcome.EXPIRED, attempts: 0 });
    expect(await taskOf(broker, 'a', 'worker')).toMatchObject({
      state: TaskState.DEAD,
      deadReason: 'deadline',
    });
    const late = await worker(broker, 'worker');
    await late.publish(tasks('worker', 'mark'));
    expect(await late.ids(1)).toEqual(['mark']);
  });

  test('to all: every attached agent gets a copy, and the publisher is told how many', async () => {
    const broker = await hub.start(PATIENT);
    const agent = await Agent.connect(broker);
    expect((await agent.publish(tasks('*', 'nobody'))).recipients).toMatchObject([{ index: 0, count: 0 }]);
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
    for (const [index, name] of names.entries()) await agent.attach(index + 1, name);
    await agent.attach(99, 'type:other');
    expect((await agent.publish(tasks('*', 'all'))).recipients).toMatchObject([{ index: 0, count: 7 }]);
    const got = await agent.deliveries.take(7);
    expect(got.map(({ attachment }) => attachment).sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
    agent.fail(got[0]!.lease, { retryable: true, error: 'no' });
    await agent.settled();
    await agent.publish(tasks(names[got[0]!.attachment - 1]!, 'mark'));
    expect(await agent.ids(1)).toEqual(['mark']);
  });

  test('is acknowledged with what it survives, and refused if that is not enough', async () => {
    const memory = await Agent.connect(await hub.start());
    expect((await memory.publish(tasks('worker', 'a'))).durability).toBe(Durability.MEMORY);
    const { refused } = await memory.publish(tasks('worker', 'b'), Durability.STORED);
    expect(refused).toMatchObject([{ index: 0, code: 9, field: 'durability' }]);
    const stored = await Agent.connect(await hub.start({ data: { log: 'file', sync: 'none' } }));
    expect((await stored.publish(tasks('worker', 'a'), Durability.STORED)).durability).toBe(
      Durability.STORED,
    );
    const synced = await Agent.connect(await hub.start({ data: { log: 'file', sync: 'always' } }));
    expect((await synced.publish(tasks('worker', 'a'), Durability.SYNCED)).durability).toBe(
      Durability.SYNCED,
    );
  });
});

describe('a cancel', () => {
  test('removes what waits, reaches the worker of what runs, and comes too late for what is done', async () => {
    const broker = await hub.start();
    const agent = await worker(broker, 'worker', 2);
    await agent.attach(2, 'reply:asker');
    await agent.publish(
      tasks('worker', 'done', 'runs', 'waits').map((task) => ({ ...task, requester: 'asker' })),
    );
    const [done, runs] = await agent.deliveries.take(2);
    agent.complete(done!.lease);
    await agent.deliveries.take(1);
    const cancel = async (taskId: string): Promise<CancelOutcome> => {
      agent.send({ cancel: [{ call: 7n, mailbox: 'worker', taskId, reason: 'not needed' }] });
      return (await agent.cancelAnswers.next()).outcome;
    };
    const results = agent.deliveries;
    agent.send({ window: [{ attachment: 1, window: 1 }] });
    expect(await cancel('done')).toBe(CancelOutcome.TOO_LATE);
    expect(await cancel('runs')).toBe(CancelOutcome.CANCELLED);
    expect(await agent.abort()).toMatchObject({ lease: runs!.lease, reason: 'cancelled: not needed' });
    agent.complete(runs!.lease);
    await agent.settleAcks.next(({ refused }) => refused[0]?.code === 9);
    expect((await results.next(({ result }) => result?.taskId === 'runs')).result).toMatchObject({
      outcome: Outcome.CANCELLED,
      error: 'not needed',
    });
    expect(await cancel('waits')).toBe(CancelOutcome.CANCELLED);
    expect(await cancel('never')).toBe(CancelOutcome.NOT_FOUND);
    expect(await state(broker, 'runs', 'worker')).toBe(TaskState.CANCELLED);
  });

  test('finds the task without its mailbox, too', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.publish(tasks('worker', 'a'));
    const cancel = async (taskId: string) =>
      (await broker.call(Broker.method.cancelTask, { taskId })).outcome;
    expect(await cancel('a')).toBe(CancelOutcome.CANCELLED);
    expect(await cancel('b')).toBe(CancelOutcome.NOT_FOUND);
  });

  test.each([1, 2, 3, 4, 5])('that races a failure has exactly one winner (%i)', async () => {
    const broker = await hub.start({ ...PATIENT, data: { log: 'file' } });
    const agent = await worker(broker, 'worker', 1);
    await agent.publish(tasks('worker', 'a'));
    const { lease } = await agent.delivery();
    agent.fail(lease, { retryable: true, error: 'again' });
    agent.send({ cancel: [{ call: 1n, mailbox: 'worker', taskId: 'a' }] });
    expect((await agent.cancelAnswers.next()).outcome).toBe(CancelOutcome.CANCELLED);
    await agent.publish(tasks('worker', 'b', 'c'));
    const b = await agent.delivery();
    expect(b.task?.id).toBe('b');
    agent.complete(b.lease);
    expect(await agent.ids(1)).toEqual(['c']);
    expect(await state(broker, 'a', 'worker')).toBe(TaskState.CANCELLED);
  });
});

describe('results', () => {
  test('go to the replica of the agent that asked', async () => {
    const broker = await hub.start(PATIENT);
    const one = await worker(broker, 'reply:planner');
    const two = await worker(broker, 'reply:planner');
    const doer = await worker(broker, 'worker');
    const asks = (prefix: string) =>
      Array.from({ length: 20 }, (_, index) => ({
        id: `${prefix}${index}`,
        to: 'worker',
        requester: 'planner',
      }));
    await one.publish(asks('one-'));
    await two.publish(asks('two-'));
    for (const { lease } of await doer.deliveries.take(40)) doer.complete(lease);
    const [first, second] = await Promise.all([one.ids(20), two.ids(20)]);
    expect(first.every((id) => id.startsWith('one-'))).toBe(true);
    expect(second.every((id) => id.startsWith('two-'))).toBe(true);
  });

  test('go to another replica when the one that asked is gone', async () => {
    const broker = await hub.start(HASTY);
    const gone = await worker(broker, 'reply:planner');
    const doer = await worker(broker, 'worker');
    await gone.publish([{ id: 'a', to: 'worker', requester: 'planner' }]);
    const { lease } = await doer.delivery();
    await gone.drop();
    const other = await worker(broker, 'reply:planner');
    doer.complete(lease);
    expect((await other.delivery()).result?.taskId).toBe('a');
  });

  test('of a publish without a session go to any replica, also one that comes later', async () => {
    const broker = await hub.start({ ...PATIENT, data: { log: 'file' } });
    await broker.call(Broker.method.publish, { tasks: [{ id: 'a', to: 'worker', requester: 'planner' }] });
    const doer = await worker(broker, 'worker');
    const { lease } = await doer.delivery();
    doer.complete(lease);
    await doer.settled();
    await broker.restart();
    const planner = await worker(broker, 'reply:planner');
    expect((await planner.delivery()).result?.taskId).toBe('a');
  });

  test('are delivered again until they are acknowledged', async () => {
    const broker = await hub.start(HASTY);
    const first = await worker(broker, 'reply:planner');
    const doer = await worker(broker, 'worker');
    await first.publish([{ id: 'a', to: 'worker', requester: 'planner' }]);
    doer.complete((await doer.delivery()).lease);
    await first.delivery();
    await first.drop();
    const second = await worker(broker, 'reply:planner');
    const { result, lease } = await second.delivery();
    expect(result?.taskId).toBe('a');
    second.complete(lease);
    await second.settled();
    const { tasks: left } = await broker.call(Broker.method.listTasks, { mailbox: 'reply:planner' });
    expect(left).toEqual([]);
  });
});

describe('progress', () => {
  test('goes to the session that asked, else to the others of its agent, and shows on the task', async () => {
    const broker = await hub.start(HASTY);
    const asker = await worker(broker, 'reply:planner');
    const replica = await worker(broker, 'reply:planner');
    const doer = await worker(broker, 'worker');
    await asker.publish([{ id: 'a', to: 'worker', requester: 'planner' }]);
    const { lease } = await doer.delivery();
    const report = (percent: number): void => {
      doer.send({ progress: [{ lease, percent, message: `${percent} %`, payload: Buffer.of(percent) }] });
    };
    report(10);
    expect(await asker.progresses.next()).toMatchObject({
      taskId: 'a',
      to: 'worker',
      requester: 'planner',
      executor: 'worker',
      percent: 10,
      message: '10 %',
      payload: Buffer.of(10),
    });
    await asker.drop();
    await until(() => broker.broker.sessions.get(asker.sessionId) === undefined);
    report(255);
    expect(await replica.progresses.next()).toMatchObject({ percent: 100, message: '255 %' });
    expect((await taskOf(broker, 'a', 'worker'))?.progress).toMatchObject({ percent: 100 });
  });
});

describe('nothing stays for ever', () => {
  test('a task that nobody takes is a dead letter in the end', async () => {
    const broker = await hub.start({ retention: { taskMs: '1s' } });
    const asker = await worker(broker, 'reply:asker');
    await asker.publish([{ id: 'a', to: 'worker', requester: 'asker' }]);
    expect((await asker.delivery()).result).toMatchObject({ taskId: 'a', outcome: Outcome.EXPIRED });
    expect(await taskOf(broker, 'a', 'worker')).toMatchObject({
      state: TaskState.DEAD,
      deadReason: 'retention',
    });
  });

  test('neither do results and dead letters', async () => {
    const broker = await hub.start({ retention: { resultMs: '1s', deadLetterMs: '1s' } });
    const agent = await worker(broker, 'worker');
    await agent.publish([{ id: 'a', to: 'worker', requester: 'asker' }]);
    agent.fail((await agent.delivery()).lease, { retryable: false });
    await agent.settled();
    const list = async () =>
      (await broker.call(Broker.method.listTasks, {})).tasks.map(({ mailbox }) => mailbox);
    await until(async () => (await list()).length === 2);
    expect((await list()).sort()).toEqual(['dead:worker', `reply:asker#${agent.sessionId}`]);
    await until(async () => (await list()).length === 0);
  });

  test('and there are only so many of them: the oldest go first', async () => {
    const broker = await hub.start({ retention: { deadPerMailbox: 3, resultsPerMailbox: 2 } });
    const agent = await worker(broker, 'worker');
    const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const id of ids) {
      await agent.publish([{ id, to: 'worker' }]);
      agent.fail((await agent.delivery()).lease, { retryable: false });
      await agent.settled();
    }
    const left = async (mailbox: string) =>
      (await broker.call(Broker.method.listTasks, { mailbox })).tasks.map(({ id }) => id);
    await until(async () => String(await left('dead:worker')) === 'd,e,f');
    await broker.call(Broker.method.publish, {
      tasks: ids.map((id) => ({ id: `r${id}`, to: 'worker', requester: 'asker' })),
    });
    for (const { lease } of await agent.deliveries.take(6)) agent.complete(lease);
    await until(async () => String(await left('reply:asker')) === 're,rf');
  });
});

describe('every limit is named by what it refuses', () => {
  test('limits.taskBytes, for tasks and results; trying again makes no sense', async () => {
    const broker = await hub.start({ limits: { taskBytes: '1KiB' } });
    const agent = await worker(broker, 'worker');
    const big = Buffer.alloc(2000);
    expect(await refusalOf(agent, { to: 'worker', payload: big })).toMatchObject({
      code: 8,
      limit: 'limits.taskBytes',
      retryAfterMs: 0,
      message: expect.stringContaining('limits.taskBytes'),
    });
    await agent.publish([{ to: 'worker' }]);
    const { lease } = await agent.delivery();
    agent.complete(lease, { payload: big });
    expect((await agent.settled()).refused).toMatchObject([{ code: 8, limit: 'limits.taskBytes' }]);
    agent.fail(lease, { payload: big });
    expect((await agent.settled()).refused).toMatchObject([{ code: 8, limit: 'limits.taskBytes' }]);
    agent.complete(lease, { headers: { trace: 'x'.repeat(2000) } });
    expect((await agent.settled()).refused).toMatchObject([{ code: 8, limit: 'limits.taskBytes' }]);
    agent.complete(lease);
    expect((await agent.settled()).refused).toEqual([]);
  });

  test('limits.batchTasks: the rest of the batch', async () => {
    const broker = await hub.start({ limits: { batchTasks: 2 } });
    const agent = await Agent.connect(broker);
    const { refused } = await agent.publish(tasks('worker', 'a', 'b', 'c', 'd'));
    expect(refused.map(({ index, code, limit }) => ({ index, code, limit }))).toEqual([
      { index: 2, code: 8, limit: 'limits.batchTasks' },
      { index: 3, code: 8, limit: 'limits.batchTasks' },
    ]);
  });

  test.each([
    ['limits.mailboxDepth', { mailboxDepth: 2 }, 3, 0],
    ['limits.mailboxBytes', { mailboxBytes: '1MiB' }, 3, 700_000],
  ] as const)('%s, until workers make room', async (limit, limits, count, bytes) => {
    const broker = await hub.start({ limits });
    const agent = await Agent.connect(broker);
    const acks = [];
    for (let index = 0; index < count; index++) {
      acks.push(await refusalOf(agent, { id: `t${index}`, to: 'worker', payload: Buffer.alloc(bytes) }));
    }
    expect(acks.slice(0, -1)).toEqual(acks.slice(0, -1).map(() => undefined));
    expect(acks.at(-1)).toMatchObject({ code: 8, limit, retryAfterMs: 1000 });
    expect(await refusalOf(agent, { to: 'elsewhere' })).toBeUndefined();
    await agent.attach(1, 'worker');
    for (const { lease } of await agent.deliveries.take(count - 1)) agent.complete(lease);
    await agent.settleAcks.take(count - 1);
    await until(async () => (await refusalOf(agent, { id: 'again', to: 'worker' })) === undefined);
  });

  test('limits.mailboxes', async () => {
    const broker = await hub.start({ limits: { mailboxes: 4 } });
    const agent = await Agent.connect(broker);
    const names = Array.from({ length: 40 }, (_, index) => `agent-${index}`);
    const { refused } = await agent.publish(names.map((to) => ({ to })));
    await until(async () => {
      const refusal = await refusalOf(agent, { to: `agent-${Math.random()}` });
      return refusal?.limit === 'limits.mailboxes' && refusal.code === 8 && refusal.retryAfterMs > 0;
    });
    expect(refused.every(({ limit }) => limit === 'limits.mailboxes')).toBe(true);
    expect(await refusalOf(agent, { id: 'known', to: 'agent-0' })).toBeUndefined();
  });

  test('limits.memoryHighWaterBytes', async () => {
    const broker = await hub.start({ limits: { memoryHighWaterBytes: '64MiB' } });
    const agent = await Agent.connect(broker);
    let refusal: Refusal | undefined;
    await until(async () => (refusal = await refusalOf(agent, { to: 'worker' })) !== undefined);
    expect(refusal).toMatchObject({ code: 8, limit: 'limits.memoryHighWaterBytes', retryAfterMs: 1000 });
  });

  test('limits.sessions', async () => {
    const broker = await hub.start({ limits: { sessions: 1 } });
    const first = await Agent.connect(broker);
    const second = Agent.open(broker);
    second.send({ hello: {} });
    expect(await second.status).toMatchObject({
      code: 8,
      details: expect.stringContaining('limits.sessions'),
    });
    first.send({ goodbye: true });
    await first.status;
    expect((await Agent.connect(broker)).welcome?.resumed).toBe(false);
  });

  test('limits.attachmentsPerSession and limits.agentsPerSession', async () => {
    const broker = await hub.start({ limits: { attachmentsPerSession: 3, agentsPerSession: 2 } });
    const agent = await Agent.connect(broker);
    expect((await agent.attach(1, 'a')).code).toBe(0);
    expect((await agent.attach(2, 'b')).code).toBe(0);
    expect(await agent.attach(3, 'c')).toMatchObject({ code: 8, limit: 'limits.agentsPerSession' });
    expect((await agent.attach(3, 'type:x', { agent: 'a' })).code).toBe(0);
    expect(await agent.attach(4, 'type:y', { agent: 'a' })).toMatchObject({
      code: 8,
      limit: 'limits.attachmentsPerSession',
    });
    agent.send({ detach: [{ attachment: 2 }] });
    expect((await agent.attach(4, 'c')).code).toBe(0);
  });

  test('limits.window is not refused but kept', async () => {
    const broker = await hub.start({ limits: { window: 3 } });
    const agent = await worker(broker, 'worker', 1000);
    await agent.publish(tasks('worker', 'a', 'b', 'c', 'd'));
    await agent.deliveries.take(3);
    agent.send({ window: [{ attachment: 1, window: 50 }], heartbeat: {} });
    await agent.heartbeats.next();
    expect(agent.deliveries.pending).toEqual([]);
  });
});

describe('who asks', () => {
  test('sees a task in each of its states', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker, { client: 'test' });
    await agent.publish([
      {
        id: 'a',
        to: 'worker',
        type: 'sum',
        requester: 'asker',
        priority: Priority.HIGH,
        payload: Buffer.from('1+1'),
      },
    ]);
    expect(await taskOf(broker, 'a', 'worker')).toMatchObject({
      id: 'a',
      mailbox: 'worker',
      state: TaskState.QUEUED,
      type: 'sum',
      requester: 'asker',
      priority: Priority.HIGH,
      attempts: 0,
      maxAttempts: 5,
    });
    await agent.attach(1, 'worker');
    const { lease } = await agent.delivery();
    const { task } = await broker.call(Broker.method.getTask, { taskId: 'a', includeTask: true });
    expect(task).toMatchObject({ state: TaskState.RUNNING, executor: 'worker', sessionId: agent.sessionId });
    expect(Buffer.from(task!.task!.payload).toString()).toBe('1+1');
    agent.complete(lease);
    await agent.settled();
    expect(await state(broker, 'a', 'worker')).toBe(TaskState.SUCCEEDED);
    await expect(
      broker.call(Broker.method.getTask, { taskId: 'x', mailbox: 'worker' }),
    ).rejects.toMatchObject({
      code: 5,
    });
  });

  test('gets tasks in pages, by mailbox, state, type and requester', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    const all = Array.from({ length: 50 }, (_, index) => ({
      id: `t${String(index).padStart(2, '0')}`,
      to: 'worker',
      type: index % 2 === 0 ? 'even' : 'odd',
      requester: index < 10 ? 'first' : 'second',
    }));
    await agent.publish([...all, { id: 'x', to: 'other', type: 'even', requester: 'first' }]);
    const list = (request: object) => broker.call(Broker.method.listTasks, request);
    const seen: string[] = [];
    let pageToken = '';
    do {
      const page = await list({
        mailbox: 'worker',
        type: 'even',
        requester: 'second',
        pageSize: 7,
        pageToken,
      });
      seen.push(...page.tasks.map(({ id }) => id));
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    expect(seen).toEqual(
      all.filter((one) => one.type === 'even' && one.requester === 'second').map(({ id }) => id),
    );
    await agent.attach(1, 'other');
    await agent.delivery();
    const { tasks: running } = await list({ states: [TaskState.RUNNING] });
    expect(running.map(({ id }) => id)).toEqual(['x']);
  });

  test('learns where a mailbox is, and who the cluster is', async () => {
    const broker = await hub.start({ shards: 8, data: { log: 'file' } });
    const { shard, broker: id } = await broker.call(Broker.method.locate, { mailbox: 'worker' });
    expect({ shard, id }).toEqual({ shard: broker.broker.shardOf('worker'), id: broker.broker.id });
    expect(await broker.call(Broker.method.describeCluster, {})).toMatchObject({
      log: 'file',
      durability: Durability.SYNCED,
      shards: 8,
      broker: id,
      brokers: [{ id, shards: 8, sessions: 0, draining: false, level: 1 }],
    });
  });
});
