import type { Command } from 'commander';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { count } from '../format.ts';
import { checkChoice, examples } from '../options.ts';

/** `agenthub dead replay` */
export function addDeadReplay(dead: Command, cli: Cli): void {
  const command = dead
    .command('replay')
    .description('Put dead letters back into the mailbox they came from, with all their attempts before them')
    .argument('<mailbox>', 'the mailbox that they were sent to')
    .argument('[ids...]', 'the ids of the tasks')
    .option('--all', 'all dead letters of that mailbox')
    .addHelpText(
      'after',
      examples(
        ['agenthub dead replay planner order-17', 'one of them'],
        ['agenthub dead replay planner --all', 'all of them'],
      ),
    )
    .action(async (mailbox: string, ids: string[], { all = false }: { all?: boolean }) => {
      checkChoice(ids, all);
      using broker = cli.caller(command);
      const answer = await broker.call(Admin.method.replayDeadLetters, { mailbox, taskIds: ids });
      const replayed = Number(answer.replayed);
      cli.output(command).item({ mailbox, replayed }, { mailbox, replayed: count(replayed) });
    });
}
