import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Clock } from '../src/std/clock.ts';
import type { BrokerClusterStatus } from './api/status.ts';
import type { BrokerClusterObject } from './controller/kinds.ts';
import { DRAIN_SECONDS, OPERATOR_METRICS, SECONDS } from './metric-table.ts';
import type { PlannedEvent } from './plan/events.ts';
import { parseTime } from './plan/words.ts';

/** What is asked at each scrape. */
export interface OperatorState {
  readonly leading: boolean;
  /** Clusters that wait to be looked at. */
  readonly depth: number;
  readonly clusters: readonly BrokerClusterObject[];
}

type Key = keyof typeof OPERATOR_METRICS;
type Labels = Readonly<Record<string, string>>;

/** Events that are decisions about brokers. */
const DECISIONS = ['ScalingUp', 'ScalingDown', 'Draining', 'DrainCancelled', 'Removing'] as const;

/** What the operator measures of itself and of the clusters that it looks after, see `metric-table.ts`. */
export class OperatorMetrics {
  readonly registry = new Registry();
  readonly #clock: Clock;
  readonly #state: () => OperatorState;
  readonly #reconciles = this.#counter('reconciles');
  readonly #took = this.#histogram('reconcileSeconds', SECONDS);
  readonly #waited = this.#histogram('queueSeconds', SECONDS);
  readonly #calls = this.#counter('apiCalls');
  readonly #callSeconds = this.#histogram('apiSeconds', SECONDS);
  readonly #decisions = this.#counter('decisions');
  readonly #drains = this.#histogram('drainSeconds', DRAIN_SECONDS);

  /** `state` is asked at each scrape. */
  constructor(state: () => OperatorState, clock: Clock) {
    this.#state = state;
    this.#clock = clock;
    for (const decision of DECISIONS) this.#decisions.inc({ decision }, 0);
    this.#gauge('leading', ({ leading }, set) => set({}, leading ? 1 : 0));
    this.#gauge('queueDepth', ({ depth }, set) => set({}, depth));
    this.#gauge('replicas', ({ clusters }, set) => {
      for (const [labels, { desired, replicas, ready, updated, scaling }] of poolsOf(clusters)) {
        const states = { desired, present: replicas, ready, updated, recommended: scaling?.recommended };
        for (const [state, count] of Object.entries(states)) {
          if (count !== undefined) set({ ...labels, state }, count);
        }
      }
    });
    this.#gauge('drainLeft', ({ clusters }, set) => {
      for (const [labels, { drain }] of poolsOf(clusters)) {
        const deadline = parseTime(drain?.deadline);
        if (deadline !== undefined) set(labels, (deadline - clock.now()) / 1000);
      }
    });
    this.#gauge('condition', ({ clusters }, set) => {
      for (const cluster of clusters) {
        for (const { type, status } of cluster.status?.conditions ?? [])
          set({ ...nameOf(cluster), condition: type }, status === 'True' ? 1 : 0);
      }
    });
  }

  reconciled(outcome: string, tookMs: number): void {
    this.#reconciles.inc({ result: outcome });
    this.#took.observe(tookMs / 1000);
  }

  waited(ms: number): void {
    this.#waited.observe(ms / 1000);
  }

  /** A call of the API server. */
  called(verb: string, code: string, tookMs: number): void {
    this.#calls.inc({ verb, code });
    this.#callSeconds.observe({ verb }, tookMs / 1000);
  }

  /** A plan was written down: what happened between the two states of a cluster. */
  decided(before: BrokerClusterStatus, after: BrokerClusterStatus, events: readonly PlannedEvent[]): void {
    for (const { reason } of events) {
      if ((DECISIONS as readonly string[]).includes(reason)) this.#decisions.inc({ decision: reason });
    }
    for (const { name, drain } of before.pools ?? []) {
      const since = parseTime(drain?.since);
      const ended = after.pools?.find((pool) => pool.name === name)?.drain?.uid !== drain?.uid;
      if (since !== undefined && ended) this.#drains.observe(Math.max(0, this.#clock.now() - since) / 1000);
    }
  }

  #about(key: Key) {
    const { name, help, labels } = OPERATOR_METRICS[key];
    return { name, help, labelNames: [...labels] as string[], registers: [this.registry] };
  }

  #counter(key: Key): Counter {
    return new Counter(this.#about(key));
  }

  #histogram(key: Key, buckets: readonly number[]): Histogram {
    return new Histogram({ ...this.#about(key), buckets: [...buckets] });
  }

  /** Read anew at each scrape, so that what is gone has no series any more. */
  #gauge(key: Key, read: (state: OperatorState, set: (labels: Labels, value: number) => void) => void): void {
    const state = this.#state;
    new Gauge({
      ...this.#about(key),
      collect() {
        this.reset();
        read(state(), (labels, value) => this.set(labels, value));
      },
    });
  }
}

function nameOf({ metadata }: BrokerClusterObject): { namespace: string; cluster: string } {
  return { namespace: metadata.namespace ?? '', cluster: metadata.name };
}

type Pool = NonNullable<BrokerClusterStatus['pools']>[number];

function poolsOf(clusters: readonly BrokerClusterObject[]): (readonly [Labels, Pool])[] {
  return clusters.flatMap((cluster) =>
    (cluster.status?.pools ?? []).map((pool) => [{ ...nameOf(cluster), pool: pool.name }, pool] as const),
  );
}
