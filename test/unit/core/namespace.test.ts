import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Atlas } from '../../../src/core/atlas.ts';
import {
  bareName,
  broadcastBeside,
  isBroadcast,
  isIn,
  isNamespace,
  NAMESPACE_MARK,
  namespaceOf,
  qualified,
} from '../../../src/core/namespace.ts';
import { place } from '../../../src/core/placement.ts';
import { checkMailbox, home, parseMailbox, regionOf, shardOf } from '../../../src/core/shard.ts';

const words = fc.stringMatching(/^[a-z:@#~*é🤖/ -]{1,12}$/u).filter((text) => !text.includes(NAMESPACE_MARK));
const forms = fc.constantFrom('', 'type:', 'reply:', 'dead:', 'dead:type:', 'dead:reply:');
const mailboxes = fc
  .oneof(
    fc.constant('*'),
    fc.tuple(forms, words).map(([form, word]) => form + word),
    fc.tuple(words, words).map(([agent, session]) => `reply:${agent}#${session}`),
  )
  .filter((name) => isGood(name));
const namespaces = fc
  .oneof(fc.constant(''), fc.stringMatching(/^[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?$/))
  .filter((name) => name === '' || isNamespace(name));

describe('a name of a namespace', () => {
  test('says its namespace, and is what it was without it', () => {
    fc.assert(
      fc.property(namespaces, mailboxes, (namespace, name) => {
        const inside = qualified(namespace, name);
        expect([namespaceOf(inside), bareName(inside)]).toEqual([namespace, name]);
        expect(isIn(namespace, inside)).toBe(true);
      }),
    );
  });

  test('is never one of another namespace, or for another name', () => {
    fc.assert(
      fc.property(namespaces, mailboxes, namespaces, mailboxes, (one, name, other, another) => {
        fc.pre(one !== other || name !== another);
        expect(qualified(one, name)).not.toBe(qualified(other, another));
        if (one !== other) expect(isIn(other, qualified(one, name))).toBe(false);
      }),
    );
  });

  test('can be given by nobody', () => {
    fc.assert(
      fc.property(namespaces, mailboxes, (namespace, name) => {
        fc.pre(namespace !== '');
        expect(isGood(qualified(namespace, name))).toBe(false);
      }),
    );
  });

  test('of the default namespace is what it always was', () => {
    fc.assert(fc.property(mailboxes, (name) => expect(qualified('', name)).toBe(name)));
  });

  test('belongs to an agent or a capability as without it, and lives where that lives', () => {
    fc.assert(
      fc.property(namespaces, mailboxes, (namespace, name) => {
        fc.pre(name !== '*');
        const inside = qualified(namespace, name);
        expect(parseMailbox(inside).kind).toBe(parseMailbox(name).kind);
        expect(home(inside)).toBe(qualified(namespace, home(name)));
        expect(shardOf(inside, 16)).toBe(shardOf(home(inside), 16));
      }),
    );
  });

  test('keeps its region', () => {
    expect(regionOf(qualified('acme', 'planner@eu-west'))).toBe('eu-west');
  });
});

test('everybody of a namespace is somebody else than everybody of another', () => {
  expect(isBroadcast(qualified('acme', '*'))).toBe(true);
  expect(isBroadcast('*')).toBe(true);
  expect(isBroadcast(qualified('acme', 'type:*'))).toBe(false);
  expect(broadcastBeside(qualified('acme', 'reply:planner'))).toBe(qualified('acme', '*'));
  expect(broadcastBeside('planner')).toBe('*');
});

test.each(['', 'default', 'other', 'Acme', '-acme', 'a:b', 'a b', 'a'.repeat(64)])(
  '%j is no namespace',
  (name) => {
    expect(isNamespace(name)).toBe(false);
  },
);

test('placement rules go by names without their namespaces', () => {
  const rules = {
    version: 1,
    defaultPool: 'default',
    rules: [
      { pool: 'eu', region: 'eu-west' },
      { pool: 'range', range: { prefix: 'agents_', first: 1, last: 9 } },
      { pool: 'glob', agents: 'planner-*' },
      { pool: 'ocr', taskTypes: 'ocr', spread: 2 },
    ],
  };
  const pools = ['planner@eu-west', 'agents_7', 'dead:planner-1', 'type:ocr', 'type:ocr~1', 'planner'];
  for (const namespace of ['', 'acme']) {
    expect(pools.map((name) => place(qualified(namespace, name), rules).pool)).toEqual([
      'eu',
      'range',
      'glob',
      'ocr',
      'ocr',
      'default',
    ]);
  }
  const atlas = new Atlas({ rules, pools: [{ name: 'default', first: 0, shards: 4 }] });
  expect(atlas.lanes(qualified('acme', 'type:ocr'))).toEqual([
    qualified('acme', 'type:ocr~0'),
    qualified('acme', 'type:ocr~1'),
  ]);
});

function isGood(mailbox: string): boolean {
  try {
    checkMailbox(mailbox, 'mailbox');
    return true;
  } catch {
    return false;
  }
}
