import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** What the operator measures of itself, in the names of controller-runtime where it has one. */
export class OperatorMetrics {
  readonly registry = new Registry();
  readonly #reconciles: Counter<'result'>;
  readonly #took: Histogram;
  readonly #waited: Histogram;

  /** `state` is asked at each scrape. */
  constructor(state: () => { readonly leading: boolean; readonly depth: number }) {
    const registers = [this.registry];
    this.#reconciles = new Counter({
      name: 'agenthub_operator_reconciles_total',
      help: 'Looks at a BrokerCluster, by result: ok, or the code of the error.',
      labelNames: ['result'],
      registers,
    });
    this.#took = new Histogram({
      name: 'agenthub_operator_reconcile_seconds',
      help: 'Time that one look at a BrokerCluster took.',
      buckets: [0.01, 0.05, 0.1, 0.5, 1, 5, 15],
      registers,
    });
    this.#waited = new Histogram({
      name: 'agenthub_operator_queue_seconds',
      help: 'Time that a BrokerCluster waited until it was looked at.',
      buckets: [0.001, 0.01, 0.1, 1, 10],
      registers,
    });
    new Gauge({
      name: 'agenthub_operator_leading',
      help: '1 while this operator is the one that acts, else 0.',
      registers,
      collect() {
        this.set(state().leading ? 1 : 0);
      },
    });
    new Gauge({
      name: 'agenthub_operator_queue_depth',
      help: 'BrokerClusters that wait to be looked at.',
      registers,
      collect() {
        this.set(state().depth);
      },
    });
  }

  reconciled(outcome: string, tookMs: number): void {
    this.#reconciles.inc({ result: outcome });
    this.#took.observe(tookMs / 1000);
  }

  waited(ms: number): void {
    this.#waited.observe(ms / 1000);
  }
}
