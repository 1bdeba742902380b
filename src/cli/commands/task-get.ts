import type { Command } from 'commander';
import { HubError } from '../../std/errors.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';
import { getTask } from '../tasks.ts';
import { taskFacts, taskView } from '../views.ts';

/** `agenthub task get` */
export function addTaskGet(task: Command, cli: Cli): void {
  const command = task
    .command('get')
    .description('Show what is known of a task, with what it carries')
    .argument('<id>', "the task's id")
    .option('--mailbox <mailbox>', 'its mailbox; without it, all shards are searched')
    .addHelpText(
      'after',
      examples(
        ['agenthub task get 7f3a-0', 'a task, wherever it is'],
        ['agenthub task get order-17 --mailbox planner -o json', 'for a program'],
      ),
    )
    .action(async (id: string, { mailbox }: { mailbox?: string }) => {
      using broker = cli.caller(command);
      const info = await getTask(broker, id, mailbox);
      if (info === undefined) {
        const where =
          mailbox === undefined
            ? ' in any mailbox; finished ones are found only by mailbox'
            : ` in ${mailbox}`;
        throw new HubError('not_found', `no task ${id}${where}`);
      }
      cli.output(command).item(taskView(info), taskFacts(info, cli.clock.now()));
    });
}
