import { describe, expect, test } from '@jest/globals';
import { Registration } from '../../../src/cluster/registration.ts';
import { silent } from '../../../src/std/logger.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { SimStore } from '../../support/sim-store.ts';

/** A registration that no watch tells anything. */
function register(): { clock: VirtualClock; store: SimStore; registration: Registration } {
  const clock = new VirtualClock();
  const random = new SeededRandom(1);
  const store = new SimStore(clock, random);
  const registration = new Registration({
    key: 'member.a',
    store: store.end(clock),
    clock,
    random,
    logger: silent,
    registered() {},
    refused() {},
  });
  return { clock, store, registration };
}

describe('a registration', () => {
  test('of which no answer came is found in the store, and not written again', () => {
    const { clock, store, registration } = register();
    store.lostAnswers = 1;
    registration.want('one');
    clock.advance(1000);
    store.lostAnswers = 0;
    expect(registration.current).toBe(false);
    clock.advance(5000);
    expect(registration.current).toBe(true);
    expect(store.writes).toBe(1);
  });

  test('writes what is wanted last, over what somebody else has written', () => {
    const { clock, store, registration } = register();
    store.write('member.a', 'foreign');
    registration.want('one');
    registration.want('two');
    clock.advance(5000);
    expect(store.entries.get('member.a')?.value).toBe('two');
  });

  test('is removed in the end, whatever was under way', () => {
    const { clock, store, registration } = register();
    let left = false;
    registration.want('one');
    registration.leave(() => (left = true));
    clock.advance(100);
    expect(left).toBe(true);
    expect(store.entries.size).toBe(0);
    expect(store.writes).toBe(2);
  });
});
