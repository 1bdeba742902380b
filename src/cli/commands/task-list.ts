import type { Command } from 'commander';
import { Option } from 'commander';
import type { TaskState } from '../../client/index.ts';
import type { Cli } from '../cli.ts';
import { examples, whole } from '../options.ts';
import { take } from '../paged.ts';
import { listTasks, showTasks } from '../tasks.ts';

interface Flags {
  readonly state?: readonly Exclude<TaskState, 'unknown'>[];
  readonly type?: string;
  readonly requester?: string;
  readonly limit: number;
}

/** `agenthub task list` */
export function addTaskList(task: Command, cli: Cli): void {
  const command = task
    .command('list')
    .description('List unfinished tasks and dead letters, in the order of their acceptance within a shard')
    .argument('[mailbox]', 'only those of this mailbox')
    .addOption(
      new Option('--state <state...>', 'only those in these states').choices([
        'queued',
        'delayed',
        'running',
        'dead',
      ]),
    )
    .option('--type <type>', 'only those of this type')
    .option('--requester <agent>', 'only those that this agent asked for')
    .option('--limit <number>', 'at most so many', whole(1), 100)
    .addHelpText(
      'after',
      examples(
        ['agenthub task list', 'the first 100 of all'],
        ['agenthub task list type:summarize --state running', 'what is being summarized now'],
        ['agenthub task list planner --limit 10000 -o json', 'for a program'],
      ),
    )
    .action(async (mailbox: string | undefined, flags: Flags) => {
      using broker = cli.caller(command);
      const { state, type, requester, limit } = flags;
      const query = {
        pageSize: Math.min(limit, 1000),
        ...(mailbox === undefined ? {} : { mailbox }),
        ...(state === undefined ? {} : { states: state }),
        ...(type === undefined ? {} : { type }),
        ...(requester === undefined ? {} : { requester }),
      };
      showTasks(cli, command, await take(listTasks(broker, query), limit), 'No tasks.');
    });
}
