import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { brokerPool } from '../../../operator/plan/context.ts';
import { planPlacement, wishedRules } from '../../../operator/plan/placement.ts';
import { plan } from '../../../operator/plan/plan.ts';
import type { Plan, Snapshot } from '../../../operator/plan/plan.ts';
import type { PodView } from '../../../operator/plan/pods.ts';
import { checkPlacementRules } from '../../../src/core/placement.ts';
import type { PlacementDocument } from '../../../src/wire/placement-document.ts';
import { answers, cluster, pod, unmade } from './support.ts';

const RULES = [
  { range: { prefix: 'agent_', first: 1, last: 1000 } },
  { agents: 'billing-*' },
  { region: 'eu-west' },
  { taskTypes: 'ocr-*', spread: 4 },
];
const SPEC = {
  shards: 4,
  replicas: 1,
  autoscaling: { mode: 'Off' },
  nats: { external: { servers: ['a:1'] } },
  pools: [
    { name: 'default' },
    { name: 'ocr', shards: 2, replicas: 1, minReplicas: 1, maxReplicas: 2, rules: RULES },
  ],
};
const ONE_POOL = { ...SPEC, pools: [{ name: 'default' }] };
const WISHED = wishedRules(cluster(SPEC));
const POOLS = [
  { name: 'default', firstShard: 0, shards: 4, brokers: 1 },
  { name: 'ocr', firstShard: 4, shards: 2, brokers: 1 },
];

const known = (rules: PlacementDocument['rules'], pools = POOLS): PlacementDocument => ({
  version: 7,
  defaultPool: 'default',
  rules,
  pools,
});

function snapshot(spec: object, differs: Partial<Snapshot> = {}, status?: object): Snapshot {
  return { ...unmade(cluster(spec, status === undefined ? {} : { status })), ...differs };
}

const MADE = plan(snapshot(SPEC));

/** A broker of a pool that serves these shards; each shard holds so much. */
function broker(
  pool: string,
  shards: readonly number[],
  held: { queued?: number; outbox?: number } = {},
): PodView {
  const name = `hub-${pool}-0`;
  const set = MADE.apply.find(
    ({ kind, metadata }) => kind === 'StatefulSet' && metadata.name === `hub-${pool}`,
  );
  const { metadata } = (set!.spec as { template: { metadata: { annotations: Record<string, string> } } })
    .template;
  return pod(0, {
    name,
    uid: name,
    revision: metadata.annotations['agenthub.io/revision']!,
    answers: answers(name, {
      shards: shards.map((shard) => ({ shard, queued: 0, bytes: 0, tasksPerSecond: 0, ...held })),
    }),
  });
}

const PODS = { default: [broker('default', [0, 1, 2, 3])], ocr: [broker('ocr', [4, 5])] };
const condition = ({ status }: Plan, type: string) => status.conditions!.find((each) => each.type === type);

describe('the rules of the pools', () => {
  test('are said as brokers take them, in their order', () => {
    expect(WISHED).toEqual([
      { pool: 'ocr', range: { prefix: 'agent_', first: 1, last: 1000 } },
      { pool: 'ocr', agents: 'billing-*' },
      { pool: 'ocr', region: 'eu-west' },
      { pool: 'ocr', taskTypes: 'ocr-*', spread: 4 },
    ]);
    checkPlacementRules({ version: 0, defaultPool: 'default', rules: WISHED });
  });

  test('wait until every pool has had a broker', () => {
    const waiting = planPlacement(cluster(SPEC), [], known([], POOLS.slice(0, 1)));
    expect(waiting).toMatchObject({
      change: undefined,
      inForce: false,
      pending: 'the placement rules wait for the first broker of pool ocr',
    });
  });

  test('are told to the brokers, in place of those that they know, once', () => {
    const first = plan(snapshot(SPEC, { children: MADE.apply, pods: PODS, placement: known([]) }));
    expect(first.place).toEqual({ version: 7, defaultPool: 'default', rules: WISHED });
    expect(condition(first, 'Progressing')).toMatchObject({ status: 'True', reason: 'Placing' });
    const then = plan(snapshot(SPEC, { children: MADE.apply, pods: PODS, placement: known(WISHED) }));
    expect(then.place).toBeUndefined();
    expect(condition(then, 'Progressing')).toMatchObject({ status: 'False', reason: 'Complete' });
    expect(condition(then, 'Degraded')).toMatchObject({ status: 'False' });
    expect(then.status).toMatchObject({ phase: 'Ready', placement: { version: 7, rules: 4 } });
  });

  test('are left alone while no broker can be asked', () => {
    const blind = plan(snapshot(SPEC, { children: MADE.apply, pods: PODS }));
    expect(blind.place).toBeUndefined();
    expect(condition(blind, 'Progressing')).toMatchObject({ status: 'True', reason: 'Placing' });
  });

  test('that somebody made by hand stay, if there never was more than one pool', () => {
    const byHand = known([{ pool: 'default', taskTypes: 'hot', spread: 8 }], POOLS.slice(0, 1));
    const planned = plan(snapshot(ONE_POOL, { pods: { default: PODS.default }, placement: byHand }));
    expect(planned.place).toBeUndefined();
    expect(planned.status.placement).toBeUndefined();
  });

  test('never send anything to the pool without rules by its name in the spec', () => {
    const named = cluster({ ...SPEC, pools: [{ name: 'main' }, SPEC.pools[1]] });
    expect(named.spec.pools.map((pool) => brokerPool(named, pool))).toEqual(['default', 'ocr']);
  });

  test('do not fit a pool that was made with other shards, and it is said what to do', () => {
    const former = known(WISHED, [POOLS[0]!, { ...POOLS[1]!, shards: 8 }]);
    const planned = plan(snapshot(SPEC, { children: MADE.apply, pods: PODS, placement: former }));
    expect(condition(planned, 'Degraded')).toMatchObject({
      status: 'True',
      reason: 'PoolShardsFixed',
      message: expect.stringContaining('again with shards: 8'),
    });
  });
});

test('the brokers of a pool know which one they are of, and all of them how many shards the default pool has', () => {
  const configs = MADE.apply
    .filter(({ kind }) => kind === 'ConfigMap')
    .map(
      (map) => parse((map as unknown as { data: Record<string, string> }).data['agenthub.yaml']!) as object,
    );
  expect(configs).toEqual([
    expect.objectContaining({ shards: 4 }),
    expect.objectContaining({ shards: 4, cluster: { pool: 'ocr', poolShards: 2 } }),
  ]);
});

test('each pool is settled by itself: its shards are numbered behind those of the others', () => {
  const unserved = { ...PODS, ocr: [broker('ocr', [4])] };
  const planned = plan(snapshot(SPEC, { children: MADE.apply, pods: unserved, placement: known(WISHED) }));
  expect(condition(planned, 'Progressing')).toMatchObject({
    reason: 'ShardsMoving',
    message: 'pool ocr: some shards are without an owner',
  });
});

test('a pool with shards behind others is scaled by them', () => {
  const busy = broker('ocr', [4, 5]);
  const shards = [4, 5].map((shard) => ({ shard, queued: 0, bytes: 0, tasksPerSecond: 900 }));
  const targets = { tasksPerSecond: 1000, agents: 0, cpuPercent: 0, memoryPercent: 0 };
  const spec = { ...SPEC, autoscaling: { targets } };
  const pods = { ...PODS, ocr: [{ ...busy, answers: answers('hub-ocr-0', { shards }) }] };
  const planned = plan(snapshot(spec, { children: MADE.apply, pods, placement: known(WISHED) }));
  expect(planned.status.pools?.find(({ name }) => name === 'ocr')).toMatchObject({ desired: 2 });
});

describe('a pool that the spec has no more', () => {
  const status = { placement: { version: 7, rules: 4 } };
  const gone = (held: PodView[], placement: PlacementDocument | undefined) =>
    plan(snapshot(ONE_POOL, { children: MADE.apply, pods: { ...PODS, ocr: held }, placement }, status));
  const removed = (planned: Plan) =>
    planned.removeObjects.filter(({ kind }) => kind === 'StatefulSet').map(({ metadata }) => metadata.name);

  test('loses its rules first', () => {
    const planned = gone([broker('ocr', [4, 5])], known(WISHED));
    expect(planned.place).toMatchObject({ version: 7, rules: [] });
    expect(removed(planned)).toEqual([]);
  });

  test.each<[string, PodView[]]>([
    ['tasks are in it', [broker('ocr', [4, 5], { queued: 1 })]],
    ['something is on its way out of it', [broker('ocr', [4, 5], { outbox: 1 })]],
    ['not all of its shards have told', [broker('ocr', [4])]],
    ['its broker has not told', [{ ...broker('ocr', [4, 5]), answers: {} }]],
    [
      'its broker told that long ago',
      [{ ...broker('ocr', [4, 5]), answers: { ...broker('ocr', [4, 5]).answers, failure: 'no answer' } }],
    ],
    ['it has no broker', []],
  ])('stays while %s', (_, held) => {
    const planned = gone(held, known([]));
    expect(removed(planned)).toEqual([]);
    expect(condition(planned, 'Progressing')).toMatchObject({
      reason: 'PoolEmptying',
      message: 'pool ocr is no more in the spec, and goes when nothing is left in it',
    });
    expect(planned.status.placement).toBeDefined();
  });

  test('stays while nobody can be asked', () => {
    expect(removed(gone([broker('ocr', [4, 5])], undefined))).toEqual([]);
  });

  test('goes when it is empty, and then the rules are not looked at any more', () => {
    expect(removed(gone([broker('ocr', [4, 5])], known([])))).toEqual(['hub-ocr']);
    const children = MADE.apply.filter(({ metadata }) => metadata.name !== 'hub-ocr');
    const after = plan(
      snapshot(ONE_POOL, { children, pods: { default: PODS.default }, placement: known([]) }, status),
    );
    expect(after.status.placement).toBeUndefined();
    expect(condition(after, 'Progressing')).toMatchObject({ status: 'False', reason: 'Complete' });
  });

  test('and never became one goes at once', () => {
    expect(removed(gone([], known([], POOLS.slice(0, 1))))).toEqual(['hub-ocr']);
  });

  test('and was scaled to nothing is not taken for empty, and it is said what to do', () => {
    const children = MADE.apply.map((object) =>
      object.metadata.name === 'hub-ocr' && object.kind === 'StatefulSet'
        ? { ...object, spec: { ...(object.spec as object), replicas: 0 } }
        : object,
    );
    const planned = plan(
      snapshot(ONE_POOL, { children, pods: { default: PODS.default }, placement: known([]) }, status),
    );
    expect(removed(planned)).toEqual([]);
    expect(condition(planned, 'Degraded')).toMatchObject({
      reason: 'PoolWithoutBrokers',
      message: expect.stringContaining('delete StatefulSet hub-ocr'),
    });
  });
});
