import { identityMethod } from '../../../src/wire/service.ts';

/** The bare peer's stream: frames both ways. */
export const MOVE = identityMethod('/bench.Bare/Move', { requestStream: true, responseStream: true });

/** The bare peer's call: one message each way. */
export const CALL = identityMethod('/bench.Bare/Call', { requestStream: false, responseStream: false });

/** The first frame of the stream that shall get the deliveries. */
export const WORKER = Buffer.from('W');
