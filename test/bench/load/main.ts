import { answer } from '../child.ts';
import { bareLoad, nativeLoad, sdkLoad } from './batches.ts';
import { bareCallLoad, busLoad } from './bus.ts';
import { attachLoad, fillLoad } from './crowd.ts';
import { barePingLoad, flushLoad, pingLoad } from './latency.ts';
import { openLoad } from './open.ts';
import { queueLoad } from './queue.ts';

/** The maker of the load, in a process of its own. */
const calls = {
  nativeLoad,
  bareLoad,
  sdkLoad,
  pingLoad,
  barePingLoad,
  flushLoad,
  openLoad,
  queueLoad,
  fillLoad,
  attachLoad,
  busLoad,
  bareCallLoad,
};

/** What this process can be asked. */
export type LoadCalls = typeof calls;

answer(calls);
