import type { Command } from 'commander';
import { durabilityName } from '../../client/messages.ts';
import type { StatsResponse } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { Admin } from '../../wire/gen/agenthub/v1/admin_pb.ts';
import { Broker } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Caller } from '../caller.ts';
import type { Cli } from '../cli.ts';
import { bytes, count, milliseconds, percent, rate, span } from '../format.ts';
import { durationOption, examples } from '../options.ts';
import type { Output } from '../output.ts';
import { figures } from '../output.ts';
import { plain } from '../views.ts';
import type { BrokerRow } from './cluster-describe.ts';
import { brokerColumns, brokerView } from './cluster-describe.ts';
import type { MailboxRow } from './mailboxes.ts';
import { listMailboxes, MAILBOX_COLUMNS } from './mailboxes.ts';

interface Flags {
  readonly once?: boolean;
  readonly all?: boolean;
  readonly interval: number;
}

/** As many mailboxes are looked at, and as many shown. */
const LOOKED_AT = 1000;
const SHOWN = 10;

/** Cursor home, and clear what is below. */
const REDRAW = '\u001b[H\u001b[J';

/** `agenthub top` */
export function addTop(program: Command, cli: Cli): void {
  const command = program
    .command('top')
    .description('Watch what a broker does: rates, latencies, the fullest mailboxes; until Ctrl-C')
    .option('--once', 'look once')
    .option('--all', 'all brokers of the cluster together, and what each of them does')
    .addOption(durationOption('--interval', 'time between two looks', '1s'))
    .addHelpText(
      'after',
      examples(
        ['agenthub top', 'a view that refreshes'],
        ['agenthub top --all', 'the whole cluster'],
        ['agenthub top --interval 10s -o json', 'a line of JSON every 10 s'],
      ),
    )
    .action((flags: Flags) => top(cli, command, flags));
}

async function top(
  cli: Cli,
  command: Command,
  { once = false, all = false, interval }: Flags,
): Promise<void> {
  const output = cli.output(command);
  using interruption = cli.terminal.untilInterrupted();
  const { signal } = interruption;
  using broker = cli.caller(command);
  do {
    const [stats, mailboxes, brokers] = await Promise.all([
      broker.call(Admin.method.stats, { cluster: all }),
      fullest(broker),
      all ? brokersOf(broker) : [],
    ]);
    if (output.json) output.event(statsView(stats), '');
    else
      output.say(
        `${once || !cli.terminal.stdout.isTTY ? '' : REDRAW}${screenOf(output, stats, mailboxes, brokers, cli.clock.now())}`,
      );
    if (!once) await pause(cli, interval, signal);
  } while (!once && !signal.aborted);
}

async function brokersOf(broker: Caller): Promise<BrokerRow[]> {
  const { brokers } = await broker.call(Broker.method.describeCluster, {});
  return brokers.map(brokerView);
}

async function fullest(broker: Caller): Promise<MailboxRow[]> {
  const mailboxes = await listMailboxes(broker, '', LOOKED_AT);
  const load = ({ queued, delayed, running }: MailboxRow): number => queued + delayed + running;
  return mailboxes
    .filter((row) => load(row) > 0)
    .sort((a, b) => load(b) - load(a))
    .slice(0, SHOWN);
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

function screenOf(
  output: Output,
  stats: StatsResponse,
  mailboxes: readonly MailboxRow[],
  brokers: readonly BrokerRow[],
  now: number,
): string {
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
    ...(brokers.length === 0 ? [] : ['', output.table(brokers, brokerColumns(now))]),
    ...(mailboxes.length === 0 ? [] : ['', output.table(mailboxes, MAILBOX_COLUMNS)]),
  ].join('\n');
}

/** What a broker counts, for programs. */
function statsView(stats: StatsResponse): object {
  return { ...plain(stats), durability: durabilityName(stats.durability) };
}
