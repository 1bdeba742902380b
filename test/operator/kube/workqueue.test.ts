// For inner loops, where expect() would take most of the time.
import { ok } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { WorkQueue } from '../../../operator/kube/workqueue.ts';
import { SeededRandom } from '../../support/random.ts';

const backoff = { initialMs: 100, maxMs: 1000 };

function queue(hooks = {}): WorkQueue {
  return new WorkQueue({ backoff, random: new SeededRandom(1), hooks });
}

describe('a work queue', () => {
  test('gives keys in the order in which they became ready, each once', () => {
    const work = queue();
    for (const key of ['a', 'b', 'a', 'c', 'b']) work.add(key, 0);
    expect([work.take(0), work.take(0), work.take(0), work.take(0)]).toEqual(['a', 'b', 'c', undefined]);
  });

  test('gives a key that was added while it was worked on once more, and not before that is done', () => {
    const work = queue();
    work.add('a', 0);
    work.take(0);
    work.add('a', 1);
    work.add('a', 2);
    expect(work.take(3)).toBeUndefined();
    work.done('a', 4);
    expect(work.take(4)).toBe('a');
    work.done('a', 5);
    expect([work.take(5), work.nextDue(5)]).toEqual([undefined, Infinity]);
  });

  test('waits until the earliest time that was asked for', () => {
    const work = queue();
    work.addAfter('a', 500, 0);
    work.addAfter('a', 200, 0);
    work.addAfter('a', 900, 0);
    expect([work.nextDue(0), work.take(199), work.take(200), work.nextDue(200)]).toEqual([
      200,
      undefined,
      'a',
      Infinity,
    ]);
  });

  test('does not let a key wait that something happened to', () => {
    const work = queue();
    work.addAfter('a', 500, 0);
    work.add('a', 10);
    expect(work.take(10)).toBe('a');
    work.done('a', 11);
    expect(work.take(1000)).toBeUndefined();
  });

  test('remembers for when a key that is worked on was wanted', () => {
    const work = queue();
    work.add('a', 0);
    work.take(0);
    work.addAfter('a', 300, 10);
    work.done('a', 20);
    expect([work.take(309), work.take(310)]).toEqual([undefined, 'a']);
  });

  test('delays nothing when its clock is put back', () => {
    const work = queue();
    work.add('working', 1_000_000);
    work.take(1_000_000);
    work.addAfter('a', 500, 1_000_000);
    expect([work.take(400), work.nextDue(400)]).toEqual([undefined, 900]);
    work.add('b', 400);
    expect([work.take(450), work.longestMs(450)]).toEqual(['b', 50]);
    expect([work.take(899), work.take(900)]).toEqual([undefined, 'a']);
  });

  test('lets failures wait longer and longer, until one succeeds', () => {
    const work = queue();
    const delays: number[] = [];
    for (let attempt = 1; attempt <= 6; attempt++) delays.push(work.retry('a', 0));
    for (const [index, longest] of [100, 200, 400, 800, 1000, 1000].entries()) {
      expect(delays[index]).toBeLessThanOrEqual(longest);
      expect(delays[index]).toBeGreaterThanOrEqual(longest / 2);
    }
    expect(work.attempts('a')).toBe(6);
    work.forget('a');
    expect(work.retry('a', 0)).toBeLessThanOrEqual(100);
    expect(work.retry('b', 0, 5000)).toBe(5000);
  });

  test('tells what happens to it', () => {
    const heard: string[] = [];
    const work = queue({
      added: () => heard.push('added'),
      taken: (waitedMs: number) => heard.push(`taken after ${waitedMs}`),
      finished: (workedMs: number) => heard.push(`finished after ${workedMs}`),
      retried: (_: number, attempt: number) => heard.push(`retried ${attempt}`),
    });
    work.add('a', 0);
    work.add('a', 1);
    work.take(5);
    work.retry('a', 6);
    expect([work.longestMs(8), work.taken, work.depth, work.waiting]).toEqual([3, 1, 0, 0]);
    work.done('a', 9);
    work.take(1000);
    expect(heard).toEqual([
      'added',
      'taken after 5',
      'retried 1',
      'finished after 4',
      'added',
      expect.stringMatching(/^taken after 9\d\d/),
    ]);
  });
});

const KEYS = ['a', 'b', 'c', 'd'];
const command = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), key: fc.constantFrom(...KEYS) }),
  fc.record({ kind: fc.constant('after' as const), key: fc.constantFrom(...KEYS), ms: fc.nat(400) }),
  fc.record({ kind: fc.constant('retry' as const), key: fc.constantFrom(...KEYS) }),
  fc.record({ kind: fc.constant('take' as const) }),
  fc.record({ kind: fc.constant('done' as const), key: fc.constantFrom(...KEYS) }),
  fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(300) }),
);

describe('whatever is done with a work queue', () => {
  test('no key is taken twice at once, none is given early, and none is forgotten', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200, size: 'max' }), (commands) => {
        const work = queue();
        const taken = new Set<string>();
        /** When each key was wanted at the earliest, since it was last taken. */
        const wanted = new Map<string, number>();
        let now = 0;
        const want = (key: string, at: number): void => {
          wanted.set(key, Math.min(at, wanted.get(key) ?? Infinity));
        };
        const take = (): boolean => {
          const key = work.take(now);
          if (key === undefined) {
            for (const [other, at] of wanted) ok(taken.has(other) || at > now, `${other} is kept back`);
            return false;
          }
          ok(!taken.has(key), `${key} is taken twice`);
          ok((wanted.get(key) ?? Infinity) <= now, `${key} is given early`);
          taken.add(key);
          wanted.delete(key);
          return true;
        };
        for (const step of commands) {
          if (step.kind === 'add') {
            work.add(step.key, now);
            want(step.key, now);
          } else if (step.kind === 'after') {
            work.addAfter(step.key, step.ms, now);
            want(step.key, now + step.ms);
          } else if (step.kind === 'retry') want(step.key, now + work.retry(step.key, now));
          else if (step.kind === 'take') take();
          else if (step.kind === 'done') {
            work.done(step.key, now);
            taken.delete(step.key);
          } else now += step.ms;
          const times = [...wanted].filter(([key]) => !taken.has(key)).map(([, at]) => at);
          const due = Math.min(...times, Infinity);
          ok(Math.max(work.nextDue(now), now) === Math.max(due, now), 'whoever drives it wakes up in time');
        }
        // Once all work is done, everything that was wanted is given by the time it was wanted for.
        for (const key of taken) work.done(key, now);
        taken.clear();
        now += 2000;
        while (take());
        ok(wanted.size === 0);
        ok(work.nextDue(now) === Infinity);
      }),
      { numRuns: 500 },
    );
  });
});
