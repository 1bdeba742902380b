import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { natsPublicKey, newNatsSeed } from '../../operator/controller/nkeys.ts';
import type { NatsKeys } from '../../operator/plan/nats-keys.ts';
import { natsConfigText } from '../../operator/plan/resources/nats-config.ts';
import type { Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import { readCapacity } from '../../src/wire/capacity.ts';
import { cluster as brokerCluster } from '../operator/plan/support.ts';
import type { TestBroker } from '../support/broker.ts';
import type { TestCluster } from '../support/cluster.ts';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';
import { replacedFile } from '../support/replaced-file.ts';
import { steadyLoad } from '../support/steady-load.ts';

const { start } = clusters();
const hubs: Hub[] = [];
let dir: string;
let server: NatsServer;

const [old, fresh, other, system] = [newNatsSeed(), newNatsSeed(), newNatsSeed(), newNatsSeed()];
const keyOf = (seed: string): string => natsPublicKey(seed)!;

/** Who the servers know, as the operator tells them. */
function knows(current: string, differs: { next?: string; former?: string } = {}): string {
  const natsKeys: NatsKeys = {
    current: keyOf(current),
    next: differs.next && keyOf(differs.next),
    former: differs.former && keyOf(differs.former),
    rotation: '',
    system: keyOf(system),
  };
  const text = natsConfigText({
    cluster: brokerCluster({ durability: { replicas: 1 }, nats: { managed: { servers: 1 } } }),
    images: { brokers: {}, nats: '' },
    kinds: { serviceMonitor: false, prometheusRule: false, certificate: false },
    secrets: {},
    issuer: undefined,
    natsKeys,
  });
  // Only who may come in; the rest is of this machine.
  return text.slice(text.indexOf('authorization {'), text.indexOf('jetstream {'));
}

const file = (): string => join(dir, 'nkey');

function hand(seed: string): void {
  replacedFile(dir, 'nkey', `${seed}\n`);
}

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'agenthub-nkey-'));
});

afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
});

afterAll(async () => {
  await server?.remove();
  rmSync(dir, { recursive: true, force: true });
});

async function hubOf({ embedded }: TestBroker, agent: string): Promise<Hub> {
  const hub = await connect({ address: `127.0.0.1:${embedded.grpcPort}`, agent });
  hubs.push(hub);
  return hub;
}

/** As whom each broker says that it is logged in. */
async function users({ brokers }: TestCluster): Promise<(string | undefined)[]> {
  return Promise.all(
    brokers.map(async ({ embedded }) => {
      const answer = await fetch(`http://127.0.0.1:${embedded.httpPort}/capacity`);
      return readCapacity(await answer.text()).natsUser;
    }),
  );
}

const all = (key: string) => async (cluster: TestCluster) =>
  (await users(cluster)).every((user) => user === key);

test('the credential is exchanged under load, as the operator does it: no task is lost, and in the end the former one is no good', async () => {
  server = await NatsServer.start({ more: knows(old) });
  hand(old);
  const cluster = await start(server, 2, {
    shards: 4,
    nats: { servers: server.url, streamPrefix: 'agenthub', nkeyFile: file() },
  });
  await until(() => cluster.served.join() === '2,2');
  await until(() => all(keyOf(old))(cluster));
  const [one, two] = cluster.brokers as [TestBroker, TestBroker];
  const busy = await steadyLoad(await hubOf(one, 'asker'), await hubOf(two, 'worker'));

  // Too early: nobody knows it. The brokers stay who they are.
  hand(other);
  await until(() => server.log.includes('authentication error'));
  expect(await users(cluster)).toEqual([keyOf(old), keyOf(old)]);
  hand(old);

  await server.reload(knows(old, { next: fresh }));
  hand(fresh);
  await until(() => all(keyOf(fresh))(cluster));
  await server.reload(knows(fresh));

  // A broker that comes now has only the new one; and one that has the old one does not come in.
  const third = await cluster.add();
  await until(() => third.broker.owners.length > 0);
  expect(await busy.stop()).toBeGreaterThan(0);
  hand(old);
  await expect(cluster.add()).rejects.toMatchObject({ code: 'unauthenticated' });
  hand(fresh);
  expect(server.log).not.toMatch(/violation/i);
}, 120_000);
