import { describe, test } from '@jest/globals';
import { ClusterWorld } from '../support/sim/cluster-world.ts';

/** Seeds that keep every promise so far; `CLUSTERS=100` looks at more of them, `CLUSTER=7` at one. */
const USUAL = 100;
const LINES = 120;
const TIMEOUT_MS = 600_000;

const { CLUSTER, CLUSTERS = String(USUAL) } = process.env;
const seeds =
  CLUSTER === undefined
    ? Array.from({ length: Number(CLUSTERS) }, (_, index) => index + 1)
    : [Number(CLUSTER)];

describe('brokers that share a log, and their clients, in trouble of every kind', () => {
  test.each(seeds)(
    'keep their promises (seed %d)',
    (seed) => {
      const lines: string[] = [];
      try {
        new ClusterWorld(seed, { trace: (line) => lines.push(line) }).run();
      } catch (error) {
        throw new Error(`${(error as Error).message}\n${lines.slice(-LINES).join('\n')}`, { cause: error });
      }
    },
    TIMEOUT_MS,
  );
});
