import { describe, expect, test } from '@jest/globals';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TaskResult } from '../../../src/client/messages.ts';
import type { Hub } from '../../../src/client/hub.ts';
import type { ResultSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { Outcome } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { HubError } from '../../../src/std/errors.ts';
import { FakeBroker, leaseNo } from '../../support/fake-broker.ts';

const of = (
  taskId: string,
  more: MessageInitShape<typeof ResultSchema> = {},
): MessageInitShape<typeof ResultSchema> => ({ taskId, to: 'x', outcome: Outcome.SUCCEEDED, ...more });

async function requested(broker: FakeBroker, hub: Hub, ...ids: string[]): Promise<Promise<TaskResult>[]> {
  const requests = ids.map((id) => hub.request({ to: 'x', type: 't', id }));
  for (const request of requests) request.catch(() => {});
  await broker.settle();
  return requests;
}

describe('a request', () => {
  test('attaches to the replies before it publishes, and resolves with its own result, acknowledged', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ agent: 'planner' });
    const [a, b] = await requested(broker, hub, 'a', 'b');
    const [, frame] = broker.link.frames;
    expect(frame!.attach).toMatchObject([{ mailbox: 'reply:planner', agent: 'planner' }]);
    expect(frame!.publish[0]!.tasks).toMatchObject([{ requester: 'planner' }, { requester: 'planner' }]);
    broker.link.deliverResult(
      1,
      leaseNo(2),
      of('b', { payload: Buffer.from('for b'), contentType: 'text/plain' }),
    );
    broker.link.deliverResult(
      1,
      leaseNo(1),
      of('a', { payload: Buffer.from('{"n":1}'), attempts: 2, finishedAtMs: 9n }),
    );
    expect((await b!).text()).toBe('for b');
    const result = await a!;
    expect(result).toMatchObject({
      taskId: 'a',
      mailbox: 'x',
      outcome: 'succeeded',
      attempts: 2,
      finishedAtMs: 9,
    });
    expect(result.json()).toEqual({ n: 1 });
    await broker.settle();
    expect(broker.link.settlements).toHaveLength(2);
  });

  test('without an agent gets an address of its own', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ agent: '' });
    void (await requested(broker, hub, 'a'));
    const { mailbox } = broker.link.attaches[0]!;
    expect(mailbox).toMatch(/^reply:client-[0-9a-f]{16}$/);
    expect(`reply:${broker.link.publishes[0]!.tasks[0]!.requester}`).toBe(mailbox);
  });

  test.each([
    [Outcome.FAILED, 'aborted', 'failed'],
    [Outcome.CANCELLED, 'cancelled', 'cancelled'],
    [Outcome.EXPIRED, 'deadline', 'expired'],
  ])('rejects with the result if the task did not succeed: %s', async (outcome, code, name) => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const [request] = await requested(broker, hub, 'a');
    broker.link.deliverResult(1, leaseNo(1), of('a', { outcome, error: 'no luck' }));
    await expect(request).rejects.toMatchObject({
      code,
      result: { taskId: 'a', outcome: name, error: 'no luck' },
      message: expect.stringContaining('no luck'),
    });
  });

  test('that is not answered in time is cancelled, and its late result dropped', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const request = hub.request({ to: 'x', type: 't', id: 'a' }, { timeoutMs: 1_000 });
    request.catch(() => {});
    await broker.pass(1_000);
    await expect(request).rejects.toMatchObject({ code: 'deadline' });
    await broker.settle();
    expect(broker.link.frames.flatMap(({ cancel }) => cancel)).toMatchObject([{ mailbox: 'x', taskId: 'a' }]);
    broker.link.deliverResult(1, leaseNo(1), of('a', { outcome: Outcome.CANCELLED }));
    await broker.settle();
    expect(broker.link.settlements).toHaveLength(1);
    await broker.close(hub);
    expect(broker.clock.pending).toBe(0);
  });

  test('that is aborted is cancelled, but not before it is published', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const controller = new AbortController();
    const request = hub.request({ to: 'x', type: 't', id: 'a' }, { signal: controller.signal });
    controller.abort(new Error('changed my mind'));
    await expect(request).rejects.toMatchObject({ code: 'cancelled', cause: { message: 'changed my mind' } });
    await broker.settle();
    const said = broker.link.frames.map(({ publish, cancel }) => [publish.length, cancel.length]);
    expect(said.findIndex(([publish]) => publish! > 0)).toBeLessThan(
      said.findIndex(([, cancel]) => cancel! > 0),
    );
    await expect(hub.request({ to: 'x' }, { signal: controller.signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
  });

  test('hears how far its task is', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ agent: 'planner' });
    const heard: number[] = [];
    const request = hub.request({ to: 'x', id: 'a' }, { onProgress: ({ percent }) => heard.push(percent) });
    const all = hub.progress();
    await broker.settle();
    for (const [taskId, percent] of [
      ['a', 10],
      ['b', 20],
      ['a', 30],
    ] as const) {
      broker.link.say({ progress: [{ taskId, to: 'x', requester: 'planner', percent }] });
    }
    expect(heard).toEqual([10, 30]);
    const seen = [];
    for await (const { taskId, percent } of all) {
      seen.push([taskId, percent]);
      if (seen.length === 3) break;
    }
    expect(seen).toEqual([
      ['a', 10],
      ['b', 20],
      ['a', 30],
    ]);
    broker.link.deliverResult(1, leaseNo(1), of('a'));
    await request;
  });

  test('fails if the task is refused, or the replies can not be had', async () => {
    const broker = new FakeBroker();
    broker.manners.published = false;
    const hub = await broker.connected();
    const [request] = await requested(broker, hub, 'a');
    const { batch } = broker.link.publishes[0]!;
    broker.link.say({ publishAck: [{ batch, refused: [{ code: 3, message: 'bad', field: 'task.to' }] }] });
    await expect(request).rejects.toMatchObject({ code: 'invalid', field: 'task.to' });
    await expect(hub.request({ to: '*' })).rejects.toMatchObject({ code: 'invalid', field: 'task.to' });

    broker.manners.attached = false;
    const other = hub.request({ to: 'x', requester: 'other' });
    other.catch(() => {});
    await broker.settle();
    broker.link.say({ attached: [{ attachment: 2, refusal: { code: 7, message: 'not yours' } }] });
    await expect(other).rejects.toMatchObject({ code: 'permission' });
  });

  test('survives a broken connection, and a result that comes twice', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const [request] = await requested(broker, hub, 'a');
    broker.manners.resumed = false;
    broker.link.break(new HubError('unavailable', 'cut'));
    await broker.pass(1_000);
    broker.link.deliverResult(1, leaseNo(1), of('a'));
    await request;
    broker.link.deliverResult(1, leaseNo(2), of('a'));
    await broker.settle();
    expect(broker.link.settlements).toHaveLength(2);
  });

  test('ends with the connection', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const [request] = await requested(broker, hub, 'a');
    await broker.close(hub);
    await expect(request).rejects.toMatchObject({ code: 'cancelled' });
  });
});

describe('results that nobody requested', () => {
  test('wait for who reads them, and are acknowledged when the next one is asked for', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ agent: 'planner' });
    const results = hub.results();
    await broker.settle();
    for (const [index, id] of ['a', 'b'].entries()) broker.link.deliverResult(1, leaseNo(index), of(id));
    await broker.settle();
    expect((await results.next()).value).toMatchObject({ taskId: 'a' });
    await broker.settle();
    expect(broker.link.settlements).toHaveLength(0);
    expect((await results.next()).value).toMatchObject({ taskId: 'b' });
    await broker.settle();
    expect(broker.link.settlements).toHaveLength(1);
    await results.return!();
    await broker.settle();
    expect(broker.link.settlements).toHaveLength(2);
    expect(await results.next()).toEqual({ done: true, value: undefined });
  });

  test('reach a reader that is waiting already, and end with the connection', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ agent: 'planner' });
    const results = hub.results();
    const first = results.next();
    await broker.settle();
    broker.link.deliverResult(1, leaseNo(1), of('a'));
    expect((await first).value).toMatchObject({ taskId: 'a' });
    const second = results.next();
    await broker.settle();
    await broker.close(hub);
    expect(await second).toEqual({ done: true, value: undefined });
  });

  test('do not keep away those that a request waits for', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    void (await requested(broker, hub, 'a'));
    const { window } = broker.link.attaches[0]!;
    const stale = Array.from({ length: window }, (_, n) => ({
      attachment: 1,
      lease: leaseNo(n),
      result: of(`old${n}`),
    }));
    broker.link.say({ delivery: stale });
    await broker.settle();
    expect(broker.link.frames.flatMap((frame) => frame.window)).toMatchObject([
      { attachment: 1, window: window * 2 },
    ]);
  });
});
