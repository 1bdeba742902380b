import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { ConnectOptions, Hub } from '../../src/client/index.ts';
import { connect, PermanentError } from '../../src/client/index.ts';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker, TaskState } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import type { HelloSchema } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { CancelOutcome } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { TaskSchema } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { Outcome, Priority } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import {
  Priority as BusPriority,
  TaskMessageSchema,
  TaskProgressSchema,
  TaskResultSchema,
  TaskStatus,
} from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { leaseHashOf } from '../../src/wire/lease.ts';
import { Agent } from '../support/agent.ts';
import type { Settings, TestBroker } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import type { EventBusTask } from '../support/program.ts';
import { Program } from '../support/program.ts';
import { startProxy } from '../support/proxy.ts';

type TaskInit = MessageInitShape<typeof TaskSchema>;

/** One broker, or several that are one cluster. */
export interface Deployment {
  readonly brokers: readonly TestBroker[];
  /** Where those connect who ask. */
  readonly near: TestBroker;
  /** Where those connect who work. */
  readonly far: TestBroker;
  /** An agent that nobody else is. Its mailbox is served by neither of the two, if there is a third one. */
  name(what: string): string;
  remove(): Promise<void>;
}

/** What all deployments are told. */
export const SETTINGS: Settings = {
  shards: 6,
  session: { heartbeatMs: '500ms', timeoutMs: '60s', graceMs: '60s' },
  delivery: { backoffInitialMs: '0', backoffMaxMs: '1m' },
  limits: { mailboxDepth: 1000, taskBytes: '64KiB' },
};

/** What agents are promised, whatever the broker consists of. */
export function describeBehaviour(what: string, deploy: () => Promise<Deployment>): void {
  describe(what, () => {
    let deployed: Deployment | undefined;
    const hubs: Hub[] = [];
    const agents: Agent[] = [];
    const closing: (() => unknown)[] = [];

    beforeAll(async () => {
      deployed = await deploy();
    }, 60_000);

    afterEach(async () => {
      await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
      for (const agent of agents) agent.send({ goodbye: true });
      await Promise.all(agents.splice(0).map(({ status }) => status));
      await Promise.all(closing.splice(0).map((close) => close()));
      // Whoever is attached gets broadcasts of the next test.
      await until(() => d().brokers.every(({ broker }) => broker.sessions.size === 0));
    });

    afterAll(() => deployed?.remove());

    const d = (): Deployment => {
      if (!deployed) throw new Error('nothing is deployed');
      return deployed;
    };
    const address = ({ embedded }: TestBroker): string => `127.0.0.1:${embedded.grpcPort}`;
    const hubAt = async (at: string, options: ConnectOptions = {}): Promise<Hub> => {
      const hub = await connect({ address: at, ...options });
      hubs.push(hub);
      return hub;
    };
    const asker = (agent = d().name('asker')): Promise<Hub> => hubAt(address(d().near), { agent });
    const worker = (): Promise<Hub> => hubAt(address(d().far));
    const agentAt = async (
      broker: TestBroker,
      hello: MessageInitShape<typeof HelloSchema> = {},
    ): Promise<Agent> => {
      const agent = await Agent.connect(broker, hello);
      agents.push(agent);
      return agent;
    };
    const attached = async (broker: TestBroker, mailbox: string, window = 100): Promise<Agent> => {
      const agent = await agentAt(broker);
      expect((await agent.attach(1, mailbox, { window })).code).toBe(0);
      return agent;
    };
    const taskOf = async (mailbox: string, taskId: string) =>
      (await d().near.call(Broker.method.getTask, { mailbox, taskId })).task;
    /** What is acknowledged is in the log; who owns it reads it from there. */
    const stateOf = async (mailbox: string, taskId: string): Promise<TaskState | undefined> =>
      (await taskOf(mailbox, taskId).catch(() => undefined))?.state;
    const becomes = (mailbox: string, taskId: string, state: TaskState): Promise<void> =>
      until(async () => (await stateOf(mailbox, taskId)) === state);

    describe('asking and working', () => {
      test('a request finds its worker, hears how far it is, and gets the answer', async () => {
        const [name, self] = [d().name('greeter'), d().name('planner')];
        const heard = Promise.withResolvers<void>();
        await (
          await worker()
        ).work(name, async (task, context) => {
          context.progress(50, 'thinking', { half: true });
          await heard.promise;
          return { hello: task.json<{ name: string }>()?.name, by: task.headers['tenant'] };
        });
        const progress: unknown[] = [];
        const result = await (
          await asker(self)
        ).request(
          { to: name, payload: { name: 'Ada' }, headers: { tenant: 'x' }, contextId: 'c' },
          {
            onProgress: ({ percent, message, json }) => {
              progress.push([percent, message]);
              expect(json).toBeDefined();
              heard.resolve();
            },
          },
        );
        expect(result.json()).toEqual({ hello: 'Ada', by: 'x' });
        expect(result).toMatchObject({
          executor: name,
          requester: self,
          attempts: 1,
          contextId: 'c',
          outcome: 'succeeded',
        });
        expect(progress).toEqual([[50, 'thinking']]);
      });

      test('many agents share a connection, and each gets its own', async () => {
        const [one, other] = [await worker(), await asker()];
        const names = Array.from({ length: 40 }, (_, index) => `many-${index}`);
        await Promise.all(names.map((name) => one.work(name, (task) => `${name} did ${task.text()}`)));
        const results = await Promise.all(names.map((to) => other.request({ to, payload: to })));
        expect(results.map((result) => result.text())).toEqual(names.map((name) => `${name} did ${name}`));
      });

      test('workers compete wherever they are, within their concurrency, and none is done twice', async () => {
        const capability = d().name('job');
        const seen: string[] = [];
        let most = 0;
        for (const [index, broker] of [...d().brokers, d().near, d().far].entries()) {
          let running = 0;
          const work = async ({ id }: { id: string }): Promise<string> => {
            most = Math.max(most, ++running);
            await new Promise((resolve) => setImmediate(resolve));
            running--;
            seen.push(id);
            return `${index}`;
          };
          await (await hubAt(address(broker))).work(`type:${capability}`, work, { concurrency: 4 });
        }
        const hub = await asker();
        const results = await Promise.all(Array.from({ length: 300 }, () => hub.request({ capability })));
        expect(new Set(results.map((result) => result.text())).size).toBe(d().brokers.length + 2);
        expect(new Set(seen).size).toBe(300);
        expect(seen).toHaveLength(300);
        expect(most).toBeLessThanOrEqual(4);
      });

      test('listeners get copies of what the worker does', async () => {
        const name = d().name('heard');
        const copies: string[] = [];
        await (await asker()).listen(name, (task) => copies.push(task.text()));
        await (await worker()).work(name, (task) => task.text().toUpperCase());
        const hub = await asker();
        const results = await Promise.all(['a', 'b'].map((payload) => hub.request({ to: name, payload })));
        expect(results.map((result) => result.text())).toEqual(['A', 'B']);
        await until(() => copies.length === 2);
        expect(copies.sort()).toEqual(['a', 'b']);
      });

      test('comes in the order in which it was accepted, and is gone when it is settled', async () => {
        const to = d().name('sink');
        const hub = await asker();
        const ids = Array.from({ length: 1000 }, (_, index) => `t${index}`);
        for (let from = 0; from < ids.length; from += 50)
          await hub.publishBatch(ids.slice(from, from + 50).map((id) => ({ id, to, requester: '' })));
        const agent = await attached(d().far, to, 2000);
        const deliveries = await agent.deliveries.take(ids.length);
        expect(deliveries.map(({ task }) => task?.id)).toEqual(ids);
        for (const { lease } of deliveries) agent.complete(lease);
        await agent.settleAcks.take(ids.length);
        const { tasks } = await d().near.call(Broker.method.listTasks, { mailbox: to });
        expect(tasks).toEqual([]);
      });

      test('by priority, and unspecified is medium', async () => {
        const to = d().name('ranked');
        const { LOW, UNSPECIFIED, MEDIUM, HIGH, CRITICAL, URGENT } = Priority;
        const levels = [LOW, UNSPECIFIED, MEDIUM, HIGH, CRITICAL, URGENT];
        await (
          await agentAt(d().near)
        ).publish(levels.map((priority) => ({ id: `p${priority}`, to, priority })));
        await becomes(to, 'p5', TaskState.QUEUED);
        expect(await (await attached(d().far, to)).ids(6)).toEqual(['p5', 'p4', 'p3', 'p0', 'p2', 'p1']);
      });

      test('is shared by the workers of a capability, and stays within their windows', async () => {
        const to = `type:${d().name('ocr')}`;
        const [one, two] = [await attached(d().near, to, 3), await attached(d().far, to, 5)];
        await one.publish(Array.from({ length: 20 }, (_, index) => ({ id: `t${index}`, to })));
        const first = [...(await one.deliveries.take(3)), ...(await two.deliveries.take(5))];
        expect(new Set(first.map(({ task }) => task?.id)).size).toBe(8);
        one.send({ heartbeat: {} });
        two.send({ heartbeat: {} });
        await Promise.all([one.heartbeats.next(), two.heartbeats.next()]);
        expect([...one.deliveries.pending, ...two.deliveries.pending]).toEqual([]);
        one.send({ window: [{ attachment: 1, window: 15 }] });
        expect(await one.deliveries.take(12)).toHaveLength(12);
      });

      test('of types that a worker does not take waits for one that does', async () => {
        const to = d().name('studio');
        const painter = await agentAt(d().far);
        await painter.attach(1, to, { types: ['paint'] });
        await painter.publish([
          { id: 'song', to, type: 'sing' },
          { id: 'picture', to, type: 'paint' },
        ]);
        expect(await painter.ids(1)).toEqual(['picture']);
        const singer = await agentAt(d().near);
        await singer.attach(1, to, { types: ['sing'] });
        expect(await singer.ids(1)).toEqual(['song']);
      });

      test('can be completed once', async () => {
        const to = d().name('once');
        const agent = await attached(d().far, to);
        await agent.publish([{ id: 'a', to }]);
        const { lease } = await agent.delivery();
        agent.complete(lease);
        agent.complete(lease);
        agent.fail(lease, { retryable: true });
        const acks = await agent.settleAcks.take(3);
        expect(acks.map(({ refused }) => refused.map(({ code }) => code)).sort()).toEqual([[], [9], [9]]);
        await agent.publish([{ id: 'mark', to }]);
        expect(await agent.ids(1)).toEqual(['mark']);
      });

      test('handed back comes again, and that is no attempt', async () => {
        const to = d().name('modest');
        const agent = await attached(d().far, to, 1);
        await agent.publish(['a', 'b', 'c'].map((id) => ({ id, to })));
        agent.release((await agent.delivery()).lease);
        // Until the log says so, it is nobody's: others are delivered meanwhile.
        for (;;) {
          const { task, lease, attempt } = await agent.delivery();
          agent.complete(lease);
          if (task?.id !== 'a') continue;
          expect(attempt).toBe(1);
          break;
        }
      });

      test('longer than its time is given anew, unless it is extended', async () => {
        const to = d().name('timed');
        const agent = await attached(d().far, to);
        await agent.publish([
          { id: 'short', to, maxRunMs: 1500 },
          { id: 'long', to, maxRunMs: 1500 },
        ]);
        const [short, long] = await agent.deliveries.take(2);
        agent.send({ extend: [{ lease: long!.lease, runMs: 60_000 }] });
        expect(await agent.abort()).toMatchObject({
          lease: short!.lease,
          reason: 'the task ran longer than its max_run_ms',
        });
        const again = await agent.delivery();
        expect([again.task?.id, again.attempt]).toEqual(['short', 2]);
        agent.complete(long!.lease);
        expect((await agent.settled()).refused).toEqual([]);
      });
    });

    describe('results', () => {
      test('go to the replica of the agent that asked', async () => {
        const [to, requester] = [d().name('worker'), d().name('planner')];
        const one = await attached(d().near, `reply:${requester}`);
        const two = await attached(d().far, `reply:${requester}`);
        const doer = await attached(d().far, to);
        const asks = (prefix: string): TaskInit[] =>
          Array.from({ length: 20 }, (_, index) => ({ id: `${prefix}${index}`, to, requester }));
        await one.publish(asks('one-'));
        await two.publish(asks('two-'));
        for (const { lease } of await doer.deliveries.take(40)) doer.complete(lease);
        const [first, second] = await Promise.all([one.ids(20), two.ids(20)]);
        expect(first.every((id) => id.startsWith('one-'))).toBe(true);
        expect(second.every((id) => id.startsWith('two-'))).toBe(true);
      });

      test('go to another replica when the one that asked is gone', async () => {
        const [to, requester] = [d().name('worker'), d().name('planner')];
        const gone = await agentAt(d().near);
        await gone.attach(1, `reply:${requester}`);
        const doer = await attached(d().far, to);
        await gone.publish([{ id: 'a', to, requester }]);
        const { lease } = await doer.delivery();
        gone.send({ goodbye: true });
        await gone.status;
        const other = await attached(d().far, `reply:${requester}`);
        doer.complete(lease, { payload: Buffer.from('4'), headers: { cost: '1' } });
        const { result, lease: resultLease } = await other.delivery();
        expect(result).toMatchObject({
          taskId: 'a',
          to,
          requester,
          outcome: Outcome.SUCCEEDED,
          executor: to,
          headers: { cost: '1' },
        });
        other.complete(resultLease);
        expect((await other.settled()).refused).toEqual([]);
      });

      test('wait for a requester that was away, and are given once', async () => {
        const [to, self] = [d().name('clerk'), d().name('planner')];
        const before = await asker(self);
        await before.publish({ to, id: 'a' });
        await before.publish({ to, id: 'b' });
        await before.close();
        await (await worker()).work(to, () => 'stamped');
        await until(async () => (await stateOf(to, 'a')) === TaskState.SUCCEEDED);
        await until(async () => (await stateOf(to, 'b')) === TaskState.SUCCEEDED);
        const after = await asker(self);
        const got: string[] = [];
        for await (const result of after.results()) {
          got.push(`${result.taskId} ${result.text()}`);
          if (got.length === 2) break;
        }
        expect(got.sort()).toEqual(['a stamped', 'b stamped']);
        await until(async () => {
          const { tasks } = await d().far.call(Broker.method.listTasks, { requester: self });
          return tasks.length === 0;
        });
      });

      test('of a publish without a session go to any replica, also one that comes later', async () => {
        const [to, requester] = [d().name('worker'), d().name('planner')];
        await d().near.call(Broker.method.publish, { tasks: [{ id: 'a', to, requester }] });
        const doer = await attached(d().far, to);
        doer.complete((await doer.delivery()).lease);
        expect((await doer.settled()).refused).toEqual([]);
        const planner = await attached(d().far, `reply:${requester}`);
        expect((await planner.delivery()).result?.taskId).toBe('a');
      });

      test('follow progress, which goes to the session that asked, and shows on the task', async () => {
        const [to, requester] = [d().name('worker'), d().name('planner')];
        const one = await attached(d().near, `reply:${requester}`);
        const doer = await attached(d().far, to);
        await one.publish([{ id: 'a', to, requester }]);
        const { lease } = await doer.delivery();
        doer.send({ progress: [{ lease, percent: 10, message: 'a tenth', payload: Buffer.of(1) }] });
        expect(await one.progresses.next()).toMatchObject({
          taskId: 'a',
          to,
          requester,
          executor: to,
          percent: 10,
          message: 'a tenth',
          payload: Buffer.of(1),
        });
        expect((await taskOf(to, 'a'))?.progress).toMatchObject({ percent: 10 });
      });
    });

    describe('what fails', () => {
      test('for good says why, is a dead letter, and can be replayed', async () => {
        const to = d().name('clerk');
        const hub = await asker();
        let failing = true;
        const work = await (
          await worker()
        ).work(to, () => {
          if (failing) throw new PermanentError('no such form');
          return 'found';
        });
        await expect(hub.request({ to, id: 'a' })).rejects.toMatchObject({
          message: expect.stringContaining('no such form'),
          result: { outcome: 'failed', attempts: 1 },
        });
        await until(async () => (await hub.getTask({ mailbox: to, id: 'a' }))?.state === 'dead');
        const { tasks } = await d().near.call(Broker.method.listTasks, { mailbox: `dead:${to}` });
        expect(tasks).toMatchObject([{ id: 'a', deadReason: 'rejected', deadError: 'no such form' }]);
        failing = false;
        const replayed = await d().near.call(Admin.method.replayDeadLetters, { mailbox: to, taskIds: ['a'] });
        expect(replayed.replayed).toBe(1n);
        await becomes(to, 'a', TaskState.SUCCEEDED);
        await work.close();
      });

      test('is tried again until its attempts are used up', async () => {
        const [to, requester] = [d().name('clerk'), d().name('planner')];
        const planner = await attached(d().near, `reply:${requester}`);
        const doer = await attached(d().far, to);
        await planner.publish([{ id: 'a', to, requester, maxAttempts: 3 }]);
        for (const attempt of [1, 2, 3]) {
          const delivery = await doer.delivery();
          expect(delivery.attempt).toBe(attempt);
          doer.fail(delivery.lease, { error: `attempt ${attempt}`, retryable: true });
        }
        expect((await planner.delivery()).result).toMatchObject({
          outcome: Outcome.FAILED,
          error: 'attempt 3',
          attempts: 3,
        });
        expect(await taskOf(to, 'a')).toMatchObject({ state: TaskState.DEAD, deadReason: 'attempts' });
      });

      test('waits for as long as its worker or the task says', async () => {
        const to = d().name('patient');
        const agent = await attached(d().far, to);
        await agent.publish([
          { id: 'by worker', to },
          { id: 'by task', to, backoffMs: 40_000 },
        ]);
        const [first, second] = await agent.deliveries.take(2);
        agent.fail(first!.lease, { retryable: true, retryAfterMs: 1_000_000 });
        agent.fail(second!.lease, { retryable: true });
        await agent.settleAcks.take(2);
        for (const [id, most] of [
          ['by worker', 1_000_000],
          ['by task', 40_000],
        ] as const) {
          await becomes(to, id, TaskState.DELAYED);
          const { notBeforeMs = 0n } = (await taskOf(to, id)) ?? {};
          expect(Number(notBeforeMs)).toBeLessThanOrEqual(Date.now() + most);
        }
      });

      test('because its worker says goodbye goes to others, and that is no attempt', async () => {
        const to = d().name('left');
        const leaving = await agentAt(d().near);
        await leaving.attach(1, to);
        await leaving.publish([{ id: 'a', to }]);
        await leaving.delivery();
        const other = await attached(d().far, to);
        leaving.send({ goodbye: true });
        expect((await leaving.status).code).toBe(0);
        const { task, attempt } = await other.delivery();
        expect([task?.id, attempt]).toEqual(['a', 1]);
      });
    });

    describe('publishing', () => {
      test('the same id to the same mailbox again has no effect, while it lives and after', async () => {
        const [to, other] = [d().name('worker'), d().name('other')];
        const [here, there] = [await agentAt(d().near), await attached(d().far, to)];
        expect((await here.publish(['a', 'a'].map((id) => ({ id, to })))).refused).toEqual([]);
        expect((await there.publish([{ id: 'a', to }])).refused).toEqual([]);
        there.complete((await there.delivery()).lease);
        await there.settled();
        expect((await here.publish([{ id: 'a', to }])).refused).toEqual([]);
        await there.attach(2, other);
        await here.publish([
          { id: 'a', to },
          { id: 'a', to: other },
          { id: 'mark', to },
        ]);
        const got = await there.deliveries.take(2);
        expect(got.map(({ task }) => `${task?.to} ${task?.id}`).sort()).toEqual(
          [`${other} a`, `${to} mark`].sort(),
        );
      });

      test('without an id the broker makes one and tells it', async () => {
        const to = d().name('worker');
        const agent = await attached(d().far, to);
        const { assigned } = await agent.publish([{ to }, { id: 'mine', to }, { to }]);
        expect(assigned.map(({ index }) => index)).toEqual([0, 2]);
        expect(await agent.ids(3)).toEqual([assigned[0]!.id, 'mine', assigned[1]!.id]);
      });

      test('later: the task is not delivered before its time', async () => {
        const to = d().name('later');
        const agent = await attached(d().far, to);
        const notBefore = Date.now() + 1000;
        await agent.publish([
          { id: 'later', to, notBeforeMs: BigInt(notBefore) },
          { id: 'now', to },
        ]);
        expect(await agent.ids(2)).toEqual(['now', 'later']);
        expect(Date.now()).toBeGreaterThanOrEqual(notBefore);
      });

      test('with a deadline: after it the task is a dead letter, and its requester knows', async () => {
        const [to, requester] = [d().name('late'), d().name('planner')];
        const planner = await attached(d().near, `reply:${requester}`);
        await planner.publish([{ id: 'a', to, requester, deadlineMs: BigInt(Date.now() + 100) }]);
        expect((await planner.delivery()).result).toMatchObject({
          taskId: 'a',
          outcome: Outcome.EXPIRED,
          attempts: 0,
        });
        expect(await taskOf(to, 'a')).toMatchObject({ state: TaskState.DEAD, deadReason: 'deadline' });
      });

      test('to all: every attached agent gets a copy, and the publisher is told how many', async () => {
        const agent = await agentAt(d().far);
        const publisher = await agentAt(d().near);
        let sent = 0;
        const count = async (): Promise<number> => {
          const id = `all-${what}-${sent++}`;
          return (await publisher.publish([{ id, to: '*' }])).recipients[0]!.count;
        };
        await until(async () => (await count()) === 0);
        const names = Array.from({ length: 7 }, (_, index) => `ear-${index}`);
        for (const [index, name] of names.entries()) await agent.attach(index + 1, name);
        await agent.attach(99, 'type:other');
        // Brokers tell each other now and then who is there.
        await until(async () => (await count()) === 7);
        const copies = new Set<number>();
        while (copies.size < 7) {
          const { attachment } = await agent.deliveries.next(
            ({ task }) => task?.id === `all-${what}-${sent - 1}`,
          );
          expect(copies.has(attachment)).toBe(false);
          copies.add(attachment);
        }
        expect([...copies].sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
      });

      test('names the mailbox that is full, and takes tasks again when there is room', async () => {
        const [to, other] = [d().name('small'), d().name('large')];
        const agent = await agentAt(d().near);
        await agent.publish(Array.from({ length: 1000 }, () => ({ to })));
        let refused;
        await until(async () => (refused = (await agent.publish([{ to }])).refused[0]) !== undefined);
        expect(refused).toMatchObject({ code: 8, limit: 'limits.mailboxDepth', retryAfterMs: 1000 });
        expect((await agent.publish([{ to: other }])).refused).toEqual([]);
        const hub = await worker();
        const work = await hub.workBatch(to, (deliveries, batch) => batch.settleAll(deliveries));
        await until(async () => (await agent.publish([{ to }])).refused.length === 0);
        await work.close();
      });

      test('refuses what is too large, and a durability that there is not', async () => {
        const to = d().name('any');
        const hub = await asker();
        await expect(hub.publish({ to, payload: new Uint8Array(70_000) })).rejects.toMatchObject({
          code: 'invalid',
          limit: 'limits.taskBytes',
        });
        await expect(hub.publish({ to }, { durability: 'synced' })).rejects.toMatchObject({
          code: 'precondition',
        });
        expect(await hub.publish({ to })).toMatchObject({
          durability: expect.stringMatching(/memory|stored/),
        });
      });
    });

    describe('looking and cancelling', () => {
      test('a task is seen in each of its states, and cancelled in those that are not its end', async () => {
        const [to, requester] = [d().name('worker'), d().name('planner')];
        const planner = await attached(d().near, `reply:${requester}`);
        const doer = await attached(d().far, to, 2);
        await planner.publish(['done', 'runs', 'waits'].map((id) => ({ id, to, requester })));
        const [done, runs] = await doer.deliveries.take(2);
        await becomes(to, 'waits', TaskState.QUEUED);
        expect(await taskOf(to, 'runs')).toMatchObject({
          state: TaskState.RUNNING,
          executor: to,
          sessionId: doer.sessionId,
        });
        doer.send({ detach: [{ attachment: 1 }] });
        doer.complete(done!.lease);
        await doer.settled();
        const cancel = async (taskId: string): Promise<CancelOutcome> => {
          planner.send({ cancel: [{ call: 7n, mailbox: to, taskId, reason: 'not needed' }] });
          return (await planner.cancelAnswers.next()).outcome;
        };
        expect(await cancel('done')).toBe(CancelOutcome.TOO_LATE);
        expect(await cancel('runs')).toBe(CancelOutcome.CANCELLED);
        expect(await doer.abort()).toMatchObject({ lease: runs!.lease, reason: 'cancelled: not needed' });
        doer.complete(runs!.lease);
        expect((await doer.settled()).refused[0]?.code).toBe(9);
        const { outcome } = await d().near.call(Broker.method.cancelTask, { mailbox: to, taskId: 'waits' });
        expect([CancelOutcome.CANCELLED, CancelOutcome.TOO_LATE]).toContain(outcome);
        expect(await cancel('never')).toBe(CancelOutcome.NOT_FOUND);
        const { result } = await planner.deliveries.next((one) => one.result?.taskId === 'runs');
        expect(result).toMatchObject({ outcome: Outcome.CANCELLED, error: 'not needed' });
        expect(await stateOf(to, 'runs')).toBe(TaskState.CANCELLED);
        expect(await stateOf(to, 'done')).toBe(TaskState.SUCCEEDED);
      });

      test('a cancellation reaches the handler; an aborted request takes its task along', async () => {
        const [to, nobody] = [d().name('slow'), d().name('nobody')];
        const hub = await asker();
        const begun = Promise.withResolvers<void>();
        await (
          await worker()
        ).work(to, (_task, { signal }) => {
          begun.resolve();
          return new Promise((_resolve, reject) =>
            signal.addEventListener('abort', () => reject(new Error('stopped'))),
          );
        });
        const request = hub.request({ to, id: 'a' });
        request.catch(() => {});
        await begun.promise;
        expect(await hub.cancel({ mailbox: to, id: 'a', reason: 'not needed' })).toBe('cancelled');
        await expect(request).rejects.toMatchObject({ code: 'cancelled', result: { outcome: 'cancelled' } });
        const controller = new AbortController();
        const other = hub.request({ to: nobody, id: 'a' }, { signal: controller.signal });
        other.catch(() => {});
        await becomes(nobody, 'a', TaskState.QUEUED);
        controller.abort();
        await expect(other).rejects.toMatchObject({ code: 'cancelled' });
        await becomes(nobody, 'a', TaskState.CANCELLED);
      });

      test('tasks are listed in pages, by mailbox, state, type and requester', async () => {
        const [to, requester] = [d().name('pile'), d().name('planner')];
        const agent = await agentAt(d().near);
        const ids = Array.from({ length: 50 }, (_, index) => `t${String(index).padStart(2, '0')}`);
        await agent.publish(
          ids.map((id, index) => ({ id, to, requester, type: index % 2 === 0 ? 'even' : 'odd' })),
        );
        await becomes(to, 't49', TaskState.QUEUED);
        const seen: string[] = [];
        let pageToken = '';
        do {
          const request = { mailbox: to, type: 'even', requester, pageSize: 7, pageToken };
          const page = await d().near.call(Broker.method.listTasks, request);
          seen.push(...page.tasks.map(({ id }) => id));
          ({ nextPageToken: pageToken } = page);
        } while (pageToken !== '');
        expect(seen).toEqual(ids.filter((_, index) => index % 2 === 0));
        const { task } = await d().near.call(Broker.method.getTask, { taskId: 't07', includeTask: true });
        expect(task).toMatchObject({ mailbox: to, type: 'odd', task: { id: 't07' } });
        await (await attached(d().far, to, 3)).deliveries.take(3);
        const running = { mailbox: to, states: [TaskState.RUNNING] };
        await until(async () => (await d().near.call(Broker.method.listTasks, running)).tasks.length === 3);
      });
    });

    describe('a session', () => {
      test('whose connection breaks keeps its task, finishes it, and nobody does it again', async () => {
        const to = `type:${d().name('long')}`;
        const proxy = await startProxy(d().far.embedded.grpcPort);
        closing.push(() => proxy.close());
        const [broken, other] = [await hubAt(proxy.address), await worker()];
        const [begun, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
        let runs = 0;
        const handler = async (): Promise<string> => {
          runs++;
          begun.resolve();
          await go.promise;
          return 'done';
        };
        await broken.work(to, handler);
        const request = (await asker()).request({ to });
        await begun.promise;
        await other.work(to, handler);
        proxy.cut();
        await until(() => broken.state === 'reconnecting');
        go.resolve();
        expect((await request).text()).toBe('done');
        expect(runs).toBe(1);
      });

      test('publishes through broken connections once, in order', async () => {
        const to = d().name('sink');
        const proxy = await startProxy(d().near.embedded.grpcPort);
        closing.push(() => proxy.close());
        const hub = await hubAt(proxy.address, { agent: d().name('planner') });
        const published: Promise<unknown>[] = [];
        for (let round = 0; round < 20; round++) {
          for (let index = 0; index < 10; index++)
            published.push(hub.publish({ to, payload: `${round * 10 + index}`, requester: '' }));
          await new Promise((resolve) => setImmediate(resolve));
          if (round % 5 === 4) proxy.cut();
        }
        await Promise.all(published);
        const got: number[] = [];
        await (await worker()).work(to, (task) => void got.push(Number(task.text())));
        await until(() => got.length === 200);
        expect(got).toEqual(Array.from({ length: 200 }, (_, index) => index));
      });

      test('resumes at any broker, keeps what it lists, and gives back the rest', async () => {
        const to = d().name('roaming');
        const before = await attached(d().far, to);
        await before.publish(['a', 'b', 'c'].map((id) => ({ id, to })));
        const [, b] = await before.deliveries.take(3);
        await before.drop();
        const { sessionId } = before;
        const after = await agentAt(d().near, { sessionId, incarnation: 1, inFlight: [b!.lease] });
        expect(after.sessionId).toBe(sessionId);
        await after.attach(1, to);
        const again = await after.deliveries.take(2);
        expect(again.map(({ task, attempt }) => [task?.id, attempt])).toEqual([
          ['a', 1],
          ['c', 1],
        ]);
        after.complete(b!.lease);
        expect((await after.settled()).refused).toEqual([]);
        await after.publish([{ id: 'd', to }]);
        expect(await after.ids(1)).toEqual(['d']);
      });

      test('is asked for its list when its heartbeats disagree twice', async () => {
        const to = d().name('silent');
        const agent = await attached(d().far, to);
        await agent.publish(['a', 'b'].map((id) => ({ id, to })));
        const [a] = await agent.deliveries.take(2);
        const hash = leaseHashOf(a!.lease, 0) >>> 0;
        agent.send({ heartbeat: { inFlight: 1, hash } });
        await agent.heartbeats.next();
        agent.send({ heartbeat: { inFlight: 1, hash } });
        await agent.listRequests.next();
        agent.send({ inFlight: { leases: [a!.lease] } });
        const again = await agent.delivery();
        expect([again.task?.id, again.attempt]).toEqual(['b', 1]);
      });
    });

    describe('the event bus', () => {
      const here = (): Program => new Program(d().near, d().brokers);
      const there = (): Program => new Program(d().far, d().brokers);
      const subscribed: { cancel(): void }[] = [];
      const open = async <T extends { cancel(): void }>(stream: Promise<T>): Promise<T> => {
        subscribed.push(await stream);
        return stream;
      };
      afterEach(() => {
        for (const stream of subscribed.splice(0)) stream.cancel();
      });
      /** Ids are looked for everywhere, so each is used once. */
      let ids = 0;
      const fresh = (): string => `${what}-${ids++}`;
      const ask = (to: string, from: string, more: EventBusTask = {}) => ({
        taskId: fresh(),
        taskType: 'greet',
        requesterAgentId: from,
        responderAgentId: to,
        ...more,
      });

      test('brings tasks to every open stream of their responder, exactly as they were published', async () => {
        const to = d().name('worker');
        const streams = [await open(there().tasks(to)), await open(here().tasks(to))];
        const other = await open(there().tasks(d().name('other')));
        const sent = create(TaskMessageSchema, {
          ...ask(to, 'x'),
          parameters: { name: 'World', deep: { list: [1, 'two', null, { yes: true }] } },
          deadline: timestampFromMs(Date.now() + 60_000),
          priority: BusPriority.HIGH,
          metadata: { trace: 'abc' },
          createdAt: timestampFromMs(1_700_000_000_123),
        });
        expect(await here().publish(sent)).toMatchObject({ success: true, error: '' });
        for (const stream of streams) expect(await stream.next()).toEqual(sent);
        expect(other.pending).toEqual([]);
      });

      test('brings tasks that came before, once, by priority, of the types that were asked for', async () => {
        const to = d().name('worker');
        const { LOW, CRITICAL } = BusPriority;
        await here().publish(ask(to, 'x', { taskId: 'low', priority: LOW }));
        await here().publish(ask(to, 'x', { taskId: 'song', taskType: 'sing' }));
        await here().publish(ask(to, 'x', { taskId: 'critical', priority: CRITICAL }));
        await there().publish(ask(to, 'x', { taskId: 'critical', priority: CRITICAL }));
        await becomes(to, 'critical', TaskState.QUEUED);
        const greetings = await open(there().tasks(to, ['greet']));
        expect((await greetings.take(2)).map(({ taskId }) => taskId)).toEqual(['critical', 'low']);
        const all = await open(here().tasks(to));
        expect((await all.next()).taskId).toBe('song');
        expect(greetings.pending).toEqual([]);
      });

      test('without a responder brings a task to all, and their answers to who asked', async () => {
        const self = d().name('asker');
        const names = Array.from({ length: 8 }, (_, index) => `crowd-${index}`);
        const workers = await Promise.all(
          names.map((name, index) => open((index % 2 ? here() : there()).tasks(name))),
        );
        const results = await open(here().results(self));
        const others = await open(there().results(d().name('somebody')));
        const { taskId, ...task } = ask('', self, { parameters: { n: 1 } });
        await here().publish({ taskId, ...task });
        for (const stream of workers)
          expect(await stream.next()).toMatchObject({ taskId, responderAgentId: '', parameters: { n: 1 } });
        for (const executorAgentId of names)
          await there().result({ taskId, status: TaskStatus.COMPLETED, executorAgentId });
        const got = await results.take(names.length);
        expect(got.map(({ executorAgentId }) => executorAgentId).sort()).toEqual(names);
        expect(others.pending).toEqual([]);
      });

      test('brings results to every result stream of the requester, also one that comes later', async () => {
        const [to, self] = [d().name('worker'), d().name('asker')];
        const stream = await open(there().tasks(to));
        const mine = [await open(here().results(self)), await open(there().results(self))];
        const other = await open(there().results(d().name('somebody')));
        const task = ask(to, self);
        await here().publish(task);
        await stream.next();
        const sent = create(TaskResultSchema, {
          taskId: task.taskId,
          status: TaskStatus.COMPLETED,
          result: { greeting: 'Hello' },
          executorAgentId: to,
          completedAt: timestampFromMs(1_700_000_000_000),
          executionMetadata: { ms: 5 },
        });
        expect(await there().result(sent)).toMatchObject({ success: true });
        for (const one of mine) expect(await one.next()).toEqual(sent);
        expect(await there().result({ ...sent, status: TaskStatus.FAILED })).toMatchObject({
          success: false,
        });
        expect(other.pending).toEqual([]);
        const absent = d().name('absent');
        const late = ask(to, absent);
        await here().publish(late);
        await stream.next();
        await there().result({ taskId: late.taskId, status: TaskStatus.COMPLETED, executorAgentId: to });
        const again = await open(here().results(absent));
        expect((await again.next()).taskId).toBe(late.taskId);
      });

      test('ends what still waits by a result, and brings those of unknown tasks to everybody', async () => {
        const [to, self] = [d().name('worker'), d().name('asker')];
        const results = await open(here().results(self));
        const task = ask(to, self);
        await here().publish(task);
        await becomes(to, task.taskId, TaskState.QUEUED);
        const failed = { status: TaskStatus.FAILED, errorMessage: 'could not', executorAgentId: to };
        await there().result({ taskId: task.taskId, ...failed });
        expect(await results.next()).toMatchObject({ taskId: task.taskId, ...failed });
        expect(await taskOf(`dead:${to}`, task.taskId)).toMatchObject({ deadReason: 'rejected' });
        const other = await open(there().results(d().name('other')));
        const unknown = fresh();
        await there().result({ taskId: unknown, status: TaskStatus.COMPLETED });
        for (const stream of [results, other]) expect((await stream.next()).taskId).toBe(unknown);
      });

      test('brings progress to the progress streams of the requester', async () => {
        const [to, self] = [d().name('worker'), d().name('asker')];
        const stream = await open(there().tasks(to));
        const mine = [await open(here().progresses(self)), await open(there().progresses(self))];
        const other = await open(there().progresses(d().name('somebody')));
        const task = ask(to, self);
        await here().publish(task);
        await stream.next();
        const sent = create(TaskProgressSchema, {
          taskId: task.taskId,
          status: TaskStatus.IN_PROGRESS,
          progressMessage: 'half',
          progressPercentage: 50,
          progressData: { rows: 10 },
          executorAgentId: to,
          updatedAt: timestampFromMs(1_700_000_000_000),
        });
        expect(await there().progress(sent)).toMatchObject({ success: true });
        for (const one of mine) expect(await one.next()).toEqual(sent);
        const unknown = fresh();
        await there().progress({ taskId: unknown });
        expect((await other.next()).taskId).toBe(unknown);
      });

      test('and sessions understand each other', async () => {
        const [to, self] = [d().name('worker'), d().name('asker')];
        const results = await open(here().results(self));
        const progress = await open(here().progresses(self));
        const agent = await attached(d().far, to);
        const task = ask(to, self, { parameters: { a: 1 } });
        await here().publish(task);
        const { task: got, lease } = await agent.delivery();
        expect(got).toMatchObject({ id: task.taskId, to, type: 'greet', requester: self });
        agent.send({ progress: [{ lease, percent: 30, message: 'on it' }] });
        expect(await progress.next()).toMatchObject({
          taskId: task.taskId,
          progressPercentage: 30,
          progressMessage: 'on it',
          executorAgentId: to,
        });
        const payload = Buffer.from(JSON.stringify({ b: 2 }));
        agent.complete(lease, { payload, contentType: 'application/json' });
        expect(await results.next()).toMatchObject({
          taskId: task.taskId,
          status: TaskStatus.COMPLETED,
          result: { b: 2 },
          executorAgentId: to,
        });
        const [stream, asking] = [d().name('stream'), d().name('native')];
        const tasks = await open(there().tasks(stream));
        const planner = await attached(d().near, `reply:${asking}`);
        const taskId = fresh();
        await planner.publish([{ id: taskId, to: stream, type: 'greet', requester: asking }]);
        expect((await tasks.next()).taskId).toBe(taskId);
        await there().result({ taskId, status: TaskStatus.COMPLETED, executorAgentId: stream });
        expect((await planner.delivery()).result).toMatchObject({
          taskId,
          to: stream,
          outcome: Outcome.SUCCEEDED,
          executor: stream,
        });
      });

      test('tells who asked that a deadline has passed', async () => {
        const [to, self] = [d().name('worker'), d().name('asker')];
        const results = await open(here().results(self));
        const task = ask(to, self, { deadline: timestampFromMs(Date.now() - 1000) });
        await here().publish(task);
        expect(await results.next()).toMatchObject({ taskId: task.taskId, status: TaskStatus.FAILED });
      });
    });
  });
}
