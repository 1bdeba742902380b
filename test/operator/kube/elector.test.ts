import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Elector } from '../../../operator/kube/elector.ts';
import { KubeError } from '../../../operator/kube/errors.ts';
import type { Lease } from '../../../operator/kube/lease.ts';
import { microTime } from '../../../operator/kube/lease.ts';
import { silent } from '../../../src/std/logger.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { ScriptedKube, turn } from '../../support/scripted-kube.ts';

const conflict = (): KubeError => new KubeError('conflict', 'changed', { status: 409 });
const missing = (): KubeError => new KubeError('not_found', 'none', { status: 404 });
const down = (): KubeError => new KubeError('unavailable', 'down', { status: 503 });

let clock: VirtualClock;
let kube: ScriptedKube;
let elector: Elector;
let heard: string[];
/** Ends the work of the leader; absent: it ends at once. */
let working: Promise<void> | undefined;

beforeEach(() => {
  clock = new VirtualClock();
  kube = new ScriptedKube();
  heard = [];
  working = undefined;
  elector = new Elector({
    kube,
    clock,
    random: new SeededRandom(1),
    logger: silent,
    lease: { namespace: 'agenthub', name: 'operator' },
    identity: 'me',
    lead: () => heard.push('lead'),
    lost: async () => {
      heard.push('lost');
      await working;
      heard.push('ended');
    },
  });
  elector.start();
});

afterEach(() => {
  clock.clear();
});

function lease(holderIdentity: string, resourceVersion: string, leaseDurationSeconds = 15): Lease {
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { namespace: 'agenthub', name: 'operator', uid: 'one', resourceVersion },
    spec: {
      holderIdentity,
      leaseDurationSeconds,
      leaseTransitions: 3,
      acquireTime: 'then',
      renewTime: 'then',
    },
  };
}

async function lead(): Promise<void> {
  await kube.take('get').answer(lease('', '1'));
  await kube.take('patch').answer(lease('me', '2'));
  expect([elector.leading, heard]).toEqual([true, ['lead']]);
  heard.length = 0;
}

/** Lets time pass, and what waits for it happen. */
async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 250) {
    clock.advance(Math.min(250, ms - passed));
    await turn();
  }
}

describe('a candidate', () => {
  test('makes the lease if there is none, in the format that the API server demands', async () => {
    await kube.take('get').fail(missing());
    const call = kube.take('create');
    expect(call.with[1]).toMatchObject({
      metadata: { namespace: 'agenthub', name: 'operator' },
      spec: {
        holderIdentity: 'me',
        leaseDurationSeconds: 15,
        leaseTransitions: 0,
        renewTime: '2001-09-09T01:46:40.000000Z',
      },
    });
    await call.answer(lease('me', '1'));
    expect([elector.leading, elector.leader, heard]).toEqual([true, 'me', ['lead']]);
  });

  test('takes a lease that was released, on condition that nobody else does', async () => {
    await kube.take('get').answer(lease('', '7'));
    const call = kube.take('patch');
    expect(call.with[2]).toMatchObject({
      metadata: { resourceVersion: '7' },
      spec: { holderIdentity: 'me', leaseTransitions: 4 },
    });
    await call.fail(conflict());
    await kube.take('get').answer(lease('other', '8'));
    expect([elector.leading, elector.leader, kube.calls]).toEqual([false, 'other', []]);
  });

  test('waits until it has itself seen the same renewal for as long as the lease says', async () => {
    for (let version = 1; version <= 5; version++) {
      await kube.take('get').answer(lease('other', `${version}`, 6));
      await pass(4000);
    }
    // Its renew time is of 2001, and it is renewed, so it is held: clocks are not compared.
    expect(heard).toEqual([]);
    await kube.take('get').answer(lease('other', '5', 6));
    await pass(4000);
    await kube.take('get').answer(lease('other', '5', 6));
    await kube.take('patch').answer(lease('me', '6'));
    expect(heard).toEqual(['lead']);
  });

  test('does not take a lease that was renewed while it could not look', async () => {
    await kube.take('get').answer(lease('other', '1', 6));
    for (let attempt = 1; attempt <= 3; attempt++) {
      await pass(4000);
      await kube.take('get').fail(down());
    }
    await pass(4000);
    await kube.take('get').answer(lease('other', '2', 6));
    expect(kube.calls).toEqual([]);
  });

  test('goes on whatever the API server answers', async () => {
    for (let attempt = 1; attempt <= 10; attempt++) {
      await kube.take('get').fail(attempt % 2 === 0 ? down() : conflict());
      await pass(4000);
    }
    await lead();
  });
});

describe('a leader', () => {
  beforeEach(lead);

  test('renews without reading', async () => {
    for (let version = 3; version <= 20; version++) {
      await pass(2000);
      const call = kube.take('patch');
      expect(call.with[2]).toMatchObject({
        metadata: { resourceVersion: `${version - 1}` },
        spec: { acquireTime: 'then', leaseTransitions: 3 },
      });
      await call.answer(lease('me', `${version}`));
    }
    expect([heard, elector.leading]).toEqual([[], true]);
  });

  test('survives errors that are shorter than its time', async () => {
    for (let attempt = 1; attempt <= 3; attempt++) {
      await pass(2000);
      await kube.take('patch').fail(down());
    }
    await pass(2000);
    await kube.take('patch').answer(lease('me', '3'));
    await pass(2000);
    expect([heard, elector.leading]).toEqual([[], true]);
  });

  test('stops by itself before others may take over, though no request ends', async () => {
    await pass(9750);
    expect(heard).toEqual([]);
    await pass(250);
    expect([heard, elector.leading]).toEqual([['lost', 'ended'], false]);
  });

  test('does not lead by an answer that came too late', async () => {
    await pass(2000);
    const call = kube.take('patch');
    await pass(12_500);
    await call.answer(lease('me', '3'));
    expect([heard, elector.leading]).toEqual([['lost', 'ended'], false]);
  });

  test('writes once more if its own write was done though its answer was lost', async () => {
    await pass(2000);
    await kube.take('patch').fail(down());
    await pass(2000);
    await kube.take('patch').fail(conflict());
    await kube.take('get').answer(lease('me', '3'));
    const call = kube.take('patch');
    expect(call.with[2]).toMatchObject({ metadata: { resourceVersion: '3' } });
    await call.answer(lease('me', '4'));
    expect([heard, elector.leading]).toEqual([[], true]);
  });

  test('stops at once when another holds the lease, and stands again', async () => {
    await pass(2000);
    await kube.take('patch').fail(conflict());
    await kube.take('get').answer(lease('other', '9'));
    expect([heard, elector.leading, elector.leader]).toEqual([['lost', 'ended'], false, 'other']);
    await pass(4000);
    await kube.take('get').answer(lease('', '10'));
    await kube.take('patch').answer(lease('me', '11'));
    expect(heard).toEqual(['lost', 'ended', 'lead']);
  });

  test('does not lead again before its former work has ended', async () => {
    let end = (): void => {};
    working = new Promise((resolve) => (end = resolve));
    await pass(2000);
    await kube.take('patch').fail(conflict());
    await kube.take('get').answer(lease('other', '9'));
    await pass(4000);
    await kube.take('get').answer(lease('', '10'));
    await kube.take('patch').answer(lease('me', '11'));
    expect(heard).toEqual(['lost']);
    end();
    await turn();
    expect(heard).toEqual(['lost', 'ended', 'lead']);
  });

  test('that stops releases the lease after its work has ended', async () => {
    let end = (): void => {};
    working = new Promise((resolve) => (end = resolve));
    const stopped = elector.stop();
    await turn();
    expect([heard, kube.calls, elector.leading]).toEqual([['lost'], [], false]);
    end();
    await turn();
    await kube.take('get').answer(lease('me', '5'));
    const call = kube.take('patch');
    expect(call.with[2]).toMatchObject({ metadata: { resourceVersion: '5' }, spec: { holderIdentity: '' } });
    await call.answer(lease('', '6'));
    await stopped;
    expect(clock.pending).toBe(0);
  });

  test('that stops does not release what another holds', async () => {
    const stopped = elector.stop();
    await turn();
    await kube.take('get').answer(lease('other', '5'));
    await stopped;
    expect(kube.calls).toEqual([]);
  });
});

test('times have six decimals', () => {
  expect(microTime(1_000_000_000_123.5)).toBe('2001-09-09T01:46:40.123500Z');
  expect(microTime(1_000_000_000_007)).toBe('2001-09-09T01:46:40.007000Z');
});
