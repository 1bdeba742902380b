import { describe, test } from '@jest/globals';
import { World } from './world.ts';

/** Worlds of one test: often enough to see that it goes on, seldom enough to read. */
const CHUNK = 500;
const TIMEOUT_MS = 600_000;
/** Lines of what happened before a promise was broken. */
const LINES = 80;

/**
 * The tests of one of `parts` test files, which share the seeds: as many as `SEEDS` says, 2000 if it says
 * nothing, or the one of `SEED`.
 */
export function simulate(part: number, parts: number): void {
  const { SEED, SEEDS = '2000' } = process.env;
  describe('a broker, its disk and its clients, in trouble of every kind', () => {
    if (SEED !== undefined) {
      const seed = Number(SEED);
      const run = seed % parts === part - 1 ? test : test.skip;
      run(`keep their promises (seed ${seed})`, () => live(seed), TIMEOUT_MS);
      return;
    }
    for (let first = 1; first <= Number(SEEDS); first += CHUNK * parts) {
      const last = Math.min(Number(SEEDS), first + CHUNK * parts - 1);
      const name = `keep their promises (seeds ${first} to ${last}, part ${part} of ${parts})`;
      test(
        name,
        () => {
          for (let seed = first; seed <= last; seed++) if (seed % parts === part - 1) live(seed);
        },
        TIMEOUT_MS,
      );
    }
  });
}

/** Runs the world of a seed. Throws what is broken, how it came to that, and how to see it again. */
function live(seed: number): void {
  try {
    new World(seed).run();
  } catch (error) {
    const message = `seed ${seed}: replay it with make sim SEED=${seed}\n${(error as Error).message}\n${story(seed)}`;
    throw new Error(message, { cause: error });
  }
}

/** What happened before, from a second run of the same world. */
function story(seed: number): string {
  const lines: string[] = [];
  try {
    new World(seed, { trace: (line) => lines.push(line) }).run();
    return 'and in a second run it did not happen: the simulation is not deterministic';
  } catch {
    return lines.slice(-LINES).join('\n');
  }
}
