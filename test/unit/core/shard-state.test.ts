// For inner loops, where expect() would take most of the time.
import { deepEqual } from 'node:assert/strict';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Death, Outcome, outranks, ShardState } from '../../../src/core/shard-state.ts';
import { Flag, NONE, orderOf, State } from '../../../src/core/task-table.ts';
import { Feeder } from '../../support/shard.ts';

const DEATH: Death = { reason: 'attempts', error: 'it failed', at: 1234 };

class Shard {
  readonly state = new ShardState(1);
  readonly feeder = new Feeder(this.state);

  lease(slot: number, session: string): void {
    const id = this.state.sessions.acquire(session);
    this.state.lease(slot, id);
    this.state.sessions.release(id);
  }

  heldBy(session: string): number[] {
    const id = this.state.sessions.find(session);
    return id < 0 ? [] : [...this.state.leasesOf(id)].sort();
  }

  /** The mailbox and what it says of itself. */
  figures(name: string): Record<string, number> | undefined {
    const { mailboxes } = this.state;
    const id = mailboxes.find(name);
    if (id < 0) return undefined;
    return { queued: mailboxes.queued[id]!, leased: mailboxes.leased[id]!, bytes: mailboxes.bytes[id]! };
  }
}

describe('a task', () => {
  test('is found by its full name only: an order that is used again never hits another one', () => {
    const { state, feeder } = new Shard();
    const [slot, other] = feeder.record({}, {});
    expect([state.find(orderOf(1, 0), 7), state.find(orderOf(1, 1), 7)]).toEqual([slot, other]);
    expect(state.find(orderOf(1, 0), 8)).toBe(NONE);
    expect(state.find(orderOf(1, 0), 7, other)).toBe(slot);
    state.finish(slot!, Outcome.succeeded);
    expect(state.find(orderOf(1, 0), 7, slot)).toBe(NONE);
  });

  test('of a known id is not taken twice, whether the first one lives or not', () => {
    const { state, feeder } = new Shard();
    const slot = feeder.task({ id: 1 });
    expect(feeder.task({ id: 1 })).toBe(NONE);
    state.finish(slot, Outcome.cancelled);
    expect([feeder.task({ id: 1 }), state.tasks.count, state.mailboxes.size]).toEqual([NONE, 0, 0]);
    expect(state.dedup.outcome(state.dedup.find(1, 0, 0, 1))).toBe(Outcome.cancelled);
  });

  test('is leased by one session at a time, and each lease is a delivery', () => {
    const shard = new Shard();
    const slot = shard.feeder.task();
    shard.lease(slot, 'first');
    shard.lease(slot, 'second');
    expect([shard.heldBy('first'), shard.heldBy('second')]).toEqual([[], [slot]]);
    expect([shard.state.tasks.deliveries[slot], shard.state.tasks.attempts[slot]]).toEqual([2, 0]);
    expect(shard.figures('planner')).toEqual({ queued: 0, leased: 1, bytes: 10 });
  });

  test('that is released waits for its time; only a failure counts as an attempt', () => {
    const shard = new Shard();
    const { tasks } = shard.state;
    const slot = shard.feeder.task();
    shard.lease(slot, 'worker');
    shard.state.release(slot, 1, 0, false);
    shard.lease(slot, 'worker');
    shard.state.release(slot, 2, 5000, true);
    expect([tasks.deliveries[slot], tasks.attempts[slot], tasks.notBefore[slot]]).toEqual([2, 1, 5000]);
    expect([tasks.state[slot], shard.heldBy('worker')]).toEqual([State.queued, []]);
    tasks.attempts[slot] = 255;
    shard.state.release(slot, 3, 0, true);
    expect(tasks.attempts[slot]).toBe(255);
  });

  test('that is given up moves to the dead letters of its mailbox, and back when it is revived', () => {
    const shard = new Shard();
    const { state } = shard;
    const slot = shard.feeder.task({ deadline: 900, flags: Flag.deadline | Flag.answers });
    shard.lease(slot, 'worker');
    state.kill(slot, 1, DEATH, true);
    expect([shard.figures('planner'), shard.figures('dead:planner')]).toEqual([
      undefined,
      { queued: 1, leased: 0, bytes: 10 },
    ]);
    expect([state.deaths.get(slot), state.tasks.attempts[slot], shard.heldBy('worker')]).toEqual([
      DEATH,
      1,
      [],
    ]);

    state.revive(slot);
    expect([state.tasks.state[slot], state.tasks.attempts[slot], state.deaths.size]).toEqual([
      State.queued,
      0,
      0,
    ]);
    expect(state.tasks.flags[slot]).toBe(Flag.answers);
    expect([shard.figures('dead:planner'), shard.figures('planner')?.['queued']]).toEqual([undefined, 1]);
  });
});

describe('the cut of the log', () => {
  function checkpointed(): Shard {
    const shard = new Shard();
    shard.state.checkpointCut = 100;
    shard.state.ownerSequence = 90;
    return shard;
  }

  test('is never above what was not repeated by a checkpoint, nor above the last owner record', () => {
    expect(new ShardState(1).cut()).toBe(0);
    const { state } = checkpointed();
    expect(state.cut()).toBe(90);
    state.checkpointCut = 80;
    expect(state.cut()).toBe(80);
  });

  test('is never above a record with a live task, or one with a parcel that was not forwarded', () => {
    const { state, feeder } = checkpointed();
    const [first, second] = [feeder.task(), feeder.task()];
    expect(state.cut()).toBe(1);
    state.finish(first, Outcome.succeeded);
    expect(state.cut()).toBe(2);
    state.kill(second, 1, DEATH, true);
    expect(state.cut()).toBe(2);
    state.outbox.add(0, { number: 1, mailbox: '', type: '', entry: new Uint8Array(0), sequence: 40 });
    state.finish(second, Outcome.cancelled);
    expect(state.cut()).toBe(40);
  });

  test('moves on when the bytes of a task stand elsewhere, where it is found as before', () => {
    const { state, feeder } = checkpointed();
    const slot = feeder.task();
    const copy = state.batches.open(50, new Uint8Array(30), 0);
    state.relocate(slot, copy, 4);
    state.batches.release(copy);
    expect([state.cut(), state.find(orderOf(1, 0), 7), state.tasks.offset[slot]]).toEqual([50, slot, 4]);
    state.finish(slot, Outcome.succeeded);
    expect([state.cut(), state.find(orderOf(1, 0), 7), state.batches.retainedBytes]).toEqual([90, NONE, 0]);
  });
});

test('the figures are the sums of the tasks, whatever happens to them', () => {
  const operation = fc.tuple(fc.nat(7), fc.nat(1000), fc.nat(2));
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
      const shard = new Shard();
      const { state } = shard;
      const { tasks, mailboxes } = state;
      for (const [what, pick, which] of operations) {
        const slots = [...tasks.slots()];
        const slot = slots[pick % slots.length];
        const dead = slot !== undefined && tasks.state[slot] === State.dead;
        if (slot === undefined || what <= 1)
          shard.feeder.task({ mailbox: 'abc'[which]!, length: pick, type: `t${which}` });
        else if (what === 2 && !dead) shard.lease(slot, `s${which}`);
        else if (what === 3 && !dead) state.release(slot, 1, 0, true);
        else if (what === 4) state.finish(slot, Outcome.succeeded);
        else if (what === 5 && !dead) state.kill(slot, 1, DEATH, true);
        else if (what === 6 && dead) state.revive(slot);
        else {
          const batch = state.batches.open(10_000 + pick, new Uint8Array(1), 0);
          state.relocate(slot, batch, 0);
          state.batches.release(batch);
        }
      }
      const sums = new Map<string, { queued: number; leased: number; bytes: number }>();
      const held = new Map<string, number[]>();
      for (const slot of tasks.slots()) {
        const name = mailboxes.name(tasks.mailbox[slot]!);
        const sum = sums.get(name) ?? { queued: 0, leased: 0, bytes: 0 };
        const leased = tasks.state[slot] === State.leased;
        if (leased) sum.leased++;
        else sum.queued++;
        sum.bytes += tasks.length[slot]!;
        sums.set(name, sum);
        if (!leased) continue;
        const session = state.sessions.text(tasks.session[slot]!);
        held.set(session, [...(held.get(session) ?? []), slot].sort());
      }
      const figures = [...mailboxes.entries()].map(([name]) => [name, shard.figures(name)] as const);
      deepEqual(new Map(figures), sums);
      deepEqual(new Map([...state.sessions.values()].map((name) => [name, shard.heldBy(name)])), held);
      for (const name of held.keys()) {
        deepEqual(state.leasesHeld(state.sessions.find(name)), held.get(name)!.length);
      }
      deepEqual(
        state.bytes,
        [...sums.values()].reduce((sum, { bytes }) => sum + bytes, 0),
      );
    }),
    { numRuns: 200 },
  );
});

test('an epoch outranks those of lower assignments, and lower ones of its own', () => {
  const epoch = (revision: number, counter: number) => ({ revision, counter });
  expect(outranks(epoch(2, 0), epoch(1, 9))).toBe(true);
  expect(outranks(epoch(1, 2), epoch(1, 1))).toBe(true);
  expect(outranks(epoch(1, 1), epoch(1, 1))).toBe(false);
  expect(outranks(epoch(1, 9), epoch(2, 0))).toBe(false);
});
