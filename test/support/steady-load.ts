import { expect } from '@jest/globals';
import type { Hub } from '../../src/client/index.ts';

const MAILBOXES = 4;
const LANES = 8;

/** Tasks without a pause, each with its result. */
export interface SteadyLoad {
  /** Results so far. */
  readonly done: number;
  /** Ends it; throws if one task failed, was lost or got another's result. */
  stop(): Promise<number>;
}

/** Has `asker` ask and `worker` answer until it is stopped. */
export async function steadyLoad(asker: Hub, worker: Hub): Promise<SteadyLoad> {
  for (let index = 0; index < MAILBOXES; index++) {
    await worker.work(`w${index}`, (task) => task.text(), { concurrency: MAILBOXES });
  }
  let stopped = false;
  let done = 0;
  const run = async (lane: number): Promise<void> => {
    for (let count = 0; !stopped; count++) {
      const payload = `${lane}-${count}`;
      const result = await asker.request({ to: `w${lane % MAILBOXES}`, payload });
      expect(result.text()).toBe(payload);
      done++;
    }
  };
  const lanes = Promise.all(Array.from({ length: LANES }, (_, lane) => run(lane)));
  // Who stops it hears of it.
  lanes.catch(() => {});
  return {
    get done() {
      return done;
    },
    stop: async () => {
      stopped = true;
      await lanes;
      return done;
    },
  };
}
