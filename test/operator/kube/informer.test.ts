import { beforeEach, describe, expect, test } from '@jest/globals';
import { KubeError } from '../../../operator/kube/errors.ts';
import { Informer } from '../../../operator/kube/informer.ts';
import { silent } from '../../../src/std/logger.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { CONFIG_MAP, configMap, ScriptedKube, turn } from '../../support/scripted-kube.ts';

const expired = (): KubeError => new KubeError('aborted', 'too old', { status: 410, reason: 'Expired' });
const refused = (retryAfterMs?: number): KubeError =>
  new KubeError('unavailable', 'not now', { status: 503, retryAfterMs });

let clock: VirtualClock;
let kube: ScriptedKube;
let informer: Informer<ReturnType<typeof configMap>>;
let heard: string[];

beforeEach(() => {
  clock = new VirtualClock();
  kube = new ScriptedKube();
  heard = [];
  informer = new Informer({
    kube,
    type: CONFIG_MAP,
    selection: { namespace: 'default', labelSelector: 'app=agenthub' },
    clock,
    random: new SeededRandom(1),
    logger: silent,
    silenceMs: 60_000,
  });
  informer.subscribe({
    added: ({ metadata }) => heard.push(`+${metadata.name}@${metadata.resourceVersion}`),
    updated: ({ metadata }, before) =>
      heard.push(`~${metadata.name}@${before.metadata.resourceVersion}→${metadata.resourceVersion}`),
    deleted: ({ metadata }) => heard.push(`-${metadata.name}`),
  });
  informer.start();
});

async function synced(): Promise<void> {
  await kube.page([configMap('a', '5'), configMap('b', '6')], '10');
  heard.length = 0;
}

describe('an informer lists', () => {
  test('page by page, and shows nothing until it has all', async () => {
    const first = await kube.page([configMap('a', '5')], '10', 'more');
    expect([first.limit, first.continue, first.labelSelector]).toEqual([500, undefined, 'app=agenthub']);
    expect([informer.synced, informer.list(), heard]).toEqual([false, [], []]);
    const second = await kube.page([configMap('b', '6')], '10');
    expect(second.continue).toBe('more');
    expect([informer.synced, heard]).toEqual([true, ['+a@5', '+b@6']]);
    expect(kube.watching.options).toMatchObject({ resourceVersion: '10', labelSelector: 'app=agenthub' });
  });

  test('from the beginning if the list expires between two pages, in the end all at once', async () => {
    for (let attempt = 1; attempt <= 2; attempt++) {
      await kube.page([configMap('a', '5')], '10', 'more');
      await kube.take('list').fail(expired());
      expect(informer.list()).toEqual([]);
      clock.advance(30_000);
    }
    const options = await kube.page([configMap('b', '6')], '12');
    expect([options.limit, options.continue, heard]).toEqual([undefined, undefined, ['+b@6']]);
  });

  test('for ever, however often that fails, and says why it is behind', async () => {
    const waits: number[] = [];
    for (let attempt = 1; attempt <= 12; attempt++) {
      await kube.take('list').fail(refused());
      expect(informer.failure?.message).toBe('not now');
      waits.push(clock.nextTimer - clock.now());
      clock.advance(waits.at(-1) ?? 0);
    }
    expect(Math.max(...waits)).toBeLessThanOrEqual(30_000);
    expect(waits.slice(-3).every((wait) => wait >= 15_000)).toBe(true);
    await synced();
    expect([informer.synced, informer.failure]).toEqual([true, undefined]);
  });

  test('no earlier than it is told to', async () => {
    await kube.take('list').fail(refused(20_000));
    clock.advance(19_999);
    expect(kube.calls).toEqual([]);
    clock.advance(1);
    await synced();
  });
});

describe('an informer watches', () => {
  beforeEach(synced);

  test('and tells of every change', () => {
    const { handler } = kube.watching;
    handler.added(configMap('c', '11'));
    handler.modified(configMap('a', '12'));
    handler.deleted(configMap('b', '13'));
    expect(heard).toEqual(['+c@11', '~a@5→12', '-b']);
    expect(
      informer
        .list()
        .map(({ metadata }) => metadata.name)
        .sort(),
    ).toEqual(['a', 'c']);
    expect(informer.get({ namespace: 'default', name: 'a' })?.metadata.resourceVersion).toBe('12');
  });

  test('on from the last version it heard of, when the server ends the watch', () => {
    kube.watching.handler.modified(configMap('a', '12'));
    kube.watching.handler.bookmark('40');
    kube.watching.handler.ended();
    expect(kube.watches.length).toBe(2);
    expect(kube.watching.options.resourceVersion).toBe('40');
  });

  test('on after a while, when the watch breaks or is over at once', () => {
    kube.watching.handler.modified(configMap('a', '12'));
    kube.watching.handler.ended(refused());
    expect(kube.watches.length).toBe(1);
    clock.advance(500);
    expect([kube.watches.length, kube.watching.options.resourceVersion]).toEqual([2, '12']);
    for (let attempt = 2; attempt <= 5; attempt++) {
      kube.watching.handler.ended();
      const wait = clock.nextTimer - clock.now();
      expect(wait).toBeGreaterThanOrEqual(250 * 2 ** (attempt - 1));
      clock.advance(wait);
    }
    expect([kube.watches.length, kube.watching.options.resourceVersion]).toEqual([6, '12']);
  });

  test('and lists anew at once when its version is no longer kept, telling what it missed', async () => {
    kube.watching.handler.ended(expired());
    await kube.page([configMap('a', '50'), configMap('c', '51')], '60');
    expect(heard).toEqual(['-b', '~a@5→50', '+c@51']);
    expect(kube.watching.options.resourceVersion).toBe('60');
  });

  test('and does not storm a server that keeps no version at all', async () => {
    kube.watching.handler.ended(expired());
    await kube.page([configMap('a', '5'), configMap('b', '6')], '10');
    kube.watching.handler.ended(expired());
    expect(kube.calls).toEqual([]);
    clock.advance(clock.nextTimer - clock.now());
    await kube.page([configMap('a', '5'), configMap('b', '6')], '10');
    expect(heard).toEqual([]);
  });

  test('on when the watch has gone silent, and does not hear the old one any more', () => {
    const old = kube.watching;
    clock.advance(50_000);
    old.handler.bookmark('20');
    clock.advance(60_000);
    expect(kube.watches.length).toBe(1);
    clock.advance(60_000);
    expect(kube.watches.length).toBe(2);
    expect([old.closed, kube.watching.options.resourceVersion]).toEqual([true, '20']);
    old.handler.deleted(configMap('a', '21'));
    old.handler.ended();
    expect([heard, kube.watches.length]).toEqual([[], 2]);
  });

  test('and doubts its version after two watches that were silent from the start', async () => {
    clock.advance(60_000);
    clock.advance(1000);
    expect(kube.watches.length).toBe(2);
    clock.advance(60_000);
    clock.advance(1000);
    expect([kube.watches.length, kube.calls.length]).toEqual([2, 1]);
  });

  test('no more once stopped', () => {
    const old = kube.watching;
    informer.stop();
    old.handler.added(configMap('c', '11'));
    old.handler.ended();
    clock.advance(1_000_000);
    expect([old.closed, heard, kube.watches.length, clock.pending]).toEqual([true, [], 1, 0]);
  });
});

describe('an informer never goes back', () => {
  beforeEach(synced);

  test('to a list that is older than what it has seen', async () => {
    kube.watching.handler.added(configMap('c', '70'));
    kube.watching.handler.ended(expired());
    await kube.page([configMap('a', '5')], '9');
    expect([heard, informer.failure?.code]).toEqual([['+c@70'], 'unavailable']);
    clock.advance(1000);
    await kube.page([configMap('a', '5'), configMap('b', '6'), configMap('c', '70')], '71');
    expect([heard, informer.failure]).toEqual([['+c@70'], undefined]);
  });

  test('unless the server insists: then it was restored from a backup', async () => {
    kube.watching.handler.added(configMap('c', '70'));
    kube.watching.handler.ended(expired());
    for (let attempt = 1; attempt <= 4; attempt++) {
      await kube.page([configMap('a', '4')], '9');
      clock.advance(30_000);
    }
    expect(heard).toEqual(['+c@70', '-b', '-c', '~a@5→4']);
    expect(kube.watching.options.resourceVersion).toBe('9');
  });

  test('to an object that is older than the one it has', () => {
    informer.observe(configMap('a', '30'));
    kube.watching.handler.modified(configMap('a', '25'));
    kube.watching.handler.modified(configMap('a', '30'));
    expect(heard).toEqual(['~a@5→30']);
  });
});

describe('what was written by ourselves', () => {
  beforeEach(synced);

  test('is seen at once, and told once', () => {
    informer.observe(configMap('c', '11'));
    expect(informer.get({ namespace: 'default', name: 'c' })).toBeDefined();
    kube.watching.handler.added(configMap('c', '11'));
    expect(heard).toEqual(['+c@11']);
  });

  test('is not taken for there if the watch has already told that it is gone', () => {
    kube.watching.handler.added(configMap('c', '11'));
    kube.watching.handler.deleted(configMap('c', '12'));
    informer.observe(configMap('c', '11'));
    expect([heard, informer.list().length]).toEqual([['+c@11', '-c'], 2]);
  });

  test('is not taken for deleted because an older list lacks it', async () => {
    kube.watching.handler.ended(expired());
    informer.observe(configMap('c', '61'));
    await kube.page([configMap('a', '5'), configMap('b', '6')], '60');
    expect(heard).toEqual(['+c@61']);
    kube.watching.handler.added(configMap('c', '61'));
    kube.watching.handler.deleted(configMap('c', '62'));
    expect(heard).toEqual(['+c@61', '-c']);
  });

  test('is another object if it has another uid', () => {
    informer.observe(configMap('a', '11', { uid: 'second' }));
    kube.watching.handler.deleted(configMap('a', '10'));
    expect(heard).toEqual(['-a', '+a@11']);
    kube.watching.handler.deleted(configMap('a', '12', { uid: 'second' }));
    expect(heard).toEqual(['-a', '+a@11', '-a']);
  });
});

test('an informer finds what an object owns, and forgets what it owns no more', async () => {
  const owned = (uid: string): object => ({
    ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid }],
  });
  await kube.page([configMap('a', '5', owned('x')), configMap('b', '6', owned('x'))], '10');
  kube.watching.handler.modified(configMap('b', '11', owned('y')));
  expect(informer.ownedBy('x').map(({ metadata }) => metadata.name)).toEqual(['a']);
  kube.watching.handler.deleted(configMap('a', '12', owned('x')));
  expect([informer.ownedBy('x'), informer.ownedBy('y').length]).toEqual([[], 1]);
});

test('who waits for an informer goes on once it has everything, and a handler that throws does no harm', async () => {
  const order: string[] = [];
  informer.subscribe({
    added() {
      throw new Error('mistake');
    },
  });
  void informer.whenSynced().then(() => order.push(`synced with ${informer.list().length}`));
  await turn();
  order.push('listed');
  await kube.page([configMap('a', '5'), configMap('b', '6')], '10');
  await turn();
  expect([order, heard]).toEqual([
    ['listed', 'synced with 2'],
    ['+a@5', '+b@6'],
  ]);
});
