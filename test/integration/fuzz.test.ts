import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Fuzz } from '../fuzz/fuzz.ts';

/** Enough to see that it works; make fuzz does it for as long as you like. */
const CASES = 150;

let fuzz: Fuzz;
beforeAll(async () => {
  fuzz = await Fuzz.start();
});
afterAll(() => fuzz.end());

test('whatever comes ends in an answer, and the broker works on', async () => {
  for (let seed = 1; seed <= CASES; seed += 10) {
    const some = Array.from({ length: 10 }, (_, index) =>
      fuzz.run(seed + index).catch((error: unknown) => ({ seed: seed + index, error })),
    );
    const failed = (await Promise.all(some)).filter((each) => each !== undefined);
    expect(failed).toEqual([]);
  }
  await fuzz.check();
}, 120_000);
