import { randomBytes } from 'node:crypto';
import type { Command } from 'commander';
import type { Clock } from '../../std/clock.ts';
import { Broker } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Cli } from '../cli.ts';
import { BadOutcome } from '../failure.ts';
import { count, rate } from '../format.ts';
import { Progress } from '../progress.ts';
import type { Screen } from '../terminal.ts';
import { Load } from './load.ts';
import type { BenchPlan } from './plan.ts';
import { reportText, reportView, verdictOf } from './report.ts';
import { Timings } from './timings.ts';

const LOOK_MS = 100;

/** Loads the broker as planned, and reports. @throws BadOutcome if tasks were lost, doubled or out of order. */
export async function runBench(cli: Cli, command: Command, plan: BenchPlan): Promise<void> {
  const { clock, terminal } = cli;
  const output = cli.output(command);
  using interruption = terminal.untilInterrupted();
  const hubs = await Promise.all(Array.from({ length: plan.sessions }, () => cli.connect(command)));
  try {
    const timings = new Timings(clock);
    const load = new Load({ plan, run: `bench-${randomBytes(3).toString('hex')}`, hubs, clock, timings });
    interruption.signal.addEventListener('abort', () => load.stop());
    await load.attach();
    await watched(load, plan, clock, terminal.stderr);
    await load.detach();
    using broker = cli.caller(command);
    const cluster = await broker.call(Broker.method.describeCluster, {});
    const outcome = { plan, cluster, load, timings };
    if (output.json) output.document(reportView(outcome));
    else output.say(reportText(outcome, output));
    const verdict = verdictOf(load.ledger.sums());
    if (verdict !== '') throw new BadOutcome(verdict);
  } finally {
    await Promise.all(hubs.map((hub) => hub.close()));
  }
}

/** Lets a load go, and shows how far it is. */
async function watched(load: Load, plan: BenchPlan, clock: Clock, screen: Screen): Promise<void> {
  using progress = new Progress(screen, 'bench', plan.warmupMs + plan.durationMs);
  const begun = clock.now();
  const look = (): void => {
    const { accepted, ended, open } = load.ledger;
    const ms = clock.now() - begun;
    const speed = rate((ended / ms) * 1000);
    progress.update(ms, `${count(accepted)} accepted  ${speed}/s  ${count(open)} on their way`);
    timer = clock.after(LOOK_MS, look);
  };
  let timer = clock.after(LOOK_MS, look);
  await load.go();
  timer.cancel();
}
