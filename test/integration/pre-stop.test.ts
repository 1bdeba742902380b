import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { CERTIFICATE, KEY } from '../support/certificate.ts';

const PROGRAM = join(import.meta.dirname, '../../src/cli/pre-stop.ts');
const servers: http.Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

/** A broker that says these states one after the other, the last for ever. */
async function broker(states: readonly string[], tls = false) {
  const asked: string[] = [];
  const answer: http.RequestListener = ({ method, url, headers }, response) => {
    const state = states[Math.min(asked.length, states.length - 1)];
    asked.push(`${method} ${url}`);
    const known = headers.authorization === 'Bearer admin-token';
    response.writeHead(known ? 200 : 401).end(JSON.stringify({ state }));
  };
  const server = tls
    ? https.createServer({ cert: CERTIFICATE, key: KEY }, answer)
    : http.createServer(answer);
  server.listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { asked, url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}` };
}

async function run(seconds: number, url: string, token = 'admin-token') {
  const env = { ...process.env, AGENTHUB_CLIENT_TOKEN: token };
  const child = spawn(process.execPath, [PROGRAM, String(seconds), url], { env });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  return { code, said };
}

describe('before a pod stops', () => {
  test('its broker is told to drain, once, and it is waited until that is done', async () => {
    const { asked, url } = await broker(['draining', 'draining', 'drained']);
    expect((await run(600, url)).code).toBe(0);
    expect(asked).toEqual(['POST /drain', 'GET /drain', 'GET /drain']);
  });

  test('also if its certificate names something else', async () => {
    const { asked, url } = await broker(['drained'], true);
    expect((await run(600, url.replace('127.0.0.1', 'localhost'))).code).toBe(0);
    expect(asked).toEqual(['POST /drain']);
  });

  test('but no longer than there is time', async () => {
    const { asked, url } = await broker(['draining']);
    expect((await run(0, url)).code).toBe(0);
    expect(asked).toEqual(['POST /drain']);
  });

  test('and what is wrong is said', async () => {
    const { url } = await broker(['drained']);
    expect(await run(600, url, 'another')).toMatchObject({
      code: 1,
      said: expect.stringContaining('HTTP 401'),
    });
  });
});
