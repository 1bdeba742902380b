import { simulate } from './seeds.ts';
import { World } from './world.ts';

/** The tests of one of four test files, which share the worlds of one broker. */
export function simulateWorlds(part: number): void {
  const worlds = {
    who: 'a broker, its disk and its clients, in trouble of every kind',
    file: 'worlds',
    usual: 2000,
    chunk: 2000,
    live: (seed: number, trace?: (line: string) => void) => new World(seed, trace && { trace }).run(),
  };
  simulate(worlds, part, 4);
}
