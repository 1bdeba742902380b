import { afterAll, beforeAll } from '@jest/globals';
import { systemRandom } from '../../src/std/system.ts';
import { openJetStream } from '../support/jetstream.ts';
import { NatsServer } from '../support/nats-server.ts';
import { describeLog } from './log.ts';

let server: NatsServer;

beforeAll(async () => {
  server = await NatsServer.start();
});

afterAll(() => server.remove());

describeLog('JetStreamLog', async ({ shards, maxBytes = 0 }) => {
  const prefix = `t${systemRandom.token(4)}`;
  const open = () => openJetStream(server.url, { prefix, shards, maxBytesPerShard: maxBytes });
  return { log: await open(), reopen: open, dispose: () => Promise.resolve() };
});
