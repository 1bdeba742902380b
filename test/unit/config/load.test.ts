import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { configRows, loadConfig } from '../../../src/config/load.ts';
import type { ConfigInputs } from '../../../src/config/load.ts';
import { HubError } from '../../../src/std/errors.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agenthub-config-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function load(inputs: Partial<ConfigInputs> = {}) {
  return loadConfig({ env: {}, flags: {}, memoryBytes: 2 ** 30, ...inputs });
}

function refusal(inputs: Partial<ConfigInputs>): HubError {
  try {
    load(inputs);
  } catch (error) {
    if (error instanceof HubError) return error;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

describe('without any input', () => {
  test('every value is the documented default', () => {
    const { config, sources } = load();
    expect(config.grpc).toMatchObject({ host: '127.0.0.1', port: 50_051 });
    expect(config.data).toMatchObject({ dir: './agenthub-data', sync: 'always', log: 'file' });
    expect(config.shards).toBe(16);
    expect(config.limits.taskBytes).toBe(4 * 2 ** 20);
    expect(config.retention.taskMs).toBe(7 * 86_400_000);
    expect(config.auth).toEqual({ tokens: [], adminTokens: [], certificates: 'none' });
    expect(config.insecure).toBe(false);
    expect(new Set(Object.values(sources))).toEqual(new Set(['default']));
  });

  test('the memory limit is 70 % of what the process may use, in whole MiB', () => {
    expect(load().config.limits.memoryHighWaterBytes).toBe(716 * 2 ** 20);
    const own = loadConfig({ env: {}, flags: {} }).config.limits.memoryHighWaterBytes;
    expect(own).toBeGreaterThanOrEqual(64 * 2 ** 20);
    expect(own).toBeLessThanOrEqual(0.7 * totalmem());
  });
});

describe('precedence', () => {
  const both = { AGENTHUB_HTTP_PORT: '2222', AGENTHUB_SHARDS: '8', AGENTHUB_LOG_LEVEL: 'warn' };

  test('a flag wins over the environment, and that over the file', () => {
    const path = file('a.yaml', 'http: { port: 1111 }\nshards: 4\nlimits:\n  taskBytes: 1MiB\n');
    const { config, sources } = load({ file: path, env: both, flags: { 'http-port': '3333' } });
    expect([config.http.port, config.shards, config.limits.taskBytes]).toEqual([3333, 8, 2 ** 20]);
    expect(sources).toMatchObject({
      'http.port': 'flag --http-port',
      shards: 'env AGENTHUB_SHARDS',
      'limits.taskBytes': `file ${path}`,
      'grpc.port': 'default',
    });
  });

  test('an old name loses against our own', () => {
    const old = { BROKER_HEALTH_PORT: '1', LOG_LEVEL: 'debug' };
    expect(load({ env: old }).config).toMatchObject({ http: { port: 1 }, log: { level: 'debug' } });
    expect(load({ env: { ...old, ...both } }).config).toMatchObject({
      http: { port: 2222 },
      log: { level: 'warn' },
    });
  });

  test('what is empty counts as unset', () => {
    const path = file('empty.yaml', 'grpc:\nhttp:\n  port:\n');
    const { config, sources } = load({
      file: path,
      env: { AGENTHUB_GRPC_PORT: '' },
      flags: { port: undefined },
    });
    expect([config.grpc.port, config.http.port]).toEqual([50_051, 8080]);
    expect(sources['http.port']).toBe('default');
  });

  test('the file is named by argument, else by flag, else by environment', () => {
    const [one, two, three] = [1, 2, 3].map((n) => file(`${n}.yaml`, `shards: ${n}`));
    const env = { AGENTHUB_CONFIG: three };
    expect(load({ file: one, flags: { config: two }, env }).config.shards).toBe(1);
    expect(load({ flags: { config: two }, env }).config.shards).toBe(2);
    expect(load({ env }).config.shards).toBe(3);
  });
});

describe('ways to write it', () => {
  test('a file may be JSON, and may use dots for levels', () => {
    const json = file('a.json', '{"grpc": {"port": 7000}, "insecure": true}');
    expect(load({ file: json }).config).toMatchObject({ grpc: { port: 7000 }, insecure: true });
    expect(load({ file: file('dots.yaml', 'grpc.port: 7001') }).config.grpc.port).toBe(7001);
  });

  test('flags may be written as on the command line or as option parsers give them', () => {
    const flags = { 'data-dir': '/a', syncIntervalMs: undefined, sync: 'none', grpcPort: 1, insecure: true };
    const { config } = load({ flags: { ...flags, syncIntervalMs: undefined } });
    expect(config).toMatchObject({ data: { dir: '/a', sync: 'none' }, grpc: { port: 1 }, insecure: true });
  });

  test('tokens may be a list or a text with commas', () => {
    const [a, b] = ['a'.repeat(16), 'b'.repeat(16)];
    expect(load({ env: { AGENTHUB_AUTH_TOKENS: `${a}, ${b}` } }).config.auth.tokens).toEqual([a, b]);
    expect(load({ file: file('t.yaml', `auth: { tokens: [${a}, ${b}] }`) }).config.auth.tokens).toEqual([
      a,
      b,
    ]);
  });

  test.each([
    ['AGENTHUB_GRPC_PORT', ':50051', { grpc: { port: 50_051 } }],
    ['AGENTHUB_GRPC_PORT', '50052', { grpc: { port: 50_052 } }],
    ['BROKER_HEALTH_PORT', '9090', { http: { port: 9090 } }],
    ['SERVICE_VERSION', '1.2.3', { service: { version: '1.2.3' } }],
    ['ENVIRONMENT', 'production', { service: { environment: 'production' } }],
    ['LOG_LEVEL', 'WARN', { log: { level: 'warn' } }],
    ['JAEGER_ENDPOINT', '127.0.0.1:4317', { tracing: { endpoint: '127.0.0.1:4317' } }],
    ['AGENTHUB_DATA_DIR', '/data', { data: { dir: '/data' } }],
    ['AGENTHUB_BROKER_ADDR', 'hub.example', { client: { host: 'hub.example' } }],
    ['AGENTHUB_BROKER_PORT', '6000', { client: { port: 6000 } }],
  ])('the environment of the first AgentHub still works: %s=%s', (name, value, expected) => {
    const { config, sources } = load({ env: { [name]: value } });
    expect(config).toMatchObject(expected);
    expect(Object.values(sources)).toContain(`env ${name}`);
  });

  test('what Kubernetes says about Services is not taken for configuration', () => {
    const env = {
      AGENTHUB_PORT: 'tcp://10.0.0.1:50051',
      AGENTHUB_PORT_50051_TCP: 'tcp://10.0.0.1:50051',
      AGENTHUB_PORT_50051_TCP_ADDR: '10.0.0.1',
      AGENTHUB_SERVICE_HOST: '10.0.0.1',
      AGENTHUB_SERVICE_PORT: '50051',
      AGENTHUB_SERVICE_PORT_GRPC: '50051',
      AGENTHUB_GRPC_PORT: 'tcp://10.0.0.2:50051',
      AGENTHUB_HTTP_SERVICE_PORT: '8080',
    };
    expect(load({ env }).config.grpc.port).toBe(50_051);
  });
});

describe('a refusal', () => {
  test.each<[string, Partial<ConfigInputs>, string, string[]]>([
    [
      'a word of the environment',
      { env: { AGENTHUB_GRPC_PORT: 'abc' } },
      'AGENTHUB_GRPC_PORT',
      ['grpc.port', '"abc"', 'env AGENTHUB_GRPC_PORT', '65535'],
    ],
    [
      'a word of a flag',
      { flags: { sync: 'allways' } },
      '--sync',
      ['data.sync', 'flag --sync', 'always, interval, none'],
    ],
    [
      'an old name',
      { env: { LOG_LEVEL: 'loud' } },
      'LOG_LEVEL',
      ['log.level', 'env LOG_LEVEL', 'debug, info'],
    ],
    ['a port that is too high', { flags: { port: 65_536 } }, '--port', ['65535']],
    [
      'a duration without a unit it knows',
      { flags: { 'retention-task-ms': '7y' } },
      '--retention-task-ms',
      ['7d'],
    ],
    [
      'a size that is too large',
      { env: { AGENTHUB_LIMITS_TASK_BYTES: '1TiB' } },
      'AGENTHUB_LIMITS_TASK_BYTES',
      ['6MiB'],
    ],
    [
      'a share above the whole',
      { flags: { 'limits-memory-high-water-bytes': '101%' } },
      '--limits-memory-high-water-bytes',
      ['70%'],
    ],
    [
      'a timeout below the heartbeat',
      { flags: { 'session-timeout-ms': '1s' } },
      '--session-timeout-ms',
      ['session.heartbeatMs', '3s'],
    ],
    [
      'messages smaller than tasks',
      { flags: { 'limits-task-bytes': '6MiB', 'grpc-max-message-bytes': '5MiB' } },
      '--grpc-max-message-bytes',
      ['limits.taskBytes'],
    ],
    ['a certificate without a key', { flags: { 'tls-cert-file': 'a' } }, 'tls.keyFile', ['certFile']],
    [
      'a misspelt variable',
      { env: { AGENTHUB_GRPC_PROT: '1' } },
      'AGENTHUB_GRPC_PROT',
      ['did you mean AGENTHUB_GRPC_PORT?'],
    ],
    ['a misspelt flag', { flags: { 'dta-dir': '1' } }, '--dta-dir', ['did you mean --data-dir?']],
    ['a variable like nothing', { env: { AGENTHUB_XYZZY: '1' } }, 'AGENTHUB_XYZZY', ['agenthub config show']],
    ['a file that is missing', { file: '/does/not/exist.yaml' }, '/does/not/exist.yaml', ['ENOENT']],
  ])('of %s names it and says what to do', (_, inputs, field, parts) => {
    const error = refusal(inputs);
    expect(error).toMatchObject({ code: 'invalid', field });
    for (const part of parts) expect(error.message).toContain(part);
  });

  test.each([
    ['grpc:\n  prot: 1', 'grpc.prot', 'did you mean grpc.port?'],
    ['shard: 3', 'shard', 'did you mean shards?'],
    ['http: 8080', 'http', ''],
    ['- a\n- b', '', 'keys and values'],
    ['grpc: {port: [}', '', 'neither YAML nor JSON'],
    ['shards: 1\nshards: 2', '', 'unique'],
    ['shards: [1, 2]', 'shards', 'whole number'],
    ['constructor: 1', 'constructor', 'unknown key'],
    ['__proto__: { a: 1 }', '__proto__', 'unknown key'],
  ])('of the file %j names the key and the file', (content, field, part) => {
    const path = file('wrong.yaml', content);
    const error = refusal({ file: path });
    expect(error.code).toBe('invalid');
    expect(error.message).toContain(part);
    expect(error.message).toContain(path);
    if (field !== '') expect(error.field).toContain(field);
  });

  test('says all that is wrong at once', () => {
    const error = refusal({ flags: { port: 'x', shards: '0' } });
    expect(error.message.split('\n')).toHaveLength(2);
  });

  test('never shows a token', () => {
    const env = { AGENTHUB_AUTH_TOKENS: 'my secret' };
    expect(refusal({ env }).message).not.toContain('my secret');
  });
});

describe('the table for people', () => {
  test('has every key with its value, its source, and no secret', () => {
    const secret = 's'.repeat(32);
    const rows = configRows(load({ env: { AGENTHUB_AUTH_TOKENS: secret, AGENTHUB_CLIENT_TOKEN: secret } }));
    const row = (key: string) => rows.find((each) => each.key === key);
    expect(row('retention.taskMs')).toEqual({ key: 'retention.taskMs', value: '7d', source: 'default' });
    expect(row('limits.taskBytes')?.value).toBe('4MiB');
    expect(row('tls.certFile')?.value).toBe('');
    expect(row('auth.tokens')).toMatchObject({ value: '(1 hidden)', source: 'env AGENTHUB_AUTH_TOKENS' });
    expect(JSON.stringify(rows)).not.toContain(secret);
  });
});
