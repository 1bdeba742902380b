import { create } from '@bufbuild/protobuf';
import type { Latency, StatsResponse } from '../wire/gen/agenthub/v1/admin_pb.ts';
import { LatencySchema, StatsResponseSchema } from '../wire/gen/agenthub/v1/admin_pb.ts';

/** Figures of brokers that add up. */
const SUMS = [
  'tasksPerSecond',
  'resultsPerSecond',
  'progressPerSecond',
  'messagesPerSecond',
  'accepted',
  'completed',
  'failed',
  'dead',
  'redelivered',
  'refused',
  'sessions',
  'agents',
  'queued',
  'running',
  'memoryBytes',
  'cpu',
  'logBytes',
  'brokers',
] as const;

/** What all brokers count together; the first one answers. How each figure is made stands in `admin.proto`. */
export function mergedStats(first: StatsResponse, others: readonly StatsResponse[]): StatsResponse {
  const all = [first, ...others];
  const sums = SUMS.map((name) => [name, all.map((one) => one[name]).reduce(plus)]);
  const slowest = (name: 'routing' | 'processing' | 'endToEnd' | 'append'): Latency =>
    worst(all.flatMap((one) => one[name] ?? []));
  return create(StatsResponseSchema, {
    ...first,
    ...(Object.fromEntries(sums) as Pick<StatsResponse, (typeof SUMS)[number]>),
    eventLoopUtilization: Math.max(...all.map((one) => one.eventLoopUtilization)),
    load: Math.max(...all.map((one) => one.load)),
    draining: all.every((one) => one.draining),
    routing: slowest('routing'),
    processing: slowest('processing'),
    endToEnd: slowest('endToEnd'),
    append: slowest('append'),
    shards: all.flatMap((one) => one.shards).sort((a, b) => a.shard - b.shard),
  });
}

function plus<T extends number | bigint>(a: T, b: T): T {
  return ((a as number) + (b as number)) as T;
}

function worst(latencies: readonly Latency[]): Latency {
  const most = (name: 'p50' | 'p90' | 'p99' | 'max'): number =>
    Math.max(0, ...latencies.map((latency) => latency[name]));
  return create(LatencySchema, {
    p50: most('p50'),
    p90: most('p90'),
    p99: most('p99'),
    max: most('max'),
    count: latencies.reduce((sum, { count }) => sum + count, 0n),
  });
}
