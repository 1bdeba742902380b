import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { HubError } from '../../../src/std/errors.ts';
import { GRANTS, Policy } from '../../../src/trust/policy.ts';
import { ANONYMOUS, loopback, principal } from '../../../src/trust/principal.ts';
import type { Act } from '../../../src/trust/rights.ts';
import { Rights } from '../../../src/trust/rights.ts';

const POLICY = Policy.read(
  {
    rules: [
      {
        name: 'planners',
        who: ['token:planner', 'group:planners'],
        be: ['planner', 'planner-*'],
        publish: ['worker-*', 'type:ocr'],
        types: ['ocr', 'sum*'],
      },
      { who: ['jwt:*@example.org'], work: ['type:ocr'], publish: ['planner'], read: ['dead:type:ocr'] },
      { name: 'ops', who: ['token:ops'], publish: ['*'], manage: ['type:*'], admin: ['list*', 'metrics'] },
    ],
  },
  'policy.yaml',
);

const planner = Rights.of(principal('token', 'planner'), POLICY);
const worker = Rights.of(principal('jwt', 'w@example.org'), POLICY);
const ops = Rights.of(principal('token', 'ops'), POLICY);

function publish(to: string, type = '', requester = ''): Act {
  return { does: 'publish', to, type, requester };
}

describe('who may do what', () => {
  test.each<[string, Rights, Act, number]>([
    ['a named agent', planner, { does: 'be', to: 'planner' }, 1],
    ['one that a pattern names', planner, { does: 'be', to: 'planner-7' }, 1],
    ['another agent', planner, { does: 'be', to: 'worker-1' }, 0],
    ['tasks of a named type', planner, publish('worker-1', 'ocr'), 1],
    ['tasks of a type that a pattern names', planner, publish('worker-1', 'summarize'), 1],
    ['tasks of another type', planner, publish('worker-1', 'delete'), 0],
    ['tasks without a type', planner, publish('worker-1'), 0],
    ['in its own name', planner, publish('type:ocr', 'ocr', 'planner-1'), 1],
    ['in the name of another', planner, publish('type:ocr', 'ocr', 'worker-1'), 0],
    ['to all', planner, publish('*', 'ocr'), 0],
    ['to all, with a pattern that is everything', ops, publish('*'), 3],
    ['what is for it', planner, { does: 'read', to: 'planner' }, 1],
    ['its results', planner, { does: 'read', to: 'reply:planner' }, 1],
    ['its dead letters', planner, { does: 'manage', to: 'dead:planner' }, 1],
    ['results of another', planner, { does: 'read', to: 'reply:worker-1' }, 0],
    ['its own mailbox', planner, { does: 'work', to: 'planner' }, 1],
    ['the mailbox of results of another', planner, { does: 'work', to: 'reply:worker-1' }, 0],
    ['where it may only publish', planner, { does: 'work', to: 'type:ocr' }, 0],
    ['a capability', worker, { does: 'work', to: 'type:ocr' }, 2],
    ['a capability that it works on', worker, { does: 'read', to: 'type:ocr' }, 2],
    ['dead letters that a rule names', worker, { does: 'read', to: 'dead:type:ocr' }, 2],
    ['dead letters that it may only read', worker, { does: 'manage', to: 'dead:type:ocr' }, 0],
    ['dead letters of what it manages', ops, { does: 'manage', to: 'dead:type:ocr' }, 3],
    ['a part of a capability that is split', worker, { does: 'read', to: 'type:ocr~3' }, 2],
    ['its dead letters', ops, { does: 'manage', to: 'dead:type:ocr~3' }, 3],
    ['an agent that is called like a part', planner, { does: 'read', to: 'planner~3' }, 0],
    ['everything', planner, { does: 'read', to: '*' }, 0],
    ['a verb that a pattern names', ops, { does: 'admin', to: 'listShards' }, 3],
    ['another verb', ops, { does: 'admin', to: 'drain' }, 0],
  ])('%s', (_, rights, act, rule) => {
    expect(rights.judge(act)).toMatchObject({ allowed: rule > 0, rule });
    expect(rights.may(act)).toBe(rule > 0);
  });

  test('groups count as the principals that are in them', () => {
    const member = Rights.of(principal('jwt', 'x', { groups: ['others', 'planners'] }), POLICY);
    expect(member.may({ does: 'be', to: 'planner' })).toBe(true);
  });

  test('a name that another source gives is another name', () => {
    for (const source of ['jwt', 'cert', 'serviceaccount'] as const) {
      expect(Rights.of(principal(source, 'planner'), POLICY).may({ does: 'be', to: 'planner' })).toBe(false);
    }
    const fake = Rights.of(principal('jwt', 'group:planners'), POLICY);
    expect(fake.may({ does: 'be', to: 'planner' })).toBe(false);
  });

  test('a refusal says who, what, and which rules were looked at', () => {
    const refusal = planner.refusal({ does: 'be', to: 'boss' }, 'agent');
    expect(refusal).toMatchObject({ code: 'permission', field: 'agent' });
    expect(refusal?.message).toBe(
      'token:planner may not be the agent boss: no rule of policy.yaml allows it; those that name token:planner: 1',
    );
    const stranger = Rights.of(principal('token', 'x'), POLICY).refusal(publish('planner', 'ocr'), 'task.to');
    expect(stranger?.message).toBe(
      'token:x may not publish tasks of type ocr to planner: no rule of policy.yaml names token:x',
    );
  });

  test('a verdict names the rule by number and name', () => {
    expect(planner.judge({ does: 'be', to: 'planner' }).why).toBe('rule 1 (planners) of policy.yaml');
  });
});

describe('without rules', () => {
  const agent = Rights.of(ANONYMOUS, undefined);

  test('agents may do everything but administer', () => {
    for (const does of ['be', 'work', 'read', 'manage'] as const)
      expect(agent.may({ does, to: 'x' })).toBe(true);
    expect(agent.may(publish('*'))).toBe(true);
    expect(agent.may({ does: 'admin', to: 'metrics' })).toBe(true);
    expect(agent.may({ does: 'admin', to: 'drain' })).toBe(false);
    expect(agent.limited).toBe(false);
  });

  test('administrators may do everything; with rules, only those with a token still may', () => {
    const admin = principal('token', 'root', { role: 'admin' });
    const act: Act = { does: 'admin', to: 'drain' };
    expect(Rights.of(admin, undefined).may(act)).toBe(true);
    expect(Rights.of(admin, POLICY).may(act)).toBe(true);
    expect(Rights.of(loopback('admin'), undefined).may(act)).toBe(true);
    expect(Rights.of(loopback('admin'), POLICY).may(act)).toBe(false);
  });
});

test('what is asked of each task is what is judged, whatever was asked before', () => {
  const mailbox = fc.constantFrom('worker-1', 'worker-2', 'type:ocr', 'planner', '*');
  const type = fc.constantFrom('', 'ocr', 'sum', 'delete');
  const requester = fc.constantFrom('', 'planner', 'planner-3', 'worker-1');
  fc.assert(
    fc.property(fc.array(fc.tuple(mailbox, type, requester), { maxLength: 30 }), (asked) => {
      const rights = Rights.of(principal('token', 'planner'), POLICY);
      for (const [to, kind, from] of asked) {
        expect(rights.publishes(to, kind, from)).toBe(rights.judge(publish(to, kind, from)).allowed);
      }
    }),
  );
});

test('an empty policy allows nothing at all', () => {
  const rights = Rights.of(loopback('agent'), Policy.read({ rules: [] }, 'empty.yaml'));
  for (const does of GRANTS) {
    const act: Act = does === 'publish' ? publish('x') : { does, to: 'x' };
    expect(rights.may(act)).toBe(false);
  }
});

test.each([
  [{ rules: [{ who: [] }] }, 'rules[0].who'],
  [{ rules: [{ who: ['a'], reads: ['x'] }] }, 'rules[0]'],
  [{ rules: [{ who: ['a'], be: 'x' }] }, 'rules[0].be'],
  [{ rules: [{ who: ['a'] }, { who: ['a'], be: [''] }] }, 'rules[1].be[0]'],
  [{ rule: [] }, 'rules'],
  ['rules', 'it'],
])('a document with a fault is refused, and the fault is named: %j', (document, field) => {
  try {
    Policy.read(document, 'p.yaml');
  } catch (error) {
    expect(error).toBeInstanceOf(HubError);
    expect(error).toMatchObject({ code: 'invalid', field });
    expect(String(error)).toContain('p.yaml is no policy');
    return;
  }
  throw new Error('it was accepted');
});
