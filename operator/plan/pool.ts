import type { KubeObject } from '../api/object.ts';
import type { PoolSpec } from '../api/spec.ts';
import type { DrainingStatus, PoolStatus } from '../api/status.ts';
import { defaultPool, PAUSE_UPDATE, shardsOf } from './context.ts';
import type { Context } from './context.ts';
import { isLost, planDrain } from './drain.ts';
import type { DrainStep } from './drain.ts';
import type { PodView } from './pods.ts';
import { parseQuantity } from './quantity.ts';
import { brokerRevision } from './resources/broker-set.ts';
import { planRollout } from './rollout.ts';
import type { Rollout } from './rollout.ts';
import { decideScale } from './scale.ts';
import type { ScaleDecision } from './scale.ts';

/** A StatefulSet, as far as it is looked at here. */
export interface SetObject extends KubeObject {
  readonly spec?: {
    readonly replicas?: number;
    readonly template?: {
      readonly spec?: { readonly containers?: readonly { name: string; image?: string }[] };
    };
  };
  readonly status?: { readonly observedGeneration?: number };
}

/** What there is of a pool. */
export interface PoolState {
  readonly set: SetObject | undefined;
  readonly pods: readonly PodView[];
}

/** What is to be done about the brokers of a pool. */
export interface PoolPlan {
  readonly pool: PoolSpec;
  /** Brokers that there are to be in the end. */
  readonly desired: number;
  /** What the StatefulSet is to have now: it goes down by one, when a broker may go. */
  readonly replicas: number;
  readonly revision: string;
  readonly pods: readonly PodView[];
  readonly scale: ScaleDecision | undefined;
  readonly rollout: Rollout;
  /** What becomes of the broker that is to go, if one is. */
  readonly step: DrainStep | undefined;
  readonly drain: DrainingStatus | undefined;
  /** Pods to be asked to hand over what they have. */
  readonly evacuate: readonly PodView[];
  /** Pods to be told that they may stay after all. */
  readonly keep: readonly PodView[];
  readonly remove: readonly { readonly pod: PodView; readonly force: boolean; readonly reason: string }[];
  /** Why shards are not where they should be; absent if they are. */
  readonly unsettled: string | undefined;
}

/** What is to be done about the brokers of a pool. `frozen`: none of them is to be replaced now. */
export function planPool(
  context: Context,
  pool: PoolSpec,
  state: PoolState,
  now: number,
  frozen: boolean,
): PoolPlan {
  const { cluster } = context;
  const { spec, status, metadata } = cluster;
  const former = status.pools?.find(({ name }) => name === pool.name);
  const scale = decide(context, pool, state, former, now);
  const desired =
    scale !== undefined && spec.autoscaling.mode === 'Auto' ? scale.replicas : wished(context, pool);
  const size = state.set?.spec?.replicas ?? desired;
  const revision = brokerRevision(context, pool);
  const unsettled = unsettledShards(state.pods, shardsOf(cluster, pool));
  const leaving = state.pods.filter(({ ordinal }) => ordinal >= size);
  const rollout = planRollout({
    now,
    pods: state.pods.filter(({ ordinal }) => ordinal < size),
    replicas: size,
    revision,
    paused: metadata.annotations[PAUSE_UPDATE] === 'true' || frozen,
    manual: spec.update.strategy === 'OnDelete',
    progressDeadlineSeconds: spec.update.progressDeadlineSeconds,
    unsettled,
  });

  const lost = state.pods.filter((pod) => isLost(pod, now));
  const remove: { pod: PodView; force: boolean; reason: string }[] = lost
    .filter((pod) => pod.deleting || lost.length * 2 <= state.pods.length)
    .map((pod) => ({
      pod,
      force: true,
      reason: `its node ${pod.node ?? ''} has been silent for more than a minute`,
    }));
  const result = { pool, desired, revision, pods: state.pods, scale, rollout, unsettled };
  const base = { replicas: Math.max(size, desired), step: undefined, drain: undefined, evacuate: [], remove };
  const stays = (victim: PodView | undefined): readonly PodView[] =>
    state.pods.filter(
      ({ uid, deleting, ordinal }) =>
        uid === former?.drain?.uid && uid !== victim?.uid && !deleting && ordinal < size,
    );

  const ask = (victim: PodView, cause: DrainingStatus['cause']): DrainStep =>
    planDrain({
      now,
      cause,
      victim,
      pods: state.pods.filter(({ ordinal }) => ordinal < size),
      drain: former?.drain,
      deadlineSeconds: spec.drain.deadlineSeconds,
      onTimeout: spec.drain.onTimeout,
    });

  if (desired < size) {
    if (leaving.length > 0) {
      const reason = `${leaving[0]!.name} is stopping`;
      return { ...result, ...base, keep: stays(undefined), step: { step: 'wait', reason, held: false } };
    }
    const victim = state.pods.find(({ ordinal }) => ordinal === size - 1);
    const step: DrainStep =
      victim === undefined
        ? { step: 'remove', reason: `there is no pod ${size - 1}` }
        : ask(victim, 'ScaleDown');
    return {
      ...result,
      ...base,
      replicas: step.step === 'remove' ? size - 1 : size,
      step,
      drain: 'drain' in step ? step.drain : undefined,
      evacuate: step.step === 'evacuate' && victim !== undefined ? [victim] : [],
      keep: stays(victim),
    };
  }

  // A replacement that has begun goes on, even if something else has become the next by now.
  const begun = state.pods.find(
    (pod) => former?.drain?.cause === 'Update' && pod.uid === former.drain.uid && pod.revision !== revision,
  );
  const moving = rollout.state === 'next' || rollout.state === 'waiting';
  const victim = moving && begun !== undefined ? begun : rollout.state === 'next' ? rollout.pod : undefined;
  if (victim === undefined || leaving.length > 0) return { ...result, ...base, keep: stays(undefined) };
  const step: DrainStep =
    rollout.state === 'next' && rollout.useless && rollout.pod.uid === victim.uid
      ? { step: 'remove', reason: rollout.reason }
      : ask(victim, 'Update');
  return {
    ...result,
    ...base,
    step,
    drain: 'drain' in step ? step.drain : undefined,
    evacuate: step.step === 'evacuate' ? [victim] : [],
    keep: stays(victim),
    remove:
      step.step === 'remove' && !remove.some(({ pod }) => pod.uid === victim.uid)
        ? [...remove, { pod: victim, force: isLost(victim, now), reason: step.reason }]
        : remove,
  };
}

/** What the spec asks for where autoscaling does not decide. */
function wished({ cluster }: Context, pool: PoolSpec): number {
  const replicas =
    pool.name === defaultPool(cluster).name ? cluster.spec.replicas : (pool.replicas ?? pool.minReplicas);
  return Math.min(replicas, shardsOf(cluster, pool));
}

function decide(
  context: Context,
  pool: PoolSpec,
  { set, pods }: PoolState,
  former: PoolStatus | undefined,
  now: number,
): ScaleDecision | undefined {
  const { cluster } = context;
  const { autoscaling } = cluster.spec;
  if (autoscaling.mode === 'Off') return undefined;
  const begin = wished(context, pool);
  const { minReplicas, maxReplicas } = pool;
  const current =
    autoscaling.mode === 'Recommend'
      ? begin
      : (former?.desired ?? set?.spec?.replicas ?? Math.max(minReplicas, Math.min(maxReplicas, begin)));
  const { cpu = pool.resources.limits?.['cpu'] ?? 1 } = pool.resources.requests ?? {};
  return decideScale({
    now,
    spec: autoscaling,
    pool: { minReplicas, maxReplicas, shards: shardsOf(cluster, pool), cpuCores: parseQuantity(cpu) ?? 1 },
    current,
    brokers: pods
      .filter(({ deleting }) => !deleting)
      .toSorted((a, b) => a.ordinal - b.ordinal)
      .map(({ name, ready, since, answers }) => ({
        pod: name,
        // One that drains is not ready, and tells its load all the same.
        ready: ready || answers.capacity?.draining === true,
        readySince: ready ? since : undefined,
        document: answers.capacity,
        receivedAt: answers.receivedAt,
      })),
    history: former?.scaling,
  });
}

/** What is wrong with who serves which shard of a pool; absent if each is served by exactly one broker. */
function unsettledShards(pods: readonly PodView[], shards: number): string | undefined {
  const serving = pods.filter(({ ready }) => ready);
  const mute = serving.find(({ answers }) => answers.capacity === undefined);
  if (mute !== undefined) return `${mute.name} has not told yet which shards it has`;
  const owners = new Map<number, number>();
  for (const { answers } of pods) {
    for (const { shard } of answers.capacity?.shards ?? []) owners.set(shard, (owners.get(shard) ?? 0) + 1);
  }
  const unserved = shards - owners.size;
  if (unserved > 0) return `${unserved} of ${shards} shards are without an owner`;
  const moving = [...owners].filter(([, count]) => count > 1).length;
  return moving > 0 ? `${moving} of ${shards} shards are changing hands` : undefined;
}
