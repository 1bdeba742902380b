import { describe, expect, test } from '@jest/globals';
import { nkeys as untyped } from 'nats';
import { natsPublicKey, newNatsSeed } from '../../../operator/controller/nkeys.ts';
import type { NatsKeys, NatsSecretData } from '../../../operator/plan/nats-keys.ts';
import { NATS_KEYS as FIELDS, rotated } from '../../../operator/plan/nats-keys.ts';
import { planNatsRotation } from '../../../operator/plan/nats-rotation.ts';
import { plan } from '../../../operator/plan/plan.ts';
import type { Snapshot } from '../../../operator/plan/plan.ts';
import type { PodView } from '../../../operator/plan/pods.ts';
import { answers, cluster, NATS_KEYS, pod, unmade } from './support.ts';

interface KeyPair {
  getSeed(): Uint8Array;
  getPublicKey(): string;
}
/** What NATS itself makes of keys. */
const nkeys = untyped as { fromSeed(seed: Uint8Array): KeyPair; createAccount(): KeyPair };

const WISH = { 'agenthub.io/rotate-nats-credentials': 'today' };
const { current } = NATS_KEYS;

function broker(ordinal: number, natsUser?: string, differs: Partial<PodView> = {}): PodView {
  return pod(ordinal, {
    answers: answers(`hub-default-${ordinal}`, natsUser ? { natsUser } : {}),
    ...differs,
  });
}

interface World {
  readonly keys?: Partial<NatsKeys>;
  readonly wish?: string;
  /** Servers that have the newest configuration; default: all of three. */
  readonly told?: number;
  readonly brokers?: readonly PodView[];
}

function step({ keys = {}, wish, told = 3, brokers = [broker(0, current)] }: World) {
  const pods = [0, 1, 2].map((ordinal) => pod(ordinal, { revision: ordinal < told ? 'new' : 'old' }));
  const rollout =
    told === 3
      ? ({ state: 'done', updated: 3 } as const)
      : ({ state: 'waiting', updated: told, reason: 'a server is being replaced' } as const);
  return planNatsRotation({
    keys: { ...NATS_KEYS, ...keys },
    wish,
    servers: { rollout, pods, servers: 3 },
    brokers,
  }).step;
}

describe('the exchange of the credential with NATS', () => {
  const next = 'UNEXT';
  const former = 'UFORMER';
  test.each<[string, World, ReturnType<typeof step>]>([
    ['nobody wishes it', {}, undefined],
    ['a wish', { wish: 'today' }, 'begin'],
    ['a wish that was heeded', { wish: 'today', keys: { rotation: 'today' } }, undefined],
    ['a wish that was taken back', { keys: { rotation: 'today' } }, undefined],
    ['servers that are still being told', { keys: { next }, told: 2 }, undefined],
    ['servers that know both', { keys: { next } }, 'promote'],
    ['another wish meanwhile waits', { keys: { next, rotation: 'today' }, wish: 'now', told: 1 }, undefined],
    ['brokers that all have the new one', { keys: { former } }, 'finish'],
    ['a broker with the former one', { keys: { former }, brokers: [broker(0, former)] }, undefined],
    [
      'a broker that is on its way out, with the former one',
      { keys: { former }, brokers: [broker(0, current), broker(1, former, { deleting: true })] },
      undefined,
    ],
    ['a broker that says nothing of it', { keys: { former }, brokers: [broker(0)] }, undefined],
    [
      'a broker that has said so, and does not answer now',
      {
        keys: { former },
        brokers: [broker(0, current, { answers: { ...answers('b', { natsUser: current }), failure: 'x' } })],
      },
      undefined,
    ],
    ['no brokers at all', { keys: { former }, brokers: [] }, 'finish'],
  ])('%s', (_, world, expected) => {
    expect(step(world)).toBe(expected);
  });

  test('whatever the order of things, servers know what brokers may show; and in the end the former one is no good', () => {
    let made = 0;
    let data: NatsSecretData = { seed: 's0', rotation: '' };
    const seen: string[][] = [];
    for (const each of ['begin', 'promote', 'finish'] as const) {
      const before = data;
      data = rotated(data, each, 'w', () => `s${++made}`)!;
      const shown = [before[FIELDS.seed], data[FIELDS.seed]];
      const known = [before['seed'], before['next'], before['former']].filter((seed) => seed !== undefined);
      expect(known).toEqual(expect.arrayContaining(shown));
      seen.push(Object.values(data));
    }
    expect(seen).toEqual([
      ['s0', 's1', 'w'],
      ['s1', 's0', 'w'],
      ['s1', 'w'],
    ]);
  });

  test.each([
    ['begin', { seed: 'a', next: 'b' }],
    ['begin', { seed: 'a', former: 'b' }],
    ['promote', { seed: 'a' }],
    ['promote', { seed: 'a', next: 'b', former: 'c' }],
    ['finish', { seed: 'a' }],
    ['finish', { seed: 'a', next: 'b', former: 'c' }],
    ['begin', {}],
  ] as const)('%s does nothing to %j: somebody else was faster', (each, data) => {
    expect(rotated(data, each, 'w', () => 'new')).toBeUndefined();
  });
});

describe('in the plan', () => {
  function snapshot(differs: Partial<Snapshot> = {}): Snapshot {
    return {
      ...unmade(cluster({ replicas: 1, autoscaling: { mode: 'Off' } }, { annotations: WISH })),
      ...differs,
    };
  }
  const config = (natsKeys: NatsKeys): string => {
    const map = plan(snapshot({ natsKeys })).apply.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('hub-nats-'),
    );
    return JSON.stringify(map?.['data']);
  };

  test('the servers are told of both, once, and of nobody else', () => {
    const told = { ...NATS_KEYS, next: 'UNEXT' };
    expect(config(told)).toContain('UBROKERS');
    expect(config(told)).toContain('UNEXT');
    expect(config({ ...NATS_KEYS, current: 'UNEXT', former: 'UBROKERS' })).toBe(config(told));
    expect(config({ ...NATS_KEYS, current: 'UNEXT' })).not.toContain('UBROKERS');
  });

  test('it is said that it is under way, and brokers are not replaced for it', () => {
    const revision = (natsKeys: NatsKeys) =>
      plan(snapshot({ natsKeys })).apply.find(({ metadata }) => metadata.name === 'hub-default');
    expect(revision({ ...NATS_KEYS, current: 'UNEXT' })).toEqual(revision(NATS_KEYS));
    expect(plan(snapshot()).rotate).toBe('begin');
    expect(plan(snapshot({ natsKeys: undefined })).rotate).toBeUndefined();
  });

  test('nothing of it is done while the cluster is paused', () => {
    const paused = cluster({}, { annotations: { ...WISH, 'agenthub.io/pause': 'true' } });
    expect(plan(snapshot({ cluster: paused })).rotate).toBeUndefined();
  });
});

describe('seeds', () => {
  test('are what NATS takes, and no two are the same', () => {
    const seeds = Array.from({ length: 50 }, newNatsSeed);
    expect(new Set(seeds).size).toBe(seeds.length);
    for (const seed of seeds) {
      expect(natsPublicKey(`${seed}\n`)).toBe(nkeys.fromSeed(Buffer.from(seed)).getPublicKey());
    }
  });

  test.each(['', 'SU', 'nonsense', 'SUAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'])(
    '%j is none',
    (text) => {
      expect(natsPublicKey(text)).toBeUndefined();
    },
  );

  test('one with a mistake, or of an account, is none', () => {
    const seed = newNatsSeed();
    const at = 20;
    const other = seed[at] === 'A' ? 'B' : 'A';
    expect(natsPublicKey(seed.slice(0, at) + other + seed.slice(at + 1))).toBeUndefined();
    expect(natsPublicKey(Buffer.from(nkeys.createAccount().getSeed()).toString())).toBeUndefined();
  });
});
