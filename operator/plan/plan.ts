import type { PlacementRules } from '../../src/core/placement.ts';
import type { PlacementDocument } from '../../src/wire/placement-document.ts';
import type { BrokerCluster } from '../api/brokercluster.ts';
import { controllerOf } from '../api/object.ts';
import type { KubeObject } from '../api/object.ts';
import type { BrokerClusterStatus, Condition } from '../api/status.ts';
import { childrenOf } from './children.ts';
import { nameOf, PAUSE, PAUSE_UPDATE, ROTATE_NATS } from './context.ts';
import type { Context, OptionalKinds } from './context.ts';
import { eventsOf } from './events.ts';
import type { PlannedEvent } from './events.ts';
import type { NatsKeys, RotationStep } from './nats-keys.ts';
import type { Rotation } from './nats-rotation.ts';
import { planNatsRotation } from './nats-rotation.ts';
import type { PodView } from './pods.ts';
import { leftoverPools } from './leftover.ts';
import type { Leftover } from './leftover.ts';
import { planPlacement } from './placement.ts';
import { planPool } from './pool.ts';
import type { PoolPlan, PoolState, SetObject } from './pool.ts';
import type { Child } from './resources/child.ts';
import { natsRevision } from './resources/nats-set.ts';
import { generatedSecrets, secretReferences } from './resources/secrets.ts';
import { planRollout } from './rollout.ts';
import { statusOf } from './status.ts';
import type { NatsSituation, Obstacle, Situation } from './verdicts.ts';

/** What is known of a Secret, without its contents. */
export interface SecretView {
  readonly keys: readonly string[];
  /** Changes when its contents do. */
  readonly fingerprint: string;
}

/** All that was observed of one cluster, and what a plan follows from. */
export interface Snapshot {
  /** Unix ms. */
  readonly now: number;
  readonly cluster: BrokerCluster;
  readonly kinds: OptionalKinds;
  /** Images where the spec names none and there is no pod yet. */
  readonly defaultImages: { readonly broker: string; readonly nats: string };
  /** Child objects that there are, of all kinds but pods and Secrets. */
  readonly children: readonly KubeObject[];
  /** By pool. */
  readonly pods: Readonly<Record<string, readonly PodView[]>>;
  readonly natsPods: readonly PodView[];
  /** Secrets that the spec refers to or the operator makes, as far as they are there. */
  readonly secrets: Readonly<Record<string, SecretView>>;
  /** Who may log in to the managed NATS servers; absent if that is not made yet, or can't be read. */
  readonly natsKeys?: NatsKeys | undefined;
  /** Who signs the tokens of service accounts here; absent if nobody needs to know, or it can't be found out. */
  readonly issuer?: string | undefined;
  /** What a broker says of pools and placement; absent if none could be asked, or needed to be. */
  readonly placement?: PlacementDocument | undefined;
  readonly foreignAutoscalers: readonly string[];
  /** What could not be done when it was last tried, each with its remedy. */
  readonly obstacles: readonly Obstacle[];
  /** A new token that nobody can guess. */
  readonly token: () => string;
  /** A new seed of a user of NATS. */
  readonly natsSeed: () => string;
}

/** What is to be done, in this order: create, apply, write the status, rotate, place, evacuate and keep, remove. */
export interface Plan {
  /** Objects that are made once and then left alone. */
  readonly create: readonly Child[];
  /** Objects as they are to be; those that are so already need no call. */
  readonly apply: readonly Child[];
  readonly status: BrokerClusterStatus;
  /** What is done to the credential of the brokers with managed NATS. */
  readonly rotate: RotationStep | undefined;
  /** Rules that the brokers are to go by, with the version that they replace. */
  readonly place: PlacementRules | undefined;
  readonly evacuate: readonly PodView[];
  readonly keep: readonly PodView[];
  readonly removePods: readonly { readonly pod: PodView; readonly force: boolean; readonly reason: string }[];
  /** Objects of ours that are needed no more. */
  readonly removeObjects: readonly KubeObject[];
  readonly events: readonly PlannedEvent[];
  /** When to look again if nothing happens, in milliseconds. */
  readonly againMs: number;
}

const BUSY_MS = 2000;
const OBSTACLE_MS = 15_000;
const CALM_MS = 60_000;

/** What is to be done about a cluster. Without effects; the same snapshot gives the same plan. */
export function plan(snapshot: Snapshot): Plan {
  const { now, cluster, secrets } = snapshot;
  const context = contextOf(snapshot);
  const missing = [...missingSecrets(snapshot), ...missingOthers(snapshot)];
  const create = generatedSecrets(cluster, snapshot).filter(
    ({ metadata }) => secrets[metadata.name] === undefined,
  );
  // Pods are made of Secrets: while one is missing none is made or replaced, and those that run go on.
  const frozen = missing.length > 0 || create.length > 0;
  const pools = cluster.spec.pools.map((pool) =>
    planPool(context, pool, poolState(snapshot, pool.name), now, frozen),
  );
  const nats = natsSituation(context, snapshot, frozen);
  const placement = planPlacement(cluster, snapshot.children, snapshot.placement);
  const leftovers = leftoverPools(snapshot, placement.inForce);
  const rotation: Rotation | undefined =
    nats &&
    planNatsRotation({
      keys: frozen ? undefined : snapshot.natsKeys,
      wish: cluster.metadata.annotations[ROTATE_NATS],
      servers: nats,
      brokers: Object.values(snapshot.pods).flat(),
    });
  const situation: Situation = {
    cluster,
    pools,
    nats,
    rotating: rotation?.waits,
    placement,
    leaving: leftovers.map(({ pool }) => pool),
    obstacles: [
      ...snapshot.obstacles,
      ...missing,
      ...placement.obstacles,
      ...leftovers.flatMap(({ obstacle }) => (obstacle === undefined ? [] : [obstacle])),
    ],
    foreignAutoscalers: snapshot.foreignAutoscalers,
  };
  const status = statusOf(situation, now);
  const events = eventsOf(situation, status);
  if (cluster.metadata.annotations[PAUSE] === 'true') {
    return { ...NOTHING, status, events, againMs: CALM_MS };
  }
  const wanted = childrenOf(context, pools);
  return {
    create,
    apply: wanted.filter(({ kind }) => kind !== 'StatefulSet' || !frozen),
    status,
    evacuate: pools.flatMap(({ evacuate }) => evacuate),
    keep: pools.flatMap(({ keep }) => keep),
    removePods: [
      ...pools.flatMap(({ remove }) => remove),
      ...(nats?.rollout.state === 'next'
        ? [{ pod: nats.rollout.pod, force: false, reason: nats.rollout.reason }]
        : []),
    ],
    place: placement.change,
    rotate: rotation?.step,
    removeObjects: superfluous(snapshot, wanted, leftovers),
    events,
    againMs: create.length > 0 ? 0 : again(situation),
  };
}

const NOTHING = {
  place: undefined,
  rotate: undefined,
  create: [],
  apply: [],
  evacuate: [],
  keep: [],
  removePods: [],
  removeObjects: [],
} as const;

function contextOf(snapshot: Snapshot): Context {
  const { cluster, kinds, children, secrets, defaultImages, natsKeys, issuer } = snapshot;
  const { spec } = cluster;
  const live = (name: string, container: string): string | undefined =>
    find(children, 'StatefulSet', name)?.spec?.template?.spec?.containers?.find(
      (each) => each.name === container,
    )?.image;
  // What is in variables of pods; files are taken anew by those who read them.
  const read = [nameOf.internalSecret(cluster), nameOf.agentSecret(cluster)];
  return {
    cluster,
    kinds,
    // An image once chosen stays until the spec names one: upgrading the operator restarts nobody.
    images: {
      brokers: Object.fromEntries(
        spec.pools.map(({ name }) => [
          name,
          spec.image ?? live(nameOf.pool(cluster, name), 'broker') ?? defaultImages.broker,
        ]),
      ),
      nats: spec.nats.managed?.image ?? live(nameOf.nats(cluster), 'nats') ?? defaultImages.nats,
    },
    natsKeys,
    issuer,
    secrets: Object.fromEntries(read.map((name) => [name, secrets[name]?.fingerprint ?? ''])),
  };
}

function poolState({ cluster, children, pods }: Snapshot, pool: string): PoolState {
  return { set: find(children, 'StatefulSet', nameOf.pool(cluster, pool)), pods: pods[pool] ?? [] };
}

function find(children: readonly KubeObject[], kind: string, name: string): SetObject | undefined {
  return children.find((object) => object.kind === kind && object.metadata.name === name) as
    SetObject | undefined;
}

function missingSecrets({ cluster, secrets, kinds, children }: Snapshot): readonly Obstacle[] {
  return secretReferences(cluster).flatMap(({ name, keys, field }): Obstacle[] => {
    const found = secrets[name];
    if (found === undefined) {
      if (field === 'spec.tls.issuerRef') return [notIssued(name, kinds.certificate, children)];
      const message = `${field}: there is no Secret ${name} in namespace ${cluster.metadata.namespace}; make it, with the key ${keys.join(' and ')}`;
      return [{ reason: 'SecretNotFound', message }];
    }
    const lacking = keys.filter((key) => !found.keys.includes(key));
    if (lacking.length === 0) return [];
    const message = `${field}: the Secret ${name} has no key ${lacking.join(' and no key ')}; it has ${found.keys.join(', ') || 'none'}`;
    return [{ reason: 'SecretKeyNotFound', message }];
  });
}

/** Why there is no certificate yet. */
function notIssued(name: string, known: boolean, children: readonly KubeObject[]): Obstacle {
  if (!known) {
    const message =
      'spec.tls.issuerRef: this Kubernetes has no kind Certificate of cert-manager.io/v1; install cert-manager, or name a ' +
      'Secret in spec.tls.secretName instead';
    return { reason: 'CertManagerNotFound', message };
  }
  const made = children.find(({ kind, metadata }) => kind === 'Certificate' && metadata.name === name);
  const { conditions = [] } = (made?.status ?? {}) as { conditions?: readonly Partial<Condition>[] };
  const said = conditions.find(({ type, status }) => type === 'Ready' && status === 'False')?.message;
  const message = `spec.tls.issuerRef: cert-manager has not issued the certificate ${name} yet${said === undefined ? '' : ` (${said})`}; see kubectl describe certificate ${name}`;
  return { reason: 'CertificateNotIssued', message };
}

/** What pods are made of beside Secrets that the spec names. */
function missingOthers({ cluster, secrets, natsKeys, issuer }: Snapshot): readonly Obstacle[] {
  const { auth, nats } = cluster.spec;
  const found: Obstacle[] = [];
  const names = [nameOf.natsCredentials(cluster), nameOf.natsSystem(cluster)];
  if (nats.managed !== undefined && natsKeys === undefined && names.every((name) => secrets[name])) {
    const message = `the Secrets ${names.join(' and ')} don't hold seeds of nkeys, which the operator has made; restore them, or delete both: others are made, and taken one pod after the other`;
    found.push({ reason: 'NatsCredentialsBroken', message });
  }
  if (auth.serviceAccounts !== undefined && (auth.serviceAccounts.issuer ?? issuer) === undefined) {
    const message =
      'spec.auth.serviceAccounts.issuer: the API server does not tell the operator who signs the tokens of service ' +
      'accounts; say it, as kubectl get --raw /.well-known/openid-configuration does';
    found.push({ reason: 'IssuerUnknown', message });
  }
  return found;
}

function natsSituation(context: Context, snapshot: Snapshot, frozen: boolean): NatsSituation | undefined {
  const { cluster } = context;
  const { managed } = cluster.spec.nats;
  if (managed === undefined) return undefined;
  const rollout = planRollout({
    now: snapshot.now,
    pods: snapshot.natsPods,
    replicas: managed.servers,
    revision: natsRevision(context, managed),
    paused: cluster.metadata.annotations[PAUSE_UPDATE] === 'true' || frozen,
    manual: cluster.spec.update.strategy === 'OnDelete',
    // A server is ready only when all its streams have caught up.
    progressDeadlineSeconds: cluster.spec.update.progressDeadlineSeconds * 3,
  });
  return { servers: managed.servers, pods: snapshot.natsPods, rollout };
}

/** What is ours, is wanted no more, and is in nobody's use. */
function superfluous(
  snapshot: Snapshot,
  wanted: readonly Child[],
  leftovers: readonly Leftover[],
): readonly KubeObject[] {
  const { cluster, children, pods, natsPods } = snapshot;
  const id = ({ kind, metadata }: KubeObject): string => `${kind}/${metadata.name}`;
  const kept = new Set(wanted.map(id));
  const mounted = new Set(
    [...Object.values(pods).flat(), ...natsPods].flatMap(({ configMaps }) => configMaps),
  );
  return children.filter((object) => {
    if (controllerOf(object)?.uid !== cluster.metadata.uid || object.metadata.deletionTimestamp !== undefined)
      return false;
    if (kept.has(id(object))) return false;
    if (object.kind === 'ConfigMap') return !mounted.has(object.metadata.name);
    const leftover = leftovers.find(({ set }) => set === object.metadata.name);
    return object.kind !== 'StatefulSet' || leftover === undefined || leftover.empty;
  });
}

function again({ cluster, pools, nats, obstacles, placement, leaving, rotating }: Situation): number {
  const busy =
    rotating !== undefined ||
    pools.some(isBusy) ||
    placement.pending !== undefined ||
    leaving.length > 0 ||
    (nats !== undefined &&
      (nats.rollout.state === 'next' ||
        nats.rollout.state === 'waiting' ||
        nats.pods.filter(({ ready }) => ready).length < nats.servers));
  if (busy) return BUSY_MS;
  const { mode, intervalSeconds } = cluster.spec.autoscaling;
  return Math.min(
    obstacles.length > 0 ? OBSTACLE_MS : CALM_MS,
    mode === 'Off' ? CALM_MS : intervalSeconds * 1000,
  );
}

function isBusy({ step, rollout, pods, desired, replicas, unsettled }: PoolPlan): boolean {
  return (
    step !== undefined ||
    (unsettled !== undefined && desired > 0) ||
    rollout.state === 'next' ||
    rollout.state === 'waiting' ||
    replicas !== desired ||
    pods.filter(({ ready }) => ready).length < desired
  );
}
