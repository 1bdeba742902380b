import { describe, expect, test } from '@jest/globals';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';

describe('VirtualClock', () => {
  test('lets time pass only when told to', () => {
    const clock = new VirtualClock({ start: 1000 });
    const happened: string[] = [];
    clock.after(20, () => happened.push(`b at ${clock.now()}`));
    clock.after(10, () => happened.push(`a at ${clock.now()}`));
    clock.soon(() => happened.push(`soon at ${clock.now()}`));
    expect(happened).toEqual([]);
    clock.advance(0);
    expect(happened).toEqual(['soon at 1000']);
    clock.advance(15);
    expect(clock.now()).toBe(1015);
    clock.advance(100);
    expect(happened).toEqual(['soon at 1000', 'a at 1010', 'b at 1020']);
    expect(clock.pending).toBe(0);
  });

  test('runs what becomes due on the way in its order', () => {
    const clock = new VirtualClock({ start: 0 });
    const happened: number[] = [];
    const again = (): void => {
      happened.push(clock.now());
      clock.after(10, again);
    };
    again();
    clock.advance(35);
    expect(happened).toEqual([0, 10, 20, 30]);
    expect(clock.nextTimer).toBe(40);
  });

  test('does not run what was cancelled', () => {
    const clock = new VirtualClock();
    const timer = clock.after(1, () => {
      throw new Error('it ran');
    });
    timer.cancel();
    timer.cancel();
    clock.run();
  });

  test('what is due at once runs in order, or in an order that the seed decides', () => {
    const order = (random?: SeededRandom): number[] => {
      const clock = new VirtualClock(random === undefined ? {} : { random: () => random.float() });
      const happened: number[] = [];
      for (let i = 0; i < 20; i++) clock.after(1, () => happened.push(i));
      clock.run();
      return happened;
    };
    const inOrder = Array.from({ length: 20 }, (_, i) => i);
    expect(order()).toEqual(inOrder);
    expect(order(new SeededRandom(1))).not.toEqual(inOrder);
    expect(order(new SeededRandom(1))).toEqual(order(new SeededRandom(1)));
    expect(order(new SeededRandom(1))).not.toEqual(order(new SeededRandom(2)));
  });

  test('notices what never comes to rest', () => {
    const clock = new VirtualClock();
    const busy = (): void => clock.soon(busy);
    busy();
    expect(() => clock.run(undefined, 100)).toThrow('still busy');
  });
});
