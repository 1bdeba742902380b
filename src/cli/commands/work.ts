import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import type { Cli } from '../cli.ts';
import { count, span } from '../format.ts';
import { durationOption, examples, whole } from '../options.ts';
import { runCommand } from '../subprocess.ts';

interface Flags {
  readonly exec: string;
  readonly concurrency?: number;
  readonly type?: readonly string[];
  readonly agent?: string;
  readonly limit?: number;
  readonly grace: number;
}

/** `agenthub work` */
export function addWork(program: Command, cli: Cli): void {
  const command = program
    .command('work')
    .summary('Run a command for each task of a mailbox')
    .description(
      'Work on a mailbox: run a shell command for each task. The payload is its standard input, what it ' +
        'prints is the result. It finds TASK_ID, TASK_TYPE, TASK_MAILBOX, TASK_ATTEMPT, TASK_REQUESTER and ' +
        'TASK_CONTENT_TYPE in its environment. If it ends with 0 the task is done, with 65 it has failed for ' +
        'good, with anything else it is tried again. A cancelled task gets SIGTERM, and SIGKILL after 5s.',
    )
    .argument('<mailbox>', "an agent's id, or type:<task type> to compete with others")
    .requiredOption('--exec <command>', 'what to run, with /bin/sh')
    .option('--concurrency <number>', 'commands at a time (default: one for each core)', whole(1, 4096))
    .option('--type <type...>', 'only tasks of these types')
    .option('--agent <id>', 'who works; named in results (default: the mailbox)')
    .option('--limit <number>', 'end after so many tasks', whole(1))
    .addOption(durationOption('--grace', 'what a running command has left when this ends', '30s'))
    .addHelpText(
      'after',
      examples(
        ['agenthub work echo --exec cat', 'answers with what it is asked'],
        ["agenthub work type:count --exec 'wc -w' --concurrency 8", 'competes with other workers'],
        ['agenthub work nightly --exec ./job.sh --limit 1', 'one task, then it ends'],
      ),
    )
    .action((mailbox: string, flags: Flags) => work(cli, command, mailbox, flags));
}

async function work(cli: Cli, command: Command, mailbox: string, flags: Flags): Promise<void> {
  const { exec, concurrency = availableParallelism(), type, agent, limit = Infinity, grace } = flags;
  const { terminal, clock } = cli;
  const output = cli.output(command);
  using interruption = terminal.untilInterrupted();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  interruption.signal.addEventListener('abort', () => end());
  await using hub = await cli.connect(command, agent);
  let begun = 0;
  let done = 0;
  const worker = await hub.work(
    mailbox,
    async (task, context) => {
      // The window may have brought more than are wanted: these go back when the worker closes.
      if (++begun > limit) return new Promise<never>(() => {});
      const start = clock.now();
      const state = { id: task.id, type: task.type, attempt: context.attempt };
      const ending = (outcome: string, error = ''): void => {
        const ms = clock.now() - start;
        const text = `${task.id} ${task.type} ${outcome} in ${span(ms)}${error === '' ? '' : `: ${error}`}`;
        output.event({ ...state, outcome, ms: Math.round(ms), ...(error === '' ? {} : { error }) }, text);
        if (++done === limit) end();
      };
      try {
        const result = await runCommand(exec, task, context, terminal);
        ending('done');
        return result;
      } catch (error) {
        ending('failed', Error.isError(error) ? error.message : String(error));
        throw error;
      }
    },
    {
      concurrency: Math.min(concurrency, limit),
      ...(type === undefined ? {} : { types: type }),
      ...(agent === undefined ? {} : { agent }),
    },
  );
  if (!output.json) terminal.stderr.write(`Working on ${mailbox} with: ${exec}  (Ctrl-C ends it)\n`);
  await Promise.race([ended, worker.closed]);
  await worker.close({ graceMs: begun > limit ? 0 : grace });
  if (!output.json) terminal.stderr.write(`${count(done)} tasks done or failed.\n`);
}
