import { Command, Option } from 'commander';
import type { Cli } from './cli.ts';
import { addAgents } from './commands/agents.ts';
import { addAuth } from './commands/auth.ts';
import { addBench } from './commands/bench.ts';
import { addCluster } from './commands/cluster.ts';
import { addConfig } from './commands/config.ts';
import { addDead } from './commands/dead.ts';
import { addMailboxes } from './commands/mailboxes.ts';
import { addPlacement } from './commands/placement.ts';
import { addServe } from './commands/serve.ts';
import { addShards } from './commands/shards.ts';
import { addTask } from './commands/task.ts';
import { addTop } from './commands/top.ts';
import { addWork } from './commands/work.ts';
import { EXIT_CODES } from './failure.ts';
import { examples } from './options.ts';

/** The whole command line, as a tree. */
export function createProgram(cli: Cli): Command {
  const { stdout, stderr } = cli.terminal;
  const program = new Command('agenthub')
    .description('A message broker for AI agents: tasks in, results back, nothing acknowledged is lost.')
    .version(cli.version)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      // It is thrown as well, and reported as all others are.
      outputError() {},
      getOutHelpWidth: () => width(stdout.columns),
      getErrHelpWidth: () => width(stderr.columns),
    })
    .addOption(
      new Option('-o, --output <format>', 'table for people, json for programs')
        .choices(['table', 'json'])
        .default('table'),
    )
    .option('--broker <host:port>', 'the broker to talk to (default: client.host and client.port)')
    .option('--token <token>', 'bearer token; better in AGENTHUB_CLIENT_TOKEN, where nobody sees it')
    .option('--namespace <name>', 'the namespace it is about, if you may name another than your own')
    .option('--tls', 'encrypt, and trust the usual authorities')
    .option('--ca-file <path>', 'encrypt, and trust these authorities (PEM)')
    .option('--cert-file <path>', 'encrypt, and show this certificate (PEM); needs --key-file')
    .option('--key-file <path>', 'the private key of that certificate (PEM)')
    .option('--server-name <name>', 'encrypt, and expect this name in the certificate of the broker')
    .option('--config <path>', 'configuration file (default: AGENTHUB_CONFIG)')
    .option('--debug', 'tell what happens, and show where errors come from')
    .addHelpText(
      'after',
      examples(
        ['agenthub serve', 'run a broker in this terminal'],
        ['agenthub work echo --exec cat', 'answer every task for `echo` with what it carries'],
        ["agenthub task publish echo 'hello' --wait", 'send it one, and wait for the result'],
      ),
    )
    .addHelpText('after', `\n${EXIT_CODES}`);

  program.commandsGroup('Run:');
  addServe(program, cli);
  addTop(program, cli);
  addBench(program, cli);
  program.commandsGroup('Tasks:');
  addTask(program, cli);
  addWork(program, cli);
  addDead(program, cli);
  program.commandsGroup('Look:');
  addMailboxes(program, cli);
  addAgents(program, cli);
  addShards(program, cli);
  addPlacement(program, cli);
  addCluster(program, cli);
  addConfig(program, cli);
  addAuth(program, cli);
  return program;
}

const MAX_WIDTH = 110;

function width(columns = MAX_WIDTH): number {
  return Math.min(columns, MAX_WIDTH);
}
