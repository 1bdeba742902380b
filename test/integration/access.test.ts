import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DescMethod, DescService, MessageInitShape } from '@bufbuild/protobuf';
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { EventBus, TaskStatus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { pathOf } from '../../src/wire/service.ts';
import { Agent } from '../support/agent.ts';
import { TestBroker } from '../support/broker.ts';

/**
 * Who gets what: every rpc and every route, for every kind of caller. `right` may be the agent `mine`, and administer
 * by a rule; `other` is an agent of its own. `tenant` may be the agent `mine` of its own namespace, and administer by a
 * rule; `boss` shows the token of an administrator of that namespace; `stray` is `other`, and names that namespace.
 *
 * out: who are you? no: you may not. yes: it is done, or refused for a reason that has nothing to do with the caller.
 */
const CALLERS = ['none', 'wrong', 'expired', 'other', 'right', 'admin', 'tenant', 'boss', 'stray'] as const;
const TABLE = `
                                                        none  wrong  expired  other  right  admin  tenant  boss  stray
/agenthub.v1.Broker/Connect (attach mine)               out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Broker/Publish (to mine)                   out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Broker/GetTask (in mine)                   out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Broker/CancelTask (in mine)                out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Broker/ListTasks (in mine)                 out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Broker/Locate (mine)                       out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Broker/DescribeCluster                     out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Admin/ListMailboxes                        out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Admin/ListAgents                           out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Admin/ReplayDeadLetters (of mine)          out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Admin/PurgeMailbox (dead letters of mine)  out   out    out      no     yes    yes  yes     yes   no
/agenthub.v1.Admin/ListShards                           out   out    out      no     yes    yes  no      no    no
/agenthub.v1.Admin/MoveShard                            out   out    out      no     yes    yes  no      no    no
/agenthub.v1.Admin/GetPlacement                         out   out    out      no     yes    yes  no      no    no
/agenthub.v1.Admin/SetPlacement                         out   out    out      no     yes    yes  no      no    no
/agenthub.v1.Admin/Drain                                out   out    out      no     yes    yes  no      no    no
/agenthub.v1.Admin/Stats                                out   out    out      no     yes    yes  yes     yes   no
/eventbus.EventBus/PublishTask (to mine)                out   out    out      no     yes    yes  yes     yes   no
/eventbus.EventBus/PublishTaskResult (as mine)          out   out    out      no     yes    yes  yes     yes   no
/eventbus.EventBus/PublishTaskProgress (as mine)        out   out    out      no     yes    yes  yes     yes   no
/eventbus.EventBus/SubscribeToTasks (of mine)           out   out    out      no     yes    yes  yes     yes   no
/eventbus.EventBus/SubscribeToTaskResults (of mine)     out   out    out      no     yes    yes  yes     yes   no
/eventbus.EventBus/SubscribeToTaskProgress (of mine)    out   out    out      no     yes    yes  yes     yes   no
/grpc.health.v1.Health/Check                            yes   yes    yes      yes    yes    yes  yes     yes   yes
/grpc.health.v1.Health/Watch                            yes   yes    yes      yes    yes    yes  yes     yes   yes
/grpc.health.v1.Health/List                             yes   yes    yes      yes    yes    yes  yes     yes   yes
/grpc.reflection.v1.ServerReflection/ServerReflectionInfo       yes  yes  yes  yes  yes  yes  yes     yes   yes
/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo  yes  yes  yes  yes  yes  yes  yes     yes   yes
GET /healthz                                            yes   yes    yes      yes    yes    yes  yes     yes   yes
GET /readyz                                             yes   yes    yes      yes    yes    yes  yes     yes   yes
GET /health                                             yes   yes    yes      yes    yes    yes  yes     yes   yes
GET /ready                                              yes   yes    yes      yes    yes    yes  yes     yes   yes
GET /metrics                                            out   out    out      no     yes    yes  no      no    no
GET /capacity                                           out   out    out      no     yes    yes  no      no    no
GET /placement                                          out   out    out      no     yes    yes  no      no    no
PUT /placement                                          out   out    out      no     yes    yes  no      no    no
GET /log-level                                          out   out    out      no     yes    yes  no      no    no
PUT /log-level                                          out   out    out      no     yes    yes  no      no    no
GET /drain                                              out   out    out      no     yes    yes  no      no    no
POST /drain                                             out   out    out      no     yes    yes  no      no    no
DELETE /drain                                           out   out    out      no     yes    yes  no      no    no
`;

const RIGHT = 'token-of-the-right-one';
const OTHER = 'token-of-some-other';
const ADMIN = 'token-of-the-admin';
const TENANT = 'token-of-a-tenant';
const BOSS = 'token-of-its-boss';
/** Shown by `stray`, with the namespace that it wants. */
const STRAY = `${OTHER} acme`;
const ISSUER = 'https://id.example.org';

const POLICY = `
rules:
  - { who: ['token:right'], be: [mine], publish: [mine], admin: ['*'] }
  - { who: ['token:tenant'], be: [mine], publish: ['*'], admin: ['*'] }
  - { who: ['token:other', 'jwt:*'], be: [theirs], publish: [theirs], work: ['type:theirs'] }
`;

type Word = 'out' | 'no' | 'yes';
type Call = (token: string | undefined) => Promise<Word>;

interface Row {
  /** The path of an rpc, or method and path of a route. */
  readonly of: string;
  readonly expected: readonly string[];
}

const rows = TABLE.trim()
  .split('\n')
  .slice(1)
  .map((line): Row => {
    const cells = line.split(/\s{2,}/);
    return { of: cells[0]!.replace(/ \(.*/, ''), expected: cells.slice(1) };
  });

let dir: string;
let hub: TestBroker;
let expired: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'agenthub-access-'));
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  const file = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text);
    return join(dir, name);
  };
  expired = await new SignJWT({ sub: 'alice' })
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer(ISSUER)
    .setAudience('agenthub')
    .setExpirationTime(1)
    .sign(privateKey);
  hub = new TestBroker({
    jwt: { issuer: ISSUER, jwks: file('keys.json', JSON.stringify({ keys: [await exportJWK(publicKey)] })) },
    auth: {
      tokensFile: file('tokens', `${RIGHT} right\n${OTHER} other\n${TENANT} tenant namespace=acme\n`),
      adminTokens: ADMIN,
      adminTokensFile: file('admins', `${BOSS} boss namespace=acme\n`),
      policyFile: file('policy.yaml', POLICY),
    },
  });
  await hub.start();
});

afterAll(async () => {
  await hub.remove();
  rmSync(dir, { recursive: true, force: true });
});

describe('the table', () => {
  test('has a row for every rpc', async () => {
    const files = globSync('src/wire/gen/**/*_pb.ts', { cwd: join(import.meta.dirname, '../..') });
    const modules = await Promise.all(
      files.map((path) => import(`../../${path}`) as Promise<Readonly<Record<string, unknown>>>),
    );
    const paths = modules
      .flatMap((module) => Object.values(module))
      .filter((exported) => (exported as DescService | undefined)?.kind === 'service')
      .flatMap((service) => (service as DescService).methods.map(pathOf));
    const known = rows.map((row) => row.of);
    expect(paths.length).toBeGreaterThan(0);
    expect(paths.filter((path) => !known.includes(path))).toEqual([]);
  });

  test('has a row for every route and method', async () => {
    const { body } = await ask('GET', '/no-such-resource', ADMIN);
    const { error } = JSON.parse(body) as { error: { message: string } };
    const paths = error.message.match(/\/[\w-]+/g) ?? [];
    const routes = await Promise.all(
      paths.map(async (path) => {
        const { allow } = await ask('OPTIONS', path, ADMIN);
        return allow.map((method) => `${method} ${path}`);
      }),
    );
    const known = rows.map((row) => row.of).filter((of) => !of.startsWith('/'));
    expect(routes.flat().sort()).toEqual([...known].sort());
  });
});

test.each(rows)('$of', async ({ of, expected }) => {
  const call = CALLS[of] ?? (/^[A-Z]+ /.test(of) ? http(of) : undefined);
  if (!call) throw new Error(`nobody knows how to call ${of}`);
  const tokens = [undefined, 'nobody-has-this-token', expired, OTHER, RIGHT, ADMIN, TENANT, BOSS, STRAY];
  const answers: string[] = [];
  for (const token of tokens) answers.push(await call(token));
  expect(Object.fromEntries(CALLERS.map((caller, at) => [caller, answers[at]]))).toEqual(
    Object.fromEntries(CALLERS.map((caller, at) => [caller, expected[at]])),
  );
});

test('with a port of their own, figures and drains are answered there, and health everywhere', async () => {
  const split = new TestBroker({ http: { privatePort: 0 } });
  await split.start();
  try {
    const { httpPort, privateHttpPort } = split.embedded;
    const status = async (port: number | undefined, path: string): Promise<number> =>
      (await fetch(`http://127.0.0.1:${port}${path}`)).status;
    for (const path of ['/healthz', '/readyz']) {
      expect(await status(httpPort, path)).toBe(200);
      expect(await status(privateHttpPort, path)).toBe(200);
    }
    for (const path of ['/metrics', '/capacity', '/drain', '/placement']) {
      expect(await status(httpPort, path)).toBe(404);
      expect(await status(privateHttpPort, path)).toBe(200);
    }
  } finally {
    await split.remove();
  }
});

const task = { to: 'mine', requester: 'mine' };
const message = { taskId: 'seed', taskType: 'a', requesterAgentId: 'mine', responderAgentId: 'mine' };

/** How each rpc is called, by its path. */
const CALLS: Readonly<Record<string, Call>> = {
  [pathOf(Broker.method.connect)]: async (token) => {
    const { authorization, ...more } = headers(token);
    const agent = Agent.open(hub, authorization?.replace('Bearer ', ''), more);
    agent.send({ hello: {} });
    const ended = agent.status.then(({ code }) => code);
    const attached = agent.attach(1, 'mine').then(
      ({ code }) => code,
      () => ended,
    );
    const code = await Promise.race([ended, attached]);
    agent.hangUp();
    return word(code);
  },
  [pathOf(Broker.method.publish)]: async (token) => {
    try {
      const { ack } = await hub.call(Broker.method.publish, { tasks: [task] }, headers(token));
      return word(ack?.refused[0]?.code ?? 0);
    } catch (error) {
      return word((error as { code: number }).code);
    }
  },
  ...unary(Broker.method.getTask, { taskId: 'any', mailbox: 'mine' }),
  ...unary(Broker.method.cancelTask, { taskId: 'any', mailbox: 'mine' }),
  ...unary(Broker.method.listTasks, { mailbox: 'mine' }),
  ...unary(Broker.method.locate, { mailbox: 'mine' }),
  ...unary(Broker.method.describeCluster, {}),
  ...unary(Admin.method.listMailboxes, {}),
  ...unary(Admin.method.listAgents, {}),
  ...unary(Admin.method.replayDeadLetters, { mailbox: 'mine' }),
  ...unary(Admin.method.purgeMailbox, { mailbox: 'dead:mine' }),
  ...unary(Admin.method.listShards, {}),
  ...unary(Admin.method.moveShard, { shard: 9999, broker: 'x' }),
  ...unary(Admin.method.getPlacement, {}),
  ...unary(Admin.method.setPlacement, { version: 9999n }),
  ...unary(Admin.method.drain, { status: true }),
  ...unary(Admin.method.stats, {}),
  ...unary(EventBus.method.publishTask, { task: message }),
  ...unary(EventBus.method.publishTaskResult, {
    result: { taskId: 'seed', executorAgentId: 'mine', status: TaskStatus.IN_PROGRESS },
  }),
  ...unary(EventBus.method.publishTaskProgress, { progress: { taskId: 'seed', executorAgentId: 'mine' } }),
  ...stream(EventBus.method.subscribeToTasks, { agentId: 'mine' }),
  ...stream(EventBus.method.subscribeToTaskResults, { requesterAgentId: 'mine' }),
  ...stream(EventBus.method.subscribeToTaskProgress, { requesterAgentId: 'mine' }),
  ...foreign('/grpc.health.v1.Health/Check'),
  ...foreign('/grpc.health.v1.Health/Watch'),
  ...foreign('/grpc.health.v1.Health/List'),
  ...foreign('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'),
  ...foreign('/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo'),
};

function unary<Method extends DescMethod & { methodKind: 'unary' }>(
  method: Method,
  request: MessageInitShape<Method['input']>,
): Readonly<Record<string, Call>> {
  return {
    [pathOf(method)]: (token) =>
      hub.call(method, request, headers(token)).then(
        () => 'yes',
        (error: unknown) => word((error as { code: number }).code),
      ),
  };
}

/** A stream counts as let in when the broker has a session for it. */
function stream<Method extends DescMethod & { methodKind: 'server_streaming' }>(
  method: Method,
  request: MessageInitShape<Method['input']>,
): Readonly<Record<string, Call>> {
  return {
    [pathOf(method)]: async (token) => {
      const { sessions } = hub.broker;
      const idle = sessions.size;
      const subscription = hub.subscribe(method, request, { metadata: headers(token) });
      let code: number | undefined;
      void subscription.status.then((status) => (code = status.code));
      while (code === undefined && sessions.size === idle) await turn();
      subscription.cancel();
      while (sessions.size > idle) await turn();
      return word(code ?? 0);
    },
  };
}

/** A method of a service that is not ours, with an empty request. */
function foreign(path: string): Readonly<Record<string, Call>> {
  return {
    [path]: (token) =>
      new Promise((resolve) => {
        const metadata = new Metadata();
        for (const [name, value] of Object.entries(headers(token))) metadata.set(name, value);
        const call = hub.client.makeBidiStreamRequest(
          path,
          (bytes: Buffer) => bytes,
          (bytes) => bytes,
          metadata,
        );
        call.on('data', () => {
          call.cancel();
          resolve('yes');
        });
        call.on('error', () => {});
        call.on('status', ({ code }) => resolve(word(code)));
        if (path.includes('Health')) call.write(Buffer.alloc(0));
        call.end();
      }),
  };
}

function http(of: string): Call {
  return async (token) => {
    const [method = '', path = ''] = of.split(' ');
    const { status } = await ask(method, path, token);
    if (status === 401) return 'out';
    return status === 403 ? 'no' : 'yes';
  };
}

function ask(
  method: string,
  path: string,
  token: string | undefined,
): Promise<{ status: number; body: string; allow: string[] }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { port: hub.embedded.httpPort, host: '127.0.0.1', method, path, headers: headers(token) },
      (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => {
          const allow = (response.headers.allow ?? '').split(', ').filter((one) => one !== 'HEAD');
          resolve({ status: response.statusCode ?? 0, body, allow });
        });
      },
    );
    asked.on('error', reject);
    asked.end();
  });
}

function headers(token: string | undefined): Record<string, string> {
  if (token === undefined) return {};
  const [shown = '', namespace] = token.split(' ');
  const more: Record<string, string> = namespace === undefined ? {} : { 'agenthub-namespace': namespace };
  return { authorization: `Bearer ${shown}`, ...more };
}

function word(code: number): Word {
  if (code === 16) return 'out';
  return code === 7 ? 'no' : 'yes';
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
