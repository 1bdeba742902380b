import { parseArgs } from 'node:util';
import { duration } from '../../src/config/kinds.ts';
import { Fuzz } from './fuzz.ts';

const { values } = parseArgs({
  options: {
    duration: { type: 'string', default: '1m' },
    seed: { type: 'string' },
    cases: { type: 'string' },
  },
});
const CHECK_EVERY = 50;
const durationMs = duration(1, 7 * 86_400_000).parse(values.duration);
if (durationMs === undefined) throw new Error('DURATION must be a duration such as 10m');

const first = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed);
const cases = values.cases === undefined ? Infinity : Number(values.cases);
const until = values.cases === undefined ? Date.now() + durationMs : Infinity;

console.log(`Seeds from ${first} on.`);
const fuzz = await Fuzz.start();
let seed = first;
try {
  for (; seed < first + cases && Date.now() < until; seed++) {
    await fuzz.run(seed);
    if ((seed - first) % CHECK_EVERY === CHECK_EVERY - 1) await fuzz.check();
  }
  await fuzz.check();
  await fuzz.end();
  console.log(`${seed - first} cases, and nothing has happened.`);
} catch (error) {
  console.error(`Seed ${seed} (or one of the ${CHECK_EVERY} before it):`, error);
  console.error(
    `Again: make fuzz SEED=${seed} CASES=1, or SEED=${Math.max(first, seed - CHECK_EVERY)} CASES=${CHECK_EVERY + 1}`,
  );
  process.exit(1);
}
