import { describe, expect, test } from '@jest/globals';
import { planRollout } from '../../../operator/plan/rollout.ts';
import type { RolloutInput } from '../../../operator/plan/rollout.ts';
import type { PodView } from '../../../operator/plan/pods.ts';
import { answers, pod, shard, START } from './support.ts';

const old = (ordinal: number, differs: Partial<PodView> = {}) =>
  pod(ordinal, { revision: 'old', ...differs });
const unready = { ready: false, since: START - 10_000, createdAt: START - 20_000 };

function roll(pods: readonly PodView[], differs: Partial<RolloutInput> = {}) {
  return planRollout({
    now: START,
    pods,
    replicas: pods.length,
    revision: 'new',
    paused: false,
    manual: false,
    progressDeadlineSeconds: 300,
    ...differs,
  });
}

describe('a roll', () => {
  test('is done when every pod is of the revision', () => {
    expect(roll([pod(0), pod(1), pod(2)])).toEqual({ state: 'done', updated: 3 });
  });

  test('takes one pod at a time, the highest first', () => {
    expect(roll([old(0), old(1), pod(2)])).toMatchObject({
      state: 'next',
      pod: { name: 'hub-default-1' },
      reason: 'hub-default-1 is the next to be replaced, 2 pods of 3 still to be replaced',
    });
  });

  test.each<[string, PodView[], Partial<RolloutInput>, string]>([
    ['the one before is ready', [old(0), old(1), pod(2, unready)], {}, 'hub-default-2 is not ready yet'],
    [
      'the one before has stopped',
      [old(0), old(1), old(2, { deleting: true, ready: false })],
      {},
      'hub-default-2 is stopping',
    ],
    ['the one before is made', [old(0), old(1)], { replicas: 3 }, '1 pod not made yet'],
    [
      'shards are where they should be',
      [old(0), old(1), pod(2)],
      { unsettled: '3 of 16 shards are without an owner' },
      '3 of 16 shards are without an owner',
    ],
    ['an old one is ready again', [old(0, unready), old(1), pod(2)], {}, 'hub-default-0 is not ready yet'],
  ])('waits until %s', (_, pods, differs, reason) => {
    expect(roll(pods, differs)).toMatchObject({ state: 'waiting', reason: expect.stringContaining(reason) });
  });

  test('stops at a pod that can not work, and says which and why', () => {
    const trouble = { reason: 'ImagePullBackOff', message: 'Back-off pulling image "agenthub:typo"' };
    expect(roll([old(0), old(1), pod(2, { ...unready, running: false, trouble })])).toEqual({
      state: 'stuck',
      updated: 1,
      trouble,
      reason:
        'the update stops at hub-default-2, ImagePullBackOff: Back-off pulling image "agenthub:typo"; the other brokers go on as they are',
    });
  });

  test('stops at a pod that is not ready in time', () => {
    const late = pod(2, { ready: false, since: START - 301_000, createdAt: START - 400_000 });
    expect(roll([old(0), old(1), late])).toMatchObject({ state: 'stuck', trouble: { reason: 'NotReady' } });
  });

  test('goes on by itself when that pod becomes ready after all', () => {
    expect(roll([old(0), old(1), pod(2)]).state).toBe('next');
  });

  test('replaces first what does not work, whatever else is wrong: it may be the remedy', () => {
    const broken = old(2, { ...unready, running: false, trouble: { reason: 'ErrImagePull', message: '' } });
    expect(roll([old(0), old(1, unready), broken])).toMatchObject({
      state: 'next',
      useless: true,
      pod: { name: 'hub-default-2' },
    });
  });

  test('replaces outdated pods that never became ready, so that a wrong setting can be put right', () => {
    const late = { ready: false, since: START - 301_000, createdAt: START - 400_000 };
    expect(roll([old(0, late), old(1, late)])).toMatchObject({ state: 'next', useless: true });
  });

  test('does not take a broker that drains for one that does not work, however long it takes', () => {
    const draining = {
      ready: false,
      since: START - 900_000,
      answers: answers('b', { draining: true, shards: [shard(1)] }),
    };
    expect(roll([old(0), old(1), old(2, draining)])).toMatchObject({ state: 'next', useless: false });
    expect(roll([old(0), old(1), pod(2, draining)]).state).toBe('waiting');
  });

  test('goes on with one that drains already, though nobody knows any more who told it to', () => {
    const draining = { ready: false, answers: answers('b', { draining: true }) };
    expect(roll([old(0, draining), pod(1)])).toMatchObject({ state: 'next', pod: { ordinal: 0 } });
    expect(roll([old(0, draining), pod(1, unready)]).state).toBe('waiting');
    expect(roll([old(0, { ...draining, deleting: true }), pod(1)]).state).toBe('waiting');
  });

  test('turned back in the middle replaces only what had been replaced', () => {
    const trouble = { reason: 'CrashLoopBackOff', message: 'exit code 2' };
    const pods = [old(0), old(1), pod(2, { ...unready, running: false, trouble })];
    expect(roll(pods, { revision: 'old' })).toMatchObject({
      state: 'next',
      useless: true,
      pod: { ordinal: 2 },
    });
    expect(roll([old(0), old(1), old(2)], { revision: 'old' }).state).toBe('done');
  });

  test('rests while it is paused, and is left to others if so wished', () => {
    expect(roll([old(0), pod(1)], { paused: true })).toMatchObject({ state: 'paused', updated: 1 });
    expect(roll([old(0), pod(1)], { manual: true })).toMatchObject({ state: 'manual', updated: 1 });
  });
});
