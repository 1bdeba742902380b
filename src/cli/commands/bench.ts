import type { Command } from 'commander';
import { Option } from 'commander';
import type { BenchPlan } from '../bench/plan.ts';
import { SCENARIOS } from '../bench/plan.ts';
import { STAMP_BYTES } from '../bench/stamp.ts';
import type { Cli } from '../cli.ts';
import { aDuration, aSize, examples, whole } from '../options.ts';

interface Flags {
  readonly scenario: string;
  readonly publishers?: number;
  readonly agents?: number;
  readonly mailboxes?: number;
  readonly sessions?: number;
  readonly rate?: number;
  readonly saturate?: boolean;
  readonly warmup?: number;
  readonly duration?: number;
  readonly payload?: readonly number[];
  readonly fanOut?: number;
  readonly mixedPriorities?: boolean;
  readonly killConnectionEvery?: number;
  readonly plot?: string;
  readonly batch?: number;
  readonly unfinished?: number;
  readonly window?: number;
  readonly results: boolean;
}

/** `agenthub bench` */
export function addBench(program: Command, cli: Cli): void {
  const command = program
    .command('bench')
    .summary('Load a broker, and measure it')
    .description(
      'Load a broker, and measure: percentiles of publish to ack, to delivery, to result, and a ledger of what ' +
        'was lost, doubled or out of order (exit code 3). With a rate, times count from when a task was due, ' +
        'whether or not it could be sent then. ' +
        'Publishers and agents are in this process, which has one core: beyond that it measures itself.',
    )
    .addOption(
      new Option('--scenario <name>', 'where to begin').choices(Object.keys(SCENARIOS)).default('steady'),
    )
    .option('--publishers <number>', 'publishers', whole(1, 100_000))
    .option('--agents <number>', 'attached workers', whole(1, 1_000_000))
    .option(
      '--mailboxes <number>',
      'mailboxes that the tasks go to, at most one an agent',
      whole(1, 1_000_000),
    )
    .option('--sessions <number>', 'connections that publishers and agents share', whole(1, 10_000))
    .option('--rate <number>', 'tasks a second, of all publishers together', whole(1, 100_000_000))
    .option('--saturate', 'as many tasks as the broker takes')
    .option('--unfinished <number>', 'most tasks on their way; with --saturate', whole(1, 100_000_000))
    .option('--duration <duration>', 'how long to measure', aDuration)
    .option('--warmup <duration>', 'load before that, which is not measured', aDuration)
    .option(
      '--payload <sizes>',
      `size of a task's payload, at least ${STAMP_BYTES} bytes; several with commas take turns`,
      sizes,
    )
    .option('--batch <number>', 'most tasks that leave together', whole(1, 10_000))
    .option('--window <number>', 'most tasks that an agent holds; 0: adaptive', whole(0, 65_536))
    .option(
      '--fan-out <number>',
      'tasks that are due at the same moment, each to another mailbox',
      whole(1, 100_000),
    )
    .option('--mixed-priorities', 'tasks of all priorities; order is checked within each')
    .option('--kill-connection-every <duration>', 'break the connection of a session so often', aDuration)
    .option('--plot <file>', 'draw what happened over time into this file, as SVG')
    .option('--no-results', 'want no results: a task ends with its delivery')
    .addHelpText(
      'after',
      examples(
        ['agenthub bench', '1,000 tasks a second for 10 s'],
        [
          'agenthub bench --scenario seed',
          'the load test of the first AgentHub: 10 publishers, 1,000/s, 60 s',
        ],
        ['agenthub bench --scenario saturation -o json', 'how much it takes, for a program'],
        ['agenthub bench --kill-connection-every 1s --plot bench.svg', 'what breaks, and when'],
        ['agenthub bench --rate 50000 --batch 100 --agents 1000 --mailboxes 1000', 'something of your own'],
      ),
    )
    .action(async (flags: Flags) => {
      // Loaded here, because no other command needs it.
      const { runBench } = await import('../bench/run.ts');
      await runBench(cli, command, planOf(flags), flags.plot);
    });
}

function sizes(input: string): number[] {
  return input.split(',').map(aSize);
}

function planOf(flags: Flags): BenchPlan {
  const base = SCENARIOS[flags.scenario]!;
  const agents = flags.agents ?? base.agents;
  const mailboxes = Math.min(flags.mailboxes ?? base.mailboxes, agents);
  return {
    ...base,
    agents,
    mailboxes,
    publishers: flags.publishers ?? base.publishers,
    sessions: flags.sessions ?? base.sessions,
    rate: flags.saturate ? 0 : (flags.rate ?? base.rate),
    warmupMs: flags.warmup ?? base.warmupMs,
    durationMs: flags.duration ?? base.durationMs,
    payloadBytes: (flags.payload ?? base.payloadBytes).map((size) => Math.max(STAMP_BYTES, size)),
    fanOut: flags.fanOut ?? base.fanOut,
    mixedPriorities: flags.mixedPriorities ?? base.mixedPriorities,
    breakMs: flags.killConnectionEvery ?? base.breakMs,
    batch: flags.batch ?? base.batch,
    unfinished: flags.unfinished ?? base.unfinished,
    window: flags.window ?? base.window,
    results: flags.results && base.results,
  };
}
