import { assign, UNASSIGNED } from '../../src/core/assignment.ts';
import type { Assignment } from '../../src/core/assignment.ts';
import type { PlacementRules } from '../../src/core/placement.ts';
import { NO_RULES } from '../../src/core/pools.ts';
import { HubError } from '../../src/std/errors.ts';
import type { Capacity } from '../../src/wire/capacity.ts';
import type { PlacementDocument } from '../../src/wire/placement-document.ts';
import type { KubeObject } from '../../operator/api/object.ts';
import type { Kube } from '../../operator/kube/kube.ts';
import type { DrainAnswer, PodObject } from '../../operator/plan/pods.ts';
import { formatTime } from '../../operator/plan/words.ts';
import type { PodAddress, Pods } from '../../operator/pods.ts';
import { POD, STATEFUL_SET } from './kube-objects.ts';

interface Template {
  readonly metadata: {
    readonly labels: Record<string, string>;
    readonly annotations: Record<string, string>;
  };
  readonly spec: {
    readonly containers: readonly { readonly name: string; readonly image: string }[];
    readonly volumes: readonly { readonly configMap?: { readonly name: string } }[];
  };
}

type SetObject = KubeObject<{ readonly replicas: number; readonly template: Template }>;

interface FakePod {
  readonly name: string;
  readonly uid: string;
  readonly image: string;
  readonly kind: 'broker' | 'nats';
  readonly pool: string;
  readonly works: boolean;
  draining: boolean;
  sessions: number;
  ready: boolean | undefined;
  /** When it was first told that it runs; `Infinity`: never. */
  toldAt: number;
}

/** What has happened to the brokers, to be checked afterwards. */
export interface History {
  /** Brokers that were taken away while they still had something, though others could have taken it. */
  readonly lossy: string[];
  /** The most brokers that were not ready at a time, of those that once were. */
  mostAway: number;
}

/** A pod that runs for less may be taken for one that does not run yet. */
const SEEN_MS = 2000;

/** Images with this in their name can't be pulled. */
export const BROKEN = 'broken';

/**
 * What is missing on an API server without nodes: pods of StatefulSets come, become ready and go; brokers in
 * them share their shards, and hand them over when they are told to.
 */
export class FakeWorkloads implements Pods {
  readonly history: History = { lossy: [], mostAway: 0 };
  /** Tasks per second of each shard. */
  load = 0;
  agents = 0;
  /** As whom brokers are logged in to NATS. */
  natsUser: string | undefined;
  /** Pods that don't answer. */
  readonly mute = new Set<string>();
  readonly #kube: Kube;
  readonly #namespace: string;
  readonly #shards: number;
  readonly #byIp = new Map<string, FakePod>();
  readonly #ipOf = new Map<string, string>();
  /** Of each pool, in the order in which they came; the default pool is the first. */
  readonly #assignments = new Map<string, Assignment>([['default', UNASSIGNED]]);
  /** Tasks in each shard of a pool. */
  readonly queued = new Map<string, number>();
  #rules: PlacementRules = NO_RULES;
  #addresses = 0;

  constructor(kube: Kube, namespace: string, shards = 16) {
    this.#kube = kube;
    this.#namespace = namespace;
    this.#shards = shards;
  }

  /** Does what controllers and nodes would do now. */
  async step(): Promise<void> {
    const options = { namespace: this.#namespace };
    const sets = (await this.#kube.list(STATEFUL_SET, options)).items as SetObject[];
    const pods = (await this.#kube.list(POD, options)).items as PodObject[];
    for (const pod of this.#byIp.values()) {
      if (pods.some(({ metadata }) => metadata.uid === pod.uid)) continue;
      this.#gone(pod);
    }
    for (const set of sets) {
      const own = pods.filter(({ metadata }) => metadata.ownerReferences?.[0]?.uid === set.metadata.uid);
      for (let ordinal = 0; ordinal < set.spec!.replicas; ordinal++) {
        const name = `${set.metadata.name}-${ordinal}`;
        if (!own.some(({ metadata }) => metadata.name === name)) await this.#makePod(set, name);
      }
      for (const { metadata } of own) {
        const ordinal = Number(metadata.name.split('-').at(-1));
        if (ordinal >= set.spec!.replicas) await this.#kube.delete(POD, metadata);
      }
    }
    for (const { metadata } of pods) {
      const owner = metadata.ownerReferences?.[0]?.uid;
      if (!sets.some((set) => set.metadata.uid === owner)) await this.#kube.delete(POD, metadata);
    }
    this.#share();
    for (const pod of this.#byIp.values()) {
      if (pod.draining && pod.sessions > 0) pod.sessions = Math.max(0, pod.sessions - 4);
      await this.#tell(pod);
    }
    const brokers = this.#brokers();
    const away = brokers.filter(({ ready }) => ready !== true).length;
    if (brokers.some(({ ready }) => ready === true))
      this.history.mostAway = Math.max(this.history.mostAway, away);
  }

  get shardsOf(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#brokers().map(({ name, uid }) => [name, this.#owned(uid).length]));
  }

  capacity(address: PodAddress): Promise<Capacity> {
    return this.#answer(address, ({ uid, name, draining, pool }) => {
      const serving = Math.max(1, this.#brokers().length);
      return {
        broker: `${name}-${uid.slice(0, 4)}`,
        version: '0.1.0',
        time: 1,
        activeAgents: Math.round(this.agents / serving),
        activeTasks: 0,
        tasksPerSecond: this.load * this.#owned(uid).length,
        resultsPerSecond: 0,
        progressPerSecond: 0,
        messagesPerSecond: 0,
        cpu: 0.1,
        memory: 100 * 2 ** 20,
        memoryHighWater: 700 * 2 ** 20,
        eventLoopUtilization: 0.1,
        openConnections: 0,
        backlog: 0,
        oldestTaskAgeSeconds: 0,
        draining,
        loadScore: 0.1,
        ...(this.natsUser === undefined ? {} : { natsUser: this.natsUser }),
        shards: this.#owned(uid).map((shard) => ({
          shard,
          queued: this.queued.get(pool) ?? 0,
          bytes: 0,
          tasksPerSecond: this.load,
        })),
      };
    });
  }

  drainStatus(address: PodAddress): Promise<DrainAnswer> {
    return this.#answer(address, (pod) => this.#drainOf(pod));
  }

  drain(address: PodAddress): Promise<DrainAnswer> {
    return this.#answer(address, (pod) => {
      pod.draining = true;
      return this.#drainOf(pod);
    });
  }

  undrain(address: PodAddress): Promise<DrainAnswer> {
    return this.#answer(address, (pod) => {
      pod.draining = false;
      return this.#drainOf(pod);
    });
  }

  placement(address: PodAddress): Promise<PlacementDocument> {
    return this.#answer(address, () => ({
      ...this.#rules,
      pools: [...this.#assignments.keys()].map((name, at) => ({
        name,
        firstShard: at * this.#shards,
        shards: this.#shards,
        brokers: this.#brokers().filter(({ pool }) => pool === name).length,
      })),
    }));
  }

  place(address: PodAddress, rules: PlacementRules): Promise<PlacementDocument> {
    if (rules.version !== this.#rules.version) {
      return Promise.reject(new HubError('aborted', 'the placement rules were changed meanwhile'));
    }
    this.#rules = { ...rules, version: rules.version + 1 };
    return this.placement(address);
  }

  get rules(): PlacementRules {
    return this.#rules;
  }

  #drainOf({ draining, sessions }: FakePod): DrainAnswer {
    return { state: !draining ? 'serving' : sessions > 0 ? 'draining' : 'drained', sessions, activeTasks: 0 };
  }

  #answer<T>({ ip, token }: PodAddress, answer: (pod: FakePod) => T): Promise<T> {
    const pod = this.#byIp.get(ip);
    if (pod === undefined || !pod.works || this.mute.has(pod.name)) {
      return Promise.reject(new HubError('unavailable', 'no answer within 3 s'));
    }
    if (token === undefined) return Promise.reject(new HubError('unauthenticated', 'a token is needed'));
    return Promise.resolve(answer(pod));
  }

  #brokers(): FakePod[] {
    return [...this.#byIp.values()].filter(({ kind }) => kind === 'broker');
  }

  #owned(uid: string): number[] {
    return [...this.#assignments.values()].flatMap(({ owners }, at) =>
      owners.flatMap((owner, shard) => (owner === uid ? [at * this.#shards + shard] : [])),
    );
  }

  #share(): void {
    for (const pool of new Set(this.#brokers().map((broker) => broker.pool))) this.#sharePool(pool);
  }

  #sharePool(pool: string): void {
    const members = this.#brokers()
      // One whose start nobody has been told of has not joined.
      .filter((broker) => broker.pool === pool && broker.works && broker.ready !== undefined)
      .map(({ uid, draining }) => ({ id: uid, version: '', draining }));
    if (members.length === 0 && !this.#assignments.has(pool)) return;
    const before = this.#assignments.get(pool) ?? UNASSIGNED;
    this.#assignments.set(pool, assign(before, members, { shards: this.#shards }));
  }

  #gone(pod: FakePod): void {
    const others = this.#brokers().some(
      ({ uid, draining, works, pool }) => pool === pod.pool && uid !== pod.uid && !draining && works,
    );
    const left = this.#owned(pod.uid).length + pod.sessions;
    if (pod.kind === 'broker' && pod.toldAt < Date.now() - SEEN_MS && others && left > 0)
      this.history.lossy.push(pod.name);
    this.#byIp.delete(this.#ipOf.get(pod.uid)!);
  }

  async #makePod(set: SetObject, name: string): Promise<void> {
    const { template } = set.spec!;
    const pod: PodObject = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace: this.#namespace,
        ...template.metadata,
        ownerReferences: [
          {
            apiVersion: 'apps/v1',
            kind: 'StatefulSet',
            name: set.metadata.name,
            uid: set.metadata.uid!,
            controller: true,
          },
        ],
      },
      spec: {
        // Without claims, probes and what only a node can give.
        containers: template.spec.containers.map(({ name, image }) => ({ name, image })),
        volumes: template.spec.volumes.filter(({ configMap }) => configMap !== undefined),
      } as object,
    };
    const made = await this.#kube.create(POD, pod);
    const container = template.spec.containers[0]!;
    const ip = `10.1.${Math.floor(++this.#addresses / 250)}.${(this.#addresses % 250) + 1}`;
    const uid = made.metadata.uid!;
    const kind = container.name === 'nats' ? 'nats' : 'broker';
    const works = !container.image.includes(BROKEN);
    this.#ipOf.set(uid, ip);
    this.#byIp.set(ip, {
      name,
      uid,
      kind,
      works,
      pool: template.metadata.labels['agenthub.io/pool'] ?? '',
      image: container.image,
      draining: false,
      sessions: 10,
      ready: undefined,
      toldAt: Infinity,
    });
  }

  async #tell(pod: FakePod): Promise<void> {
    const ready = pod.works && !pod.draining;
    if (pod.ready === ready) return;
    pod.ready = ready;
    if (pod.works) pod.toldAt = Math.min(pod.toldAt, Date.now());
    const state = pod.works
      ? { running: {} }
      : { waiting: { reason: 'ErrImagePull', message: `image ${pod.image} not found` } };
    const status = {
      phase: pod.works ? 'Running' : 'Pending',
      podIP: this.#ipOf.get(pod.uid),
      podIPs: [{ ip: this.#ipOf.get(pod.uid) }],
      conditions: [
        { type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: formatTime(Date.now()) },
      ],
      containerStatuses: [{ name: pod.kind, ready, restartCount: 0, image: pod.image, imageID: '', state }],
    };
    await this.#kube.patch(
      POD,
      { namespace: this.#namespace, name: pod.name },
      { status },
      { subresource: 'status' },
    );
  }
}
