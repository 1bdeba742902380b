import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Hub } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import { replacedFile } from '../support/replaced-file.ts';
import { ISSUER, keySet, Signer } from '../support/signer.ts';
import type { SteadyLoad } from '../support/steady-load.ts';
import { steadyLoad } from '../support/steady-load.ts';

const { start } = brokers();
const hubs: Hub[] = [];
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'agenthub-rotation-'));
});

afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
  rmSync(dir, { recursive: true, force: true });
});

const put = (name: string, text: string): string => replacedFile(dir, name, text);

async function hubOf({ embedded }: TestBroker, agent: string, token: () => Promise<string>): Promise<Hub> {
  const hub = await connect({ address: `127.0.0.1:${embedded.grpcPort}`, agent, token });
  hubs.push(hub);
  return hub;
}

async function letsIn(broker: TestBroker, token: string): Promise<boolean> {
  const call = broker.call(Broker.method.locate, { mailbox: 'x' }, { authorization: `Bearer ${token}` });
  return call.then(
    () => true,
    () => false,
  );
}

/** How many were refused so far. */
async function refused({ embedded }: TestBroker): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${embedded.httpPort}/metrics`)).text();
  const values = [...text.matchAll(/^agenthub_denied_total\S* (\d+)/gm)].map(([, value]) => Number(value));
  return values.reduce((sum, value) => sum + value, 0);
}

/** It goes on: as many results again as there are lanes, several times over. */
async function goesOn(load: SteadyLoad): Promise<void> {
  const before = load.done;
  await until(() => load.done > before + 50);
}

describe('under load, with no task lost and nobody refused who may come in', () => {
  test('bearer tokens are exchanged: both lines for a while, then the new one', async () => {
    const [old, fresh] = ['the-former-token-of-planners', 'the-new-token-of-planners'];
    const tokensFile = put('tokens', `${old} planner\n`);
    const broker = await start({ auth: { tokensFile }, metrics: { public: true } });
    let token = old;
    const [asker, worker] = [
      await hubOf(broker, 'asker', () => Promise.resolve(token)),
      await hubOf(broker, 'worker', () => Promise.resolve(token)),
    ];
    const load = await steadyLoad(asker, worker);
    await goesOn(load);
    put('tokens', `${old} planner\n${fresh} planner\n`);
    await until(() => broker.embedded.broker.sessions.size === 2 && letsIn(broker, fresh));
    const before = await refused(broker);
    token = fresh;
    await goesOn(load);
    put('tokens', `${fresh} planner\n`);
    await until(async () => !(await letsIn(broker, old)));
    const asked = await refused(broker);
    expect(asked - before).toBe(1);
    await goesOn(load);
    const later = await hubOf(broker, 'later', () => Promise.resolve(token));
    expect((await later.request({ to: 'w0', payload: 'x' })).text()).toBe('x');
    expect(await load.stop()).toBeGreaterThan(100);
    expect(await refused(broker)).toBe(asked);
  }, 60_000);

  test('an issuer exchanges its keys, while tokens expire all the time', async () => {
    const [one, two] = [await Signer.make('one'), await Signer.make('two')];
    const jwks = put('keys.json', keySet(one));
    const broker = await start({
      jwt: { issuer: ISSUER, jwks, clockSkewMs: '0' },
      metrics: { public: true },
      session: { heartbeatMs: '100ms', graceMs: '10s' },
    });
    let signer = one;
    let asked = 0;
    const token = (): Promise<string> => {
      asked++;
      return signer.sign('planner', { expires: 3 });
    };
    const load = await steadyLoad(await hubOf(broker, 'asker', token), await hubOf(broker, 'worker', token));
    await goesOn(load);
    put('keys.json', keySet(one, two));
    const fromTwo = await two.sign('probe', { expires: 600 });
    await until(() => letsIn(broker, fromTwo));
    const before = await refused(broker);
    signer = two;
    // Whoever has one of the first by now comes back with one of the second.
    const connections = asked;
    await until(() => asked >= connections + 2);
    expect(await refused(broker)).toBe(before);
    put('keys.json', keySet(two));
    // Another one each time: what was verified once is believed for a while.
    await until(async () => !(await letsIn(broker, await one.sign('probe', { expires: 600 }))));
    await goesOn(load);
    expect(await load.stop()).toBeGreaterThan(100);
  }, 60_000);
});
