import { loadConfig } from '../../../src/config/load.ts';
import type { Embedded } from '../../../src/embedded.ts';
import { startEmbedded } from '../../../src/embedded.ts';
import type { Logger } from '../../../src/std/logger.ts';
import { answer } from '../child.ts';
import { UsageProbe } from '../usage.ts';

/** The broker under measurement, alone in its process. */
const probe = new UsageProbe();
let hub: Embedded | undefined;

const logger: Logger = {
  debug() {},
  info() {},
  warn: (fields, message) => console.error('broker:', message, fields),
  error: (fields, message) => console.error('broker:', message, fields),
  child: () => logger,
};

const calls = {
  /** Starts the broker with these flags over the defaults; answers with its ports. */
  async start(flags: Readonly<Record<string, string>>): Promise<{ grpc: number; http: number }> {
    const { config } = loadConfig({ env: {}, flags: { 'grpc-port': '0', 'http-port': '0', ...flags } });
    hub = await startEmbedded(config, logger);
    void hub.failed.then((error) => {
      console.error('the broker has failed:', error);
      process.exit(1);
    });
    return { grpc: hub.grpcPort, http: hub.httpPort };
  },
  usage: (options: { readonly collect: boolean }) => probe.read(options),
  /** Which of these mailboxes it owns. */
  owned: (mailboxes: readonly string[]): string[] =>
    mailboxes.filter((mailbox) => hub?.broker.ownerOf(mailbox) !== undefined),
  /** How many shards it serves. */
  shards: (): number => hub?.broker.owners.length ?? 0,
  forgetPauses: () => probe.reset(),
  /** Tasks that have not ended, and bytes of the log that they keep in memory. */
  held: (): { tasks: number; bytes: number } => ({
    tasks: hub?.broker.owners.reduce((sum, { state }) => sum + state.tasks.count, 0) ?? 0,
    bytes: hub?.broker.owners.reduce((sum, { state }) => sum + state.batches.retainedBytes, 0) ?? 0,
  }),
};

/** What this process can be asked. */
export type BrokerCalls = typeof calls;

answer(calls, () => hub?.stop());
