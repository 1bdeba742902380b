import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { TaskInput } from '../../../src/client/messages.ts';
import { HubError } from '../../../src/std/errors.ts';
import { FakeBroker } from '../../support/fake-broker.ts';

const task = (id?: string): TaskInput => ({ to: 'x', type: 't', ...(id === undefined ? {} : { id }) });

describe('publishing', () => {
  test('what is published in one turn leaves as one batch, and each is told its durability', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const handles = Promise.all(Array.from({ length: 50 }, () => hub.publish(task())));
    await broker.settle();
    expect(broker.link.publishes).toHaveLength(1);
    const ids = broker.link.publishes[0]!.tasks.map(({ id }) => id);
    expect(new Set(ids).size).toBe(50);
    expect(await handles).toEqual(
      ids.map((id) => ({ id, mailbox: 'x', durability: 'synced', recipients: undefined })),
    );
  });

  test('is not done before the broker says so', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    let done = false;
    const published = hub.publish(task()).then(() => (done = true));
    await broker.pass(20_000);
    expect(done).toBe(false);
    broker.link.say({ publishAck: [{ batch: broker.link.publishes[0]!.batch, durability: 2 }] });
    await published;
  });

  test('asks for the durability that it needs, without mixing', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    void hub.publish(task('a'));
    void hub.publish(task('b'), { durability: 'synced' });
    void hub.publish(task('c'), { durability: 'synced' });
    await broker.settle();
    expect(
      broker.link.publishes.map(({ durability, tasks }) => [durability, tasks.map(({ id }) => id)]),
    ).toEqual([
      [0, ['a']],
      [4, ['b', 'c']],
    ]);
  });

  test('says everything that a task can say', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ agent: 'planner' });
    void hub.publish({
      capability: 'summarize',
      payload: { text: 'ü' },
      priority: 'urgent',
      deadline: new Date(2e12),
      delay: 500,
      maxAttempts: 3,
      backoffMs: 10,
      maxRunMs: 20,
      headers: { traceparent: '00' },
      contextId: 'c',
    });
    void hub.publish({ to: 'x', type: 't', payload: 'text', requester: '' });
    void hub.publish({ to: 'x', type: 't', payload: new Uint8Array([1]), requester: 'other' });
    await broker.settle();
    const [all, text, bytes] = broker.link.publishes[0]!.tasks;
    expect(all).toMatchObject({
      to: 'type:summarize',
      type: 'summarize',
      requester: 'planner',
      priority: 5,
      deadlineMs: 2_000_000_000_000n,
      notBeforeMs: BigInt(broker.clock.now() + 500),
      maxAttempts: 3,
      backoffMs: 10,
      maxRunMs: 20,
      headers: { traceparent: '00' },
      contextId: 'c',
      contentType: 'application/json',
      payload: Buffer.from('{"text":"ü"}'),
    });
    expect(text).toMatchObject({ requester: '', contentType: 'text/plain', payload: Buffer.from('text') });
    expect(bytes).toMatchObject({ requester: 'other', contentType: '', payload: Buffer.from([1]) });
  });

  test.each([
    [{ type: 't' }, 'task.to'],
    [{ to: 'x', capability: 'y' }, 'task.to'],
    [{ to: 'x', deadline: Number.NaN }, 'task.deadline'],
    [{ to: 'x', delay: -1e15 }, 'task.delay'],
    [{ to: 'x', maxAttempts: 1.5 }, 'task.maxAttempts'],
    [{ to: 'x', maxRunMs: -1 }, 'task.maxRunMs'],
    [{ to: 'x', backoffMs: 2 ** 32 }, 'task.backoffMs'],
    [{ to: 'x', priority: 'asap' as 'low' }, 'task.priority'],
    [{ to: 'x', payload: { big: 1n } }, 'task.payload'],
    [{ to: 'x', payload: 'x'.repeat(1024 * 1024 + 1) }, 'task.payload'],
  ])('refuses what can not be a task, by its field: %#', async (input, field) => {
    const hub = await new FakeBroker().connected();
    await expect(hub.publish(input)).rejects.toMatchObject({ code: 'invalid', field });
  });
});

describe('a refusal', () => {
  const refuse = (broker: FakeBroker, refusal: object): void => {
    const { batch } = broker.link.publishes.at(-1)!;
    broker.link.say({
      publishAck: [{ batch, durability: 4, refused: [{ index: 1, message: 'why', ...refusal }] }],
    });
  };

  test('hits the task that it names, with its limit and delay', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    const published = ['a', 'b', 'c'].map((id) => hub.publish(task(id), { retry: false }));
    const settled = Promise.allSettled(published);
    await broker.settle();
    refuse(broker, { code: 8, limit: 'limits.mailboxDepth', retryAfterMs: 250 });
    const [a, b, c] = await settled;
    expect([a!.status, b!.status, c!.status]).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect((b as PromiseRejectedResult).reason).toMatchObject({
      code: 'exhausted',
      limit: 'limits.mailboxDepth',
      retryAfterMs: 250,
      message: 'why',
    });
  });

  test('that may pass is tried again after its delay, with the same id', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    const published = [hub.publish(task('a')), hub.publish(task('b'))];
    await broker.settle();
    refuse(broker, { code: 8, limit: 'limits.mailboxDepth', retryAfterMs: 250 });
    await published[0];
    broker.manners.published = true;
    await broker.pass(249);
    expect(broker.link.publishes).toHaveLength(1);
    await broker.pass(1);
    expect(broker.link.publishes[1]!.tasks.map(({ id }) => id)).toEqual(['b']);
    await published[1];
  });

  test('that does not pass in time is the answer', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    const published = Promise.allSettled([hub.publish(task('a')), hub.publish(task('b'))]);
    await broker.settle();
    refuse(broker, { code: 14, retryAfterMs: 31_000 });
    expect((await published)[1]).toMatchObject({ status: 'rejected', reason: { code: 'unavailable' } });
  });

  test('that will not pass is final at once', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    const published = Promise.allSettled([hub.publish(task('a')), hub.publish(task('b'))]);
    await broker.settle();
    refuse(broker, { code: 9, field: 'durability' });
    expect((await published)[1]).toMatchObject({ reason: { code: 'precondition', field: 'durability' } });
  });
});

describe('no answer', () => {
  test('is an error that says that it may have been accepted', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    const single = hub.publish(task());
    single.catch(() => {});
    const batch = hub.publishBatch([task('a'), task('b')]);
    await broker.pass(31_000);
    await expect(single).rejects.toMatchObject({ code: 'deadline' });
    expect((await batch).outcomes.map(({ error }) => error?.code)).toEqual(['deadline', 'deadline']);
    broker.link.break(new HubError('unavailable', 'cut'));
    await broker.pass(1_000);
    expect(broker.link.publishes).toEqual([]);
  });
});

describe('a batch', () => {
  test('has an outcome per task', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    const batch = hub.publishBatch([
      task('a'),
      { ...task('b'), payload: 'x'.repeat(2 ** 21) },
      task('c'),
      { to: '*', id: 'd' },
    ]);
    await broker.settle();
    const [publish] = broker.link.publishes;
    expect(publish!.tasks.map(({ id }) => id)).toEqual(['a', 'c', 'd']);
    broker.link.say({
      publishAck: [
        {
          batch: publish!.batch,
          durability: 2,
          refused: [{ index: 1, code: 8, message: 'full', limit: 'limits.mailboxDepth' }],
          recipients: [{ index: 2, count: 7 }],
        },
      ],
    });
    const { durability, outcomes } = await batch;
    expect(durability).toBe('stored');
    expect(outcomes).toMatchObject([
      { id: 'a', mailbox: 'x', error: undefined },
      { id: 'b', error: { code: 'invalid', limit: 'limits.taskBytes' } },
      { id: 'c', error: { code: 'exhausted', limit: 'limits.mailboxDepth' } },
      { id: 'd', mailbox: '*', error: undefined, recipients: 7 },
    ]);
  });

  test('keeps its order among single tasks, and the limit of the broker', async () => {
    const broker = new FakeBroker();
    broker.limits = { ...broker.limits, batchTasks: 2 };
    const hub = await broker.connected();
    const all = [hub.publish(task('a')), hub.publishBatch(['b', 'c', 'd'].map(task)), hub.publish(task('e'))];
    await broker.settle();
    await Promise.all(all);
    expect(broker.link.publishes.map(({ tasks }) => tasks.map(({ id }) => id))).toEqual([
      ['a'],
      ['b', 'c'],
      ['d'],
      ['e'],
    ]);
  });
});

describe('back-pressure', () => {
  test('while the connection takes no more, what is said gathers', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    broker.link.writable = false;
    const published = [hub.publish(task('a'))];
    await broker.settle();
    const before = broker.link.frames.length;
    for (const id of ['b', 'c', 'd']) {
      published.push(hub.publish(task(id)));
      await broker.settle();
    }
    expect(broker.link.frames).toHaveLength(before);
    broker.link.drain();
    expect(broker.link.frames).toHaveLength(before + 1);
    expect(broker.link.publishes.flatMap(({ tasks }) => tasks.map(({ id }) => id))).toEqual([
      'a',
      'b',
      'c',
      'd',
    ]);
    await broker.settle();
    await Promise.all(published);
  });

  test('publishing waits while too much is not acknowledged, and keeps its order', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected({ publisher: { unacknowledgedBytes: 10_000, timeoutMs: 30_000 } });
    const payload = new Uint8Array(6_000);
    const done: string[] = [];
    const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const id of ids) void hub.publish({ ...task(id), payload }).then(({ id: of }) => done.push(of));
    await broker.settle();
    // All of one turn are one batch; the next ones wait.
    for (const id of ['g', 'h', 'i'])
      void hub.publish({ ...task(id), payload }).then(({ id: of }) => done.push(of));
    await broker.settle();
    const said = (): string[] => broker.link.publishes.flatMap(({ tasks }) => tasks.map(({ id }) => id));
    expect(said()).toEqual(ids);
    let answered = 0;
    while (answered < broker.link.publishes.length) {
      broker.link.say({ publishAck: [{ batch: broker.link.publishes[answered++]!.batch, durability: 4 }] });
      await broker.settle();
    }
    expect(said()).toEqual([...ids, 'g', 'h', 'i']);
    expect(done).toEqual(said());
  });

  test('frames keep a bound, however much is said', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ publisher: { unacknowledgedBytes: 2 ** 30, timeoutMs: 30_000 } });
    const payload = new Uint8Array(100_000);
    const all = hub.publishBatch(
      Array.from({ length: 40 }, (_, index) => ({ ...task(`${index}`), payload })),
    );
    await broker.settle();
    await all;
    const bytes = broker.link.frames.map(({ publish }) =>
      publish.flatMap(({ tasks }) => tasks).reduce((sum, one) => sum + one.payload.length, 0),
    );
    expect(Math.max(...bytes)).toBeLessThan(600_000);
    expect(bytes.reduce((a, b) => a + b)).toBe(4_000_000);
  });
});

describe('whatever breaks, whenever', () => {
  test('every task is accepted, in order, and each is answered once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('publish', 'batch', 'break', 'mute', 'pass'), { maxLength: 30 }),
        async (steps) => {
          const broker = new FakeBroker();
          const hub = await broker.connected();
          const answers: Promise<unknown>[] = [];
          const wanted: string[] = [];
          const next = (): TaskInput => {
            wanted.push(`t${wanted.length}`);
            return task(wanted.at(-1));
          };
          for (const step of steps) {
            if (step === 'publish') answers.push(hub.publish(next()));
            else if (step === 'batch') answers.push(hub.publishBatch([next(), next()]));
            else if (step === 'pass') await broker.pass(700);
            else if (step === 'mute') broker.manners.published = !broker.manners.published;
            else broker.link.break(new HubError('unavailable', 'cut'));
          }
          broker.manners.published = true;
          broker.link.break(new HubError('unavailable', 'cut'));
          await broker.pass(10_000);
          await Promise.all(answers);
          const accepted = new Set<string>();
          for (const { publishes } of broker.links) {
            for (const { tasks } of publishes) for (const { id } of tasks) accepted.add(id);
          }
          expect([...accepted]).toEqual(wanted);
          expect(hub.state).toBe('connected');
        },
      ),
      { numRuns: 100 },
    );
  });
});
