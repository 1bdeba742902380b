import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Hub } from '../../client/index.ts';
import type { Clock, Timer } from '../../std/clock.ts';
import { Broker } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import type { Cli } from '../cli.ts';
import { BadOutcome } from '../failure.ts';
import { count, rate } from '../format.ts';
import { Progress } from '../progress.ts';
import type { Screen } from '../terminal.ts';
import { Load } from './load.ts';
import type { BenchPlan } from './plan.ts';
import { reportText, reportView, verdictOf } from './report.ts';
import { drawAll } from './svg.ts';
import { Timeline } from './timeline.ts';
import { Timings } from './timings.ts';

const LOOK_MS = 100;

/**
 * Loads the broker as planned, and reports; `plot` is the file that a picture goes to.
 *
 * @throws BadOutcome if tasks were lost, doubled or out of order.
 */
export async function runBench(
  cli: Cli,
  command: Command,
  plan: BenchPlan,
  plot: string | undefined,
): Promise<void> {
  const { clock, terminal } = cli;
  const output = cli.output(command);
  using interruption = terminal.untilInterrupted();
  const breaker = plan.breakMs > 0 ? await cli.breaker(command) : undefined;
  const options = breaker === undefined ? {} : { through: breaker.address };
  const hubs: Hub[] = [];
  let breaking: Timer | undefined;
  try {
    hubs.push(
      ...(await Promise.all(Array.from({ length: plan.sessions }, () => cli.connect(command, '', options)))),
    );
    const timings = new Timings(clock);
    const timeline = new Timeline();
    const load = new Load({
      plan,
      run: `bench-${randomBytes(3).toString('hex')}`,
      hubs,
      clock,
      timings,
      timeline,
    });
    interruption.signal.addEventListener('abort', () => load.stop());
    await load.attach();
    const healsAt = clock.now() + plan.warmupMs + plan.durationMs;
    const breakOne = (): void => {
      // What is on its way in the end must be able to arrive.
      if (clock.now() >= healsAt) return;
      breaker?.break();
      breaking = clock.after(plan.breakMs, breakOne);
    };
    if (breaker !== undefined) breaking = clock.after(plan.breakMs, breakOne);
    await watched(load, plan, clock, terminal.stderr);
    breaking?.cancel();
    await load.detach();
    if (plot !== undefined) writeFileSync(plot, drawAll(timeline.charts()));
    using broker = cli.caller(command);
    const cluster = await broker.call(Broker.method.describeCluster, {});
    const outcome = { plan, cluster, load, timings, timeline, broken: breaker?.broken ?? 0 };
    if (output.json) output.document(reportView(outcome));
    else output.say(reportText(outcome, output));
    const verdict = verdictOf(load.ledger.sums());
    if (verdict !== '') throw new BadOutcome(verdict);
  } finally {
    breaking?.cancel();
    await Promise.all(hubs.map((hub) => hub.close()));
    breaker?.close();
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
