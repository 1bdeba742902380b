import { describe, expect, test } from '@jest/globals';
import { planDrain } from '../../../operator/plan/drain.ts';
import type { DrainInput } from '../../../operator/plan/drain.ts';
import type { DrainingStatus } from '../../../operator/api/status.ts';
import { formatTime } from '../../../operator/plan/words.ts';
import { answers, pod, shard, START } from './support.ts';

const at = (seconds: number) => formatTime(START + seconds * 1000);

const UNDER_WAY: DrainingStatus = {
  pod: 'hub-default-2',
  uid: 'uid-2',
  cause: 'ScaleDown',
  since: at(-60),
  deadline: at(240),
  shards: 4,
  sessions: 12,
  leases: 3,
};

function step(differs: Partial<DrainInput> = {}) {
  const victim = differs.victim ?? pod(2);
  return planDrain({
    now: START,
    cause: 'ScaleDown',
    victim,
    pods: [pod(0), pod(1), victim],
    drain: undefined,
    deadlineSeconds: 300,
    onTimeout: 'Force',
    ...differs,
  });
}

const emptying = (shards: number, sessions: number, state: 'serving' | 'draining' | 'drained' = 'draining') =>
  pod(2, {
    answers: answers(
      'hub-default-2',
      { draining: true, shards: Array.from({ length: shards }, (_, number) => shard(number)) },
      { state, sessions, activeTasks: 0 },
    ),
  });

describe('a broker that is to go', () => {
  test('is told to hand over, and has a deadline', () => {
    expect(step()).toEqual({
      step: 'evacuate',
      reason: 'hub-default-2 is told to hand over',
      drain: {
        pod: 'hub-default-2',
        uid: 'uid-2',
        cause: 'ScaleDown',
        since: at(0),
        deadline: at(300),
        shards: 0,
        sessions: 0,
        leases: 0,
      },
    });
  });

  test('is waited for while it hands over, with an estimate by its pace', () => {
    const victim = emptying(2, 6);
    expect(step({ victim, drain: UNDER_WAY })).toEqual({
      step: 'wait',
      held: false,
      reason: 'hub-default-2 is handing over: 2 shards, 6 sessions and 0 leases left',
      drain: { ...UNDER_WAY, shards: 2, sessions: 6, leases: 0, estimatedSeconds: 60 },
    });
  });

  test('is told again if it serves, as after a restart of its container', () => {
    expect(step({ victim: emptying(4, 2, 'serving'), drain: UNDER_WAY }).step).toBe('evacuate');
  });

  test('goes when it is empty', () => {
    expect(step({ victim: emptying(0, 0, 'drained'), drain: UNDER_WAY })).toEqual({
      step: 'remove',
      reason: 'hub-default-2 is empty',
    });
  });

  test('does not go while it owns shards, whatever it says', () => {
    expect(step({ victim: emptying(1, 0, 'drained'), drain: UNDER_WAY }).step).toBe('wait');
  });

  test('does not go because another pod of that name was empty', () => {
    const victim = pod(2, { ...emptying(0, 0, 'drained'), uid: 'another' });
    expect(step({ victim, drain: UNDER_WAY })).toMatchObject({
      step: 'evacuate',
      drain: { uid: 'another', since: at(0) },
    });
  });

  test('goes at its deadline if so wished, and it is said what was left', () => {
    const late = { ...UNDER_WAY, deadline: at(0) };
    expect(step({ victim: emptying(3, 1), drain: late })).toEqual({
      step: 'remove',
      reason:
        'hub-default-2 was not empty within 300 s: 3 shards, 1 session and 0 leases left; drain.onTimeout is Force',
    });
  });

  test('else stays, and it is said what can be done', () => {
    const late = { ...UNDER_WAY, deadline: at(0) };
    expect(step({ victim: emptying(3, 1), drain: late, onTimeout: 'Hold' })).toMatchObject({
      step: 'wait',
      held: true,
      reason: expect.stringContaining('raise drain.deadlineSeconds, set Force, or delete the pod'),
      drain: { shards: 3 },
    });
  });

  test('that can not be asked is asked until its deadline', () => {
    const victim = pod(2, { answers: { failure: 'timed out after 3 s' } });
    expect(step({ victim, drain: UNDER_WAY })).toMatchObject({
      step: 'evacuate',
      reason: 'hub-default-2 is told to hand over (it could not be asked: timed out after 3 s)',
    });
  });

  test('waits for a lower one that is not ready', () => {
    const pods = [pod(0, { ready: false }), pod(1), pod(2)];
    expect(step({ pods })).toEqual({
      step: 'wait',
      held: false,
      reason: 'hub-default-0 is not ready; until it is, no other broker is taken away',
    });
  });

  test('goes on once it has begun', () => {
    const victim = emptying(2, 0);
    expect(step({ victim, pods: [pod(0, { ready: false }), pod(1), victim], drain: UNDER_WAY }).step).toBe(
      'wait',
    );
    expect(
      step({ victim, pods: [pod(0, { ready: false }), pod(1), victim], drain: UNDER_WAY }),
    ).toHaveProperty('drain.shards', 2);
  });

  test('waits for any other that is not ready if it is to be replaced', () => {
    const victim = pod(0);
    expect(step({ victim, pods: [victim, pod(1), pod(2, { ready: false })], cause: 'Update' }).step).toBe(
      'wait',
    );
    expect(step({ victim: pod(1), pods: [pod(0), pod(1), pod(2, { ready: false })] }).step).toBe('evacuate');
  });

  test('goes at once if it does not run: it holds nothing', () => {
    const victim = pod(2, { running: false, ready: false });
    expect(step({ victim, pods: [pod(0, { ready: false }), victim] })).toMatchObject({ step: 'remove' });
  });

  test('goes at once if it is the only one: there is nobody to hand over to', () => {
    const victim = pod(0);
    expect(step({ victim, pods: [victim] })).toMatchObject({
      step: 'remove',
      reason: 'hub-default-0 is the only broker: there is nobody to hand over to',
    });
  });

  test('is given up when its node has been silent for more than a minute', () => {
    expect(step({ victim: pod(2, { nodeLostSince: START - 60_001 }) }).step).toBe('remove');
    expect(step({ victim: pod(2, { nodeLostSince: START - 59_000 }) }).step).not.toBe('remove');
  });

  test('that is stopping already is waited for', () => {
    expect(step({ victim: pod(2, { deleting: true, ready: false }) })).toMatchObject({
      step: 'wait',
      reason: 'hub-default-2 is stopping',
    });
  });
});
