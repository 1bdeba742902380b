import { get } from 'node:https';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { afterAll, afterEach, describe, expect, test } from '@jest/globals';
import type { ConnectOptions, Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import { Authority, MountedSecret } from '../support/authority.ts';
import type { Pair } from '../support/authority.ts';
import { brokers } from '../support/broker.ts';
import type { Settings, TestBroker } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import { TestTerminal } from '../support/terminal.ts';

const authority = new Authority();
const stranger = new Authority('stranger');
const [server, renewed, agent] = [authority.issue(), authority.issue(), authority.issue('agent')];
afterAll(() => {
  authority.remove();
  stranger.remove();
});

const { start } = brokers();
const secrets: MountedSecret[] = [];
const hubs: Hub[] = [];
afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
  for (const secret of secrets.splice(0)) secret.remove();
});

/** A broker whose certificate is that of the server, until it changes. */
async function encrypted(
  tls: Settings & { mutual?: boolean } = {},
): Promise<{ broker: TestBroker; secret: MountedSecret }> {
  const secret = new MountedSecret(server, authority.cert);
  secrets.push(secret);
  const { mutual = false, ...more } = tls;
  const { certFile, keyFile, clientCaFile } = secret;
  const broker = await start({
    tls: { certFile, keyFile, reloadMs: '50ms', ...(mutual ? { clientCaFile } : {}), ...more },
  });
  return { broker, secret };
}

async function hubOf(
  { embedded }: TestBroker,
  tls: ConnectOptions['tls'] = {},
  connectTimeoutMs = 10_000,
): Promise<Hub> {
  const trusting = typeof tls === 'function' ? tls : { ca: authority.cert, ...tls };
  const address = `127.0.0.1:${embedded.grpcPort}`;
  const hub = await connect({ address, tls: trusting, connectTimeoutMs });
  hubs.push(hub);
  return hub;
}

/** Who is not let in tries again until it has had enough. */
async function refused(broker: TestBroker, tls: ConnectOptions['tls'] = {}): Promise<void> {
  await expect(hubOf(broker, tls, 300)).rejects.toMatchObject({ code: 'unavailable' });
}

async function lives(hub: Hub): Promise<void> {
  expect(await hub.publish({ to: 'x' })).toMatchObject({ mailbox: 'x' });
}

/** The certificate that a new connection is shown. */
function shown(port: number, ALPNProtocols: string[] = ['h2']): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connectTls(
      { host: '127.0.0.1', port, ca: authority.cert, ALPNProtocols },
      () => {
        resolve(socket.getPeerX509Certificate()?.toString() ?? '');
        socket.destroy();
      },
    );
    socket.on('error', reject);
  });
}

/** A metric as `/metrics` shows it. */
function metric(broker: TestBroker, name: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const { httpPort: port } = broker.embedded;
    get({ host: '127.0.0.1', port, path: '/metrics', ca: authority.cert, agent: false }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => {
        const line = text.split('\n').find((each) => each.startsWith(`${name} `));
        resolve(line === undefined ? undefined : Number(line.split(' ')[1]));
      });
    }).on('error', reject);
  });
}

const reloads = (broker: TestBroker, result: string): Promise<number | undefined> =>
  metric(broker, `agenthub_tls_reloads_total{result="${result}"}`);

describe('client certificates', () => {
  test('are required if there are authorities for them', async () => {
    const { broker } = await encrypted({ mutual: true });
    await lives(await hubOf(broker, agent));
    await refused(broker);
    await refused(broker, stranger.issue());
  });

  test('may be shown, or not, if they are requested only', async () => {
    const { broker } = await encrypted({ mutual: true, clientCertificates: 'request' });
    await lives(await hubOf(broker, agent));
    await lives(await hubOf(broker));
  });

  test('are never required where the health of a broker is asked for', async () => {
    const { broker } = await encrypted({ mutual: true });
    expect(await metric(broker, 'agenthub_sessions')).toBe(0);
  });
});

describe('what is encrypted', () => {
  test.each(['grpcPort', 'httpPort'] as const)('on %s is so with TLS 1.2 at least', async (port) => {
    const { broker } = await encrypted();
    const agreed = (version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3', ciphers?: string): Promise<string | null> =>
      new Promise((resolve, reject) => {
        const socket: TLSSocket = connectTls(
          {
            host: '127.0.0.1',
            port: broker.embedded[port],
            ca: authority.cert,
            ALPNProtocols: ['h2', 'http/1.1'],
            minVersion: version,
            maxVersion: version,
            // OpenSSL by itself offers nothing so old any more.
            ciphers: ciphers ?? 'DEFAULT@SECLEVEL=0',
          },
          () => {
            resolve(socket.getProtocol());
            socket.destroy();
          },
        );
        socket.on('error', reject);
      });
    expect(await agreed('TLSv1.3')).toBe('TLSv1.3');
    expect(await agreed('TLSv1.2')).toBe('TLSv1.2');
    await expect(agreed('TLSv1.1')).rejects.toThrow();
    // No forward secrecy; no authenticated encryption.
    await expect(agreed('TLSv1.2', 'AES128-GCM-SHA256')).rejects.toThrow();
    await expect(agreed('TLSv1.2', 'ECDHE-ECDSA-AES128-SHA256')).rejects.toThrow();
  });

  test('and from another broker than its name says is not believed', async () => {
    const { broker } = await encrypted();
    await lives(await hubOf(broker, { serverName: 'localhost' }));
    await refused(broker, { serverName: 'elsewhere' });
  });

  test('a broker does not start with what it can not use, and says which file of which key it is', async () => {
    const wrong = new MountedSecret({ cert: server.cert, key: renewed.key });
    secrets.push(wrong);
    const { certFile, keyFile } = wrong;
    await expect(start({ tls: { certFile, keyFile } })).rejects.toMatchObject({
      code: 'invalid',
      field: 'tls.keyFile',
      message: expect.stringContaining(`${keyFile} is not the key of the certificate in ${certFile}`),
    });
  });
});

describe('certificates that are renewed', () => {
  test('are shown to new connections, on both ports; sessions stay', async () => {
    const { broker, secret } = await encrypted();
    const states: string[] = [];
    const { grpcPort, httpPort } = broker.embedded;
    const hub = await connect({
      address: `127.0.0.1:${grpcPort}`,
      tls: { ca: authority.cert },
      onStateChange: (state) => states.push(state),
    });
    hubs.push(hub);
    expect(await shown(grpcPort)).toBe(server.cert);
    secret.write(renewed, authority.cert);
    await until(async () => (await shown(grpcPort)) === renewed.cert);
    expect(await shown(httpPort, ['http/1.1'])).toBe(renewed.cert);
    await lives(hub);
    await lives(await hubOf(broker));
    expect(states.filter((state) => state !== 'connected')).toEqual([]);
    expect(await reloads(broker, 'reloaded')).toBe(1);
    expect(await metric(broker, 'agenthub_tls_certificate_remaining_seconds')).toBeGreaterThan(29 * 86_400);
  });

  test('and are broken leave the former ones in place, and are counted', async () => {
    const { broker, secret } = await encrypted();
    secret.write({ cert: renewed.cert, key: server.key }, authority.cert);
    await until(async () => (await reloads(broker, 'refused')) === 1);
    expect(await shown(broker.embedded.grpcPort)).toBe(server.cert);
    await lives(await hubOf(broker));
  });

  test('with other authorities for clients let the former clients in no more, not even by a ticket', async () => {
    const { broker, secret } = await encrypted({ mutual: true });
    const { grpcPort } = broker.embedded;
    const other = stranger.issue('other');
    const ticket = await sessionOf(grpcPort, agent);
    secret.write(server, stranger.cert);
    await until(async () => (await reloads(broker, 'reloaded')) === 1);
    await refused(broker, agent);
    await expect(sessionOf(grpcPort, agent, ticket)).rejects.toThrow();
    await lives(await hubOf(broker, other));
  });

  test('under load lose no task, and refuse nobody', async () => {
    const { broker, secret } = await encrypted({ mutual: true });
    let mine = agent;
    const tls = () => ({ ca: authority.cert, ...mine });
    const done = new Set<string>();
    const worker = await hubOf(broker, tls);
    await worker.work('load', (task) => void done.add(task.id));
    const publisher = await hubOf(broker, tls);
    const published: string[] = [];
    let begun = 0;
    for (const [server, client] of rotations(4)) {
      secret.write(server, authority.cert);
      mine = client;
      // Clients come and go all the time; each must be let in, whichever certificates it meets.
      await until(async () => {
        const passing = await hubOf(broker, tls);
        const ids = Array.from({ length: 50 }, () => `t${begun++}`);
        const outcomes = await Promise.all(ids.map((id) => passing.publish({ to: 'load', id })));
        published.push(...outcomes.map(({ id }) => id));
        published.push((await publisher.publish({ to: 'load' })).id);
        await passing.close();
        return (await shownTo(broker.embedded.grpcPort, agent)) === server.cert;
      });
    }
    await until(() => done.size >= published.length);
    expect([...done].sort()).toEqual(published.sort());
    expect(await reloads(broker, 'reloaded')).toBe(4);
    expect(await reloads(broker, 'refused')).toBeUndefined();
  });
});

test('the command line speaks TLS, shows its certificate, and expects a name', async () => {
  const { broker } = await encrypted({ mutual: true });
  const files = (pair: Pair): string[] => {
    const paths = { ca: 'ca.pem', cert: 'cert.pem', key: 'key.pem' };
    const texts = { ca: authority.cert, ...pair };
    for (const [name, path] of Object.entries(paths)) {
      writeFileSync(join(broker.dir, path), texts[name as keyof typeof texts]);
    }
    const path = (name: keyof typeof paths): string => join(broker.dir, paths[name]);
    return ['--ca-file', path('ca'), '--cert-file', path('cert'), '--key-file', path('key')];
  };
  const at = ['--broker', `127.0.0.1:${broker.embedded.grpcPort}`];
  const list = ['mailboxes', 'list', ...at, ...files(agent)];
  expect(await new TestTerminal().run(...list)).toMatchObject({ code: 0 });
  const publish = ['task', 'publish', 'x', 'hello', ...at, ...files(agent)];
  expect(await new TestTerminal().run(...publish, '--server-name', 'localhost')).toMatchObject({ code: 0 });
  expect(await new TestTerminal().run(...list, '--server-name', 'elsewhere')).toMatchObject({ code: 7 });
  const half = await new TestTerminal().run('mailboxes', 'list', ...at, '--cert-file', 'a');
  expect(half).toMatchObject({ code: 2, stderr: expect.stringMatching(/client\.keyFile is missing/) });
});

function* rotations(count: number): Iterable<readonly [server: Pair, client: Pair]> {
  for (let round = 0; round < count; round++) yield [authority.issue(), authority.issue('agent')];
}

/** The certificate that a client is shown who shows its own. */
function shownTo(port: number, client: Pair): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connectTls(
      { host: '127.0.0.1', port, ca: authority.cert, ALPNProtocols: ['h2'], ...client },
      () => {
        resolve(socket.getPeerX509Certificate()?.toString() ?? '');
        socket.destroy();
      },
    );
    socket.on('error', reject);
  });
}

/** Connects, hears from the server, and gives what lets a client begin without a handshake. */
function sessionOf(port: number, client: Pair, session?: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let ticket: Buffer | undefined;
    const socket = connectTls({
      host: '127.0.0.1',
      port,
      ca: authority.cert,
      ALPNProtocols: ['h2'],
      ...client,
      ...(session === undefined ? {} : { session }),
    });
    const look = (): void => {
      if (ticket === undefined || socket.bytesRead === 0) return;
      socket.destroy();
      resolve(ticket);
    };
    socket.on('session', (given: Buffer) => {
      ticket = given;
      look();
    });
    // The server begins to speak only when it has accepted the client.
    socket.on('data', look);
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the server has closed the connection')));
  });
}
