import { mkdtempSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { connect } from '../../src/client/index.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { unaryMethod } from '../../src/wire/service.ts';
import { Agent } from '../support/agent.ts';
import { Authority } from '../support/authority.ts';
import type { Settings, TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import { replacedFile } from '../support/replaced-file.ts';
import { ISSUER, keySet, Signer } from '../support/signer.ts';

const running = brokers();

const OK = 0;
const UNAUTHENTICATED = 16;

let dir: string;
let signer: Signer;

beforeAll(async () => {
  signer = await Signer.make('one');
});

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'agenthub-identity-'));
});

afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

const put = (name: string, text: string): string => replacedFile(dir, name, text);

function start(settings: Settings = {}, jwks = put('keys.json', keySet(signer))): Promise<TestBroker> {
  return running.start({ jwt: { issuer: ISSUER, jwks, clockSkewMs: '0' }, ...settings });
}

/** The status of a call of somebody with that token. */
async function enter(broker: TestBroker, token: string): Promise<{ code: number; details: string }> {
  const call = broker.call(Broker.method.locate, { mailbox: 'x' }, { authorization: `Bearer ${token}` });
  return call.then(
    () => ({ code: OK, details: '' }),
    (error: unknown) => error as { code: number; details: string },
  );
}

describe('a token of an issuer', () => {
  test('lets its holder in', async () => {
    const broker = await start();
    expect(await enter(broker, await signer.sign('alice'))).toEqual({ code: OK, details: '' });
  });

  test.each<[string, () => Promise<string> | string, RegExp]>([
    ['has expired', () => signer.sign('alice', { expires: -5 }), /expired/],
    ['is for somebody else', () => signer.sign('alice', { audience: 'bank' }), /its claim aud/],
    ['is of another issuer', () => signer.sign('alice', { issuer: 'https://evil' }), /does not trust/],
    ['is signed by another', async () => (await Signer.make('one')).sign('alice'), /signature .* is wrong/],
    ['has a key that is not known', async () => (await Signer.make('two')).sign('alice'), /not among those/],
    ['has no name', () => signer.sign(''), /name or a group/],
    ['has a name with control characters', () => signer.sign('a\nb'), /name or a group/],
    ['is not signed', () => `${b64({ alg: 'none' })}.${b64({ iss: ISSUER, sub: 'a', exp: 9e9 })}.`, /token/],
    ['is none', () => 'some-token-01234567', /not known/],
    ['is nearly one', () => 'a.b.c', /not known/],
  ])('that %s lets nobody in, and says why', async (_, token, reason) => {
    const broker = await start();
    const { code, details } = await enter(broker, await token());
    expect(code).toBe(UNAUTHENTICATED);
    expect(details).toMatch(reason);
  });

  test('is checked by the keys that are in the file now', async () => {
    const broker = await start();
    const next = await Signer.make('two');
    expect((await enter(broker, await next.sign('alice'))).code).toBe(UNAUTHENTICATED);
    put('keys.json', keySet(signer, next));
    await until(async () => (await enter(broker, await next.sign('alice'))).code === OK);
    expect((await enter(broker, await signer.sign('bob'))).code).toBe(OK);
  });

  test('works beside static tokens', async () => {
    const broker = await start({ auth: { tokens: 'static-token-012345' } });
    expect((await enter(broker, 'static-token-012345')).code).toBe(OK);
    expect((await enter(broker, await signer.sign('alice'))).code).toBe(OK);
  });
});

describe('keys at a URL', () => {
  let server: Server;
  let shown: string;
  let asked: number;

  beforeEach(async () => {
    asked = 0;
    shown = keySet(signer);
    server = createServer((_request, response) => {
      asked++;
      response.end(shown);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });

  afterEach(async () => {
    await new Promise((resolve) => server.close(resolve));
  });

  const url = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;

  test('are asked for once, and then known', async () => {
    const broker = await start({}, url());
    for (const name of ['alice', 'bob', 'carol']) {
      expect((await enter(broker, await signer.sign(name))).code).toBe(OK);
    }
    expect(asked).toBe(1);
  });

  test('are asked for again at most every few seconds, whatever callers show', async () => {
    const broker = await start({}, url());
    await enter(broker, await signer.sign('alice'));
    const stranger = await Signer.make('unknown');
    for (let i = 0; i < 20; i++) {
      expect((await enter(broker, await stranger.sign(`s${i}`))).code).toBe(UNAUTHENTICATED);
    }
    // Once at the start, and once for each five seconds that have passed.
    expect(asked).toBeLessThan(20);
  });

  test('that can not be had are told to try again for, and nobody is let in', async () => {
    shown = 'no keys';
    const broker = await start({}, url());
    expect(await enter(broker, await signer.sign('alice'))).toMatchObject({ code: 14 });
  });
});

describe('when the token of a session expires', () => {
  const quick: Settings = { session: { heartbeatMs: '50ms', graceMs: '300ms' } };

  test('its client is told to come again with a new one, and else cut off', async () => {
    const broker = await start(quick);
    const agent = await Agent.connect(broker, {}, await signer.sign('alice', { expires: 2 }));
    const { reason, draining } = await agent.goAways.next();
    expect({ reason, draining }).toEqual({
      reason: 'the token has expired; reconnect with a new one',
      draining: false,
    });
    const { code, details } = await agent.status;
    expect(code).toBe(UNAUTHENTICATED);
    expect(details).toContain('expired');
  });

  test('a client with a new one goes on with what it holds', async () => {
    const broker = await start(quick);
    const policy = put('policy.yaml', `rules: [{ who: ['jwt:alice'], be: [worker], publish: [worker] }]`);
    const guarded = await start({ ...quick, auth: { policyFile: policy } });
    for (const hub of [broker, guarded]) {
      let given = 0;
      const states: string[] = [];
      const client = await connect({
        address: `127.0.0.1:${hub.embedded.grpcPort}`,
        agent: 'worker',
        token: async () => signer.sign('alice', { expires: given++ === 0 ? 2 : 60 }),
        onStateChange: (state) => states.push(state),
      });
      const { promise: renewed, resolve: go } = Promise.withResolvers<void>();
      let begun = 0;
      const worker = client.work('worker', async (task) => {
        begun++;
        await renewed;
        return `done ${task.id}`;
      });
      const result = client.request({ to: 'worker', id: 'long' });
      await until(() => states.filter((state) => state === 'connected').length === 2);
      go();
      expect((await result).text()).toBe('done long');
      expect(begun).toBe(1);
      expect(given).toBe(2);
      await (await worker).close();
      await client.close();
    }
  });
});

test('a service account of Kubernetes is called by its namespace and name', async () => {
  const jwks = put('keys.json', keySet(signer));
  const policyFile = put(
    'policy.yaml',
    `rules:
      - { who: ['serviceaccount:agents/worker'], be: [one] }
      - { who: ['group:serviceaccounts:agents'], be: [two] }`,
  );
  const broker = await running.start({
    serviceAccounts: { issuer: ISSUER, jwks },
    auth: { policyFile },
  });
  const agent = await Agent.connect(broker, {}, await signer.sign('system:serviceaccount:agents:worker'));
  expect((await agent.attach(1, 'one')).code).toBe(OK);
  expect((await agent.attach(2, 'two')).code).toBe(OK);
  const other = await Agent.connect(broker, {}, await signer.sign('system:serviceaccount:agents:other'));
  expect((await other.attach(1, 'one')).code).toBe(7);
  expect((await enter(broker, await signer.sign('alice'))).details).toContain('service account');
});

describe('a client certificate', () => {
  let authority: Authority;

  beforeAll(() => {
    authority = new Authority();
  });

  afterAll(() => {
    authority.remove();
  });

  test.each([
    ['cn', 'cert:agent-7'],
    ['dns', 'cert:seven.example.org'],
    ['uri', 'cert:spiffe://example.org/agent/7'],
  ])('is called by its %s', async (part, principal) => {
    const server = authority.issue();
    const broker = await running.start({
      tls: {
        certFile: put('tls.crt', server.cert),
        keyFile: put('tls.key', server.key),
        clientCaFile: put('ca.crt', authority.cert),
      },
      auth: {
        certificates: part,
        policyFile: put('policy.yaml', `rules: [{ who: ['${principal}'], publish: [planner] }]`),
      },
    });
    const names = 'DNS:seven.example.org,DNS:other,URI:spiffe://example.org/agent/7';
    const pair = authority.issue('agent-7', { names });
    const lock = credentials.createSsl(
      Buffer.from(authority.cert),
      Buffer.from(pair.key),
      Buffer.from(pair.cert),
    );
    const client = new Client(`localhost:${broker.embedded.grpcPort}`, lock);
    const locate = unaryMethod(Broker.method.locate);
    const ask = (mailbox: string): Promise<number> =>
      new Promise((resolve) => {
        client.makeUnaryRequest(
          locate.path,
          locate.requestSerialize,
          locate.responseDeserialize,
          { $typeName: 'agenthub.v1.LocateRequest', mailbox },
          new Metadata(),
          (error) => resolve(error?.code ?? OK),
        );
      });
    expect(await ask('planner')).toBe(OK);
    expect(await ask('another')).toBe(7);
    client.close();
  });
});

function b64(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
