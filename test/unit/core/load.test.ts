import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { leastLoaded, loadScore, RoundRobin, type LoadFigures } from '../../../src/core/load.ts';

const idle: LoadFigures = { activeAgents: 0, tasksPerSecond: 0, cpu: 0, memory: 0, eventLoopUtilization: 0 };
const capacity = { activeAgents: 1000, tasksPerSecond: 200_000, cpu: 2, memory: 4e9 };

describe('the load score', () => {
  test.each<[string, Partial<LoadFigures>, number]>([
    ['nothing', {}, 0],
    ['agents', { activeAgents: 500 }, 0.5],
    ['tasks', { tasksPerSecond: 50_000 }, 0.25],
    ['CPU', { cpu: 1.5 }, 0.75],
    ['memory', { memory: 1e9 }, 0.25],
    ['the event loop', { eventLoopUtilization: 0.9 }, 0.9],
    ['the scarcest of all', { activeAgents: 100, cpu: 1.5, memory: 1e9 }, 0.75],
    ['more than there is', { memory: 5e9 }, 1],
  ])('is the share in use of %s', (_, figures, score) => {
    expect(loadScore({ ...idle, ...figures }, capacity)).toBeCloseTo(score);
  });

  test('leaves out what has no known limit', () => {
    const figures = { ...idle, activeAgents: 5, cpu: 1 };
    expect(loadScore(figures, { ...capacity, activeAgents: 0 })).toBe(0.5);
  });

  test('is between 0 and 1, and does not fall when a figure rises', () => {
    const amount = fc.double({ min: 0, max: 1e12, noNaN: true });
    const figures = fc.record({
      activeAgents: amount,
      tasksPerSecond: amount,
      cpu: amount,
      memory: amount,
      eventLoopUtilization: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    const member = fc.constantFrom('activeAgents', 'tasksPerSecond', 'cpu', 'memory');
    fc.assert(
      fc.property(figures, member, amount, (figures, member, more) => {
        const score = loadScore(figures, capacity);
        expect(score).toBeGreaterThanOrEqual(0);
        expect(score).toBeLessThanOrEqual(1);
        const busier = loadScore({ ...figures, [member]: figures[member] + more }, capacity);
        expect(busier).toBeGreaterThanOrEqual(score);
      }),
    );
  });
});

describe('the least loaded broker', () => {
  const brokers = [
    { id: 'a', loadScore: 0.5 },
    { id: 'b', loadScore: 0.2 },
    { id: 'c', loadScore: 0.2 },
  ];

  test('has the lowest score, and chance decides among equals', () => {
    expect(leastLoaded(brokers, 0)?.id).toBe('b');
    expect(leastLoaded(brokers, 0.499)?.id).toBe('b');
    expect(leastLoaded(brokers, 0.5)?.id).toBe('c');
    expect(leastLoaded(brokers, 0.999)?.id).toBe('c');
  });

  test('of none is none', () => {
    expect(leastLoaded([], 0)).toBeUndefined();
  });
});

describe('round robin', () => {
  const named = (ids: string) => Array.from(ids, (id) => ({ id }));

  test('takes one after the other, in whatever order they are listed', () => {
    const turn = new RoundRobin();
    const order = ['abc', 'cba', 'bac', 'abc', 'cab', 'bca'].map((ids) => turn.next(named(ids))?.id);
    expect(order.join('')).toBe('abcabc');
  });

  test('goes on with the next when brokers come and go', () => {
    const turn = new RoundRobin();
    const order = ['abc', 'abc', 'acd', 'acd', 'bcd', 'd', 'ab'].map((ids) => turn.next(named(ids))?.id);
    expect(order.join('')).toBe('abcdbda');
  });

  test('of none is none, and loses no turn', () => {
    const turn = new RoundRobin();
    turn.next(named('ab'));
    expect(turn.next([])).toBeUndefined();
    expect(turn.next(named('ab'))?.id).toBe('b');
  });
});
