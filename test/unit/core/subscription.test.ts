import { ok } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Attachment, type Balance, Subscriptions, takes } from '../../../src/core/subscription.ts';
import { NONE } from '../../../src/core/task-table.ts';

const MAILBOX = 3;
const always = (_: Attachment): boolean => true;

class Desk {
  readonly subscriptions: Subscriptions<Attachment>;

  constructor(balance: Balance = 'round-robin') {
    this.subscriptions = new Subscriptions(balance);
  }

  attach(given: Partial<Attachment> = {}): Attachment {
    const types = given.types ?? new Set<string>();
    const attachment: Attachment = {
      id: this.subscriptions.nextId(),
      mailbox: MAILBOX,
      listener: false,
      session: 's',
      window: 1000,
      inFlight: 0,
      ...given,
      types,
      filtered: types.size > 0,
    };
    this.subscriptions.add(attachment);
    return attachment;
  }

  /** Hands a task out. */
  give(type = '', ready = always): Attachment | undefined {
    const worker = this.subscriptions.choose(MAILBOX, type, ready);
    if (worker) worker.inFlight++;
    return worker;
  }

  /** Takes one back. */
  settle(worker: Attachment): void {
    worker.inFlight--;
    this.subscriptions.credited(worker);
  }
}

describe('the worker that gets the next task', () => {
  test('is each in its turn', () => {
    const desk = new Desk();
    const workers = [desk.attach(), desk.attach(), desk.attach()];
    const given = Array.from({ length: 9 }, () => desk.give());
    expect(given.map((worker) => workers.indexOf(worker!))).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2]);
  });

  test('has free credit; one that is full has its turn again when it has settled something', () => {
    const desk = new Desk();
    const [small, large] = [desk.attach({ window: 1 }), desk.attach()];
    expect([desk.give(), desk.give(), desk.give()]).toEqual([small, large, large]);
    desk.settle(small);
    expect([desk.give(), desk.give(), desk.give()]).toContain(small);
    expect(small.inFlight).toBe(1);
  });

  test('is nobody when nobody is attached, has credit, takes the type, or is ready', () => {
    const desk = new Desk();
    expect(desk.give()).toBeUndefined();
    const worker = desk.attach({ window: 1, types: new Set(['ocr']) });
    desk.attach({ listener: true });
    expect(desk.give('speech')).toBeUndefined();
    expect(desk.give('ocr', () => false)).toBeUndefined();
    expect([desk.subscriptions.idle(MAILBOX), desk.give('ocr')]).toEqual([true, worker]);
    expect([desk.subscriptions.idle(MAILBOX), desk.give('ocr')]).toEqual([false, undefined]);
  });

  test('takes the type, and does not cost the others their turns', () => {
    const desk = new Desk();
    const [any, ocr, speech] = [
      desk.attach(),
      desk.attach({ types: new Set(['ocr']) }),
      desk.attach({ types: new Set(['speech']) }),
    ];
    expect([desk.give('speech'), desk.give('speech'), desk.give('ocr'), desk.give('ocr')]).toEqual([
      any,
      speech,
      ocr,
      any,
    ]);
  });

  test('by capacity, is the one with the largest share of its window free', () => {
    const desk = new Desk('capacity');
    const [busy, idle, huge] = [
      desk.attach({ window: 10, inFlight: 9 }),
      desk.attach({ window: 4, inFlight: 1 }),
      desk.attach({ window: 1000, inFlight: 500 }),
    ];
    expect([desk.give(), desk.give(), desk.give()]).toEqual([idle, huge, idle]);
    expect(busy.inFlight).toBe(9);
  });

  test('by capacity, equals take turns', () => {
    const desk = new Desk('capacity');
    const workers = Array.from({ length: 4 }, () => desk.attach({ window: 8 }));
    for (let task = 0; task < 16; task++) desk.give();
    expect(workers.map(({ inFlight }) => inFlight)).toEqual([4, 4, 4, 4]);
  });

  test('is never one that was taken away in the middle of a round', () => {
    const desk = new Desk();
    const workers = Array.from({ length: 5 }, () => desk.attach());
    expect([desk.give(), desk.give()]).toEqual([workers[0], workers[1]]);
    desk.subscriptions.remove(workers[1]!);
    desk.subscriptions.remove(workers[2]!);
    desk.subscriptions.credited(workers[2]!);
    expect([desk.give(), desk.give(), desk.give()]).toEqual([workers[3], workers[4], workers[0]]);
  });

  test('is fit for it, and there is one whenever somebody is, whoever comes and goes', () => {
    const types = ['ocr', 'speech', 'text'];
    const operation = fc.tuple(fc.nat(5), fc.nat(1000), fc.subarray(types), fc.nat(3));
    const balance = fc.constantFrom<Balance>('round-robin', 'capacity');
    fc.assert(
      fc.property(balance, fc.array(operation, { maxLength: 150 }), (by, operations) => {
        const desk = new Desk(by);
        const workers: Attachment[] = [];
        const asleep = new Set<Attachment>();
        for (const [what, pick, some, window] of operations) {
          const worker = workers[pick % workers.length];
          const type = types[pick % types.length]!;
          if (what === 0) workers.push(desk.attach({ window, types: new Set(some) }));
          else if (worker && what === 1) {
            workers.splice(workers.indexOf(worker), 1);
            desk.subscriptions.remove(worker);
          } else if (worker && what === 2 && worker.inFlight > 0) desk.settle(worker);
          else if (worker && what === 3) {
            worker.window = window;
            desk.subscriptions.credited(worker);
          } else if (worker && what === 4) {
            if (!asleep.delete(worker)) asleep.add(worker);
          } else {
            const fit = (one: Attachment): boolean =>
              one.inFlight < one.window && takes(one, type) && !asleep.has(one);
            const candidates = workers.filter(fit);
            const chosen = desk.give(type, (one) => !asleep.has(one));
            if (chosen) ok(candidates.includes(chosen), 'it is not fit');
            else ok(candidates.length === 0, 'somebody was passed over');
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('who is attached', () => {
  test('is known by number, and a number is used again when its holder has gone', () => {
    const desk = new Desk();
    const [first, second] = [desk.attach(), desk.attach({ listener: true })];
    expect(desk.subscriptions.get(first.id)).toBe(first);
    expect(desk.subscriptions.get(NONE)).toBeUndefined();
    desk.subscriptions.remove(first);
    desk.subscriptions.remove(first);
    expect(desk.subscriptions.get(first.id)).toBeUndefined();
    expect(desk.attach().id).toBe(first.id);
    expect(desk.attach().id).not.toBe(second.id);
  });

  test('is told by kind; a mailbox is listed as long as there is somebody', () => {
    const desk = new Desk();
    const { subscriptions } = desk;
    expect([subscriptions.workers(MAILBOX), [...subscriptions.mailboxes()]]).toEqual([[], []]);
    const worker = desk.attach();
    const listener = desk.attach({ listener: true });
    expect([subscriptions.workers(MAILBOX), subscriptions.listeners(MAILBOX)]).toEqual([
      [worker],
      [listener],
    ]);
    subscriptions.remove(worker);
    expect([...subscriptions.mailboxes()]).toEqual([MAILBOX]);
    subscriptions.remove(listener);
    expect([...subscriptions.mailboxes()]).toEqual([]);
  });

  test('makes a mailbox a filtered one as long as somebody takes only some types', () => {
    const desk = new Desk();
    desk.attach();
    const picky = desk.attach({ listener: true, types: new Set(['ocr']) });
    expect(desk.subscriptions.filtered(MAILBOX)).toBe(true);
    desk.subscriptions.remove(picky);
    expect(desk.subscriptions.filtered(MAILBOX)).toBe(false);
    expect(desk.subscriptions.filtered(99)).toBe(false);
  });
});
