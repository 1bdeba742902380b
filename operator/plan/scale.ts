import type { Capacity } from '../../src/wire/capacity.ts';
import type { AutoscalingSpec } from '../api/spec.ts';
import type { ScalingStatus } from '../api/status.ts';
import { busiest, worst } from './balance.ts';
import { limited, remembered, stabilized } from './scale-manners.ts';
import { amount } from './words.ts';

/** What is known of the load of one broker that is to be there. */
export interface BrokerLoad {
  readonly pod: string;
  readonly ready: boolean;
  /** Since when it is ready: Unix ms. Absent: for long. */
  readonly readySince?: number | undefined;
  /** Its last answer, if it ever gave one. */
  readonly document?: Capacity | undefined;
  /** When that answer came: Unix ms, by the clock that `now` is of. */
  readonly receivedAt?: number | undefined;
}

/** All that the number of brokers of a pool depends on. */
export interface ScaleInput {
  /** Unix ms. */
  readonly now: number;
  readonly spec: AutoscalingSpec;
  readonly pool: {
    readonly minReplicas: number;
    readonly maxReplicas: number;
    readonly shards: number;
    /** CPU that each broker requests, in cores. */
    readonly cpuCores: number;
  };
  /** The number that was decided last. */
  readonly current: number;
  /** Those first that stay longest. */
  readonly brokers: readonly BrokerLoad[];
  /** What was kept of former decisions. */
  readonly history: ScalingStatus | undefined;
}

/** One figure and what it asks for. */
export interface Metric {
  readonly name: 'tasksPerSecond' | 'agents' | 'cpu' | 'memory';
  readonly current: string;
  readonly target: string;
  readonly replicas: number;
}

/** A shard that is more than one broker should carry, all by itself. */
export interface HotShard {
  readonly shard: number;
  readonly tasksPerSecond: number;
}

/** What kept the number from being what the load asks for. */
export type Limit = 'nothing' | 'bounds' | 'shards' | 'stale' | 'backlog' | 'window' | 'rate' | 'unknown';

/** How many brokers there are to be, and why. */
export interface ScaleDecision {
  readonly replicas: number;
  /** What the load alone asks for, within the bounds. */
  readonly recommended: number;
  readonly limit: Limit;
  /** One sentence for people. */
  readonly reason: string;
  readonly metrics: readonly Metric[];
  readonly hot: readonly HotShard[];
  /** Ready brokers that have not told their load for too long. */
  readonly stale: readonly string[];
  /** What to keep. Equal to what was given as long as nothing is decided. */
  readonly history: ScalingStatus;
}

/** An answer older than so many intervals does not count. */
const STALE_INTERVALS = 3;
/** So long after it became ready a broker warms up: its use of CPU says nothing yet. */
const WARM_UP_MS = 60_000;
/** The share of the high-water mark up to which backlog is put on fewer brokers. */
const BACKLOG_SHARE = 0.9;

/**
 * How many brokers a pool is to have: the arithmetic of shards, and the manners of the HorizontalPodAutoscaler
 * (https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details).
 */
export function decideScale(input: ScaleInput): ScaleDecision {
  const { now, spec, pool, current } = input;
  const view = look(input);
  const bounds = { min: pool.minReplicas, max: Math.min(pool.maxReplicas, pool.shards) };
  const within = (replicas: number): number => Math.max(bounds.min, Math.min(bounds.max, replicas));
  const finish = (
    rest: Pick<ScaleDecision, 'replicas' | 'recommended' | 'limit' | 'reason'> & {
      metrics?: readonly Metric[];
    },
  ): ScaleDecision => ({
    metrics: [],
    hot: view.hot,
    stale: view.stale,
    ...rest,
    history: remembered(input.history, { now, spec, current, ...rest, metrics: [...(rest.metrics ?? [])] }),
  });

  if (current < bounds.min || current > bounds.max) {
    const replicas = within(current);
    const bound = current < bounds.min ? `minReplicas is ${bounds.min}` : boundReason(pool);
    return finish({ replicas, recommended: replicas, limit: 'bounds', reason: bound });
  }
  if (view.documents.length === 0) {
    const reason = `stays at ${current}: no broker has told its load`;
    return finish({ replicas: current, recommended: current, limit: 'unknown', reason });
  }

  const metrics = measure(input, view);
  if (metrics.length === 0) {
    const reason = `stays at ${current}: no target is set`;
    return finish({ replicas: current, recommended: current, limit: 'nothing', reason });
  }
  const asking = metrics.reduce((most, metric) => (metric.replicas > most.replicas ? metric : most));
  const why = explain(asking, current);
  const bounded = within(asking.replicas);
  const bound: Limit =
    bounded === asking.replicas ? 'nothing' : bounded === pool.shards ? 'shards' : 'bounds';
  const fitting = bounded < current ? fit(bounded, current, view) : bounded;
  const recommended = fitting;

  if (recommended < current && view.stale.length > 0) {
    const reason = `stays at ${current}: ${recommended} would do, but ${view.stale.join(', ')} has not told its load lately`;
    return finish({ replicas: current, recommended: current, limit: 'stale', reason, metrics });
  }
  const stable = stabilized(recommended, { now, spec, current, history: input.history });
  const { replicas, policy } = limited(stable, { now, spec, current, history: input.history });
  const done = { recommended, metrics };
  if (replicas !== stable) {
    const way = replicas === current ? `stays at ${current}` : `${current} → ${replicas}`;
    const reason = `${way}: ${why}; the policy of ${policy} allows no more for now`;
    return finish({ ...done, replicas, limit: 'rate', reason });
  }
  if (replicas !== recommended) {
    const [seconds, extreme] =
      recommended < current
        ? [spec.scaleDown.stabilizationWindowSeconds, 'more']
        : [spec.scaleUp.stabilizationWindowSeconds, 'fewer'];
    const way = replicas === current ? `stays at ${current}` : `${current} → ${replicas}`;
    const reason = `${way}: ${recommended} would do now, but within the last ${seconds} s ${extreme} were asked for`;
    return finish({ ...done, replicas, limit: 'window', reason });
  }
  if (fitting !== bounded) {
    const way = replicas === current ? `stays at ${current}` : `${current} → ${replicas}`;
    const reason = `${way}: ${bounded} would do by the load, but could not hold the backlog in memory`;
    return finish({ ...done, replicas, limit: 'backlog', reason });
  }
  const capped =
    bound === 'nothing'
      ? ''
      : `, but ${asking.replicas > bounded ? boundReason(pool) : `minReplicas is ${bounds.min}`}`;
  const way = replicas === current ? `stays at ${current}` : `${current} → ${replicas}`;
  return finish({ ...done, replicas, limit: bound, reason: `${way}: ${why}${capped}` });
}

/** The answers of the brokers, sorted by what they are worth. */
interface View {
  readonly documents: readonly Capacity[];
  /** Those of brokers that are not warming up any more. */
  readonly warm: readonly Capacity[];
  readonly stale: readonly string[];
  /** Brokers that are to be there. */
  readonly expected: number;
  /** Those of them that are not ready, or not even made. */
  readonly missing: number;
  /** Tasks per second of each shard that somebody told of, by its place among them. */
  readonly shards: ReadonlyMap<number, number>;
  /** Who told of it, by that place. */
  readonly owners: readonly string[];
  /** Ids of the brokers, those first that stay longest. */
  readonly ids: readonly string[];
  readonly bytes: readonly number[];
  readonly hot: readonly HotShard[];
}

function look({ now, spec, pool, current, brokers }: ScaleInput): View {
  const oldest = now - STALE_INTERVALS * spec.intervalSeconds * 1000;
  const fresh = (broker: BrokerLoad): boolean =>
    broker.ready && broker.document !== undefined && (broker.receivedAt ?? 0) >= oldest;
  const told = brokers.filter(fresh);
  const documents = told.map(({ document }) => document!);
  const warm = told.filter(({ readySince = 0 }) => now - readySince >= WARM_UP_MS);
  const stale = brokers
    // One that has just become ready has time to answer.
    .filter((broker) => broker.ready && !fresh(broker) && (broker.readySince ?? 0) < oldest)
    .map(({ pod }) => pod);
  const places = placesOf(documents, pool.shards);
  const shards = new Map<number, number>();
  const bytes = new Map<number, number>();
  const owners = Array<string>(pool.shards).fill('');
  for (const document of documents) {
    // While a shard changes hands two brokers may tell of it.
    for (const { shard, tasksPerSecond, bytes: held } of document.shards) {
      const place = places.get(shard)!;
      if (place >= pool.shards) continue;
      shards.set(place, Math.max(shards.get(place) ?? 0, tasksPerSecond));
      bytes.set(place, Math.max(bytes.get(place) ?? 0, held));
      owners[place] = document.broker;
    }
  }
  const target = spec.targets.tasksPerSecond;
  return {
    documents,
    warm: warm.map(({ document }) => document!),
    stale,
    expected: Math.max(current, brokers.length),
    missing: Math.max(0, Math.max(current, brokers.length) - documents.length),
    shards,
    owners,
    ids: brokers.map((broker) => (fresh(broker) ? broker.document!.broker : broker.pod)),
    bytes: [...bytes.values()],
    hot: [...places].flatMap(([shard, place]) => {
      const load = shards.get(place) ?? 0;
      return target > 0 && load > target ? [{ shard, tasksPerSecond: Math.round(load) }] : [];
    }),
  };
}

/** The shards that were told of, numbered within their pool: those of further pools stand behind the first ones. */
function placesOf(documents: readonly Capacity[], count: number): ReadonlyMap<number, number> {
  const told = new Set(documents.flatMap(({ shards }) => shards.map(({ shard }) => shard)));
  const first = [...told].every((shard) => shard < count);
  return new Map([...told].sort((a, b) => a - b).map((shard, at) => [shard, first ? shard : at]));
}

function measure(input: ScaleInput, view: View): readonly Metric[] {
  const { targets } = input.spec;
  const { documents } = view;
  const highWater = Math.min(...documents.map(({ memoryHighWater }) => memoryHighWater));
  const metrics: Metric[] = [];
  const add = (
    name: Metric['name'],
    target: number,
    of: (document: Capacity) => number,
    show: (value: number) => string,
    from: readonly Capacity[] = documents,
  ): void => {
    if (target <= 0) return;
    const total = from.reduce((sum, document) => sum + of(document), 0);
    const replicas = additive(total, target, from.length, view.expected - from.length, input);
    metrics.push({
      name,
      current: show(from.length === 0 ? 0 : total / from.length),
      target: show(target),
      replicas,
    });
  };
  if (targets.tasksPerSecond > 0) metrics.push(shardMetric(input, view));
  add(
    'agents',
    targets.agents,
    ({ activeAgents }) => activeAgents,
    (value) => amount(value),
  );
  add(
    'cpu',
    (targets.cpuPercent / 100) * input.pool.cpuCores,
    ({ cpu }) => cpu,
    (value) => `${value.toFixed(2)} cores`,
    view.warm,
  );
  add(
    'memory',
    (targets.memoryPercent / 100) * highWater,
    ({ memory }) => memory,
    (value) => `${Math.round(value / 2 ** 20)} MiB`,
  );
  return metrics;
}

/** Sum over target; brokers that say nothing count as idle on the way up and as full on the way down. */
function additive(
  total: number,
  target: number,
  known: number,
  missing: number,
  { spec, current }: ScaleInput,
): number {
  if (known === 0) return current;
  const tolerance = spec.tolerancePercent / 100;
  const ratio = total / (known * target);
  const assumed = ratio < 1 ? total + missing * target : total;
  const pessimistic = assumed / ((known + missing) * target);
  if (Math.abs(1 - pessimistic) <= tolerance || ratio < 1 !== pessimistic < 1) return current;
  const replicas = Math.max(1, Math.ceil(assumed / target));
  // Brokers that are to go still answer: what is little for all of them asks for no more than are to stay.
  return pessimistic < 1 ? Math.min(current, replicas) : Math.max(current, replicas);
}

/**
 * The fewest brokers of which the busiest stays within the target. A hot shard does not count: it would be too much for
 * a broker of its own.
 */
function shardMetric({ spec, pool, current }: ScaleInput, view: View): Metric {
  const target = spec.targets.tasksPerSecond;
  const tolerance = spec.tolerancePercent / 100;
  const untold = pool.shards - view.shards.size;
  const carried = (count: number, each: number): number => {
    const loads = view.owners.map((_, shard) => {
      const load = view.shards.get(shard) ?? each;
      return load > target ? 0 : load;
    });
    return busiest({ loads, owners: view.owners, brokers: view.ids }, count);
  };
  const now = carried(current, 0);
  let replicas = current;
  if (now > target * (1 + tolerance)) {
    while (replicas < pool.shards && carried(replicas, 0) > target) replicas++;
  } else if (now < target * (1 - tolerance)) {
    // Nobody told of some shards: whoever has them is taken for full.
    const each = untold === 0 ? 0 : Math.min(target, (Math.max(1, view.missing) * target) / untold);
    while (replicas > 1 && carried(replicas - 1, each) <= target) replicas--;
  }
  return { name: 'tasksPerSecond', current: amount(now), target: amount(target), replicas };
}

/** The fewest brokers from `wished` up that could hold what is queued, wherever it ends up. */
function fit(wished: number, current: number, { documents, bytes }: View): number {
  const highWater = Math.min(...documents.map(({ memoryHighWater }) => memoryHighWater));
  const idle = Math.max(
    0,
    ...documents.map(({ memory, shards }) => memory - shards.reduce((sum, shard) => sum + shard.bytes, 0)),
  );
  let brokers = wished;
  while (brokers < current && idle + worst(bytes, brokers) > highWater * BACKLOG_SHARE) brokers++;
  return brokers;
}

function explain({ name, current, target, replicas }: Metric, from: number): string {
  const carries = name === 'tasksPerSecond' ? 'the busiest broker carries' : 'each broker has';
  const what = { tasksPerSecond: 'tasks/s', agents: 'agents', cpu: 'of CPU', memory: 'of memory' }[name];
  const verdict =
    replicas === from ? `which suits ${target}` : `of ${target} it should; ${replicas} brokers are needed`;
  return `${carries} ${current} ${what}, ${verdict}`;
}

function boundReason({ maxReplicas, shards }: ScaleInput['pool']): string {
  return maxReplicas <= shards ? `maxReplicas is ${maxReplicas}` : `there are only ${shards} shards`;
}
