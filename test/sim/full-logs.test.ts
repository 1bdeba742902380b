import { describe, test } from '@jest/globals';
import { ClusterWorld } from '../support/sim/cluster-world.ts';

/** Seeds of every run; `FULL=100` looks at more of them, `CLUSTER=7` at one. */
const USUAL = 8;
const LINES = 120;
const TIMEOUT_MS = 600_000;

const { CLUSTER, FULL = String(USUAL) } = process.env;
const seeds =
  CLUSTER === undefined ? Array.from({ length: Number(FULL) }, (_, index) => index + 1) : [Number(CLUSTER)];

describe('brokers whose logs have filled up while nobody worked, in trouble of every kind', () => {
  test.each(seeds)(
    'settle all that is in them once somebody does, and have short logs then (seed %d)',
    (seed) => {
      const lines: string[] = [];
      try {
        new ClusterWorld(seed, { trace: (line) => lines.push(line), heaps: true }).run();
      } catch (error) {
        throw new Error(`${(error as Error).message}\n${lines.slice(-LINES).join('\n')}`, { cause: error });
      }
    },
    TIMEOUT_MS,
  );
});
