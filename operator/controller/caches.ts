import type { Clock, Random, Timer } from '../../src/std/clock.ts';
import type { Logger } from '../../src/std/logger.ts';
import { controllerOf, keyOf } from '../api/object.ts';
import type { KubeObject } from '../api/object.ts';
import { KIND } from '../api/brokercluster.ts';
import type { KubeError } from '../kube/errors.ts';
import { Informer } from '../kube/informer.ts';
import type { Kube, KubeType } from '../kube/kube.ts';
import { LABEL } from '../plan/context.ts';
import type { PodObject } from '../plan/pods.ts';
import { AUTOSCALER, BROKER_CLUSTER, CHILDREN, OPTIONAL, POD } from './kinds.ts';
import type { AutoscalerObject, BrokerClusterObject } from './kinds.ts';

/** What the caches are made of. */
export interface CachesOptions {
  readonly kube: Kube;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Only this namespace; absent: all. */
  readonly namespace?: string | undefined;
  /** Something that concerns the cluster of that key has changed. */
  readonly changed: (key: string) => void;
}

/** All that carries this label was made by an operator. */
const OURS = 'app.kubernetes.io/managed-by=agenthub-operator';
/** How often it is asked whether Prometheus' operator or cert-manager has been installed meanwhile, in milliseconds. */
const DISCOVERY_MS = 60_000;

/** Copies of everything that the operator looks at, and who is to be told when it changes. */
export class Caches {
  readonly clusters: Informer<BrokerClusterObject>;
  readonly #pods: Informer<PodObject>;
  readonly #autoscalers: Informer<AutoscalerObject>;
  readonly #children = new Map<string, Informer<KubeObject>>();
  readonly #options: CachesOptions;
  #discovery: Timer | undefined;
  #stopped = false;

  constructor(options: CachesOptions) {
    this.#options = options;
    const { changed } = options;
    this.clusters = this.#informer(BROKER_CLUSTER);
    follow(this.clusters, ({ metadata }) => changed(keyOf(metadata)));
    this.#pods = this.#informer(POD, OURS);
    follow(this.#pods, ({ metadata }) => {
      const cluster = metadata.labels?.[LABEL.cluster];
      if (cluster !== undefined) changed(keyOf({ ...namespaceOf(metadata), name: cluster }));
    });
    this.#autoscalers = this.#informer(AUTOSCALER);
    follow(this.#autoscalers, ({ metadata, spec }) => {
      const { kind, name } = spec?.scaleTargetRef ?? {};
      if (kind === KIND && name !== undefined) changed(keyOf({ ...namespaceOf(metadata), name }));
    });
    for (const type of CHILDREN) this.#addChildren(type);
  }

  /** Begins to fill them; resolves when all have been seen once. */
  async start(): Promise<void> {
    for (const informer of this.#all()) informer.start();
    await this.#discover();
    await Promise.all(this.#all().map((informer) => informer.whenSynced()));
  }

  stop(): void {
    this.#stopped = true;
    this.#discovery?.cancel();
    for (const informer of this.#all()) informer.stop();
  }

  /** Why what is known may be old; absent while all goes well. */
  get failure(): KubeError | undefined {
    return this.#all().find(({ failure }) => failure !== undefined)?.failure;
  }

  /** The cache of a kind of child object; `undefined` if the cluster does not know the kind. */
  childrenOf(kind: string): Informer<KubeObject> | undefined {
    return this.#children.get(kind);
  }

  /** All child objects that belong to the owner with that uid. */
  ownedBy(uid: string): readonly KubeObject[] {
    return [...this.#children.values()].flatMap((informer) => informer.ownedBy(uid));
  }

  /** All pods of the cluster. */
  podsOf(namespace: string, cluster: string): readonly PodObject[] {
    return this.#pods
      .list()
      .filter(
        ({ metadata }) => metadata.namespace === namespace && metadata.labels?.[LABEL.cluster] === cluster,
      );
  }

  /** HorizontalPodAutoscalers that are aimed at the cluster. */
  autoscalersOf(namespace: string, cluster: string): readonly string[] {
    return this.#autoscalers
      .list()
      .filter(
        ({ metadata, spec }) =>
          metadata.namespace === namespace &&
          spec?.scaleTargetRef?.kind === KIND &&
          spec.scaleTargetRef.name === cluster,
      )
      .map(({ metadata }) => metadata.name)
      .sort();
  }

  #all(): Pick<Informer<KubeObject>, 'start' | 'stop' | 'failure' | 'whenSynced'>[] {
    return [this.clusters, this.#pods, this.#autoscalers, ...this.#children.values()];
  }

  #addChildren(type: KubeType): Informer<KubeObject> {
    const informer = this.#informer(type, OURS);
    follow(informer, (object) => {
      const owner = controllerOf(object);
      if (owner?.kind !== KIND) return;
      this.#options.changed(keyOf({ ...namespaceOf(object.metadata), name: owner.name }));
    });
    this.#children.set(type.kind, informer);
    return informer;
  }

  #informer<T extends KubeObject>(type: KubeType<T>, labelSelector?: string): Informer<T> {
    const { kube, clock, random, logger, namespace } = this.#options;
    return new Informer<T>({
      kube,
      type,
      clock,
      random,
      logger: logger.child({ kind: type.kind }),
      selection: {
        ...(namespace === undefined ? {} : { namespace }),
        ...(labelSelector === undefined ? {} : { labelSelector }),
      },
    });
  }

  /** Watches kinds that may be installed later than the operator, as soon as they are. */
  async #discover(): Promise<void> {
    const { kube, clock, logger } = this.#options;
    for (const type of OPTIONAL) {
      if (this.#children.has(type.kind)) continue;
      try {
        if (!(await kube.serves(type)) || this.#stopped) continue;
        this.#addChildren(type).start();
      } catch (error) {
        logger.debug(
          { error, kind: type.kind },
          'can not tell whether that kind is there; asking again later',
        );
      }
    }
    if (!this.#stopped) this.#discovery = clock.after(DISCOVERY_MS, () => void this.#discover());
  }
}

function follow<T extends KubeObject>(informer: Informer<T>, tell: (object: T) => void): void {
  informer.subscribe({
    added: tell,
    updated(object, before) {
      tell(before);
      tell(object);
    },
    deleted: tell,
  });
}

function namespaceOf({ namespace }: KubeObject['metadata']): { readonly namespace?: string } {
  return namespace === undefined ? {} : { namespace };
}
