import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, test } from '@jest/globals';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';
import { TOKENS, twoTenants } from '../support/tenants.ts';

const { start } = clusters();

let server: NatsServer;
let dir: string;

beforeAll(async () => {
  server = await NatsServer.start();
  dir = mkdtempSync(join(tmpdir(), 'agenthub-namespaces-'));
  writeFileSync(join(dir, 'tokens'), TOKENS.lines);
});

afterAll(async () => {
  await server.remove();
  rmSync(dir, { recursive: true, force: true });
});

test('on two brokers, tenants with the same agents, capabilities and task ids see nothing of each other', async () => {
  const { brokers, served } = await started();
  await until(() => served().join() === '2,2');
  const [near, far] = brokers;
  await twoTenants(near!, far!);
});

async function started() {
  const cluster = await start(server, 2, {
    shards: 4,
    auth: { tokensFile: join(dir, 'tokens'), adminTokens: TOKENS.ROOT },
    // Nobody beats here, and the machine may be slow.
    session: { timeoutMs: '10m' },
  });
  return { brokers: cluster.brokers, served: () => cluster.served };
}
