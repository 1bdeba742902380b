import type { Command } from 'commander';
import type { Config } from '../../config/schema.ts';
import type { Embedded } from '../../embedded.ts';
import type { Cli } from '../cli.ts';
import { createLogger } from '../logger.ts';
import { addConfigFlags, examples } from '../options.ts';

/** `agenthub serve` */
export function addServe(program: Command, cli: Cli): void {
  const command = program
    .command('serve')
    .summary('Run a broker')
    .description(
      'Run a broker. Its configuration comes from a file, over it the environment, over it these flags; ' +
        '`agenthub config show` prints it. SIGTERM or Ctrl-C stops it in good order, a second one at once.',
    )
    .addHelpText(
      'after',
      examples(
        ['agenthub serve', 'durable, in ./agenthub-data, for this machine only'],
        ['agenthub serve --data-log memory --port 0', 'keeps nothing, on a free port'],
        ['agenthub serve --config /etc/agenthub.yaml', 'configured by a file'],
      ),
    )
    .action((flags: Record<string, unknown>) => serve(cli, command, flags));
  addConfigFlags(command);
}

async function serve(cli: Cli, command: Command, flags: Record<string, unknown>): Promise<void> {
  const { config } = cli.load(command, flags);
  const threshold = { level: config.log.level };
  const logger = createLogger(config, cli.terminal.stderr, threshold);
  using interruption = cli.terminal.untilInterrupted();
  const interrupted = new Promise<void>((resolve) => {
    interruption.signal.addEventListener('abort', () => resolve());
  });
  // Loaded here, because no other command needs it.
  const { startEmbedded } = await import('../../embedded.ts');
  const embedded = await startEmbedded(config, logger, threshold);
  const output = cli.output(command);
  output.event(facts(config, embedded), welcome(cli.version, config, embedded));
  const reason = await Promise.race([interrupted, embedded.failed]);
  if (reason !== undefined) throw reason;
  logger.info({ signal: interruption.signal.reason as unknown }, 'stopping; a second signal stops at once');
  await embedded.stop();
}

function facts({ grpc, http }: Config, { broker, grpcPort, httpPort }: Embedded): object {
  return {
    broker: broker.id,
    grpc: `${grpc.host}:${grpcPort}`,
    http: `${http.host}:${httpPort}`,
    durability: broker.log.durability,
    pid: process.pid,
  };
}

function welcome(
  version: string,
  { grpc, http, data, nats, tls }: Config,
  { grpcPort, httpPort, broker }: Embedded,
): string {
  const at = grpcPort === 50051 ? '' : ` --broker localhost:${grpcPort}`;
  const kept = {
    memory: 'in memory only: gone when this process ends',
    file: `${data.dir} (${broker.log.durability})`,
    jetstream: `${nats.streamPrefix}-… on NATS at ${nats.servers.join(', ')} (${broker.log.durability})`,
  }[data.log];
  const scheme = tls.certFile === undefined ? 'http' : 'https';
  return `AgentHub ${version} is ready.
  gRPC   ${grpc.host}:${grpcPort}
  HTTP   ${scheme}://${http.host}:${httpPort}  /healthz /readyz /metrics /capacity
  tasks  ${kept}

Try it in another terminal:
  agenthub work echo --exec cat${at}
  agenthub task publish echo 'hello' --wait${at}
`;
}
