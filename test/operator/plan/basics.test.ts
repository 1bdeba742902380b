import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { mergeConditions } from '../../../operator/plan/conditions.ts';
import { fingerprint } from '../../../operator/plan/fingerprint.ts';
import { overlay } from '../../../operator/plan/overlay.ts';
import { viewPod } from '../../../operator/plan/pods.ts';
import { parseQuantity } from '../../../operator/plan/quantity.ts';
import { amount, formatTime, listed, parseTime } from '../../../operator/plan/words.ts';
import { START } from './support.ts';

test.each<[string | number, number | undefined]>([
  ['500m', 0.5],
  ['1', 1],
  [2, 2],
  ['1Gi', 2 ** 30],
  ['1.5Mi', 1.5 * 2 ** 20],
  ['100k', 100_000],
  ['1e3', 1000],
  ['12E', 12e18],
  ['1 GB', undefined],
  ['', undefined],
])('quantity %j is %j', (text, value) => {
  expect(parseQuantity(text)).toBe(value);
});

describe('times', () => {
  test('are read and written as JavaScript does it', () => {
    fc.assert(
      fc.property(fc.date({ min: new Date(0), max: new Date('2199-12-31'), noInvalidDate: true }), (date) => {
        const seconds = Math.floor(date.getTime() / 1000) * 1000;
        expect(formatTime(date.getTime())).toBe(`${new Date(seconds).toISOString().slice(0, 19)}Z`);
        expect(parseTime(date.toISOString())).toBe(date.getTime());
      }),
    );
  });

  test('may have microseconds and a zone', () => {
    expect(parseTime('2026-01-01T01:00:00.123456+01:00')).toBe(START + 123);
    expect(parseTime('yesterday')).toBeUndefined();
  });
});

test('numbers and lists in sentences', () => {
  expect([0.44, 12.6, 1234.5, 1_234_567].map(amount)).toEqual(['0.4', '13', '1,235', '1,234,567']);
  expect([[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map(listed)).toEqual(['', 'a', 'a and b', 'a, b and c']);
});

describe('a fingerprint', () => {
  test('does not depend on the order of members, and on nothing else not', () => {
    expect(fingerprint({ a: 1, b: { c: 2, d: 3 } })).toBe(fingerprint({ b: { d: 3, c: 2 }, a: 1 }));
    expect(fingerprint({ a: [1, 2] })).not.toBe(fingerprint({ a: [2, 1] }));
    expect(fingerprint({ a: undefined })).toBe(fingerprint({}));
    expect(fingerprint({})).toMatch(/^[a-z0-9]{10}$/);
  });
});

describe('what is laid over', () => {
  const base = {
    metadata: { labels: { a: '1', b: '2' } },
    spec: {
      containers: [
        { name: 'broker', env: [{ name: 'A', value: '1' }], args: ['serve'] },
        { name: 'other', image: 'x' },
      ],
      tolerations: [{ key: 'k' }],
    },
  };

  test('merges objects and lists of named things, and replaces the rest', () => {
    expect(
      overlay(base, {
        metadata: { labels: { b: '3' } },
        spec: {
          containers: [
            { name: 'broker', env: [{ name: 'B', value: '2' }], args: ['serve', '-v'] },
            { name: 'sidecar' },
          ],
          tolerations: [{ operator: 'Exists' }],
        },
      }),
    ).toEqual({
      metadata: { labels: { a: '1', b: '3' } },
      spec: {
        containers: [
          {
            name: 'broker',
            env: [
              { name: 'A', value: '1' },
              { name: 'B', value: '2' },
            ],
            args: ['serve', '-v'],
          },
          { name: 'other', image: 'x' },
          { name: 'sidecar' },
        ],
        tolerations: [{ operator: 'Exists' }],
      },
    });
  });

  test('removes what is null, and items that say so', () => {
    const patch = {
      metadata: { labels: { a: null } },
      spec: { containers: [{ name: 'other', $patch: 'delete' }], tolerations: null },
    };
    expect(overlay(base, patch)).toEqual({
      metadata: { labels: { b: '2' } },
      spec: { containers: [base.spec.containers[0]] },
    });
  });

  test('changes nothing if it is empty, and never what it is laid over', () => {
    const before = structuredClone(base);
    expect(overlay(base, {})).toEqual(before);
    overlay(base, { spec: { containers: [{ name: 'broker', env: null }] } });
    expect(base).toEqual(before);
  });

  test('laid over twice is the same as once', () => {
    const json = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        fc.constantFrom('a', 'b', 1, true, null),
        fc.uniqueArray(fc.record({ name: fc.constantFrom('x', 'y', 'z'), of: tie('value') }), {
          maxLength: 3,
          selector: ({ name }) => name,
        }),
        fc.dictionary(fc.constantFrom('a', 'b', 'name'), tie('value'), { maxKeys: 3 }),
      ),
    })).value;
    const object = fc.dictionary(fc.constantFrom('a', 'b', 'c'), json, { maxKeys: 3 });
    fc.assert(
      fc.property(object, object, (one, other) => {
        const once = overlay(one, other);
        expect(overlay(once, other)).toEqual(once);
      }),
    );
  });
});

describe('conditions', () => {
  const verdict = { type: 'Available', status: 'True', reason: 'Because', message: 'it is' } as const;

  test('keep the time of their last transition while only reasons change', () => {
    const [first] = mergeConditions([], [verdict], 1, START);
    const [second] = mergeConditions([first!], [{ ...verdict, reason: 'Other' }], 2, START + 60_000);
    expect(second).toEqual({
      ...verdict,
      reason: 'Other',
      observedGeneration: 2,
      lastTransitionTime: '2026-01-01T00:00:00Z',
    });
    const [third] = mergeConditions([second!], [{ ...verdict, status: 'False' }], 2, START + 60_000);
    expect(third!.lastTransitionTime).toBe('2026-01-01T00:01:00Z');
  });

  test('of others stay', () => {
    const foreign = {
      type: 'Audited',
      status: 'True',
      reason: 'R',
      message: 'm',
      lastTransitionTime: formatTime(START),
    } as const;
    expect(mergeConditions([foreign], [verdict], 1, START)).toContainEqual(foreign);
  });
});

describe('a pod', () => {
  const pod = (status: object, metadata: object = {}, now = START + 60_000) =>
    viewPod(
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'hub-default-3', uid: 'u', creationTimestamp: formatTime(START), ...metadata },
        status,
      },
      now,
      'broker',
    );

  test('is seen as it is', () => {
    const conditions = [{ type: 'Ready', status: 'True', lastTransitionTime: formatTime(START + 5000) }];
    const containerStatuses = [{ name: 'broker', state: { running: {} } }];
    expect(pod({ conditions, containerStatuses, podIP: '10.1.2.3' })).toMatchObject({
      ordinal: 3,
      ready: true,
      running: true,
      since: START + 5000,
      ip: '10.1.2.3',
      trouble: undefined,
    });
  });

  test('that is being deleted is not ready', () => {
    const conditions = [{ type: 'Ready', status: 'True' }];
    expect(pod({ conditions }, { deletionTimestamp: formatTime(START) })).toMatchObject({
      ready: false,
      deleting: true,
    });
  });

  test('may be without a node for a while, as until its volume is made', () => {
    const message = 'pod has unbound immediate PersistentVolumeClaims';
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }];
    expect(pod({ conditions }, {}, START + 29_000)?.trouble).toBeUndefined();
    expect(pod({ conditions }, {}, START + 31_000)?.trouble).toEqual({ reason: 'Unschedulable', message });
  });

  test('that is to end has no trouble when it has ended', () => {
    const containerStatuses = [
      { name: 'broker', state: { terminated: { exitCode: 0, reason: 'Completed' } } },
    ];
    expect(pod({ containerStatuses }, { deletionTimestamp: formatTime(START) })?.trouble).toBeUndefined();
    expect(pod({ containerStatuses })?.trouble).toMatchObject({ reason: 'Completed' });
  });

  test.each<[string, object, { reason: string; message: string } | undefined]>([
    [
      'an image that is not there',
      {
        containerStatuses: [
          { name: 'broker', state: { waiting: { reason: 'ErrImagePull', message: 'not found' } } },
        ],
      },
      { reason: 'ErrImagePull', message: 'not found' },
    ],
    [
      'being made is none',
      { containerStatuses: [{ name: 'broker', state: { waiting: { reason: 'ContainerCreating' } } }] },
      undefined,
    ],
    [
      'last words of a broker that ends again and again',
      {
        containerStatuses: [
          {
            name: 'broker',
            state: { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 40s' } },
            lastState: {
              terminated: { exitCode: 2, reason: 'Error', message: 'one\nunknown key nats.srvers\n' },
            },
          },
        ],
      },
      { reason: 'CrashLoopBackOff', message: 'exit code 2 (Error): one unknown key nats.srvers' },
    ],
    [
      'no node has room',
      {
        conditions: [
          { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/3 nodes' },
        ],
      },
      { reason: 'Unschedulable', message: '0/3 nodes' },
    ],
  ])('has trouble: %s', (_, status, trouble) => {
    expect(pod(status)?.trouble).toEqual(trouble);
  });
});
