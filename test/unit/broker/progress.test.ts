import { describe, expect, test } from '@jest/globals';
import { qualified } from '../../../src/core/namespace.ts';
import type { Consumer, Progress } from '../../../src/broker/consumer.ts';
import type { Owner } from '../../../src/broker/owner.ts';
import { ProgressDesk } from '../../../src/broker/progress.ts';
import { type EdgeSession, Sessions } from '../../../src/broker/sessions.ts';
import { ShardState } from '../../../src/core/shard-state.ts';
import { Subscriptions } from '../../../src/core/subscription.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { VirtualClock } from '../../support/clock.ts';

class Desk {
  private readonly clock = new VirtualClock();
  private readonly state = new ShardState(1);
  private readonly subscriptions = new Subscriptions<Consumer>('round-robin');
  private readonly sessions = new Sessions(this.clock, 1000, false, () => {});
  /** Who was told, and how far the task is. */
  readonly told: string[] = [];
  readonly progress = new ProgressDesk(
    this.sessions,
    // Finding who listens is all that is asked of an owner here.
    () => ({ state: this.state, subscriptions: this.subscriptions }) as unknown as Owner,
    this.clock,
    new Metrics({ clock: this.clock, taskTypes: 10 }),
  );

  private note(who: string): (progress: Progress) => void {
    return ({ percent }) => this.told.push(`${who} ${percent}`);
  }

  publisher(session: string, connected: boolean): void {
    this.sessions.connect({
      session,
      connected,
      tell: this.note(session),
      replaced() {},
    } as unknown as EdgeSession);
  }

  attach(name: string, mailbox: string, listener = false): void {
    const given = {
      listener,
      session: name,
      filtered: false,
      types: new Set<string>(),
      window: 1,
      inFlight: 0,
    };
    this.subscriptions.add({
      ...given,
      id: this.subscriptions.nextId(),
      mailbox: this.state.mailboxes.acquire(mailbox),
      sink: { tell: this.note(name) },
    } as unknown as Consumer);
  }

  listen(name: string, requester: string): () => void {
    return this.progress.listen(requester, this.note(name));
  }

  pass(percent: number, origin = '', taskId = 'a'): void {
    this.progress.pass({ taskId, to: 'planner', requester: 'asker', percent }, origin);
  }
}

describe('progress', () => {
  test('goes to the session that published the task, as long as that is connected', () => {
    const desk = new Desk();
    desk.publisher('publisher', true);
    desk.attach('another', 'reply:asker');
    desk.pass(10, 'publisher');
    desk.publisher('publisher', false);
    desk.pass(20, 'publisher');
    expect(desk.told).toEqual(['publisher 10', 'another 20']);
  });

  test('goes to all sessions of the requester if the publisher is not known, and to nobody else', () => {
    const desk = new Desk();
    desk.attach('worker', 'reply:asker');
    desk.attach('listener', 'reply:asker', true);
    desk.attach('stranger', 'reply:other');
    desk.pass(10);
    desk.pass(20, 'long gone');
    expect(desk.told).toEqual(['worker 10', 'listener 10', 'worker 20', 'listener 20']);
  });

  test('that nobody asked for goes nowhere', () => {
    const desk = new Desk();
    desk.attach('worker', 'reply:');
    desk.progress.pass({ taskId: 'a', to: 'planner', percent: 1 }, '');
    expect(desk.told).toEqual([]);
  });

  test('goes to who listens for a requester, until they stop', () => {
    const desk = new Desk();
    const stop = desk.listen('first', 'asker');
    desk.listen('second', 'asker');
    desk.listen('other', 'other');
    desk.pass(10);
    stop();
    desk.pass(20);
    expect(desk.told).toEqual(['first 10', 'second 10', 'second 20']);
  });

  test('does not lose who listens when another one stops twice', () => {
    const desk = new Desk();
    const stop = desk.listen('first', 'asker');
    stop();
    desk.listen('second', 'asker');
    stop();
    desk.pass(10);
    expect(desk.told).toEqual(['second 10']);
  });

  test('of a task that is not known here goes to everybody who listens', () => {
    const desk = new Desk();
    desk.listen('first', 'asker');
    desk.listen('other', 'other');
    desk.listen('of another namespace', qualified('acme', 'other'));
    desk.progress.passToAll('', { taskId: 'unknown', percent: 5 });
    expect(desk.told).toEqual(['first 5', 'other 5']);
  });

  test('is remembered, the newest of each task, of the last ten thousand tasks', () => {
    const desk = new Desk();
    desk.pass(1, '', 'first');
    desk.pass(2, '', 'second');
    desk.pass(3, '', 'first');
    expect(desk.progress.of('planner', 'first')?.percent).toBe(3);
    expect(desk.progress.of('coder', 'first')).toBeUndefined();
    for (let number = 0; number < 9999; number++) desk.pass(4, '', `task ${number}`);
    expect(desk.progress.of('planner', 'second')).toBeUndefined();
    expect(desk.progress.of('planner', 'first')?.percent).toBe(3);
  });
});
