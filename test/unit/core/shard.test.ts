import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  capabilityMailbox,
  checkAgentId,
  checkMailbox,
  checkName,
  deadMailbox,
  home,
  parseMailbox,
  regionOf,
  replyMailbox,
  shardOf,
  shardOfBytes,
} from '../../../src/core/shard.ts';

const utf8 = new TextEncoder();

function isGood(mailbox: string): boolean {
  try {
    checkMailbox(mailbox, 'mailbox');
    return true;
  } catch {
    return false;
  }
}

describe('the shard of a mailbox', () => {
  test.each([
    ['planner', 'planner'],
    ['planner@eu-west', 'planner@eu-west'],
    ['type:ocr', 'type:ocr'],
    ['type:c#', 'type:c#'],
    ['reply:planner', 'planner'],
    ['reply:planner#7', 'planner'],
    ['reply:planner@eu-west#7#8', 'planner@eu-west'],
    ['dead:planner', 'planner'],
    ['dead:type:c#', 'type:c#'],
    ['dead:reply:planner#7', 'planner'],
    ['*', '*'],
    ['replyplanner', 'replyplanner'],
    ['deadline', 'deadline'],
    ['', ''],
    ['reply:', ''],
    ['reply:#', ''],
  ])('%s lives where %s lives', (mailbox, owner) => {
    expect(home(mailbox)).toBe(owner);
    expect(shardOf(mailbox, 16)).toBe(shardOf(owner, 16));
  });

  test('is FNV-1a-32 modulo the number of shards, for ever', () => {
    expect(shardOf('foobar', 16)).toBe(0xbf9cf968 % 16);
    expect(shardOf('foobar', 1000)).toBe(0xbf9cf968 % 1000);
    expect(shardOf('reply:foobar#1', 1000)).toBe(0xbf9cf968 % 1000);
  });

  const part = fc.constantFrom('dead:', 'reply:', 'type:', '#', '@', 'planner', 'é🤖', 'd', 'r', ':');
  const mailboxes = fc.array(part, { maxLength: 8 }).map((parts) => parts.join(''));

  test('is the same for text and for bytes, wherever they stand', () => {
    fc.assert(
      fc.property(mailboxes, fc.integer({ min: 1, max: 4096 }), (mailbox, shards) => {
        const bytes = utf8.encode(`#reply:${mailbox}#dead:`);
        expect(shardOfBytes(bytes, 7, bytes.length - 6, shards)).toBe(shardOf(mailbox, shards));
      }),
      { numRuns: 1000 },
    );
  });

  test('is that of its home, and the home of a home is itself', () => {
    const owners = fc.array(part, { maxLength: 5 }).map((parts) => parts.join(''));
    const forms = fc.constantFrom('', 'dead:', 'reply:', 'dead:reply:');
    fc.assert(
      fc.property(forms, owners, (form, owner) => {
        fc.pre(
          isGood(owner) && isGood(form + owner) && parseMailbox(owner).kind in { agent: 1, capability: 1 },
        );
        expect(home(form + owner)).toBe(owner);
        expect(home(owner)).toBe(owner);
        expect(shardOf(form + owner, 16)).toBe(shardOf(owner, 16));
      }),
    );
  });

  test('is spread evenly: no shard of 16 gets twice its share of numbered agents', () => {
    const load = new Array<number>(16).fill(0);
    for (let agent = 0; agent < 16_000; agent++) load[shardOf(`agents_${agent}`, 16)]! += 1;
    expect(Math.max(...load)).toBeLessThan(2000);
    expect(Math.min(...load)).toBeGreaterThan(500);
  });
});

describe('a mailbox id', () => {
  test('is read by its form', () => {
    expect(parseMailbox('planner')).toEqual({ kind: 'agent', agent: 'planner' });
    expect(parseMailbox('type:ocr')).toEqual({ kind: 'capability', taskType: 'ocr' });
    expect(parseMailbox('reply:planner')).toEqual({ kind: 'reply', agent: 'planner', session: undefined });
    expect(parseMailbox('reply:planner#7')).toEqual({ kind: 'reply', agent: 'planner', session: '7' });
    expect(parseMailbox('dead:type:ocr')).toEqual({ kind: 'dead', of: 'type:ocr' });
    expect(parseMailbox('*')).toEqual({ kind: 'broadcast' });
  });

  test('is read as it was built', () => {
    expect(parseMailbox(replyMailbox('planner'))).toEqual(parseMailbox('reply:planner'));
    expect(parseMailbox(replyMailbox('planner', '7'))).toEqual(parseMailbox('reply:planner#7'));
    expect(parseMailbox(capabilityMailbox('ocr'))).toEqual({ kind: 'capability', taskType: 'ocr' });
    expect(parseMailbox(deadMailbox('planner'))).toEqual({ kind: 'dead', of: 'planner' });
  });

  test.each([
    ['planner@eu-west', 'eu-west'],
    ['a@b@c', 'c'],
    ['planner', ''],
    ['planner@', ''],
  ])('%s has the region %j', (agent, region) => {
    expect(regionOf(agent)).toBe(region);
  });

  test.each([
    'planner',
    'planner@eu-west',
    'type:ocr',
    'type:type:ocr',
    'type:*',
    'type:c#',
    'reply:planner',
    'reply:planner#7',
    'dead:planner',
    'dead:type:ocr',
    'dead:reply:planner#7',
    '*',
    'Müller 🤖',
  ])('%j is good', (id) => {
    expect(() => checkMailbox(id, 'task.mailbox')).not.toThrow();
  });

  test.each([
    '',
    'type:',
    'reply:',
    'reply:#7',
    'reply:planner#',
    'reply:*',
    'reply:type:ocr',
    'reply:planner#\n',
    'dead:',
    'dead:*',
    'dead:dead:planner',
    'dead:reply:dead:planner',
    'planner#7',
    'a\u0000b',
    'a\u007fb',
    'a\u0085b',
    'a\ud800',
    '\ude00a',
    'x'.repeat(257),
    'type:' + 'é'.repeat(129),
  ])('%j is refused, naming the field', (id) => {
    expect(() => checkMailbox(id, 'task.mailbox')).toThrow(
      expect.objectContaining({ code: 'invalid', field: 'task.mailbox' }),
    );
  });

  test('however deeply nested is refused without harm', () => {
    const id = 'dead:'.repeat(1_000_000);
    expect(() => checkMailbox(id, 'mailbox')).toThrow(expect.objectContaining({ code: 'invalid' }));
    expect(home(id)).toBe('');
  });
});

describe('an agent id', () => {
  test.each([
    'planner',
    'a',
    'x'.repeat(256),
    'é'.repeat(128),
    '€'.repeat(85),
    '🤖'.repeat(64),
    '**',
    'typ:e',
  ])('%j is good', (id) => {
    expect(() => checkAgentId(id, 'agent.id')).not.toThrow();
  });

  test.each([
    ['', 'empty'],
    ['x'.repeat(257), 'too long'],
    ['é'.repeat(129), 'too long'],
    ['€'.repeat(86), 'too long'],
    ['🤖'.repeat(65), 'too long'],
    ['x'.repeat(10_000_000), 'too long'],
    ['a\tb', 'control characters'],
    ['a#b', '#'],
    ['*', 'every agent'],
    ['type:ocr', 'type:'],
    ['reply:planner', 'reply:'],
    ['dead:planner', 'dead:'],
  ])('is refused with the field and the reason (case %#)', (id, reason) => {
    const refusal = { code: 'invalid', field: 'agent.id', message: expect.stringContaining(reason) };
    expect(() => checkAgentId(id, 'agent.id')).toThrow(expect.objectContaining(refusal));
  });

  test('is accepted exactly when its UTF-8 has 1 to 256 bytes and no control characters', () => {
    const unit = fc.constantFrom('a', 'é', '€', '🤖', '\u009f', '\u00a0', '\ud800', '\udfff', '\u001f', '~');
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(unit).map((units) => units.join('')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const bytes = utf8.encode(text).length;
        // eslint-disable-next-line no-control-regex
        const good = bytes >= 1 && bytes <= 256 && text.isWellFormed() && !/[\0-\x1f\x7f-\x9f]/.test(text);
        const check = () => checkName(text, 'name');
        if (good) expect(check).not.toThrow();
        else expect(check).toThrow(expect.objectContaining({ code: 'invalid', field: 'name' }));
      }),
      { numRuns: 1000 },
    );
  });
});
