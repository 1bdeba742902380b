import type { Command } from 'commander';
import { HubError } from '../../std/errors.ts';
import { cancellationOf } from '../../client/messages.ts';
import { Broker } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';

/** `agenthub task cancel` */
export function addTaskCancel(task: Command, cli: Cli): void {
  const command = task
    .command('cancel')
    .description(
      'Cancel a task: it is delivered to nobody any more, and a worker that has it is told to stop',
    )
    .argument('<id>', "the task's id")
    .option('--mailbox <mailbox>', 'its mailbox; without it, all shards are searched')
    .option('--reason <text>', 'what its requester is told', 'cancelled from the command line')
    .addHelpText(
      'after',
      examples([
        'agenthub task cancel order-17 --mailbox planner',
        'exit code 4: unknown; 5: it was done before',
      ]),
    )
    .action(async (id: string, { mailbox, reason }: { mailbox?: string; reason: string }) => {
      using broker = cli.caller(command);
      const call = { taskId: id, mailbox: mailbox ?? '', reason };
      const outcome = cancellationOf((await broker.call(Broker.method.cancelTask, call)).outcome);
      if (outcome === 'not_found') throw new HubError('not_found', `no task ${id}`);
      if (outcome === 'too_late') throw new HubError('conflict', `task ${id} was finished before`);
      cli.output(command).item({ id, outcome }, { id, outcome });
    });
}
