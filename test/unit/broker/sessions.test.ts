import { describe, expect, test } from '@jest/globals';
import { type EdgeSession, Sessions } from '../../../src/broker/sessions.ts';
import { VirtualClock } from '../../support/clock.ts';

const GRACE = 10_000;

class Desk {
  readonly clock = new VirtualClock();
  readonly gone: string[] = [];
  readonly sessions = new Sessions(this.clock, GRACE, false, (session) => this.gone.push(session));

  connect(session: string, agents = 1): EdgeSession {
    // The registry goes by no more than this.
    const registered = { session, agents, connected: true, replaced() {} } as unknown as EdgeSession;
    this.sessions.connect(registered);
    return registered;
  }
}

describe('a session that has lost its connection', () => {
  test('is alive until its grace is over, and then gone, once', () => {
    const desk = new Desk();
    desk.connect('a');
    desk.sessions.lose('a');
    desk.clock.advance(GRACE / 2);
    desk.sessions.lose('a');
    desk.clock.advance(GRACE / 2 - 1);
    expect([desk.sessions.isAlive('a'), desk.gone]).toEqual([true, []]);
    desk.clock.advance(1);
    expect([desk.sessions.isAlive('a'), desk.gone, desk.sessions.size]).toEqual([false, ['a'], 0]);
  });

  test('and comes back in time is not gone', () => {
    const desk = new Desk();
    desk.connect('a');
    desk.sessions.lose('a');
    desk.clock.advance(GRACE - 1);
    const again = desk.connect('a');
    desk.clock.advance(GRACE * 2);
    expect([desk.gone, desk.sessions.get('a')]).toEqual([[], again]);
  });

  test('is gone at once when it ends for good', () => {
    const desk = new Desk();
    desk.connect('a');
    desk.sessions.lose('a');
    desk.sessions.end('a');
    desk.clock.run();
    expect(desk.gone).toEqual(['a']);
  });
});

describe('after a start', () => {
  test('a session that came back and said goodbye is no stranger: what it said earlier finds nothing', () => {
    const desk = new Desk();
    desk.sessions.remember([]);
    desk.connect('a');
    desk.sessions.end('a');
    expect([desk.sessions.isAlive('a'), desk.sessions.isAlive('b')]).toEqual([false, true]);
  });

  test('sessions that nobody knows may be those of before, for a grace', () => {
    const desk = new Desk();
    expect(desk.sessions.isAlive('stranger')).toBe(false);
    desk.sessions.remember([]);
    expect(desk.sessions.isAlive('stranger')).toBe(true);
    desk.clock.advance(GRACE);
    expect(desk.sessions.isAlive('stranger')).toBe(false);
  });

  test('sessions that the log names are gone after a grace, and count as connected only when they are', () => {
    const desk = new Desk();
    desk.sessions.remember(['of before']);
    expect(desk.sessions.connected).toBe(0);
    desk.connect('new', 3);
    expect([desk.sessions.connected, desk.sessions.agents]).toEqual([1, 3]);
    desk.sessions.lose('new');
    expect(desk.sessions.connected).toBe(0);
    desk.clock.run();
    expect(desk.gone).toEqual(['of before', 'new']);
  });
});

test('nobody is gone after the registry was closed', () => {
  const desk = new Desk();
  desk.connect('a');
  desk.sessions.lose('a');
  desk.sessions.close();
  desk.clock.run();
  expect(desk.gone).toEqual([]);
});
