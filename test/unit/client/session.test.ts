import { describe, expect, test } from '@jest/globals';
import { PermanentError, RetryLater } from '../../../src/client/failures.ts';
import type { Delivery } from '../../../src/client/delivery.ts';
import type { TaskContext } from '../../../src/client/worker.ts';
import { HubError } from '../../../src/std/errors.ts';
import { leaseHashOf } from '../../../src/wire/lease.ts';
import { FakeBroker, leaseNo } from '../../support/fake-broker.ts';

const broken = (): HubError => new HubError('unavailable', 'the wire was cut');
const never = (): Promise<void> => new Promise(() => {});

describe('connecting', () => {
  test('says hello first, and is connected when welcomed', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected({ client: 'crew/1.2' });
    expect(broker.link.hello).toMatchObject({
      sessionId: '',
      incarnation: 1,
      client: 'crew/1.2',
      inFlight: [],
    });
    expect(hub.state).toBe('connected');
    expect(broker.states).toEqual(['connected']);
  });

  test('tries again until its time is up, and says what to do', async () => {
    const broker = new FakeBroker();
    broker.manners.welcome = false;
    const open = broker.client().open();
    open.catch(() => {});
    for (let dial = 0; dial < 100 && broker.states.at(-1) !== 'closed'; dial++) {
      if (!broker.link.destroyed) broker.link.break(broken());
      await broker.pass(500);
    }
    await expect(open).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('agenthub serve'),
    });
    expect(broker.links.length).toBeGreaterThan(5);
  });

  test('gives up at once if it is not wanted', async () => {
    const broker = new FakeBroker();
    broker.manners.welcome = false;
    const open = broker.client().open();
    broker.link.break(new HubError('unauthenticated', 'give a token'));
    await expect(open).rejects.toMatchObject({ code: 'unauthenticated' });
    expect(broker.links).toHaveLength(1);
  });

  test('an answer that never comes is as good as none', async () => {
    const broker = new FakeBroker();
    broker.manners.welcome = false;
    const open = broker.client().open();
    await broker.pass(5_000);
    broker.manners.welcome = true;
    await broker.pass(1_000);
    await open;
    expect(broker.links).toHaveLength(2);
  });
});

describe('after a broken connection', () => {
  test('resumes with a higher incarnation and its leases, attaches again, and repeats what has no answer, in order', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const worker = hub.work('planner', (task) => (task.id === 'quick' ? 'done' : never()), {
      concurrency: 5,
    });
    await broker.settle();
    await worker;
    broker.manners.published = false;
    broker.manners.settled = false;
    const published = [];
    for (const id of ['a', 'b', 'c']) {
      published.push(hub.publish({ to: 'x', type: 't', id }));
      await broker.settle();
    }
    const [first] = broker.links;
    first!.deliver(1, leaseNo(1), { id: 'slow' });
    first!.deliver(1, leaseNo(2), { id: 'quick' });
    await broker.settle();
    expect(first!.settlements.map(({ lease }) => lease)).toEqual([Buffer.from(leaseNo(2))]);

    broker.manners.published = true;
    broker.manners.settled = true;
    first!.break(broken());
    expect(hub.state).toBe('reconnecting');
    await broker.pass(1_000);

    const second = broker.link;
    expect(second).not.toBe(first);
    expect(second.hello).toMatchObject({ sessionId: 's1', incarnation: 2 });
    expect(second.hello.inFlight).toEqual([Buffer.from(leaseNo(1)), Buffer.from(leaseNo(2))]);
    expect(second.frames[0]!.attach).toMatchObject([{ attachment: 1, mailbox: 'planner' }]);
    expect(second.publishes.flatMap(({ tasks }) => tasks.map(({ id }) => id))).toEqual(['a', 'b', 'c']);
    expect(second.publishes.map(({ batch }) => batch)).toEqual(first!.publishes.map(({ batch }) => batch));
    expect(second.settlements.map(({ lease }) => lease)).toEqual([Buffer.from(leaseNo(2))]);
    await Promise.all(published);

    second.break(broken());
    await broker.pass(1_000);
    expect(broker.link.hello.inFlight).toEqual([Buffer.from(leaseNo(1))]);
    expect(broker.link.publishes).toEqual([]);
    expect(broker.link.settles).toEqual([]);
  });

  test('a broker that has given the session up voids the leases, but a completion is still tried', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const contexts: TaskContext[] = [];
    const gates: PromiseWithResolvers<string>[] = [];
    const working = hub.work('planner', (_task, context) => {
      contexts.push(context);
      void context.signal;
      const gate = Promise.withResolvers<string>();
      gates.push(gate);
      return gate.promise;
    });
    await broker.settle();
    await working;
    broker.link.deliver(1, leaseNo(1), { id: 'completes' });
    broker.link.deliver(1, leaseNo(2), { id: 'fails' });
    await broker.settle();

    broker.manners.resumed = false;
    broker.link.break(broken());
    await broker.pass(1_000);
    expect(contexts.map(({ signal }) => signal.aborted)).toEqual([true, true]);

    gates[0]!.resolve('after all');
    gates[1]!.reject(new Error('aborted'));
    await broker.settle();
    expect(broker.link.settlements.map(({ lease }) => lease)).toEqual([Buffer.from(leaseNo(1))]);
    broker.link.break(broken());
    await broker.pass(1_000);
    expect(broker.link.hello).toMatchObject({ sessionId: 's2', inFlight: [] });
  });

  test('what is asked for in between goes out when it is back', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    broker.link.break(broken());
    const published = hub.publish({ to: 'x', type: 't' });
    const worker = hub.work('planner', () => {});
    const cancelled = hub.cancel({ mailbox: 'x', id: 'a' });
    await broker.pass(1_000);
    await published;
    await worker;
    broker.link.say({
      cancel: [{ call: broker.link.frames.flatMap(({ cancel }) => cancel)[0]!.call, outcome: 1 }],
    });
    expect(await cancelled).toBe('cancelled');
  });
});

describe('being alive', () => {
  test('heartbeats carry count and hash of what is held, and what was settled before is not', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const worker = hub.work('planner', (task) => (task.id === 'quick' ? undefined : never()), {
      concurrency: 9,
    });
    await broker.settle();
    await worker;
    for (const [index, id] of ['slow', 'quick', 'slow2'].entries())
      broker.link.deliver(1, leaseNo(index + 1), { id });
    await broker.pass(3_000);
    const hash = (leaseHashOf(leaseNo(1), 0) ^ leaseHashOf(leaseNo(3), 0)) >>> 0;
    expect(broker.link.frames.flatMap(({ heartbeat }) => heartbeat ?? [])).toMatchObject([
      { inFlight: 2, hash },
    ]);
    broker.link.say({ listInFlight: true });
    await broker.settle();
    expect(
      broker.link.frames
        .at(-1)!
        .inFlight!.leases.map((lease) => lease[4])
        .sort(),
    ).toEqual([1, 3]);
  });

  test('what is settled and not acknowledged is listed, for the list may overtake the settlement', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const worker = hub.work('planner', () => 'done');
    await broker.settle();
    await worker;
    broker.manners.settled = false;
    broker.link.deliver(1, leaseNo(1), { id: 'quick' });
    broker.link.say({ listInFlight: true });
    await broker.settle();
    expect(broker.link.settlements).toHaveLength(1);
    const list = broker.link.frames.findLast(({ inFlight }) => inFlight !== undefined);
    expect(list?.inFlight?.leases).toEqual([Buffer.from(leaseNo(1))]);
  });

  test('a broker that is not heard for three heartbeats is left', async () => {
    const broker = new FakeBroker();
    await broker.connected();
    broker.manners.heartbeat = false;
    await broker.pass(11_900);
    expect(broker.links).toHaveLength(1);
    await broker.pass(1_000);
    expect(broker.links).toHaveLength(2);
    expect(broker.links[0]!.destroyed).toBe(true);
    expect(broker.states).toEqual(['connected', 'reconnecting', 'connected']);
  });

  test('a frame that can not be read ends the connection, not the client', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    broker.link.raw(Buffer.from([0xff, 0xff, 0xff]));
    await broker.pass(1_000);
    expect(hub.state).toBe('connected');
    expect(broker.links).toHaveLength(2);
  });
});

describe('a broker that goes away', () => {
  test('with another one to go to is left at once, leases and all', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const worker = hub.work('planner', never);
    await broker.settle();
    await worker;
    broker.link.deliver(1, leaseNo(1), { id: 'a' });
    broker.link.say({ goAway: { reason: 'balance', address: 'other:2', deadlineMs: 5_000 } });
    await broker.pass(1_000);
    expect(broker.link.address).toBe('other:2');
    expect(broker.link.hello.inFlight).toEqual([Buffer.from(leaseNo(1))]);
    broker.manners.welcome = false;
    broker.link.break(broken());
    await broker.pass(200);
    broker.link.break(broken());
    await broker.pass(1_000);
    expect(broker.link.address).toBe('broker:1');
  });

  test('for good is first told what is still in flight, and new tasks wait for the next one', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const gate = Promise.withResolvers<void>();
    const worker = hub.work('planner', () => gate.promise);
    await broker.settle();
    await worker;
    const [first] = broker.links;
    first!.deliver(1, leaseNo(1), { id: 'a' });
    first!.say({ goAway: { reason: 'stop', deadlineMs: 10_000, draining: true } });
    expect(hub.state).toBe('draining');
    const published = hub.publish({ to: 'x', type: 't' });
    await broker.settle();
    expect(first!.publishes).toEqual([]);
    gate.resolve();
    await broker.pass(1_000);
    expect(first!.settlements).toHaveLength(1);
    expect(first!.destroyed).toBe(true);
    await published;
    expect(broker.link.publishes).toHaveLength(1);
    expect(broker.link.hello.inFlight).toEqual([]);
  });

  test('has refused what was on its way, which the next one gets', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    broker.manners.published = false;
    const worker = hub.work('planner', never);
    await broker.settle();
    await worker;
    const [first] = broker.links;
    first!.deliver(1, leaseNo(1), { id: 'keeps the connection' });
    const published = [hub.publish({ to: 'x' }), hub.publishBatch([{ to: 'y' }, { to: 'z' }])];
    await broker.settle();
    first!.say({ goAway: { reason: 'stop', deadlineMs: 10_000, draining: true } });
    for (const { batch, tasks } of first!.publishes) {
      const refused = tasks.map((_task, index) => ({ index, code: 14, message: 'draining' }));
      first!.say({ publishAck: [{ batch, refused }] });
    }
    broker.manners.published = true;
    await broker.pass(10_000);
    await Promise.all(published);
    expect(broker.link.publishes.map(({ batch }) => batch)).toEqual(
      first!.publishes.map(({ batch }) => batch),
    );
  });

  test('is not waited for longer than it waits', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const worker = hub.work('planner', never);
    await broker.settle();
    await worker;
    broker.link.deliver(1, leaseNo(1), { id: 'a' });
    broker.link.say({ goAway: { reason: 'stop', deadlineMs: 10_000, draining: true } });
    await broker.pass(7_900);
    expect(broker.links).toHaveLength(1);
    await broker.pass(1_100);
    expect(broker.link.hello.inFlight).toEqual([Buffer.from(leaseNo(1))]);
  });
});

describe('closing', () => {
  test('finishes what runs, hands back what has not begun, waits for the acks, and says goodbye', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const gate = Promise.withResolvers<string>();
    const working = hub.work('planner', () => gate.promise, { concurrency: 1, window: 2 });
    await broker.settle();
    const worker = await working;
    broker.link.deliver(1, leaseNo(1), { id: 'runs' });
    broker.link.deliver(1, leaseNo(2), { id: 'waits' });
    const published = hub.publish({ to: 'x', type: 't' });
    const closed = hub.close();
    await broker.settle();
    expect(broker.link.frames.flatMap(({ detach }) => detach)).toMatchObject([{ attachment: 1 }]);
    expect(broker.link.settlements).toMatchObject([{ verdict: { case: 'released' } }]);
    expect(hub.state).toBe('connected');
    gate.resolve('done');
    await broker.settle();
    await Promise.all([closed, published, worker.closed]);
    expect(broker.link.settlements[1]).toMatchObject({ verdict: { case: 'completed' } });
    expect(broker.link.frames.at(-1)!.goodbye).toBe(true);
    expect(hub.state).toBe('closed');
    expect(broker.clock.pending).toBe(0);
    await expect(hub.publish({ to: 'x', type: 't' })).rejects.toMatchObject({ code: 'cancelled' });
  });

  test('does not wait for ever', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const signals: AbortSignal[] = [];
    const working = hub.work('planner', (_task, { signal }) => {
      signals.push(signal);
      return never();
    });
    await broker.settle();
    const worker = await working;
    broker.link.deliver(1, leaseNo(1), { id: 'runs' });
    broker.manners.published = false;
    const published = hub.publish({ to: 'x', type: 't' });
    published.catch(() => {});
    const closed = hub.close({ graceMs: 2_000 });
    await broker.pass(3_000);
    await closed;
    await worker.closed;
    await expect(published).rejects.toMatchObject({ code: 'cancelled' });
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    expect(broker.clock.pending).toBe(0);
  });

  test('without a connection ends at once', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    broker.link.break(broken());
    await hub.close();
    expect(broker.clock.pending).toBe(0);
  });
});

describe('attachments', () => {
  test('a refusal is what work() rejects with', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    broker.manners.attached = false;
    const worker = hub.work('planner', () => {});
    await broker.settle();
    broker.link.say({
      attached: [
        { attachment: 1, refusal: { code: 8, message: 'full', limit: 'limits.attachmentsPerSession' } },
      ],
    });
    await expect(worker).rejects.toMatchObject({ code: 'exhausted', limit: 'limits.attachmentsPerSession' });
    broker.link.break(broken());
    await broker.pass(1_000);
    expect(broker.link.attaches).toEqual([]);
  });

  test('one that the broker does not take back is lost, and says so', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const working = hub.work('planner', () => {});
    await broker.settle();
    const worker = await working;
    broker.manners.attached = false;
    broker.link.break(broken());
    await broker.pass(1_000);
    broker.link.say({
      attached: [{ attachment: 1, refusal: { code: 14, message: 'busy', retryAfterMs: 100 } }],
    });
    await broker.pass(200);
    expect(broker.link.attaches).toHaveLength(2);
    broker.link.say({ attached: [{ attachment: 1, refusal: { code: 7, message: 'not yours' } }] });
    await expect(worker.closed).rejects.toMatchObject({ code: 'permission' });
  });

  test('a delivery that crosses a detach goes back', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const working = hub.work('planner', () => {});
    await broker.settle();
    await (await working).close();
    broker.link.deliver(1, leaseNo(1), { id: 'late' });
    await broker.settle();
    expect(broker.link.settlements).toMatchObject([{ verdict: { case: 'released' } }]);
  });
});

describe('a worker', () => {
  test('runs as many as it may, and settles all of a turn in one batch', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    let running = 0;
    let most = 0;
    const working = hub.work(
      'type:sum',
      async (task, context) => {
        most = Math.max(most, ++running);
        await Promise.resolve();
        running--;
        return { sum: task.json<number[]>()!.reduce((a, b) => a + b), attempt: context.attempt };
      },
      { concurrency: 2, window: 8, types: ['sum'], agent: 'adder' },
    );
    await broker.settle();
    await working;
    expect(broker.link.attaches).toMatchObject([
      { mailbox: 'type:sum', window: 8, types: ['sum'], agent: 'adder' },
    ]);
    const payload = Buffer.from('[1,2,3]');
    broker.link.say({
      delivery: [1, 2, 3, 4].map((n) => ({
        attachment: 1,
        lease: leaseNo(n),
        attempt: n,
        task: { id: `t${n}`, payload },
      })),
    });
    await broker.settle();
    expect(most).toBe(2);
    expect(broker.link.settles).toHaveLength(1);
    const completed = broker.link.settlements.map(({ verdict }) => verdict.value);
    expect(completed).toMatchObject([1, 2, 3, 4].map(() => ({ contentType: 'application/json' })));
    expect(Buffer.from((completed[3] as { payload: Uint8Array }).payload).toString()).toBe(
      '{"sum":6,"attempt":4}',
    );
  });

  test('an error fails the attempt, and says whether there is a point in another one', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const working = hub.work('planner', (task) => {
      if (task.id === 'a') throw new Error('this time');
      if (task.id === 'b') throw new PermanentError('never');
      if (task.id === 'c') throw new RetryLater(5_000);
      if (task.id === 'd') return 1n;
      return Promise.reject(new Error('later'));
    });
    await broker.settle();
    await working;
    for (const [index, id] of ['a', 'b', 'c', 'd', 'e'].entries())
      broker.link.deliver(1, leaseNo(index), { id });
    await broker.settle();
    expect(broker.link.settlements.map(({ verdict }) => verdict.value)).toMatchObject([
      { error: 'this time', retryable: true, retryAfterMs: 0 },
      { error: 'never', retryable: false },
      { retryable: true, retryAfterMs: 5_000 },
      { error: expect.stringContaining('JSON'), retryable: false },
      { error: 'later', retryable: true },
    ]);
  });

  test('hears when its work is of no use any more, and then only a success is told', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const reasons: unknown[] = [];
    const working = hub.work(
      'planner',
      (_task, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            reasons.push((signal.reason as HubError).message);
            reject(signal.reason as HubError);
          });
        }),
      { concurrency: 1, window: 2 },
    );
    await broker.settle();
    await working;
    broker.link.deliver(1, leaseNo(1), { id: 'runs' });
    broker.link.deliver(1, leaseNo(2), { id: 'waits' });
    broker.link.say({ abort: [1, 2].map((n) => ({ lease: leaseNo(n), reason: 'cancelled by planner' })) });
    await broker.settle();
    expect(reasons).toEqual(['cancelled by planner']);
    expect(broker.link.settles).toEqual([]);
  });

  test('tells the newest progress of a turn, and asks for more time', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const working = hub.work('planner', (_task, context) => {
      context.progress(10, 'begun');
      context.progress(99.6, 'nearly', { left: 1 });
      context.extend(60_000);
      return never();
    });
    await broker.settle();
    await working;
    broker.link.deliver(1, leaseNo(1), { id: 'a' });
    await broker.settle();
    const frame = broker.link.frames.at(-1)!;
    expect(frame.progress).toMatchObject([
      { percent: 100, message: 'nearly', contentType: 'application/json' },
    ]);
    expect(frame.extend).toMatchObject([{ runMs: 60_000 }]);
  });

  test('a settlement that the broker can not write down now is said again', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const working = hub.work('planner', (task) => task.id);
    await broker.settle();
    await working;
    broker.manners.settled = false;
    broker.link.say({
      delivery: [1, 2].map((n) => ({ attachment: 1, lease: leaseNo(n), attempt: 1, task: { id: `t${n}` } })),
    });
    await broker.settle();
    const { batch } = broker.link.settles[0]!;
    broker.link.say({
      settleAck: [{ batch, refused: [{ index: 1, code: 8, message: 'the log is full', retryAfterMs: 500 }] }],
    });
    await broker.pass(499);
    expect(broker.link.settles).toHaveLength(1);
    await broker.pass(2);
    expect(broker.link.settlements[2]).toEqual(broker.link.settlements[1]);
  });

  test('in batches says the end of each task once, whatever it is told', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const got: Delivery[] = [];
    const working = hub.workBatch('sink', (deliveries) => got.push(...deliveries));
    await broker.settle();
    const worker = await working;
    for (const n of [1, 2, 3]) broker.link.deliver(1, leaseNo(n), { id: `t${n}` });
    worker.settleAll(got);
    worker.settleAll(got);
    worker.fail(got[0]!, 'too late');
    worker.release(got[1]!);
    await broker.settle();
    expect(broker.link.settlements.map(({ verdict }) => verdict.case)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  test('whose handler of batches throws fails what it was given', async () => {
    const broker = new FakeBroker();
    const hub = await broker.connected();
    const working = hub.workBatch('sink', () => {
      throw new Error('bug');
    });
    await broker.settle();
    await working;
    broker.link.deliver(1, leaseNo(1), { id: 'a' });
    await broker.settle();
    expect(broker.link.settlements).toMatchObject([
      { verdict: { case: 'failed', value: { error: 'bug', retryable: true } } },
    ]);
    expect(hub.state).toBe('connected');
  });
});
