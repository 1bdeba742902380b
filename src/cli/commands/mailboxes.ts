import type { Command } from 'commander';
import type { MailboxView } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import type { Caller } from '../caller.ts';
import type { Cli } from '../cli.ts';
import { bytes, count, span } from '../format.ts';
import { examples, whole } from '../options.ts';
import type { Column } from '../output.ts';
import { figures } from '../output.ts';
import { paged, take } from '../paged.ts';

/** A mailbox for programs. */
export type MailboxRow = ReturnType<typeof viewOf>;

/** How mailboxes are shown to people. */
export const MAILBOX_COLUMNS: readonly Column<MailboxRow>[] = [
  { head: 'MAILBOX', value: ({ mailbox }) => mailbox },
  figures('QUEUED', ({ queued }) => count(queued)),
  figures('DELAYED', ({ delayed }) => count(delayed)),
  figures('RUNNING', ({ running }) => count(running)),
  figures('SIZE', (row) => bytes(row.bytes)),
  figures('WORKERS', ({ workers }) => count(workers)),
  figures('LISTENERS', ({ listeners }) => count(listeners)),
  figures('CREDIT', ({ credit }) => count(credit)),
  figures('OLDEST', ({ queued, oldestMs }) => (queued > 0 ? span(oldestMs) : '')),
  figures('SHARD', ({ shard }) => shard),
];

/** `agenthub mailboxes` */
export function addMailboxes(program: Command, cli: Cli): void {
  const command = program
    .command('mailboxes')
    .description('List the mailboxes that hold something or have somebody attached')
    .argument('[prefix]', 'only those whose id starts so')
    .option('--limit <number>', 'at most so many', whole(1), 100)
    .addHelpText(
      'after',
      examples(
        ['agenthub mailboxes', 'the first 100'],
        ['agenthub mailboxes type:', 'the capabilities'],
        ['agenthub mailboxes dead: --limit 10000 -o json', 'where dead letters are, for a program'],
      ),
    )
    .action(async (prefix: string | undefined, { limit }: { limit: number }) => {
      using broker = cli.caller(command);
      const mailboxes = await listMailboxes(broker, prefix ?? '', limit);
      cli
        .output(command)
        .list(mailboxes, MAILBOX_COLUMNS, 'No mailbox holds anything or has anybody attached.');
    });
}

/** The mailboxes that hold most. */
export async function fullestMailboxes(broker: Caller, limit: number): Promise<MailboxRow[]> {
  const request = { fullestFirst: true, pageSize: limit };
  const { mailboxes } = await broker.call(Admin.method.listMailboxes, request);
  return mailboxes.map(viewOf).filter(({ queued, running }) => queued + running > 0);
}

/** The first mailboxes whose ids start so. */
async function listMailboxes(broker: Caller, prefix: string, limit: number): Promise<MailboxRow[]> {
  const all = paged(async (pageToken) => {
    const request = { prefix, pageSize: Math.min(limit, 1000), pageToken };
    const { mailboxes, nextPageToken } = await broker.call(Admin.method.listMailboxes, request);
    return { items: mailboxes, nextPageToken };
  });
  return (await take(all, limit)).map(viewOf);
}

function viewOf(view: MailboxView) {
  const { mailbox, shard, workers, listeners, credit } = view;
  return {
    mailbox,
    shard,
    queued: Number(view.queued),
    delayed: Number(view.delayed),
    running: Number(view.running),
    bytes: Number(view.bytes),
    workers,
    listeners,
    credit,
    oldestMs: Number(view.oldestMs),
  };
}
