import type { Command } from 'commander';
import { deadMailbox } from '../../core/shard.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { count } from '../format.ts';
import { checkChoice, examples } from '../options.ts';

/** `agenthub dead purge` */
export function addDeadPurge(dead: Command, cli: Cli): void {
  const command = dead
    .command('purge')
    .description('Delete dead letters for good')
    .argument('<mailbox>', 'the mailbox that they were sent to')
    .argument('[ids...]', 'the ids of the tasks')
    .option('--all', 'all dead letters of that mailbox')
    .addHelpText(
      'after',
      examples(
        ['agenthub dead purge planner order-17', 'one of them'],
        ['agenthub dead purge planner --all', 'all of them'],
      ),
    )
    .action(async (mailbox: string, ids: string[], { all = false }: { all?: boolean }) => {
      checkChoice(ids, all);
      using broker = cli.caller(command);
      const answer = await broker.call(Admin.method.purgeMailbox, {
        mailbox: deadMailbox(mailbox),
        taskIds: ids,
      });
      const purged = Number(answer.purged);
      cli.output(command).item({ mailbox, purged }, { mailbox, purged: count(purged) });
    });
}
