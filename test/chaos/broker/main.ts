/**
 * A broker in a process of its own that says, whenever it is asked, how many sessions it has, or how much
 * memory it holds after a garbage collection. Runs with --expose-gc and a channel to its parent; its
 * argument is the configuration.
 */
import { configSchema } from '../../../src/config/schema.ts';
import { startEmbedded } from '../../../src/embedded.ts';
import { silent } from '../../../src/std/logger.ts';

const config = configSchema(8 * 2 ** 30).parse(JSON.parse(process.argv[2] ?? '{}'));
const { broker, grpcPort } = await startEmbedded(config, silent);

process.on('message', (asked) => {
  if (asked === 'sessions') return process.send?.({ sessions: broker.sessions.size });
  // What the first collection finds dead, the second one frees.
  for (let time = 0; time < 3; time++) globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  return process.send?.({ rss, heap: heapUsed + external });
});
process.on('disconnect', () => process.exit(0));
process.send?.({ grpcPort });
