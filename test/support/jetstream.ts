import type { JetStreamLogOptions } from '../../src/log/jetstream.ts';
import { JetStreamLog } from '../../src/log/jetstream.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../src/std/system.ts';

/** Opens a log on a server that runs, with two shards and a prefix of its own if nothing else is said. */
export function openJetStream(
  server: string,
  options: Partial<JetStreamLogOptions> = {},
): Promise<JetStreamLog> {
  return JetStreamLog.open({
    clock: systemClock,
    logger: silent,
    name: 'test',
    servers: [server],
    prefix: `t${systemRandom.token(4)}`,
    shards: 2,
    replicas: 1,
    storage: 'file',
    sync: 'interval',
    maxBytesPerShard: 0,
    generation: systemRandom.token(16),
    ...options,
  });
}
