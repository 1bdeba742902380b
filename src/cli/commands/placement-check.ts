import type { Command } from 'commander';
import { Broker } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Cli } from '../cli.ts';
import { examples } from '../options.ts';

/** `agenthub placement check` */
export function addPlacementCheck(placement: Command, cli: Cli): void {
  const command = placement
    .command('check')
    .description('Show where a mailbox lives by the rules that hold now')
    .argument('<mailbox>', 'such as planner@eu-west or type:ocr')
    .addHelpText(
      'after',
      examples(['agenthub placement check planner@eu-west', 'its pool, shard and broker']),
    )
    .action(async (mailbox: string) => {
      using broker = cli.caller(command);
      const { pool, shard, broker: owner, address } = await broker.call(Broker.method.locate, { mailbox });
      const facts = { mailbox, pool, shard, broker: owner, address };
      cli.output(command).item(facts, facts);
    });
}
