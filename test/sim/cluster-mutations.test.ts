/** Proves the proof: every bug planted here must be found by the simulation of clusters, within so many seeds. */
import { describe, expect, test } from '@jest/globals';
import type { ClusterBug } from '../support/sim/cluster-bugs.ts';
import { CLUSTER_BUGS } from '../support/sim/cluster-bugs.ts';
import { ClusterWorld } from '../support/sim/cluster-world.ts';

/** Seeds within which every bug must be found. */
const SEEDS = 100;
const TIMEOUT_MS = 600_000;

/** The first seed that finds something wrong; the one that has found it before is tried first. */
function firstFound({ hint, plan = {} }: ClusterBug): number | undefined {
  const others = Array.from({ length: SEEDS }, (_, index) => index + 1).filter((seed) => seed !== hint);
  return [hint, ...others].find((seed) => {
    try {
      new ClusterWorld(seed, { plan }).run();
      return false;
    } catch {
      return true;
    }
  });
}

const run = process.env['SEED'] === undefined ? test : test.skip;

describe('the simulation of clusters finds that', () => {
  run.each(Object.entries(CLUSTER_BUGS))(
    '%s',
    (_, bug) => {
      const remove = bug.plant();
      try {
        expect(firstFound(bug)).toBeDefined();
      } finally {
        remove();
      }
    },
    TIMEOUT_MS,
  );
});
