import { expect } from '@jest/globals';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { EventBus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { Agent } from './agent.ts';
import type { TestBroker } from './broker.ts';
import { until } from './inbox.ts';

const ACME = 'token-of-acme-inc';
const GLOBEX = 'token-of-globex-corp';
const NOBODY = 'token-of-the-default-one';

/** Tokens of two namespaces, and of the default one. */
export const TOKENS = {
  ACME,
  GLOBEX,
  NOBODY,
  ROOT: 'token-of-the-administrator',
  /** For a file of tokens. */
  lines: [
    `${ACME} agent namespace=acme`,
    `${GLOBEX} agent namespace=globex`,
    `${NOBODY} agent`,
    'token-of-the-admin-of-acme boss namespace=acme',
  ].join('\n'),
};

/** Shows that token. */
export function as(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

/**
 * Two namespaces and the default one do the same thing with the same names and the same ids at the same time, and
 * each sees its own. `near` and `far` may be two brokers of one cluster.
 */
export async function twoTenants(near: TestBroker, far: TestBroker): Promise<void> {
  const tenants = [ACME, GLOBEX, NOBODY];
  const payloadOf = (token: string): Uint8Array => Buffer.from(`secret of ${token}`);
  const textOf = (payload: Uint8Array | undefined): string => Buffer.from(payload ?? []).toString();
  const parties = await Promise.all(
    tenants.map(async (token) => {
      const planner = await Agent.connect(near, {}, token);
      const worker = await Agent.connect(far, {}, token);
      await planner.attach(1, 'reply:planner', { agent: 'planner' });
      await worker.attach(1, 'worker');
      await worker.attach(2, 'type:ocr', { agent: 'worker' });
      return { token, planner, worker };
    }),
  );
  const everywhere = tenants.length;
  await until(() => [near, far].every(({ broker }) => broker.phase === 'ready'));

  // The same ids to the same mailboxes, none of which is a duplicate of another's.
  for (const { token, planner } of parties) {
    const task = { requester: 'planner', payload: payloadOf(token) };
    const ack = await planner.publish([
      { to: 'worker', id: 'job', ...task },
      { to: 'type:ocr', id: 'scan', ...task },
    ]);
    expect(ack.refused).toEqual([]);
  }
  for (const { token, worker } of parties) {
    const deliveries = await worker.deliveries.take(2);
    expect(
      deliveries.map(({ task }) => [task?.to, task?.id, task?.requester, textOf(task?.payload)]).sort(),
    ).toEqual([
      ['type:ocr', 'scan', 'planner', `secret of ${token}`],
      ['worker', 'job', 'planner', `secret of ${token}`],
    ]);
    // While it runs, everybody finds and lists their own.
    for (const broker of [near, far]) {
      const { task } = await broker.call(
        Broker.method.getTask,
        { taskId: 'job', includeTask: true },
        as(token),
      );
      expect([task?.mailbox, task?.requester, textOf(task?.task?.payload)]).toEqual([
        'worker',
        'planner',
        `secret of ${token}`,
      ]);
      const listed = await broker.call(Broker.method.listTasks, { mailbox: 'worker' }, as(token));
      expect(listed.tasks.map(({ id, mailbox }) => [id, mailbox])).toEqual([['job', 'worker']]);
    }
    const job = deliveries.find(({ task }) => task?.id === 'job')!;
    worker.send({ progress: [{ lease: job.lease, percent: 50, message: token }] });
    const progress = await parties.find((one) => one.token === token)!.planner.progresses.next();
    expect([progress.to, progress.requester, progress.executor, progress.message]).toEqual([
      'worker',
      'planner',
      'worker',
      token,
    ]);
    for (const { lease } of deliveries) worker.complete(lease, { payload: payloadOf(token) });
  }
  for (const { token, planner } of parties) {
    const results = (await planner.deliveries.take(2)).map(({ result }) => result);
    expect(
      results.map((one) => [one?.to, one?.requester, one?.executor, textOf(one?.payload)]).sort(),
    ).toEqual([
      ['type:ocr', 'planner', 'worker', `secret of ${token}`],
      ['worker', 'planner', 'worker', `secret of ${token}`],
    ]);
  }

  // A broadcast reaches the agents of its own namespace, and counts them alone.
  await until(async () => {
    const ack = await parties[0]!.planner.publish([{ to: '*', id: `hear-${Math.random()}` }]);
    const [told] = ack.recipients;
    await parties[0]!.worker.deliveries.next(({ task }) => task?.to === '*');
    return told?.count === 1;
  });
  for (const { worker } of parties.slice(1)) expect(worker.deliveries.pending).toEqual([]);

  // The event bus obeys the same.
  const streams = tenants.map((token) =>
    far.subscribe(EventBus.method.subscribeToTasks, { agentId: 'legacy' }, { metadata: as(token) }),
  );
  const legacy = (): number =>
    [...far.broker.sessions.values()].filter(({ client }) => client === 'eventbus tasks').length;
  await until(() => legacy() === everywhere);
  for (const token of tenants) {
    await near.call(
      EventBus.method.publishTask,
      {
        task: {
          taskId: 'old',
          taskType: token,
          requesterAgentId: 'asker',
          responderAgentId: 'legacy',
        },
      },
      as(token),
    );
  }
  for (const [at, stream] of streams.entries()) {
    expect(await stream.next()).toMatchObject({
      taskId: 'old',
      taskType: tenants[at],
      requesterAgentId: 'asker',
    });
    expect(stream.pending).toEqual([]);
    stream.cancel();
  }

  // Those who administer see their own, too.
  const list = { prefix: '', pageSize: 1000 };
  const inAcme = { ...as(TOKENS.ROOT), 'agenthub-namespace': 'acme' };
  for (const metadata of [as(TOKENS.ROOT), inAcme]) {
    const { mailboxes } = await near.call(Admin.method.listMailboxes, list, metadata);
    const names = mailboxes.map(({ mailbox }) => mailbox);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(expect.arrayContaining(['reply:planner', 'type:ocr', 'worker']));
    const { agents } = await near.call(Admin.method.listAgents, list, metadata);
    expect(agents.map(({ agent, mailbox }) => `${agent} ${mailbox}`).sort()).toEqual([
      'planner reply:planner',
      'worker type:ocr',
      'worker worker',
    ]);
  }
  await until(async () => {
    const { agents, accepted } = await near.call(Admin.method.stats, { cluster: true }, inAcme);
    return agents === 2 && accepted > 3n;
  });
  for (const { planner, worker } of parties) await Promise.all([planner.drop(), worker.drop()]);
}
