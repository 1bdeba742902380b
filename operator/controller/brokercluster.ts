import type { Clock } from '../../src/std/clock.ts';
import type { HubError } from '../../src/std/errors.ts';
import { toHubError } from '../../src/std/errors.ts';
import type { Logger } from '../../src/std/logger.ts';
import { readBrokerCluster } from '../api/brokercluster.ts';
import type { BrokerCluster } from '../api/brokercluster.ts';
import { nameOf } from '../api/object.ts';
import type { KubeObject } from '../api/object.ts';
import type { BrokerClusterStatus } from '../api/status.ts';
import type { Applier } from '../kube/apply.ts';
import { isConflict, isNotFound, KubeError } from '../kube/errors.ts';
import type { EventRecorder } from '../kube/events.ts';
import type { Kube, KubeType } from '../kube/kube.ts';
import { mergeConditions } from '../plan/conditions.ts';
import type { PlannedEvent } from '../plan/events.ts';
import { nameOf as childName, ROTATE_NATS } from '../plan/context.ts';
import type { NatsKeys, RotationStep } from '../plan/nats-keys.ts';
import { NATS_KEYS, rotated } from '../plan/nats-keys.ts';
import { plan } from '../plan/plan.ts';
import type { Plan, Snapshot } from '../plan/plan.ts';
import type { PodView } from '../plan/pods.ts';
import type { Child } from '../plan/resources/child.ts';
import { natsCredentials } from '../plan/resources/secrets.ts';
import type { Obstacle } from '../plan/verdicts.ts';
import type { PodAddress, Pods } from '../pods.ts';
import type { Answers } from './answers.ts';
import type { Caches } from './caches.ts';
import type { Result } from './controller.ts';
import { BROKER_CLUSTER, CHILDREN, OPTIONAL, POD, SECRET } from './kinds.ts';
import type { BrokerClusterObject, SecretObject } from './kinds.ts';
import { natsPublicKey, newNatsSeed } from './nkeys.ts';
import type { Observer } from './observe.ts';

/** What the reconciler is made of. */
export interface ReconcilerOptions {
  readonly kube: Kube;
  readonly caches: Caches;
  readonly observer: Observer;
  readonly answers: Answers;
  readonly pods: Pods;
  readonly applier: Applier;
  readonly events: Pick<EventRecorder, 'record'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Is told of what was decided, once it is written down. */
  readonly told?: (
    before: BrokerClusterStatus,
    after: BrokerClusterStatus,
    events: readonly PlannedEvent[],
  ) => void;
}

const TYPES = new Map<string, KubeType>([...CHILDREN, ...OPTIONAL].map((type) => [type.kind, type]));
/** Refusals that no repetition mends: somebody has to change something. */
const FINAL = new Set(['invalid', 'permission', 'conflict', 'unimplemented']);
const WRONG_MS = 60_000;
/** Until it is looked whether all can be seen again. */
const UNSEEN_MS = 1000;

/** Makes a BrokerCluster what its spec says: observe, plan, act. */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  /** By key of the cluster: what the API server has refused the last time. */
  readonly #refused = new Map<string, readonly Obstacle[]>();
  /** By key of the cluster: why the brokers did not take the placement rules. */
  readonly #unplaced = new Map<string, Obstacle>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  async reconcile(key: string, signal: AbortSignal): Promise<Result> {
    const { caches, observer } = this.#options;
    // What is known may be old then, and acting on it wrong.
    if (caches.failure !== undefined) return { next: 'later', afterMs: UNSEEN_MS };
    const object = caches.clusters.get(nameOf(key));
    if (object === undefined) {
      this.#refused.delete(key);
      this.#unplaced.delete(key);
      return { next: 'never' };
    }
    if (object.metadata.deletionTimestamp !== undefined) return { next: 'later', afterMs: WRONG_MS };

    let cluster: BrokerCluster;
    try {
      cluster = readBrokerCluster(object);
    } catch (error) {
      await this.#sayWrong(object, toHubError(error), signal);
      return { next: 'later', afterMs: WRONG_MS };
    }
    const unplaced = this.#unplaced.get(key);
    const before = [...(this.#refused.get(key) ?? []), ...(unplaced === undefined ? [] : [unplaced])];
    const { snapshot, addressOf } = await observer.observe(cluster, before, signal);
    const planned = plan(snapshot);
    if (planned.create.length > 0) {
      for (const secret of planned.create) await this.#create(secret, signal);
      observer.forget(cluster);
    }
    const refused = await this.#apply(planned.apply, signal);
    this.#refused.set(key, refused);
    const obstacles = [...refused, ...(unplaced === undefined ? [] : [unplaced])];
    const told = sameObstacles(before, obstacles) ? planned : plan({ ...snapshot, obstacles });
    // Before anything is taken away: whoever goes on from here must know what has begun.
    await this.#options.applier.applyStatus(BROKER_CLUSTER, object, told.status, caches.clusters, { signal });
    this.#record(object, told.events);
    this.#options.told?.(object.status ?? {}, told.status, told.events);
    if (planned.rotate !== undefined) await this.#rotate(cluster, planned.rotate, snapshot.natsKeys, signal);
    await this.#place(key, planned, snapshot, addressOf, signal);
    await this.#act(planned, cluster, addressOf, signal);
    return { next: 'later', afterMs: planned.againMs };
  }

  async #create(secret: Child, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.kube.create(SECRET, secret, { signal });
    } catch (error) {
      // Somebody was faster; it is read the next time.
      if (!isConflict(error)) throw error;
    }
  }

  /** Takes a step only if the Secret is what the plan saw, and has not changed since it was read. */
  async #rotate(
    cluster: BrokerCluster,
    step: RotationStep,
    seen: NatsKeys | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { kube, observer, logger } = this.#options;
    const { namespace, annotations } = cluster.metadata;
    const at = { namespace, name: childName.natsCredentials(cluster) };
    observer.forget(cluster);
    const secret = await kube.get(SECRET, at, { signal });
    const data = rotated(textsOf(secret), step, annotations[ROTATE_NATS] ?? '', newNatsSeed);
    if (data === undefined || natsPublicKey(textsOf(secret)[NATS_KEYS.seed] ?? '') !== seen?.current) return;
    const { resourceVersion } = secret.metadata;
    const changed = natsCredentials(cluster, data);
    const metadata = { ...changed.metadata, ...(resourceVersion === undefined ? {} : { resourceVersion }) };
    try {
      await kube.apply(SECRET, { ...changed, metadata }, { signal });
      logger.info({ cluster: cluster.metadata.name, step }, 'the credential with NATS is being exchanged');
    } catch (error) {
      // It was changed meanwhile; what is there then is looked at the next time.
      if (!isConflict(error)) throw error;
    }
  }

  /** Answers what the API server refused for good. The rest is made all the same. */
  async #apply(children: readonly Child[], signal: AbortSignal): Promise<readonly Obstacle[]> {
    const { applier, caches } = this.#options;
    const refused: Obstacle[] = [];
    for (const child of children) {
      const type = TYPES.get(child.kind);
      const cache = caches.childrenOf(child.kind);
      if (type === undefined || cache === undefined) continue;
      try {
        await applier.apply(type, child, cache, { signal });
      } catch (error) {
        if (!(error instanceof KubeError) || !FINAL.has(error.code)) throw error;
        refused.push({
          reason: 'ApplyFailed',
          message: `${child.kind} ${child.metadata.name}: ${error.message}`,
        });
      }
    }
    return refused;
  }

  async #place(
    key: string,
    { place }: Plan,
    { pods }: Snapshot,
    addressOf: (pod: PodView) => PodAddress | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    this.#unplaced.delete(key);
    const told = Object.values(pods)
      .flat()
      .find(({ ready }) => ready);
    const address = told === undefined ? undefined : addressOf(told);
    if (place === undefined || address === undefined) return;
    try {
      const { version } = await this.#options.pods.place(address, place, signal);
      this.#options.logger.info(
        { key, version, rules: place.rules.length },
        'the brokers have other placement rules',
      );
    } catch (error) {
      const { code, message } = toHubError(error);
      // Anything else is tried again soon, with what holds by then.
      if (code !== 'invalid') return;
      this.#unplaced.set(key, {
        reason: 'PlacementRefused',
        message: `the brokers refuse the rules of spec.pools: ${message}; change that rule`,
      });
    }
  }

  async #act(
    planned: Plan,
    { metadata: { namespace } }: BrokerCluster,
    addressOf: (pod: PodView) => PodAddress | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { pods, answers, logger } = this.#options;
    const tell = async (pod: PodView, call: (address: PodAddress) => Promise<unknown>): Promise<void> => {
      const address = addressOf(pod);
      if (address === undefined) return;
      answers.expire(pod.uid);
      try {
        await call(address);
      } catch (error) {
        // It is told again soon, until its deadline.
        logger.warn({ pod: pod.name, error: toHubError(error).message }, 'a broker could not be told');
      }
    };
    for (const pod of planned.evacuate) await tell(pod, (address) => pods.drain(address, signal));
    for (const pod of planned.keep) await tell(pod, (address) => pods.undrain(address, signal));
    for (const { pod, force, reason } of planned.removePods) {
      logger.info({ pod: pod.name, force, reason }, 'a pod is deleted');
      await this.#delete(
        POD,
        { namespace, name: pod.name },
        pod.uid,
        force ? { gracePeriodSeconds: 0 } : {},
        signal,
      );
    }
    for (const object of planned.removeObjects) {
      const type = TYPES.get(object.kind);
      if (type === undefined || object.metadata.uid === undefined) continue;
      logger.info(
        { kind: object.kind, name: object.metadata.name },
        'an object that is not needed any more is deleted',
      );
      await this.#delete(type, object.metadata, object.metadata.uid, {}, signal);
    }
  }

  async #delete(
    type: KubeType,
    name: { readonly namespace?: string; readonly name: string },
    uid: string,
    options: { readonly gracePeriodSeconds?: number },
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await this.#options.kube.delete(type, name, { ...options, uid, signal });
    } catch (error) {
      // It is gone, or another one has its name.
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }

  #record(object: KubeObject, events: readonly PlannedEvent[]): void {
    for (const { type, reason, message } of events) {
      this.#options.events.record(object, { type, reason, action: 'Reconcile', note: message });
    }
  }

  async #sayWrong(object: BrokerClusterObject, error: HubError, signal: AbortSignal): Promise<void> {
    const { applier, caches, clock } = this.#options;
    const verdict = {
      type: 'Degraded',
      status: 'True',
      reason: 'SpecNotAccepted',
      message: `${error.message}; nothing is changed until the spec is put right`,
    } as const;
    const before = object.status ?? {};
    const generation = object.metadata.generation ?? 0;
    const status: BrokerClusterStatus = {
      ...before,
      phase: 'Degraded',
      conditions: [...mergeConditions(before.conditions ?? [], [verdict], generation, clock.now())],
    };
    await applier.applyStatus(BROKER_CLUSTER, object, status, caches.clusters, { signal });
  }
}

function textsOf({ data = {} }: SecretObject): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
  );
}

function sameObstacles(a: readonly Obstacle[], b: readonly Obstacle[]): boolean {
  return a.length === b.length && a.every(({ message }, index) => message === b[index]?.message);
}
