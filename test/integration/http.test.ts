import { Agent, request } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { HealthCheck } from '../../src/edge/health.ts';
import { HttpEdge } from '../../src/edge/http.ts';
import type { DrainStatus, HttpOptions, HttpParts } from '../../src/edge/http.ts';
import type { TlsSource } from '../../src/edge/tls.ts';
import { HubError } from '../../src/std/errors.ts';
import type { Logger, LogThreshold } from '../../src/std/logger.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock } from '../../src/std/system.ts';
import { readCapacity } from '../../src/wire/capacity.ts';
import { readPlacementDocument } from '../../src/wire/placement-document.ts';
import type { PlacementDocument } from '../../src/wire/placement-document.ts';
import type { Capacity } from '../../src/wire/capacity.ts';
import { SeededRandom } from '../support/random.ts';
import { CERTIFICATE, KEY } from '../support/certificate.ts';
import type { LockSettings } from '../support/door.ts';
import { doorOf } from '../support/door.ts';

const CAPACITY: Capacity = {
  broker: 'hub-0',
  version: '1.2.3',
  time: 1,
  activeAgents: 3,
  activeTasks: 2,
  tasksPerSecond: 1,
  resultsPerSecond: 1,
  progressPerSecond: 0,
  messagesPerSecond: 2,
  cpu: 0.1,
  memory: 1,
  memoryHighWater: 2,
  eventLoopUtilization: 0.1,
  openConnections: 1,
  backlog: 0,
  oldestTaskAgeSeconds: 0,
  draining: false,
  loadScore: 0.1,
  shards: [],
};

const OPTIONS: HttpOptions = {
  host: '127.0.0.1',
  port: 0,
  maxConnections: 100,
  maxBodyBytes: 1000,
  requestTimeoutMs: 5000,
  idleTimeoutMs: 5000,
};

/** A certificate that does not change. */
const FIXED: TlsSource = {
  current: { cert: Buffer.from(CERTIFICATE), key: Buffer.from(KEY), clientCa: null, expiresAt: Infinity },
  clientCertificates: 'require',
  watch() {},
};

const OPEN: LockSettings = {};
const ADMIN = 'admin-token-0123456';

/** A broker as the HTTP side sees it, with everything under the control of a test. */
class FakeBroker {
  checks: readonly HealthCheck[] = [];
  drainState: DrainStatus['state'] = 'serving';
  threshold: LogThreshold = { level: 'info' };
  logger: Logger = silent;
  metricsText = () => Promise.resolve('metric 1\n');
  readCapacity = () => CAPACITY;
  placement: PlacementDocument = {
    version: 4,
    defaultPool: 'default',
    rules: [],
    pools: [
      { name: 'default', firstShard: 0, shards: 4, brokers: 1 },
      { name: 'ocr', firstShard: 4, shards: 2, brokers: 0 },
    ],
  };

  parts(lock: LockSettings): HttpParts {
    return {
      clock: systemClock,
      logger: this.logger,
      health: () => ({ checks: this.checks, version: '1.2.3', uptimeMs: 3_723_500 }),
      metrics: { contentType: 'text/plain; version=0.0.4; charset=utf-8', text: () => this.metricsText() },
      capacity: () => this.readCapacity(),
      drain: {
        status: () => ({ state: this.drainState, shards: 3, sessions: 1, activeTasks: 2 }),
        start: () => void (this.drainState = 'draining'),
        cancel: () => void (this.drainState = 'serving'),
      },
      placement: {
        read: () => this.placement,
        change: ({ version, ...rules }) => {
          if (version !== this.placement.version) throw new HubError('aborted', 'there are later rules');
          this.placement = { ...this.placement, ...rules, version: version + 1 };
          return Promise.resolve(this.placement);
        },
      },
      door: doorOf(lock),
      publicMetrics: false,
      threshold: this.threshold,
      newId: () => 'made here',
    };
  }
}

const open: HttpEdge[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((edge) => edge.close()));
});

async function start(options: Partial<HttpOptions> = {}, lock: LockSettings = OPEN) {
  const broker = new FakeBroker();
  const logged: object[] = [];
  broker.logger = noting(logged);
  const edge = new HttpEdge(broker.parts(lock), { ...OPTIONS, ...options });
  const port = await edge.listen();
  open.push(edge);
  return { broker, edge, port, logged };
}

/** A logger that keeps every event as one object. */
function noting(events: object[], known: object = {}): Logger {
  const at = (level: string) => (fields: object, message: string) =>
    void events.push({ level, ...known, ...fields, message });
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => noting(events, { ...known, ...fields }),
  };
}

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

interface Call {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly agent?: Agent;
}

function call(
  port: number,
  path: string,
  { method = 'GET', headers = {}, body, agent }: Call = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const settings = {
      host: '127.0.0.1',
      port,
      path,
      method,
      headers,
      ...(agent === undefined ? {} : { agent }),
    };
    const sent = request(settings, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
        }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Everything the server says until it closes the connection. */
function raw(port: number, use: (socket: Socket) => void): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => use(socket));
    let said = '';
    socket.on('data', (chunk) => (said += chunk.toString('latin1')));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(said));
  });
}

function check(change: Partial<HealthCheck>): HealthCheck {
  return { name: 'log', healthy: true, concerns: 'life', checkedAt: 0, durationMs: 0.25, ...change };
}

function errorOf(reply: Reply): { code: string; message: string } {
  return (JSON.parse(reply.body) as { error: { code: string; message: string } }).error;
}

describe('what is logged', () => {
  const put = (level: unknown): Call => ({ method: 'PUT', body: JSON.stringify({ level }) });

  test('is changed while the broker runs, by administrators', async () => {
    const { broker, port } = await start();
    expect(await call(port, '/log-level')).toMatchObject({ status: 200, body: '{"level":"info"}' });
    expect(await call(port, '/log-level', put('debug'))).toMatchObject({
      status: 200,
      body: '{"level":"debug"}',
    });
    expect(broker.threshold.level).toBe('debug');
    for (const wrong of ['loud', 3, undefined]) {
      const reply = await call(port, '/log-level', put(wrong));
      expect(reply.status).toBe(400);
      expect(errorOf(reply).message).toContain('debug, info, warn, error');
    }
    expect(broker.threshold.level).toBe('debug');
    const locked = await start({}, { adminTokens: [ADMIN] });
    expect((await call(locked.port, '/log-level', put('debug'))).status).toBe(403);
    expect(locked.broker.threshold.level).toBe('info');
  });

  test('of a request has the id that it came with, or one that it learns', async () => {
    const { broker, port, logged } = await start();
    broker.metricsText = () => Promise.reject(new Error('no figures'));
    const id = 'trace-7:a.b';
    expect((await call(port, '/metrics', { headers: { 'x-request-id': id } })).headers['x-request-id']).toBe(
      id,
    );
    expect(logged).toMatchObject([
      { level: 'error', request: id, method: 'GET', path: '/metrics', error: { message: 'no figures' } },
      { level: 'debug', request: id, status: 500 },
    ]);
    for (const bad of ['', 'a b', 'x'.repeat(65)]) {
      const reply = await call(port, '/healthz', { headers: { 'x-request-id': bad } });
      expect(reply.headers['x-request-id']).toBe('made here');
    }
  });

  test('is neither a token nor a body', async () => {
    const { port, logged } = await start({}, { adminTokens: [ADMIN] });
    const headers = { authorization: `Bearer ${ADMIN}` };
    await call(port, '/log-level?token=hidden', { ...put('warn'), headers });
    await call(port, '/drain', { method: 'POST', headers, body: 'a secret' });
    const all = JSON.stringify(logged);
    expect(all).toContain('/log-level');
    for (const secret of [ADMIN, 'a secret', 'hidden']) expect(all).not.toContain(secret);
  });
});

describe('health', () => {
  test.each(['/healthz', '/readyz', '/health', '/ready', '/health?verbose'])(
    '%s answers as the first AgentHub did',
    async (path) => {
      const { broker, port } = await start();
      broker.checks = [check({ message: 'fine' })];
      const reply = await call(port, path);
      expect(reply.status).toBe(200);
      expect(reply.headers['content-type']).toBe('application/json; charset=utf-8');
      expect(JSON.parse(reply.body)).toEqual({
        status: 'healthy',
        checks: [
          {
            name: 'log',
            status: 'healthy',
            message: 'fine',
            last_checked: '1970-01-01T00:00:00.000Z',
            duration: '250µs',
          },
        ],
        version: '1.2.3',
        uptime: '1h2m3.5s',
      });
    },
  );

  test.each([
    ['life', '/healthz', 503],
    ['life', '/readyz', 503],
    ['readiness', '/healthz', 200],
    ['readiness', '/readyz', 503],
  ] as const)('a failed check of %s makes %s answer %d', async (concerns, path, status) => {
    const { broker, port } = await start();
    broker.checks = [check({}), check({ name: 'broken', healthy: false, concerns })];
    const reply = await call(port, path);
    expect(reply.status).toBe(status);
    expect((JSON.parse(reply.body) as { status: string }).status).toBe(
      status === 200 ? 'healthy' : 'unhealthy',
    );
  });

  test('needs no token', async () => {
    const { port } = await start({}, { ...OPEN, tokens: ['a'.repeat(16)], adminTokens: [ADMIN] });
    expect((await call(port, '/readyz')).status).toBe(200);
  });

  test('can be asked for without a body', async () => {
    const { port } = await start();
    const reply = await call(port, '/healthz', { method: 'HEAD' });
    expect([reply.status, reply.body]).toEqual([200, '']);
  });
});

describe('figures', () => {
  test('/metrics is what the registry says', async () => {
    const { port } = await start();
    const reply = await call(port, '/metrics');
    expect([reply.status, reply.body]).toEqual([200, 'metric 1\n']);
    expect(reply.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
  });

  test('/capacity is the document that its readers know', async () => {
    const { port } = await start();
    const reply = await call(port, '/capacity');
    expect(reply.status).toBe(200);
    expect(readCapacity(reply.body)).toEqual(CAPACITY);
  });

  test('an error in them is answered, and the next request works', async () => {
    const { broker, port } = await start();
    broker.metricsText = () => Promise.reject(new Error('no figures'));
    broker.readCapacity = () => ({ ...CAPACITY, cpu: -1 });
    expect([(await call(port, '/metrics')).status, (await call(port, '/capacity')).status]).toEqual([
      500, 500,
    ]);
    broker.readCapacity = () => {
      throw new HubError('unavailable', 'not yet');
    };
    expect(errorOf(await call(port, '/capacity'))).toEqual({ code: 'unavailable', message: 'not yet' });
    expect((await call(port, '/healthz')).status).toBe(200);
  });
});

describe('placement', () => {
  const rules = [{ pool: 'ocr', taskTypes: 'ocr-*', spread: 2 }];
  const put = (port: number, body: object, headers = {}) =>
    call(port, '/placement', { method: 'PUT', body: JSON.stringify(body), headers });

  test('is read, and changed by whoever has read the last version', async () => {
    const { broker, port } = await start();
    expect(readPlacementDocument((await call(port, '/placement')).body)).toEqual(broker.placement);
    const changed = await put(port, { version: 4, rules });
    expect(readPlacementDocument(changed.body)).toMatchObject({ version: 5, defaultPool: 'default', rules });
    const late = await put(port, { version: 4, rules: [] });
    expect([late.status, errorOf(late).code]).toEqual([409, 'aborted']);
    expect(broker.placement.rules).toEqual(rules);
  });

  test('that makes no sense is refused by name', async () => {
    const { broker, port } = await start();
    const reply = await put(port, { version: 4, rules: [{ pool: 'ocr' }] });
    expect([reply.status, errorOf(reply)]).toEqual([
      400,
      { code: 'invalid', message: expect.stringContaining('rules[0]') },
    ]);
    expect((await call(port, '/placement', { method: 'PUT', body: '{' })).status).toBe(400);
    expect(broker.placement.version).toBe(4);
  });

  test('needs the admin token', async () => {
    const { port } = await start({}, { ...OPEN, tokens: ['a'.repeat(16)], adminTokens: [ADMIN] });
    expect((await call(port, '/placement')).status).toBe(401);
    expect(
      (await put(port, { version: 4, rules }, { authorization: `Bearer ${'a'.repeat(16)}` })).status,
    ).toBe(403);
    expect((await put(port, { version: 4, rules }, { authorization: `Bearer ${ADMIN}` })).status).toBe(200);
  });
});

describe('drain', () => {
  test('can be started, watched and cancelled', async () => {
    const { port } = await start();
    const states: unknown[] = [];
    for (const method of ['GET', 'POST', 'GET', 'POST', 'DELETE', 'GET']) {
      const reply = await call(port, '/drain', { method });
      states.push([reply.status, (JSON.parse(reply.body) as DrainStatus).state]);
    }
    expect(states).toEqual([
      [200, 'serving'],
      [202, 'draining'],
      [200, 'draining'],
      [202, 'draining'],
      [200, 'serving'],
      [200, 'serving'],
    ]);
  });

  test('needs the admin token if there is one', async () => {
    const { broker, port } = await start({}, { ...OPEN, tokens: ['a'.repeat(16)], adminTokens: [ADMIN] });
    const post = (headers: Record<string, string>) => call(port, '/drain', { method: 'POST', headers });
    const bare = await post({});
    expect([bare.status, bare.headers['www-authenticate']]).toEqual([401, 'Bearer']);
    expect((await post({ authorization: `Bearer ${'a'.repeat(16)}` })).status).toBe(403);
    expect(broker.drainState).toBe('serving');
    expect((await post({ authorization: `Bearer ${ADMIN}` })).status).toBe(202);
    expect(broker.drainState).toBe('draining');
  });

  test.each([
    ['a page in a browser', { origin: 'http://evil.example' }],
    ['a link on a page', { 'sec-fetch-site': 'cross-site' }],
    ['a proxy on this machine', { 'x-forwarded-for': '192.0.2.7' }],
    ['another proxy on this machine', { forwarded: 'for=192.0.2.7' }],
  ])('is not granted to %s only because it comes from loopback', async (_, headers) => {
    const { broker, port } = await start();
    const reply = await call(port, '/drain', { method: 'POST', headers });
    expect(reply.status).toBe(401);
    expect(broker.drainState).toBe('serving');
  });
});

describe('what is refused', () => {
  test.each(['/', '/metric', '/healthz/', '//', '/../etc/passwd', '/constructor', '*'])(
    '%s: no such resource',
    async (path) => {
      const { port } = await start();
      const reply = await call(port, path);
      expect(reply.status).toBe(404);
      expect(errorOf(reply).code).toBe('not_found');
      expect(errorOf(reply).message).toContain('/healthz');
    },
  );

  test.each([
    ['POST', '/healthz', 'GET, HEAD'],
    ['DELETE', '/metrics', 'GET, HEAD'],
    ['PUT', '/drain', 'GET, HEAD, POST, DELETE'],
    ['OPTIONS', '/drain', 'GET, HEAD, POST, DELETE'],
  ])('%s %s: the allowed methods are named', async (method, path, allow) => {
    const { port } = await start();
    const reply = await call(port, path, { method });
    expect([reply.status, reply.headers['allow']]).toEqual([405, allow]);
  });

  test('a body above the limit', async () => {
    const { broker, port } = await start();
    const post = (bytes: number) => call(port, '/drain', { method: 'POST', body: Buffer.alloc(bytes) });
    expect((await post(1001)).status).toBe(413);
    expect(broker.drainState).toBe('serving');
    expect((await post(1000)).status).toBe(202);
  });

  test('headers above the limit', async () => {
    const { port } = await start();
    expect((await call(port, '/healthz', { headers: { 'x-long': 'x'.repeat(20_000) } })).status).toBe(431);
  });

  test('more connections than allowed', async () => {
    const { port } = await start({ maxConnections: 1 });
    const agent = new Agent({ keepAlive: true });
    expect((await call(port, '/healthz', { agent })).status).toBe(200);
    expect(await raw(port, () => undefined)).toBe('');
    agent.destroy();
  });
});

describe('clients that do not behave', () => {
  test('random bytes are answered with 400 at most, and the server lives', async () => {
    const { port } = await start({ requestTimeoutMs: 300 });
    const random = new SeededRandom(1);
    const noises = Array.from({ length: 40 }, (_, index) => Buffer.from(random.token(1 + index * 97), 'hex'));
    const replies = await Promise.all(noises.map((noise) => raw(port, (socket) => socket.end(noise))));
    for (const reply of replies) expect(reply.slice(0, 10)).toMatch(/^$|^HTTP\/1\.1 4$/);
    expect((await call(port, '/healthz')).status).toBe(200);
  });

  test.each([
    ['a TLS hello', Buffer.from('160301020001000100', 'hex')],
    ['an HTTP/2 preface', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
    [
      'two lengths',
      Buffer.from('POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'),
    ],
    [
      'a length and chunks',
      Buffer.from(
        'POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      ),
    ],
    ['no host', Buffer.from('GET /healthz HTTP/1.1\r\n\r\n')],
  ])('%s is answered with 400 and the end of the connection', async (_, bytes) => {
    const { broker, port } = await start();
    expect(await raw(port, (socket) => socket.write(bytes))).toMatch(/^HTTP\/1\.1 400 /);
    expect(broker.drainState).toBe('serving');
  });

  test.each([
    ['says nothing', ''],
    ['stops within the headers', 'GET /healthz HTTP/1.1\r\nHost: a\r\n'],
    ['stops within the body', 'POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab'],
  ])('one that %s is cut off', async (_, text) => {
    const { broker, port } = await start({ requestTimeoutMs: 200 });
    expect(await raw(port, (socket) => socket.write(text))).toMatch(/^$|^HTTP\/1\.1 408 /);
    expect(broker.drainState).toBe('serving');
  });

  test('one that sends its headers drop by drop is cut off', async () => {
    const { port } = await start({ requestTimeoutMs: 200 });
    const said = await raw(port, (socket) => {
      socket.write('GET /healthz HTTP/1.1\r\nHost: a\r\n');
      const drip = setInterval(() => socket.write('x-a: b\r\n'), 20);
      socket.on('close', () => clearInterval(drip));
    });
    expect(said).toMatch(/^HTTP\/1\.1 408 /);
  });

  test('one that goes away before its answer does no harm', async () => {
    const { broker, port } = await start();
    let answer: (text: string) => void = () => undefined;
    const asked = new Promise<void>((resolve) => {
      broker.metricsText = () => {
        resolve();
        return new Promise((ready) => (answer = ready));
      };
    });
    const gone = raw(port, (socket) => {
      socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n');
      void asked.then(() => socket.destroy());
    });
    await gone;
    answer('x'.repeat(1_000_000));
    expect((await call(port, '/healthz')).status).toBe(200);
  });
});

describe('the life of the server', () => {
  test('closing ends connections that are kept alive, and those in the middle of a request', async () => {
    const { edge, port } = await start();
    const agent = new Agent({ keepAlive: true });
    await call(port, '/healthz', { agent });
    const half = raw(port, (socket) => socket.write('GET /healthz HTTP/1.1\r\n'));
    const idle = raw(port, () => undefined);
    await call(port, '/healthz');
    await edge.close();
    await Promise.all([half, idle]);
    agent.destroy();
    await expect(call(port, '/healthz')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('an answer under way is still given while it closes, and ends its connection', async () => {
    const { broker, edge, port } = await start();
    let answer: (text: string) => void = () => undefined;
    const asked = new Promise<void>((resolve) => {
      broker.metricsText = () => {
        resolve();
        return new Promise((ready) => (answer = ready));
      };
    });
    const agent = new Agent({ keepAlive: true });
    const reply = call(port, '/metrics', { agent });
    await asked;
    const closed = edge.close();
    answer('late 1\n');
    expect((await reply).body).toBe('late 1\n');
    expect((await reply).headers['connection']).toBe('close');
    await closed;
    agent.destroy();
  });

  test('an address in use is refused with a way out', async () => {
    const { port } = await start();
    const second = new HttpEdge(new FakeBroker().parts(OPEN), { ...OPTIONS, port });
    await expect(second.listen()).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('http.port') as unknown,
    });
  });

  test('with a certificate it speaks TLS only', async () => {
    const { port } = await start({ tls: FIXED });
    const status = await new Promise((resolve, reject) => {
      const sent = tlsRequest(
        { host: '127.0.0.1', port, path: '/readyz', ca: CERTIFICATE, agent: false },
        (response) => {
          response.resume();
          response.on('end', () => resolve(response.statusCode));
        },
      );
      sent.on('error', reject);
      sent.end();
    });
    expect(status).toBe(200);
    await expect(call(port, '/readyz')).rejects.toThrow();
  });
});
