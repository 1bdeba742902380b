import { describe, expect, test } from '@jest/globals';
import { Awaiting } from '../../../src/core/awaiting.ts';

const asked = (mailbox: string, requester = 'planner') => ({ mailbox, type: 'ocr', requester });

describe('who asked for a task that nobody acknowledges', () => {
  test('is known by its id, in that mailbox or in any', () => {
    const awaiting = new Awaiting();
    awaiting.add('1', asked('a'));
    awaiting.add('1', asked('b'));
    expect([awaiting.get('1', 'b'), awaiting.get('1'), awaiting.get('1', 'c'), awaiting.get('2')]).toEqual([
      asked('b'),
      asked('b'),
      undefined,
      undefined,
    ]);
  });

  test('is forgotten per mailbox when the last result has come', () => {
    const awaiting = new Awaiting();
    for (const mailbox of ['a', 'b']) awaiting.add('1', asked(mailbox));
    awaiting.delete('1', 'a');
    awaiting.delete('1', 'a');
    awaiting.delete('none', 'a');
    expect([awaiting.size, awaiting.get('1')]).toEqual([1, asked('b')]);
    awaiting.delete('1', 'b');
    expect([awaiting.size, [...awaiting.entries()]]).toEqual([0, []]);
  });

  test('is whoever asked last, and is not counted twice', () => {
    const awaiting = new Awaiting();
    awaiting.add('1', asked('a', 'before'));
    awaiting.add('1', asked('a', 'now'));
    expect([awaiting.size, awaiting.get('1')]).toEqual([1, asked('a', 'now')]);
  });

  test('is forgotten when too many others have asked since', () => {
    const awaiting = new Awaiting(2);
    for (const id of ['1', '2', '1', '3']) awaiting.add(id, asked('a'));
    expect([...awaiting.entries()].map(([id]) => id)).toEqual(['1', '3']);
    awaiting.clear();
    expect([awaiting.size, awaiting.get('3')]).toEqual([0, undefined]);
  });

  test('is what a naive model says, however many have come and gone', () => {
    const awaiting = new Awaiting(50);
    let model: [string, string][] = [];
    for (let turn = 0; turn < 20_000; turn++) {
      const id = String((turn * 7919) % 83);
      const mailbox = 'abc'[turn % 3]!;
      model = model.filter(([one, where]) => one !== id || where !== mailbox);
      if (turn % 5 === 0) awaiting.delete(id, mailbox);
      else {
        awaiting.add(id, asked(mailbox));
        model.push([id, mailbox]);
        if (model.length > 50) model.shift();
      }
      if (turn % 100 === 0) {
        expect([...awaiting.entries()].map(([one, { mailbox: where }]) => [one, where])).toEqual(model);
        expect(awaiting.size).toBe(model.length);
      }
    }
  });

  test('comes out of its own entries just as it was', () => {
    const awaiting = new Awaiting(4);
    for (const [id, mailbox] of ['1a', '2a', '1b', '3a', '2b', '4a'] as const)
      awaiting.add(id!, asked(mailbox!));
    awaiting.delete('2', 'a');
    const again = new Awaiting(4);
    for (const [id, awaited] of awaiting.entries()) again.add(id, awaited);
    expect([...again.entries()]).toEqual([...awaiting.entries()]);
  });

  test('with long names is fewer, so that a checkpoint of all fits into a record', () => {
    const awaiting = new Awaiting();
    const long = 'ü'.repeat(250);
    for (let number = 0; number < 10_000; number++)
      awaiting.add(`${number}${long}`, { mailbox: long, type: long, requester: long });
    expect(awaiting.size).toBeGreaterThan(1000);
    expect(awaiting.size * 4 * 254).toBeLessThan(1.6e6);
    expect(awaiting.get(`9999${long}`)).toBeDefined();
    expect(awaiting.get(`0${long}`)).toBeUndefined();
  });
});
