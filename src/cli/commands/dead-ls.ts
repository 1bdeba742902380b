import type { Command } from 'commander';
import { deadMailbox } from '../../core/shard.ts';
import type { Cli } from '../cli.ts';
import { examples, whole } from '../options.ts';
import { take } from '../paged.ts';
import { listTasks, showTasks } from '../tasks.ts';

/** `agenthub dead ls` */
export function addDeadLs(dead: Command, cli: Cli): void {
  const command = dead
    .command('ls')
    .description('List dead letters, with the reason')
    .argument('[mailbox]', 'only those that were sent to this mailbox')
    .option('--limit <number>', 'at most so many', whole(1), 100)
    .addHelpText(
      'after',
      examples(
        ['agenthub dead ls', 'the first 100 of all'],
        ['agenthub dead ls planner -o json', "the planner's, for a program"],
      ),
    )
    .action(async (mailbox: string | undefined, { limit }: { limit: number }) => {
      using broker = cli.caller(command);
      const where = mailbox === undefined ? {} : { mailbox: deadMailbox(mailbox) };
      const query = { ...where, states: ['dead'], pageSize: Math.min(limit, 1000) } as const;
      showTasks(cli, command, await take(listTasks(broker, query), limit), 'No dead letters.');
    });
}
