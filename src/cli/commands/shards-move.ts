import type { Command } from 'commander';
import { Argument } from 'commander';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { examples, whole } from '../options.ts';

/** `agenthub shards move` */
export function addShardsMove(shards: Command, cli: Cli): void {
  const command = shards
    .command('move')
    .description('Have another broker own a shard, and keep it: it takes over as soon as it has read the log')
    .addArgument(new Argument('<shard>', 'its number').argParser(whole(0)))
    .argument('<broker>', 'the id of a broker, or the beginning of it')
    .addHelpText(
      'after',
      examples(
        ['agenthub shards move 3 broker-1', 'the next owner of shard 3'],
        ['agenthub shards', 'whether it has moved yet'],
      ),
    )
    .action(async (shard: number, name: string) => {
      using caller = cli.caller(command);
      const { broker } = await caller.call(Admin.method.moveShard, { shard, broker: name });
      cli.output(command).item({ shard, broker }, { shard, 'next owner': broker });
    });
}
