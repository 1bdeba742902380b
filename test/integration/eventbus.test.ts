import { create } from '@bufbuild/protobuf';
import type { JsonObject } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceError } from '@grpc/grpc-js';
import { describe, expect, test } from '@jest/globals';
import { TASK_TYPE } from '../../src/wire/eventbus.ts';
import { Broker, TaskState } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { Outcome } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import {
  EventBus,
  Priority,
  TaskMessageSchema,
  TaskProgressSchema,
  TaskResultSchema,
  TaskStatus,
} from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { Agent } from '../support/agent.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import type { EventBusTask } from '../support/program.ts';
import { Program } from '../support/program.ts';

const hub = brokers();

function task(id: string, to: string, more: EventBusTask = {}): EventBusTask {
  return { taskId: id, taskType: 'greet', requesterAgentId: 'asker', responderAgentId: to, ...more };
}

async function failure(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown as ServiceError,
  );
  return { code: error?.code ?? 0, details: error?.details ?? '' };
}

describe.each(['memory', 'file'])('the event bus over a %s log', (log) => {
  async function start(): Promise<{ broker: TestBroker; program: Program }> {
    const broker = await hub.start({ data: { log } });
    return { broker, program: new Program(broker) };
  }

  describe('names what is missing, in this order and in these words', () => {
    test('for a task', async () => {
      const { broker, program } = await start();
      const publish = (init?: EventBusTask) =>
        failure(broker.call(EventBus.method.publishTask, init ? { task: init } : {}));
      expect(await publish()).toEqual({ code: 3, details: 'task cannot be nil' });
      expect(await publish({})).toEqual({ code: 3, details: 'task_id cannot be empty' });
      expect(await publish({ taskId: 'a' })).toEqual({ code: 3, details: 'task_type cannot be empty' });
      expect(await publish({ taskId: 'a', taskType: 't' })).toEqual({
        code: 3,
        details: 'requester_agent_id cannot be empty',
      });
      expect((await program.publish({ taskId: 'a', taskType: 't', requesterAgentId: 'r' })).success).toBe(
        true,
      );
    });

    test('for results and progress', async () => {
      const { broker } = await start();
      const { publishTaskResult, publishTaskProgress } = EventBus.method;
      const nil = (name: string) => ({ code: 3, details: `${name} cannot be nil` });
      const noId = { code: 3, details: 'task_id cannot be empty' };
      expect(await failure(broker.call(publishTaskResult, {}))).toEqual(nil('result'));
      expect(await failure(broker.call(publishTaskResult, { result: {} }))).toEqual(noId);
      expect(await failure(broker.call(publishTaskProgress, {}))).toEqual(nil('progress'));
      expect(await failure(broker.call(publishTaskProgress, { progress: {} }))).toEqual(noId);
    });

    test('for subscriptions', async () => {
      const { broker } = await start();
      const { subscribeToTasks, subscribeToTaskResults, subscribeToTaskProgress } = EventBus.method;
      const noRequester = { code: 3, details: 'requester_agent_id cannot be empty' };
      expect(await broker.subscribe(subscribeToTasks, {}).status).toEqual({
        code: 3,
        details: 'agent_id cannot be empty',
      });
      expect(await broker.subscribe(subscribeToTaskResults, {}).status).toEqual(noRequester);
      expect(await broker.subscribe(subscribeToTaskProgress, {}).status).toEqual(noRequester);
    });
  });

  describe('brings tasks', () => {
    test('to their responder, exactly as they were published', async () => {
      const { program } = await start();
      const stream = await program.tasks('worker');
      const sent = create(TaskMessageSchema, {
        ...task('t1', 'worker'),
        parameters: { name: 'World', deep: { list: [1, 'two', null, { yes: true }] } },
        deadline: timestampFromMs(Date.now() + 60_000),
        priority: Priority.HIGH,
        metadata: { trace: 'abc' },
        createdAt: timestampFromMs(1_700_000_000_123),
      });
      expect(await program.publish(sent)).toMatchObject({ success: true, error: '' });
      expect(await stream.next()).toEqual(sent);
    });

    test('to every open stream of the responder: they do not compete', async () => {
      const { program } = await start();
      const streams = [await program.tasks('worker'), await program.tasks('worker')];
      for (const id of ['t1', 't2', 't3']) await program.publish(task(id, 'worker'));
      for (const stream of streams)
        expect((await stream.take(3)).map(({ taskId }) => taskId)).toEqual(['t1', 't2', 't3']);
    });

    test('to nobody else', async () => {
      const { program } = await start();
      const other = await program.tasks('other');
      await program.publish(task('t1', 'worker'));
      await program.publish(task('mark', 'other'));
      expect((await other.next()).taskId).toBe('mark');
    });

    test('without a responder to every open stream of every agent', async () => {
      const { program } = await start();
      const agents = Array.from({ length: 6 }, (_, index) => `worker-${index}`);
      const streams = await Promise.all(agents.flatMap((id) => [id, id]).map((id) => program.tasks(id)));
      await program.publish(task('all', '', { parameters: { n: 1 } }));
      for (const stream of streams) {
        expect(await stream.next()).toMatchObject({
          taskId: 'all',
          responderAgentId: '',
          parameters: { n: 1 },
        });
      }
    });

    test('that came before anybody subscribed, and success is what their publisher is told', async () => {
      const { broker, program } = await start();
      expect((await program.publish(task('early', 'worker'))).success).toBe(true);
      expect((await program.publish(task('to all', ''))).success).toBe(true);
      if (log === 'file') await broker.restart();
      const stream = await new Program(broker).tasks('worker');
      expect((await stream.next()).taskId).toBe('early');
    });

    test('once: what was written to a stream counts as taken', async () => {
      const { broker, program } = await start();
      const first = await program.tasks('worker');
      await program.publish(task('t1', 'worker'));
      await first.next();
      first.cancel();
      await until(() => broker.broker.sessions.size === 0);
      const second = await program.tasks('worker');
      await program.publish(task('t2', 'worker'));
      expect((await second.next()).taskId).toBe('t2');
    });

    test('of one id once, and again after the other agent has it too', async () => {
      const { program } = await start();
      const stream = await program.tasks('worker');
      await program.publish(task('t1', 'worker'));
      expect((await program.publish(task('t1', 'worker'))).success).toBe(true);
      await program.publish(task('t2', 'worker'));
      expect((await stream.take(2)).map(({ taskId }) => taskId)).toEqual(['t1', 't2']);
    });

    test('only of the types that were asked for; others wait for somebody who takes them', async () => {
      const { program } = await start();
      const greetings = await program.tasks('worker', ['greet']);
      await program.publish(task('sum', 'worker', { taskType: 'add' }));
      await program.publish(task('hello', 'worker'));
      expect((await greetings.next()).taskId).toBe('hello');
      const all = await program.tasks('worker');
      expect((await all.next()).taskId).toBe('sum');
      expect(greetings.pending).toEqual([]);
    });

    test('by priority', async () => {
      const { program } = await start();
      await program.publish(task('low', 'worker', { priority: Priority.LOW }));
      await program.publish(task('plain', 'worker'));
      await program.publish(task('critical', 'worker', { priority: Priority.CRITICAL }));
      await program.publish(task('high', 'worker', { priority: Priority.HIGH }));
      await program.publish(task('medium', 'worker', { priority: Priority.MEDIUM }));
      const stream = await program.tasks('worker');
      const ids = (await stream.take(5)).map(({ taskId }) => taskId);
      expect(ids).toEqual(['critical', 'high', 'plain', 'medium', 'low']);
    });

    test('not after their deadline, and the requester learns of it', async () => {
      const { program } = await start();
      const results = await program.results('asker');
      await program.publish(task('late', 'worker', { deadline: timestampFromMs(Date.now() - 1000) }));
      expect(await results.next()).toMatchObject({ taskId: 'late', status: TaskStatus.FAILED });
      await program.publish(task('in time', 'worker', { deadline: timestampFromMs(Date.now() + 60_000) }));
      await program.publish(task('zero time', 'worker', { deadline: { seconds: -62_135_596_800n } }));
      const stream = await program.tasks('worker');
      expect((await stream.take(2)).map(({ taskId }) => taskId)).toEqual(['in time', 'zero time']);
    });

    test('many at once, each as a message of its own, in order and complete', async () => {
      const { program } = await start();
      const stream = await program.tasks('worker');
      const ids = Array.from({ length: 3000 }, (_, index) => `t${index}`);
      const text = 'x'.repeat(300);
      const answers = await Promise.all(
        ids.map((id) => program.publish(task(id, 'worker', { parameters: { text } }))),
      );
      expect(answers.every(({ success }) => success)).toBe(true);
      const got = await stream.take(ids.length);
      expect(got.map(({ taskId }) => taskId).sort()).toEqual([...ids].sort());
      expect(got.every(({ parameters }) => parameters?.['text'] === text)).toBe(true);
    });
  });

  describe('brings results', () => {
    test('to every result stream of the requester and to nobody else', async () => {
      const { program } = await start();
      const worker = await program.tasks('worker');
      const mine = [await program.results('asker'), await program.results('asker')];
      const other = await program.results('somebody');
      await program.publish(task('t1', 'worker'));
      await worker.next();
      const sent = create(TaskResultSchema, {
        taskId: 't1',
        status: TaskStatus.COMPLETED,
        result: { greeting: 'Hello' },
        executorAgentId: 'worker',
        completedAt: timestampFromMs(1_700_000_000_000),
        executionMetadata: { ms: 5 },
      });
      expect(await program.result(sent)).toMatchObject({ success: true });
      for (const stream of mine) expect(await stream.next()).toEqual(sent);
      await program.publish(task('t2', 'worker', { requesterAgentId: 'somebody' }));
      await worker.next();
      await program.result({
        taskId: 't2',
        status: TaskStatus.FAILED,
        errorMessage: 'no',
        executorAgentId: 'worker',
      });
      expect(await other.next()).toMatchObject({
        taskId: 't2',
        status: TaskStatus.FAILED,
        errorMessage: 'no',
      });
      expect([...mine, other].flatMap(({ pending }) => pending)).toEqual([]);
    });

    test('of a task that nobody knows to every open result stream', async () => {
      const { program } = await start();
      const streams = [
        await program.results('a'),
        await program.results('b'),
        await program.results('c', ['other']),
      ];
      const sent = create(TaskResultSchema, {
        taskId: 'unheard',
        status: TaskStatus.COMPLETED,
        result: { a: 1 },
      });
      expect((await program.result(sent)).success).toBe(true);
      await program.result({ taskId: 'other' });
      expect(await streams[0]!.next()).toEqual(sent);
      expect(await streams[1]!.next()).toEqual(sent);
      expect((await streams[2]!.next()).taskId).toBe('other');
    });

    test('of the task ids that were asked for', async () => {
      const { program } = await start();
      const worker = await program.tasks('worker');
      const some = await program.results('asker', ['t2']);
      for (const id of ['t1', 't2']) await program.publish(task(id, 'worker'));
      await worker.take(2);
      for (const taskId of ['t1', 't2']) {
        await program.result({ taskId, status: TaskStatus.COMPLETED, executorAgentId: 'worker' });
      }
      expect((await some.next()).taskId).toBe('t2');
      const all = await program.results('asker');
      expect((await all.next()).taskId).toBe('t1');
      expect(some.pending).toEqual([]);
    });

    test('of one task id, however many others wait for somebody else', async () => {
      const { program } = await start();
      const worker = await program.tasks('worker');
      const ids = Array.from({ length: 200 }, (_, index) => `t${index}`);
      await Promise.all([...ids, 'mine'].map((id) => program.publish(task(id, 'worker'))));
      await worker.take(201);
      const report = (taskId: string) =>
        program.result({ taskId, status: TaskStatus.COMPLETED, executorAgentId: 'worker' });
      await Promise.all(ids.map(report));
      const mine = await program.results('asker', ['mine']);
      await report('mine');
      expect((await mine.next()).taskId).toBe('mine');
      const others = await program.results('asker');
      expect((await others.take(200)).map(({ taskId }) => taskId).sort()).toEqual([...ids].sort());
    });

    test('to who asks for them later, and after a restart of a durable broker', async () => {
      const { broker, program } = await start();
      const worker = await program.tasks('worker');
      for (const id of ['t1', 't2']) await program.publish(task(id, 'worker'));
      await worker.take(2);
      await program.result({ taskId: 't1', status: TaskStatus.COMPLETED, executorAgentId: 'worker' });
      if (log === 'file') await broker.restart();
      const again = new Program(broker);
      await again.result({ taskId: 't2', status: TaskStatus.COMPLETED, executorAgentId: 'worker' });
      const results = await again.results('asker');
      expect((await results.take(2)).map(({ taskId }) => taskId).sort()).toEqual(['t1', 't2']);
    });

    test('of each agent that got a broadcast', async () => {
      const { program } = await start();
      const names = ['w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w7', 'w8'];
      const workers = await Promise.all(names.map((name) => program.tasks(name)));
      const results = await program.results('asker');
      const others = await program.results('somebody');
      await program.publish(task('all', ''));
      await Promise.all(workers.map((worker) => worker.next()));
      for (const executorAgentId of names) {
        await program.result({ taskId: 'all', status: TaskStatus.COMPLETED, executorAgentId });
      }
      const got = await results.take(names.length);
      expect(got.map(({ executorAgentId }) => executorAgentId).sort()).toEqual(names);
      expect(others.pending).toEqual([]);
    });

    test('of an executor with another name, or none', async () => {
      const { program } = await start();
      const worker = await program.tasks('worker');
      const results = await program.results('asker');
      const others = await program.results('somebody');
      for (const id of ['t1', 't2']) await program.publish(task(id, 'worker'));
      await worker.take(2);
      await program.result({ taskId: 't1', status: TaskStatus.COMPLETED, executorAgentId: 'its helper' });
      await program.result({ taskId: 't2', status: TaskStatus.COMPLETED });
      expect((await results.take(2)).map(({ taskId }) => taskId)).toEqual(['t1', 't2']);
      expect(others.pending).toEqual([]);
    });

    test('that are not final, and the final one after them', async () => {
      const { broker, program } = await start();
      const worker = await program.tasks('worker');
      const results = await program.results('asker');
      await program.publish(task('t1', 'worker'));
      await worker.next();
      const of = (status: TaskStatus) => program.result({ taskId: 't1', status, executorAgentId: 'worker' });
      await of(TaskStatus.IN_PROGRESS);
      await of(TaskStatus.COMPLETED);
      const got = await results.take(2);
      expect(got.map(({ status }) => status)).toEqual([TaskStatus.IN_PROGRESS, TaskStatus.COMPLETED]);
      const { task: seen } = await broker.call(Broker.method.getTask, { taskId: 't1', mailbox: 'worker' });
      expect(seen?.state).toBe(TaskState.SUCCEEDED);
    });

    test('once: the same end again is acknowledged, another one is not', async () => {
      const { program } = await start();
      const worker = await program.tasks('worker');
      const results = await program.results('asker');
      for (const id of ['t1', 't2']) await program.publish(task(id, 'worker'));
      await worker.take(2);
      const of = (taskId: string, status: TaskStatus) =>
        program.result({ taskId, status, executorAgentId: 'worker' });
      expect((await of('t1', TaskStatus.COMPLETED)).success).toBe(true);
      expect((await of('t1', TaskStatus.COMPLETED)).success).toBe(true);
      expect(await of('t1', TaskStatus.FAILED)).toMatchObject({
        success: false,
        error: 'the task has ended before; this result was not kept',
      });
      await of('t2', TaskStatus.COMPLETED);
      expect((await results.take(2)).map(({ taskId }) => taskId)).toEqual(['t1', 't2']);
    });

    test('of a task that still waits, and ends it', async () => {
      const { broker, program } = await start();
      const results = await program.results('asker');
      for (const id of ['done', 'failed', 'cancelled', 'mark']) await program.publish(task(id, 'worker'));
      const of = (taskId: string, status: TaskStatus, errorMessage = '') =>
        program.result({ taskId, status, errorMessage, executorAgentId: 'worker', result: { of: taskId } });
      await of('done', TaskStatus.COMPLETED);
      await of('failed', TaskStatus.FAILED, 'could not');
      await of('cancelled', TaskStatus.CANCELLED, 'not wanted');
      const got = await results.take(3);
      expect(got).toMatchObject([
        { taskId: 'done', status: TaskStatus.COMPLETED, result: { of: 'done' } },
        { taskId: 'failed', status: TaskStatus.FAILED, errorMessage: 'could not', result: { of: 'failed' } },
        { taskId: 'cancelled', status: TaskStatus.CANCELLED, errorMessage: 'not wanted' },
      ]);
      const { task: seen } = await broker.call(Broker.method.getTask, {
        taskId: 'failed',
        mailbox: 'dead:worker',
      });
      expect(seen).toMatchObject({ state: TaskState.DEAD, deadReason: 'rejected', deadError: 'could not' });
      const worker = await program.tasks('worker');
      expect((await worker.next()).taskId).toBe('mark');
    });
  });
});

describe('the event bus', () => {
  async function start(settings = {}): Promise<{ broker: TestBroker; program: Program }> {
    const broker = await hub.start(settings);
    return { broker, program: new Program(broker) };
  }

  describe('brings progress', () => {
    test('to the progress streams of the requester and to nobody else', async () => {
      const { program } = await start();
      const worker = await program.tasks('worker');
      const mine = [await program.progresses('asker'), await program.progresses('asker', ['t1'])];
      const filtered = await program.progresses('asker', ['t2']);
      const other = await program.progresses('somebody');
      await program.publish(task('t1', 'worker'));
      await worker.next();
      const sent = create(TaskProgressSchema, {
        taskId: 't1',
        status: TaskStatus.IN_PROGRESS,
        progressMessage: 'half',
        progressPercentage: 50,
        progressData: { rows: 10 },
        executorAgentId: 'worker',
        updatedAt: timestampFromMs(1_700_000_000_000),
      });
      expect(await program.progress(sent)).toMatchObject({ success: true });
      for (const stream of mine) expect(await stream.next()).toEqual(sent);
      await program.progress({ taskId: 'unheard' });
      expect((await other.next()).taskId).toBe('unheard');
      expect(filtered.pending).toEqual([]);
    });

    test('of a task that nobody knows to every open progress stream', async () => {
      const { program } = await start();
      const streams = [await program.progresses('a'), await program.progresses('b')];
      const sent = create(TaskProgressSchema, {
        taskId: 'unheard',
        progressPercentage: 7,
        executorAgentId: 'w',
      });
      expect((await program.progress(sent)).success).toBe(true);
      for (const stream of streams) expect(await stream.next()).toEqual(sent);
    });

    test('of a task that a session holds', async () => {
      const { broker, program } = await start();
      const progress = await program.progresses('asker');
      const agent = await Agent.connect(broker);
      await agent.attach(1, 'worker');
      await program.publish(task('t1', 'worker'));
      const { lease } = await agent.delivery();
      agent.send({
        progress: [
          { lease, percent: 30, message: 'on it', payload: json({ page: 3 }), contentType: JSON_TYPE },
        ],
      });
      expect(await progress.next()).toMatchObject({
        taskId: 't1',
        status: TaskStatus.IN_PROGRESS,
        progressPercentage: 30,
        progressMessage: 'on it',
        progressData: { page: 3 },
        executorAgentId: 'worker',
      });
    });
  });

  describe('and sessions understand each other', () => {
    test('a native task reaches a stream: JSON as it is, all else in base64', async () => {
      const { broker, program } = await start();
      const worker = await program.tasks('worker');
      const agent = await Agent.connect(broker);
      const base = { to: 'worker', type: 'greet', requester: 'asker', headers: { traceparent: '00-1' } };
      await agent.publish([
        {
          ...base,
          id: 'object',
          contentType: JSON_TYPE,
          payload: json({ a: [1, { b: null }] }),
          priority: 5,
        },
        {
          ...base,
          id: 'array',
          contentType: 'application/problem+json; charset=utf-8',
          payload: json([1, 2]),
        },
        { ...base, id: 'text', contentType: 'text/plain', payload: Buffer.from('hi') },
        { ...base, id: 'broken', contentType: JSON_TYPE, payload: Buffer.from('{') },
        { ...base, id: 'forged', contentType: TASK_TYPE, payload: Buffer.from([0x0a, 0xff]) },
        { ...base, id: 'empty' },
      ]);
      const got = await worker.take(6);
      expect(
        got.map(({ taskId, parameters }): [string, JsonObject | undefined] => [taskId, parameters]),
      ).toEqual([
        ['object', { a: [1, { b: null }] }],
        ['array', { value: [1, 2] }],
        ['text', { base64: 'aGk=', content_type: 'text/plain' }],
        ['broken', { base64: 'ew==', content_type: JSON_TYPE }],
        ['forged', { base64: 'Cv8=', content_type: TASK_TYPE }],
        ['empty', undefined],
      ]);
      expect(got[0]).toMatchObject({
        taskType: 'greet',
        requesterAgentId: 'asker',
        responderAgentId: 'worker',
        priority: Priority.CRITICAL,
        metadata: { traceparent: '00-1' },
      });
    });

    test('a session gets the task message as its payload, and its answer reaches the result stream', async () => {
      const { broker, program } = await start();
      const results = await program.results('asker');
      const agent = await Agent.connect(broker);
      await agent.attach(1, 'worker');
      await program.publish(task('t1', 'worker', { parameters: { a: 1 } }));
      const { task: got, lease } = await agent.delivery();
      expect(got).toMatchObject({
        id: 't1',
        to: 'worker',
        type: 'greet',
        requester: 'asker',
        contentType: TASK_TYPE,
      });
      expect(TaskMessageSchema.typeName).toBe(TASK_TYPE.split('proto=')[1]);
      agent.complete(lease, { payload: json({ b: 2 }), contentType: JSON_TYPE, headers: { cost: '3' } });
      expect(await results.next()).toMatchObject({
        taskId: 't1',
        status: TaskStatus.COMPLETED,
        result: { b: 2 },
        executorAgentId: 'worker',
        executionMetadata: { cost: '3' },
      });
    });

    test('a stream answers what a session asked, even before the delivery is in the log', async () => {
      const { broker, program } = await start({ data: { log: 'file' } });
      const worker = await program.tasks('worker');
      const agent = await Agent.connect(broker);
      await agent.attach(1, 'reply:asker');
      await agent.publish([{ id: 't1', to: 'worker', type: 'greet', requester: 'asker' }]);
      await worker.next();
      await program.result({
        taskId: 't1',
        status: TaskStatus.FAILED,
        errorMessage: 'no',
        result: { why: 'x' },
        executorAgentId: 'worker',
      });
      const { result } = await agent.delivery();
      expect(result).toMatchObject({
        taskId: 't1',
        to: 'worker',
        requester: 'asker',
        outcome: Outcome.FAILED,
        error: 'no',
        executor: 'worker',
        contentType: 'application/protobuf; proto=eventbus.TaskResult',
      });
    });

    test('beside a worker, a stream gets a copy; its answer ends the task, and the worker is told', async () => {
      const { broker, program } = await start();
      const results = await program.results('asker');
      const agent = await Agent.connect(broker);
      await agent.attach(1, 'worker');
      const stream = await program.tasks('worker');
      await program.publish(task('t1', 'worker'));
      const { lease } = await agent.delivery();
      await stream.next();
      await program.result({ taskId: 't1', status: TaskStatus.COMPLETED, executorAgentId: 'worker' });
      expect((await agent.abort()).lease).toEqual(lease);
      expect(await results.next()).toMatchObject({ taskId: 't1', status: TaskStatus.COMPLETED });
      agent.complete(lease);
      expect((await agent.settled()).refused).toMatchObject([{ code: 9 }]);
    });
  });

  test('ends a stream as gRPC does: cancelled, or past its deadline', async () => {
    const { broker, program } = await start();
    const cancelled = await program.tasks('worker');
    cancelled.cancel();
    expect((await cancelled.status).code).toBe(1);
    await until(() => broker.broker.sessions.size === 0);
    const late = await program.tasks('worker', [], { deadline: Date.now() + 50 });
    expect((await late.status).code).toBe(4);
    await until(() => broker.broker.sessions.size === 0);
  });

  test('names the limit that a task has met, in its own words', async () => {
    const { program } = await start({ limits: { taskBytes: '1KiB', mailboxDepth: 1 } });
    const big = await failure(
      program.publish(task('big', 'worker', { parameters: { x: 'y'.repeat(2000) } })),
    );
    expect(big).toMatchObject({ code: 8, details: expect.stringContaining('(limits.taskBytes)') });
    await program.publish(task('t1', 'worker'));
    const full = await failure(program.publish(task('t2', 'worker')));
    expect(full).toMatchObject({ code: 8, details: expect.stringContaining('(limits.mailboxDepth)') });
    const reserved = await failure(program.publish(task('t1', 'reply:x')));
    expect(reserved.code).toBe(3);
    expect(reserved.details).toMatch(/^responder_agent_id/);
  });

  test('counts streams as sessions, and refuses more than there may be', async () => {
    const { broker, program } = await start({ limits: { sessions: 2 } });
    await program.tasks('a');
    await program.results('a');
    const { code, details } = await broker.subscribe(EventBus.method.subscribeToTasks, { agentId: 'b' })
      .status;
    expect(code).toBe(8);
    expect(details).toContain('(limits.sessions)');
    expect(broker.broker.sessions.agents).toBe(1);
  });

  test('waits for a slow stream, and the others of that agent with it', async () => {
    const { broker, program } = await start();
    const slow = await program.tasks('worker', [], { client: broker.connect() });
    slow.call.pause();
    const text = 'x'.repeat(100_000);
    for (let index = 0; index < 60; index++)
      await program.publish(task(`t${index}`, 'worker', { parameters: { text } }));
    const owner = broker.broker.servedHere('worker');
    const waiting = (): number => owner.state.mailboxes.queued[owner.state.mailboxes.find('worker')] ?? 0;
    expect(waiting()).toBeGreaterThan(0);
    slow.call.resume();
    expect((await slow.take(60)).map(({ taskId }) => taskId)).toEqual(
      Array.from({ length: 60 }, (_, index) => `t${index}`),
    );
  });
});

const JSON_TYPE = 'application/json';

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
