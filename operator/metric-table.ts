/** What is known of a metric before anything was measured. */
interface MetricSpec {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly unit: string;
  readonly help: string;
}

/** Upper bounds of the histograms of the operator, in seconds: 0.1 ms to a minute, and drains up to an hour. */
export const SECONDS = [0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60] as const;
export const DRAIN_SECONDS = [0.1, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600] as const;

const POOL = ['namespace', 'cluster', 'pool'] as const;

/** Every metric of the operator. docs/metrics.md is made from this. */
export const OPERATOR_METRICS = {
  reconciles: {
    name: 'agenthub_operator_reconciles_total',
    type: 'counter',
    labels: ['result'],
    unit: 'looks',
    help: 'Looks at a BrokerCluster, by result: ok, or the code of the error.',
  },
  reconcileSeconds: {
    name: 'agenthub_operator_reconcile_seconds',
    type: 'histogram',
    labels: [],
    unit: 'seconds',
    help: 'Time that one look at a BrokerCluster took.',
  },
  queueSeconds: {
    name: 'agenthub_operator_queue_seconds',
    type: 'histogram',
    labels: [],
    unit: 'seconds',
    help: 'Time that a BrokerCluster waited until it was looked at.',
  },
  queueDepth: {
    name: 'agenthub_operator_queue_depth',
    type: 'gauge',
    labels: [],
    unit: 'clusters',
    help: 'BrokerClusters that wait to be looked at.',
  },
  leading: {
    name: 'agenthub_operator_leading',
    type: 'gauge',
    labels: [],
    unit: '',
    help: '1 while this operator is the one that acts, else 0.',
  },
  apiCalls: {
    name: 'agenthub_operator_api_calls_total',
    type: 'counter',
    labels: ['verb', 'code'],
    unit: 'calls',
    help: 'Calls of the API server, by verb and HTTP status; none: there was no answer.',
  },
  apiSeconds: {
    name: 'agenthub_operator_api_seconds',
    type: 'histogram',
    labels: ['verb'],
    unit: 'seconds',
    help: 'Time until the API server began to answer.',
  },
  decisions: {
    name: 'agenthub_operator_decisions_total',
    type: 'counter',
    labels: ['decision'],
    unit: 'decisions',
    help: 'What was decided: ScalingUp, ScalingDown, Draining, DrainCancelled, Removing; the Events of the cluster say why.',
  },
  drainSeconds: {
    name: 'agenthub_operator_drain_seconds',
    type: 'histogram',
    labels: [],
    unit: 'seconds',
    help: 'How long drains took, from being told to hand over until the broker was empty or given up.',
  },
  drainLeft: {
    name: 'agenthub_operator_drain_left_seconds',
    type: 'gauge',
    labels: POOL,
    unit: 'seconds',
    help: 'Time that the drain under way has until its deadline; negative when it is overdue. Absent when nothing is drained.',
  },
  replicas: {
    name: 'agenthub_operator_pool_brokers',
    type: 'gauge',
    labels: [...POOL, 'state'],
    unit: 'brokers',
    help: 'Brokers of each pool: desired, recommended (by the load alone), present, ready, updated.',
  },
  condition: {
    name: 'agenthub_operator_condition',
    type: 'gauge',
    labels: ['namespace', 'cluster', 'condition'],
    unit: '',
    help: '1 while that condition of the BrokerCluster is True, else 0: Available, Progressing, Degraded, ScalingActive, CapacityStale, ShardHot, Draining.',
  },
} as const satisfies Record<string, MetricSpec>;
