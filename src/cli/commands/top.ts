import type { Command } from 'commander';
import { durabilityName } from '../../client/messages.ts';
import { toHubError } from '../../std/errors.ts';
import type { ListShardsResponse, StatsResponse } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Caller } from '../caller.ts';
import type { Cli } from '../cli.ts';
import { bytes, count, milliseconds, percent, rate, span } from '../format.ts';
import { durationOption, examples } from '../options.ts';
import type { Column, Output } from '../output.ts';
import { figures } from '../output.ts';
import { plain } from '../views.ts';
import type { BrokerRow } from './cluster-describe.ts';
import { brokerColumns, brokerView } from './cluster-describe.ts';
import type { MailboxRow } from './mailboxes.ts';
import { fullestMailboxes, MAILBOX_COLUMNS } from './mailboxes.ts';
import type { ShardRow } from './shards-ls.ts';
import { SHARD_COLUMNS, shardView } from './shards-ls.ts';

interface Flags {
  readonly once?: boolean;
  readonly here?: boolean;
  readonly interval: number;
}

/** As many mailboxes and shards are shown; programs get all shards. */
const MAILBOXES = 10;
const SHARDS = 6;

/** What one look has seen. */
interface Look {
  readonly stats: StatsResponse;
  readonly mailboxes: readonly MailboxRow[];
  readonly shards: readonly ShardRow[];
  readonly brokers: readonly BrokerRow[];
}

/** Cursor home, and clear what is below. */
const REDRAW = '\u001b[H\u001b[J';

/** `agenthub top` */
export function addTop(program: Command, cli: Cli): void {
  const command = program
    .command('top')
    .description(
      'Watch what the brokers do: rates, latencies, each broker, the busiest shards, the fullest mailboxes; until ' +
        'Ctrl-C. Any one broker answers for all.',
    )
    .option('--once', 'look once')
    .option('--here', 'rates, latencies and shards of the broker that answers alone')
    .addOption(durationOption('--interval', 'time between two looks', '1s'))
    .addHelpText(
      'after',
      examples(
        ['agenthub top', 'a view that refreshes'],
        ['agenthub top --once', 'a look, for a ticket'],
        ['agenthub top --interval 10s -o json', 'a line of JSON every 10 s'],
      ),
    )
    .action((flags: Flags) => top(cli, command, flags));
}

async function top(
  cli: Cli,
  command: Command,
  { once = false, here = false, interval }: Flags,
): Promise<void> {
  const output = cli.output(command);
  using interruption = cli.terminal.untilInterrupted();
  const { signal } = interruption;
  using broker = cli.caller(command);
  do {
    const look = await lookAt(broker, here);
    const redraw = once || !cli.terminal.stdout.isTTY ? '' : REDRAW;
    if (output.json) output.event(lookView(look), '');
    else output.say(`${redraw}${screenOf(output, look, cli.clock.now())}`);
    if (!once) await pause(cli, interval, signal);
  } while (!once && !signal.aborted);
}

async function lookAt(broker: Caller, here: boolean): Promise<Look> {
  const [stats, mailboxes, { shards }, { brokers }] = await Promise.all([
    broker.call(Admin.method.stats, { cluster: !here }),
    fullestMailboxes(broker, MAILBOXES),
    shardsOf(broker),
    broker.call(Broker.method.describeCluster, {}),
  ]);
  const own = here ? shards.filter(({ owner }) => owner === stats.broker) : shards;
  return { stats, mailboxes, shards: own.map(shardView), brokers: brokers.map(brokerView) };
}

/** Shards are for who administers the cluster: in a namespace there is enough to see without them. */
async function shardsOf(broker: Caller): Promise<Pick<ListShardsResponse, 'shards'>> {
  try {
    return await broker.call(Admin.method.listShards, {});
  } catch (error) {
    if (toHubError(error).code !== 'permission') throw error;
    return { shards: [] };
  }
}

/** Those that nobody serves first, then the busiest; at rest, none. */
function noteworthy(shards: readonly ShardRow[]): ShardRow[] {
  const unserved = (row: ShardRow): number => Number(row.owner === '');
  return shards
    .filter((row) => row.owner === '' || row.tasksPerSecond > 0 || row.lag > 0 || row.tasks > 0)
    .sort((a, b) => unserved(b) - unserved(a) || b.tasksPerSecond - a.tasksPerSecond || b.tasks - a.tasks)
    .slice(0, SHARDS);
}

function pause(cli: Cli, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      timer.cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = cli.clock.after(ms, done);
    signal.addEventListener('abort', done);
  });
}

function screenOf(output: Output, { stats, mailboxes, shards, brokers }: Look, now: number): string {
  const { routing, processing, endToEnd, append } = stats;
  const measured = { routing, processing, 'end to end': endToEnd, append };
  const latencies = Object.entries(measured).flatMap(([name, latency]) =>
    latency ? [{ name, latency }] : [],
  );
  const { bold, dim, yellow } = output.colors;
  const line = (name: string, facts: readonly (readonly [name: string, value: string])[]): string =>
    `${dim(name.padEnd(9))} ${facts.map(([fact, value]) => `${dim(fact)} ${value}`).join('   ')}`;
  const state = stats.draining ? yellow('draining') : 'serving';
  const who = stats.brokers <= 1 ? stats.broker : `${stats.brokers} brokers`;
  return [
    `${bold(who)}  ${stats.version}  up ${span(stats.uptimeSeconds * 1000)}  ${durabilityName(stats.durability)}  ${state}`,
    '',
    line('a second', [
      ['tasks', rate(stats.tasksPerSecond)],
      ['results', rate(stats.resultsPerSecond)],
      ['progress', rate(stats.progressPerSecond)],
      ['messages', rate(stats.messagesPerSecond)],
    ]),
    line('so far', [
      ['accepted', count(Number(stats.accepted))],
      ['completed', count(Number(stats.completed))],
      ['failed', count(Number(stats.failed))],
      ['dead', count(Number(stats.dead))],
      ['redelivered', count(Number(stats.redelivered))],
      ['refused', count(Number(stats.refused))],
    ]),
    line('now', [
      ['queued', count(Number(stats.queued))],
      ['running', count(Number(stats.running))],
      ['agents', count(stats.agents)],
      ['sessions', count(stats.sessions)],
    ]),
    line('machine', [
      ['memory', bytes(Number(stats.memoryBytes))],
      ['cpu', percent(stats.cpu)],
      ['loop', percent(stats.eventLoopUtilization)],
      ['log', bytes(Number(stats.logBytes))],
      ['load', percent(stats.load)],
    ]),
    '',
    output.table(latencies, [
      { head: 'LATENCY (ms)', value: ({ name }) => name },
      figures('P50', ({ latency }) => milliseconds(latency.p50)),
      figures('P90', ({ latency }) => milliseconds(latency.p90)),
      figures('P99', ({ latency }) => milliseconds(latency.p99)),
      figures('MAX', ({ latency }) => milliseconds(latency.max)),
      figures('COUNT', ({ latency }) => count(Number(latency.count))),
    ]),
    '',
    output.table(brokers, brokerColumns(now)),
    ...some(output, noteworthy(shards), SHARD_COLUMNS),
    ...some(output, mailboxes, MAILBOX_COLUMNS),
  ].join('\n');
}

function some<T>(output: Output, rows: readonly T[], columns: readonly Column<T>[]): string[] {
  return rows.length === 0 ? [] : ['', output.table(rows, columns)];
}

/** What was seen, for programs; how many `brokers` the figures are of is `members`. */
function lookView({ stats, mailboxes, shards, brokers }: Look): object {
  const { brokers: members, ...figures } = stats;
  const durability = durabilityName(stats.durability);
  return { ...plain(figures), durability, members, brokers, shards, mailboxes };
}
