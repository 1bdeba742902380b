import type { Command } from 'commander';
import { deadMailbox } from '../../core/shard.ts';
import { HubError } from '../../std/errors.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';
import { getTask } from '../tasks.ts';
import { taskFacts, taskView } from '../views.ts';

/** `agenthub dead show` */
export function addDeadShow(dead: Command, cli: Cli): void {
  const command = dead
    .command('show')
    .description('Show a dead letter: what it carries, why it died')
    .argument('<mailbox>', 'the mailbox that it was sent to')
    .argument('<id>', "the task's id")
    .addHelpText('after', examples(['agenthub dead show planner order-17', 'one dead letter of the planner']))
    .action(async (mailbox: string, id: string) => {
      using broker = cli.caller(command);
      const info = await getTask(broker, id, deadMailbox(mailbox));
      if (info?.state !== 'dead') throw new HubError('not_found', `no dead letter ${id} of ${mailbox}`);
      cli.output(command).item(taskView(info), taskFacts(info, cli.clock.now()));
    });
}
