import { afterAll, beforeAll } from '@jest/globals';
import { JetStreamLog } from '../../src/log/jetstream.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../src/std/system.ts';
import { NatsServer } from '../support/nats-server.ts';
import { describeLog } from './log.ts';

let server: NatsServer;

beforeAll(async () => {
  server = await NatsServer.start();
});

afterAll(() => server.remove());

describeLog('JetStreamLog', async ({ shards, maxBytes }) => {
  const prefix = `t${systemRandom.token(4)}`;
  const open = (): Promise<JetStreamLog> =>
    JetStreamLog.open({
      clock: systemClock,
      logger: silent,
      name: 'test',
      servers: [server.url],
      prefix,
      shards,
      replicas: 1,
      storage: 'file',
      sync: 'interval',
      maxBytesPerShard: maxBytes ?? 0,
      generation: systemRandom.token(16),
    });
  return { log: await open(), reopen: open, dispose: () => Promise.resolve() };
});
