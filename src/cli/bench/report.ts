import { durabilityName } from '../../client/messages.ts';
import type { DescribeClusterResponse } from '../../wire/gen/agenthub/v1/broker_pb.ts';
import { bytes, count, milliseconds, rate } from '../format.ts';
import type { Output } from '../output.ts';
import { figures } from '../output.ts';
import type { LedgerSums } from './ledger.ts';
import type { Load } from './load.ts';
import type { BenchPlan } from './plan.ts';
import type { Timeline } from './timeline.ts';
import type { Timings } from './timings.ts';

/** A load that is over. */
export interface BenchOutcome {
  readonly plan: BenchPlan;
  readonly cluster: DescribeClusterResponse;
  readonly load: Pick<Load, 'ledger' | 'measured'>;
  readonly timings: Timings;
  readonly timeline: Timeline;
  /** Connections that were broken on purpose. */
  readonly broken: number;
}

/** What is wrong with what has become of the tasks; empty: nothing. */
export function verdictOf({ lost, doubled, disordered }: LedgerSums): string {
  const faults = [
    lost > 0 ? `${count(lost)} accepted tasks lost` : '',
    doubled > 0 ? `${count(doubled)} results doubled` : '',
    disordered > 0 ? `${count(disordered)} tasks out of order` : '',
  ];
  return faults.filter((fault) => fault !== '').join(', ');
}

/** For programs. */
export function reportView({ plan, cluster, load, timings, timeline, broken }: BenchOutcome): object {
  const { ack, delivered, completed } = timings.percentiles();
  return {
    plan,
    broker: { id: cluster.broker, log: cluster.log, durability: durabilityName(cluster.durability) },
    seconds: timings.seconds,
    tasksPerSecond: perSecond(load, timings),
    latencyMs: { ack, delivered, ...(plan.results ? { completed } : {}) },
    ledger: load.ledger.sums(),
    ...(plan.breakMs > 0 ? { connectionsBroken: broken } : {}),
    timeline: timeline.seconds,
  };
}

/** For people. */
export function reportText({ plan, cluster, load, timings, broken }: BenchOutcome, output: Output): string {
  const { bold, dim, green, red } = output.colors;
  const sums = load.ledger.sums();
  const { ack, delivered, completed } = timings.percentiles();
  const rows = [
    { name: 'publish → ack', ...ack },
    { name: 'publish → delivered', ...delivered },
    ...(plan.results ? [{ name: 'publish → result', ...completed }] : []),
  ];
  const wanted = plan.rate > 0 ? `${count(plan.rate)} tasks/s` : 'saturation';
  const verdict = verdictOf(sums);
  return [
    `${wanted}, ${plan.publishers} publishers, ${plan.agents} agents on ${plan.mailboxes} mailboxes, ` +
      `${plan.sessions} sessions, ${plan.fanOut > 1 ? `${plan.fanOut} tasks at a time, ` : ''}${plan.payloadBytes.map(bytes).join(', ')} payload, batches of ${plan.batch} at most; ` +
      `log: ${cluster.log}, ${durabilityName(cluster.durability)}`,
    '',
    `${bold(`${rate(perSecond(load, timings))} tasks/s`)} ended in ${timings.seconds.toFixed(1)} s`,
    '',
    output.table(rows, [
      { head: 'LATENCY (ms)', value: ({ name }) => name },
      figures('P50', ({ p50 }) => milliseconds(p50)),
      figures('P90', ({ p90 }) => milliseconds(p90)),
      figures('P99', ({ p99 }) => milliseconds(p99)),
      figures('P99.9', ({ p999 }) => milliseconds(p999)),
      figures('MAX', ({ max }) => milliseconds(max)),
      figures('TASKS', (row) => count(row.count)),
    ]),
    '',
    Object.entries(sums)
      .map(([name, value]) => `${dim(name)} ${count(value as number)}`)
      .join('   '),
    ...(plan.breakMs > 0 ? [`${count(broken)} connections broken on purpose`] : []),
    verdict === '' ? green('Nothing lost, doubled or out of order.') : red(verdict),
  ].join('\n');
}

function perSecond({ measured }: Pick<Load, 'measured'>, { seconds }: Timings): number {
  return seconds > 0 ? measured / seconds : 0;
}
