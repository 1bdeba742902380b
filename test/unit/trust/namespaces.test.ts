import { describe, expect, test } from '@jest/globals';
import { qualified } from '../../../src/core/namespace.ts';
import { Namespaces } from '../../../src/trust/namespaces.ts';
import { Policy } from '../../../src/trust/policy.ts';
import { principal } from '../../../src/trust/principal.ts';
import { Rights } from '../../../src/trust/rights.ts';

const SPACES = Namespaces.read(
  {
    namespaces: [
      { name: 'acme', who: ['token:a*', 'group:acme'], weight: 3, limits: { agents: 5 } },
      { name: 'default', who: ['token:b'] },
      { name: 'globex', who: ['token:*'] },
      { name: '*', limits: { tasksPerSecond: 10 } },
    ],
  },
  'n.yaml',
);

describe('a file of namespaces', () => {
  test.each([
    ['token:a1', [], 'acme'],
    ['jwt:x', ['acme'], 'acme'],
    ['token:b', [], ''],
    ['token:c', [], 'globex'],
    ['jwt:x', [], ''],
  ])('puts %s of %j into %j: the first entry that names it counts', (name, groups, namespace) => {
    expect(SPACES.of({ name, groups })).toBe(namespace);
  });

  test('says weights and limits, of some by name and of the rest together, but for the default one', () => {
    expect(SPACES.termsOf('acme')).toMatchObject({
      weight: 3,
      limits: { agents: 5, tasksPerSecond: Infinity },
    });
    expect(SPACES.termsOf('unheard-of')).toMatchObject({ weight: 1, limits: { tasksPerSecond: 10 } });
    expect(SPACES.termsOf('')).toMatchObject({ weight: 1, limited: false });
    expect(Namespaces.none.termsOf('acme').limited).toBe(false);
  });

  test.each([
    [{ namespaces: [{ name: 'Acme' }] }, 'a namespace has 1 to 63'],
    [{ namespaces: [{ name: 'acme' }, { name: 'acme' }] }, 'acme is there twice'],
    [{ namespaces: [{ name: '*', who: ['token:a'] }] }, 'no namespace that somebody could be in'],
    [{ namespaces: [{ name: 'acme', limits: { agent: 1 } }] }, 'agent'],
    [{}, 'namespaces'],
  ])('with a fault in it is refused: %j', (document, message) => {
    expect(() => Namespaces.read(document, 'n.yaml')).toThrow(message);
  });
});

describe('the rules of a policy', () => {
  const policy = Policy.read(
    {
      rules: [
        {
          who: ['token:bot'],
          be: ['planner'],
          publish: ['worker', '*'],
          read: ['type:ocr'],
          manage: ['*'],
          admin: ['*'],
        },
      ],
    },
    'p.yaml',
  );
  const rights = Rights.of(principal('token', 'bot', { namespace: 'acme' }), policy);
  const inside = (name: string): string => qualified('acme', name);

  test('go by names as they are in the namespace', () => {
    expect(rights.may({ does: 'be', to: inside('planner') })).toBe(true);
    expect(rights.may({ does: 'be', to: inside('worker') })).toBe(false);
    expect(rights.publishes(inside('worker'), 'ocr', inside('planner'))).toBe(true);
    expect(rights.publishes(inside('worker'), 'ocr', inside('worker'))).toBe(false);
    expect(rights.publishes(inside('*'), '', '')).toBe(true);
    expect(rights.may({ does: 'read', to: inside('dead:type:ocr') })).toBe(false);
    expect(rights.may({ does: 'read', to: inside('type:ocr') })).toBe(true);
    expect(rights.owns(inside('reply:planner'))).toBe(true);
    expect(rights.refusal({ does: 'be', to: inside('worker') }, 'agent')?.message).toContain(
      'be the agent worker',
    );
  });

  test.each([
    ['with rules', rights],
    ['without any', Rights.of(principal('token', 'bot', { namespace: 'acme' }), undefined)],
    [
      'as an administrator',
      Rights.of(principal('token', 'bot', { namespace: 'acme', role: 'admin' }), policy),
    ],
  ])('reach into no other namespace, %s', (_, one) => {
    for (const name of ['planner', qualified('globex', 'planner'), qualified('acme.', 'planner')]) {
      expect(one.may({ does: 'be', to: name })).toBe(false);
      expect(one.may({ does: 'manage', to: name })).toBe(false);
      expect(one.publishes(name, '', '')).toBe(false);
      expect([one.reaches(name), one.owns(name)]).toEqual([false, false]);
    }
    for (const to of [
      'drain',
      'setPlacement',
      'metrics',
      'logLevel',
      'namespaces',
      'moveShard',
      'listShards',
    ])
      expect(one.may({ does: 'admin', to })).toBe(false);
  });

  test('let an administrator of a namespace administer it', () => {
    const boss = Rights.of(principal('token', 'boss', { namespace: 'acme', role: 'admin' }), policy);
    for (const one of [rights, boss]) expect(one.may({ does: 'admin', to: 'listMailboxes' })).toBe(true);
  });
});
