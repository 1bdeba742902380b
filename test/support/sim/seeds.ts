import { describe, test } from '@jest/globals';

const TIMEOUT_MS = 600_000;
/** Lines of what happened before a promise was broken. */
const LINES = 120;

/** What lives through one seed. */
interface Simulation {
  /** Who keeps its promises, for people. */
  readonly who: string;
  /** Its test files begin with that. */
  readonly file: string;
  /** How many seeds every run lives through. */
  readonly usual: number;
  /** Throws what is broken; `trace` gets a line for everything that happens. */
  readonly live: (seed: number, trace?: (line: string) => void) => void;
  /** How many seeds are one test: so many that one sees that it goes on, and can read it. Default 1. */
  readonly chunk?: number;
}

/**
 * The tests of a simulation: of as many seeds as `SEEDS` says, or from one to the other (`SEEDS=1001-2000`), the
 * usual ones if it says nothing, or the one of `SEED`. Some are spread over `parts` test files, of which this is
 * the one of that number.
 */
export function simulate(simulation: Simulation, part = 1, parts = 1): void {
  const { who, usual, chunk = 1 } = simulation;
  const { SEED, SEEDS = String(usual) } = process.env;
  const [from, to] = SEED === undefined ? rangeOf(SEEDS) : [Number(SEED), Number(SEED)];
  const isMine = (seed: number): boolean => seed % parts === part - 1;
  describe(who, () => {
    if (from === to && !isMine(from)) return test.skip(`keep their promises (seed ${from})`, () => {});
    for (let first = from; first <= to; first += chunk) {
      const last = Math.min(to, first + chunk - 1);
      const name = first === last ? `seed ${first}` : `seeds ${first} to ${last}, part ${part} of ${parts}`;
      test(
        `keep their promises (${name})`,
        () => {
          for (let seed = first; seed <= last; seed++) if (isMine(seed)) live(simulation, seed);
        },
        TIMEOUT_MS,
      );
    }
  });
}

function rangeOf(text: string): [number, number] {
  const [first = '', last] = text.split('-');
  return last === undefined ? [1, Number(first)] : [Number(first), Number(last)];
}

/** Runs a seed. Throws what is broken, how it came to that, and how to see it again. */
function live(simulation: Simulation, seed: number): void {
  try {
    simulation.live(seed);
  } catch (error) {
    const again = `make sim SEED=${seed} SIM=${simulation.file}`;
    const message = `seed ${seed}: replay it with ${again}\n${(error as Error).message}\n${story(simulation, seed)}`;
    throw new Error(message, { cause: error });
  }
}

/** What happened before, from a second run of the same seed. */
function story(simulation: Simulation, seed: number): string {
  const lines: string[] = [];
  try {
    simulation.live(seed, (line) => lines.push(line));
    return 'and in a second run it did not happen: the simulation is not deterministic';
  } catch {
    return lines.slice(-LINES).join('\n');
  }
}
