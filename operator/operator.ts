import type { Clock, Random } from '../src/std/clock.ts';
import type { Logger } from '../src/std/logger.ts';
import type { OperatorConfig } from './config.ts';
import { Answers } from './controller/answers.ts';
import { Reconciler } from './controller/brokercluster.ts';
import { Caches } from './controller/caches.ts';
import { Controller } from './controller/controller.ts';
import { keepDefinition } from './controller/definition.ts';
import type { BrokerClusterObject } from './controller/kinds.ts';
import { Observer } from './controller/observe.ts';
import { Applier } from './kube/apply.ts';
import { Elector } from './kube/elector.ts';
import { EventRecorder } from './kube/events.ts';
import type { Kube } from './kube/kube.ts';
import type { OperatorMetrics } from './metrics.ts';
import type { Pods } from './pods.ts';

/** What an operator is made of. */
export interface OperatorParts {
  readonly kube: Kube;
  readonly pods: Pods;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly config: OperatorConfig;
  readonly metrics?: OperatorMetrics | undefined;
}

/** The whole operator: it stands for leadership, and works while it leads. */
export class Operator {
  readonly #caches: Caches;
  readonly #controller: Controller;
  readonly #elector: Elector;
  readonly #events: EventRecorder;
  #ready = false;
  #stopped = false;

  constructor({ kube, pods, clock, random, logger, config, metrics }: OperatorParts) {
    const common = { kube, clock, random, logger };
    this.#events = new EventRecorder({
      ...common,
      controller: 'agenthub.io/operator',
      instance: config.podName,
    });
    this.#caches = new Caches({
      ...common,
      namespace: config.namespace,
      changed: (key) => this.#controller.enqueue(key),
    });
    const answers = new Answers(pods, clock);
    const reconciler = new Reconciler({
      kube,
      clock,
      logger,
      pods,
      answers,
      caches: this.#caches,
      events: this.#events,
      applier: new Applier(kube, logger),
      told: (before, after, events) => metrics?.decided(before, after, events),
      observer: new Observer({
        kube,
        clock,
        random,
        answers,
        pods,
        caches: this.#caches,
        defaultImages: config.images,
        nodes: config.nodes,
      }),
    });
    this.#controller = new Controller({
      clock,
      random,
      logger,
      workers: config.workers,
      reconcile: (key, signal) => reconciler.reconcile(key, signal),
      ...(metrics === undefined
        ? {}
        : {
            hooks: { taken: (ms) => metrics.waited(ms) },
            reconciled: (outcome, ms) => metrics.reconciled(outcome, ms),
          }),
    });
    this.#elector = new Elector({
      ...common,
      lease: config.lease,
      identity: `${config.podName}_${random.token(4)}`,
      lead: () => {
        if (config.manageDefinition) this.#keepDefinition(kube, logger);
        this.#controller.start();
      },
      lost: () => this.#controller.stop(),
    });
  }

  /** A definition of another version does for now: what it does not know is dropped, and it is tried again next time. */
  #keepDefinition(kube: Kube, logger: Logger): void {
    keepDefinition(kube, logger).catch((error: unknown) => {
      logger.warn({ error }, 'the definition of BrokerCluster may be of another version');
    });
  }

  /** Whether everything has been seen once, so that it can lead. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Whether it works now. */
  get leading(): boolean {
    return this.#elector.leading;
  }

  /** The clusters that it has seen, as they are. */
  get clusters(): readonly BrokerClusterObject[] {
    return this.#ready ? [...this.#caches.clusters.list()] : [];
  }

  /** Clusters that wait to be looked at. */
  get depth(): number {
    return this.#controller.depth;
  }

  /** Looks at everything, then stands for leadership; resolves when it does. */
  async start(): Promise<void> {
    await this.#caches.start();
    if (this.#stopped) return;
    this.#ready = true;
    this.#elector.start();
  }

  /** Ends what it does, and lets another one lead. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#elector.stop();
    this.#caches.stop();
    await this.#events.stop();
  }
}
