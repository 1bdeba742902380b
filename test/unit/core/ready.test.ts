// For inner loops, where expect() would take most of the time.
import { equal } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isDue, isOverdue, ReadyQueues } from '../../../src/core/ready.ts';
import { Outcome, ShardState } from '../../../src/core/shard-state.ts';
import { Flag, NONE } from '../../../src/core/task-table.ts';
import { Feeder, type Sketch } from '../../support/shard.ts';

class Shard {
  readonly state = new ShardState(1);
  readonly ready = new ReadyQueues(this.state);
  readonly feeder = new Feeder(this.state);

  arrive(sketch: Sketch = {}): number {
    const slot = this.feeder.task(sketch);
    this.ready.add(slot);
    return slot;
  }

  mailbox(name = 'planner'): number {
    return this.state.mailboxes.find(name);
  }

  take(name?: string): number {
    const slot = this.ready.peek(this.mailbox(name));
    if (slot !== NONE) this.ready.remove(slot);
    return slot;
  }

  takeAll(name?: string): number[] {
    const all: number[] = [];
    for (let slot = this.take(name); slot !== NONE; slot = this.take(name)) all.push(slot);
    return all;
  }
}

/** As they are to be delivered. */
function order(waiting: readonly number[], { state: { tasks } }: Shard): number[] {
  return waiting.toSorted(
    (a, b) => tasks.priority[b]! - tasks.priority[a]! || tasks.order[a]! - tasks.order[b]!,
  );
}

describe('the next task of a mailbox', () => {
  test('is of the highest priority, and among those the one that was accepted first', () => {
    const shard = new Shard();
    const [low, usual, urgent, other] = [0, 1, 4, 1].map((priority) => shard.arrive({ priority }));
    expect(shard.takeAll()).toEqual([urgent, usual, other, low]);
  });

  test('is one that came back, before those that were accepted after it', () => {
    const shard = new Shard();
    const [first, second, third] = [shard.arrive(), shard.arrive(), shard.arrive()];
    expect([shard.take(), shard.take()]).toEqual([first, second]);
    shard.ready.add(second);
    shard.ready.add(first);
    expect(shard.takeAll()).toEqual([first, second, third]);
  });

  test('is nothing of another mailbox', () => {
    const shard = new Shard();
    const mine = shard.arrive({ mailbox: 'planner' });
    const others = shard.arrive({ mailbox: 'coder', priority: 4 });
    expect(shard.takeAll('planner')).toEqual([mine]);
    expect(shard.takeAll('coder')).toEqual([others]);
    expect(shard.ready.peek(999)).toBe(NONE);
  });

  test('stays until it is taken, and is not there twice', () => {
    const shard = new Shard();
    const slot = shard.arrive();
    expect([shard.ready.peek(shard.mailbox()), shard.ready.peek(shard.mailbox())]).toEqual([slot, slot]);
    expect([shard.ready.has(slot), shard.ready.count(shard.mailbox())]).toEqual([true, 1]);
    shard.ready.remove(slot);
    shard.ready.remove(slot);
    expect([shard.ready.has(slot), shard.ready.count(shard.mailbox())]).toEqual([false, 0]);
  });

  test('is none of those that were set aside, if their type is blocked or nobody wants them', () => {
    const shard = new Shard();
    const { tasks } = shard.state;
    const [song, picture, other, last] = ['sing', 'paint', 'sing', 'paint'].map((type) =>
      shard.arrive({ type }),
    );
    shard.ready.setAside(song!, false);
    shard.ready.setAside(other!, false);
    const sing = new Set([tasks.type[song!]!]);
    expect(shard.ready.hasAside(shard.mailbox())).toBe(true);
    expect(shard.ready.peek(shard.mailbox(), sing)).toBe(picture);
    expect(shard.ready.peek(shard.mailbox(), new Set())).toBe(song);
    shard.ready.setAside(picture!, true);
    expect(shard.ready.peek(shard.mailbox(), sing)).toBe(last);
    expect(shard.ready.count(shard.mailbox())).toBe(4);
    shard.ready.reconsider(shard.mailbox());
    expect(shard.ready.peek(shard.mailbox(), sing)).toBe(picture);
    expect(shard.takeAll()).toEqual([song, picture, other, last]);
    expect(shard.ready.hasAside(shard.mailbox())).toBe(false);
  });

  test('is the same whatever was set aside in between', () => {
    const operation = fc.tuple(fc.nat(4), fc.nat(1000), fc.nat(4), fc.constantFrom('a', 'b', 'c'));
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 150 }), (operations) => {
        const plain = new Shard();
        const sorted = new Shard();
        const waiting = [plain.arrive()];
        sorted.arrive();
        for (const [what, pick, priority, type] of operations) {
          if (what === 0) {
            const slot = plain.arrive({ priority, type });
            equal(sorted.arrive({ priority, type }), slot);
            waiting.push(slot);
          } else if (waiting.length > 0 && what <= 2) {
            sorted.ready.setAside(waiting[pick % waiting.length]!, what === 1);
          } else if (what === 3) sorted.ready.reconsider(sorted.mailbox());
          else {
            const slot = plain.take();
            equal(sorted.take(), slot);
            if (slot !== NONE) waiting.splice(waiting.indexOf(slot), 1);
          }
          equal(sorted.ready.count(sorted.mailbox()), plain.ready.count(plain.mailbox()));
        }
        const mailbox = sorted.mailbox();
        for (let ahead = 0; sorted.ready.count(mailbox) > 0; ahead++) {
          for (const [index, slot] of order(waiting, sorted).entries())
            equal(sorted.ready.ahead(slot, 1000), index);
          const slot = plain.take();
          equal(sorted.take(), slot);
          waiting.splice(waiting.indexOf(slot), 1);
          if (ahead === 3) break;
        }
        expect(sorted.takeAll()).toEqual(plain.takeAll());
        expect(sorted.ready.hasAside(sorted.mailbox())).toBe(false);
      }),
    );
  });

  test('is what a naive model says, whatever comes, is taken, comes back late, or is cancelled', () => {
    const operation = fc.tuple(fc.nat(6), fc.nat(1000), fc.nat(4), fc.nat(2));
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const shard = new Shard();
        const { tasks } = shard.state;
        const waiting = new Map<string, number[]>(['a', 'b', 'c'].map((name) => [name, []]));
        const away: number[] = [];
        const nameOf = (slot: number): string => shard.state.mailboxes.name(tasks.mailbox[slot]!);
        const before = (a: number, b: number): number =>
          tasks.priority[b]! - tasks.priority[a]! || tasks.order[a]! - tasks.order[b]!;
        const add = (slot: number): void => {
          shard.ready.add(slot);
          waiting.get(nameOf(slot))!.push(slot);
          waiting.get(nameOf(slot))!.sort(before);
        };
        for (const [what, pick, priority, which] of operations) {
          const name = 'abc'[which]!;
          const model = waiting.get(name)!;
          if (what <= 1) add(shard.feeder.task({ mailbox: name, priority }));
          else if (what === 2) away.push(shard.feeder.task({ mailbox: name, priority }));
          else if (what === 3 && model.length > 0) {
            model.shift();
            away.push(shard.take(name));
          } else if (what === 4 && away.length > 0) add(away.splice(pick % away.length, 1)[0]!);
          else if (what === 5 && model.length > 0) {
            const [cancelled] = model.splice(pick % model.length, 1);
            shard.ready.remove(cancelled!);
            shard.state.finish(cancelled!, Outcome.cancelled);
          } else if (what === 6 && away.length > 0) {
            shard.state.finish(away.splice(pick % away.length, 1)[0]!, Outcome.succeeded);
          }
          for (const [mailbox, slots] of waiting) {
            const id = shard.mailbox(mailbox);
            if (id < 0) continue;
            equal(shard.ready.count(id), slots.length);
            equal(shard.ready.peek(id), slots[0] ?? NONE);
          }
        }
        for (const [mailbox, slots] of waiting) {
          const taken = shard.mailbox(mailbox) < 0 ? [] : shard.takeAll(mailbox);
          equal(taken.join(), slots.join());
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('after a replay', () => {
  test('the queues have what is queued and due, in order; what is not due is told of', () => {
    const shard = new Shard();
    const slots = [{}, { notBefore: 500 }, { priority: 4 }, { notBefore: 501 }, {}].map((sketch) =>
      shard.feeder.task(sketch),
    );
    const session = shard.state.sessions.acquire('holder');
    shard.state.lease(slots[4]!, session);
    const later: number[] = [];
    shard.ready.rebuild(500, (slot) => later.push(slot));
    expect(later).toEqual([slots[3]]);
    expect(shard.takeAll()).toEqual([slots[2], slots[0], slots[1]]);
  });

  test('the slots say nothing of the order', () => {
    const shard = new Shard();
    const first = shard.feeder.task();
    const second = shard.feeder.task();
    shard.state.finish(first, Outcome.succeeded);
    const reused = shard.feeder.task();
    expect(reused).toBe(first);
    shard.ready.rebuild(0, () => {});
    expect(shard.takeAll()).toEqual([second, reused]);
  });
});

test('a task is due at its time, and overdue at its deadline, if it has one', () => {
  const { state, feeder } = new Shard();
  const slot = feeder.task({ notBefore: 10, deadline: 20, flags: Flag.deadline });
  expect([isDue(state, slot, 9), isDue(state, slot, 10)]).toEqual([false, true]);
  expect([isOverdue(state, slot, 19), isOverdue(state, slot, 20)]).toEqual([false, true]);
  expect(isOverdue(state, feeder.task(), Infinity)).toBe(false);
});
