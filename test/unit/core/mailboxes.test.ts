import { describe, expect, test } from '@jest/globals';
import { Mailboxes } from '../../../src/core/mailboxes.ts';

describe('a mailbox', () => {
  test('exists as long as somebody refers to it, under one number', () => {
    const mailboxes = new Mailboxes();
    const id = mailboxes.acquire('planner');
    expect([mailboxes.acquire('planner'), mailboxes.find('planner'), mailboxes.name(id)]).toEqual([
      id,
      id,
      'planner',
    ]);
    mailboxes.retain(id);
    mailboxes.release(id);
    mailboxes.release(id);
    expect([mailboxes.has(id), mailboxes.size]).toEqual([true, 1]);
    mailboxes.release(id);
    expect([mailboxes.has(id), mailboxes.size, mailboxes.find('planner')]).toEqual([false, 0, -1]);
    expect(() => mailboxes.name(id)).toThrow(RangeError);
  });

  test('that is gone leaves its number to another one', () => {
    const mailboxes = new Mailboxes();
    const kept = mailboxes.acquire('kept');
    const gone = mailboxes.acquire('reply:gone#lane');
    mailboxes.release(gone);
    expect(mailboxes.acquire('new')).toBe(gone);
    expect([mailboxes.isLane(gone), mailboxes.name(kept), mailboxes.end]).toEqual([false, 'kept', 2]);
  });

  test("is a lane if it is a session's own part of an agent's replies", () => {
    const mailboxes = new Mailboxes();
    const lanes = ['reply:planner#7', 'reply:planner', 'planner', 'dead:reply:planner#7', 'type:c#'];
    expect(lanes.map((name) => mailboxes.isLane(mailboxes.acquire(name)))).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  test('of many keeps its figures when there come more', () => {
    const mailboxes = new Mailboxes();
    const first = mailboxes.acquire('0');
    mailboxes.queued[first] = 3;
    mailboxes.leased[first] = 4;
    mailboxes.bytes[first] = 5;
    for (let number = 1; number < 1000; number++) mailboxes.acquire(String(number));
    expect([mailboxes.queued[first], mailboxes.leased[first], mailboxes.bytes[first]]).toEqual([3, 4, 5]);
    expect([...mailboxes.entries()].every(([name, id]) => mailboxes.name(id) === name)).toBe(true);
    expect(mailboxes.queued.length).toBeGreaterThanOrEqual(mailboxes.end);
  });
});
