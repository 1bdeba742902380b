import type { Command } from 'commander';
import type { ShardView } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Cli } from '../cli.ts';
import { bytes, count, rate } from '../format.ts';
import { examples } from '../options.ts';
import type { Column } from '../output.ts';
import { figures } from '../output.ts';

/** `agenthub shards ls` */
export function addShardsLs(shards: Command, cli: Cli): void {
  const command = shards
    .command('ls', { isDefault: true })
    .description('List the shards: who owns them, where their logs are, what they carry')
    .addHelpText(
      'after',
      examples(
        ['agenthub shards', 'the same as agenthub shards ls'],
        ['agenthub shards -o json', 'for a program'],
      ),
    )
    .action(async () => {
      using broker = cli.caller(command);
      const { shards } = await broker.call(Admin.method.listShards, {});
      cli.output(command).list(shards.map(shardView), SHARD_COLUMNS, 'No shards.');
    });
}

/** How shards are shown to people. */
export const SHARD_COLUMNS: readonly Column<ShardRow>[] = [
  figures('SHARD', ({ shard }) => shard),
  { head: 'OWNER', value: ownerText },
  { head: 'POOL', value: ({ pool }) => pool },
  figures('EPOCH', ({ epoch }) => epoch),
  figures('FIRST', ({ firstSequence }) => firstSequence),
  figures('LAST', ({ lastSequence }) => lastSequence),
  figures('LAG', ({ lag }) => count(lag)),
  figures('LOG', (row) => bytes(row.bytes)),
  figures('TASKS', ({ tasks }) => count(tasks)),
  figures('MAILBOXES', ({ mailboxes }) => count(mailboxes)),
  figures('TASKS/S', ({ tasksPerSecond }) => rate(tasksPerSecond)),
  figures('OUTBOX', ({ outbox }) => count(outbox)),
];

/** Who serves it, and who is to do so next. */
function ownerText({ owner, assigned }: { owner: string; assigned: string }): string {
  if (owner === assigned || assigned === '') return owner || 'nobody';
  return owner === '' ? `nobody, soon ${assigned}` : `${owner}, soon ${assigned}`;
}

/** A shard for programs. */
export type ShardRow = ReturnType<typeof shardView>;

/** A shard as programs see it. */
export function shardView(view: ShardView) {
  const { shard, owner, pool, assigned, tasksPerSecond } = view;
  return {
    shard,
    pool,
    owner,
    assigned,
    epoch: Number(view.epoch),
    firstSequence: Number(view.firstSequence),
    lastSequence: Number(view.lastSequence),
    lag: Number(view.lag),
    bytes: Number(view.bytes),
    tasks: Number(view.tasks),
    mailboxes: Number(view.mailboxes),
    tasksPerSecond,
    outbox: Number(view.outbox),
  };
}
