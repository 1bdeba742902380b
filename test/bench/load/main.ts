import { answer } from '../child.ts';
import { bareLoad, nativeLoad, sdkLoad } from './batches.ts';
import { flushLoad, pingLoad } from './latency.ts';

/** The maker of the load, in a process of its own. */
const calls = { nativeLoad, bareLoad, sdkLoad, pingLoad, flushLoad };

/** What this process can be asked. */
export type LoadCalls = typeof calls;

answer(calls);
