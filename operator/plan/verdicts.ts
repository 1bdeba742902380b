import type { BrokerCluster } from '../api/brokercluster.ts';
import type { BrokerClusterStatus } from '../api/status.ts';
import type { Verdict } from './conditions.ts';
import { PAUSE } from './context.ts';
import type { PodView, Trouble } from './pods.ts';
import type { PoolPlan } from './pool.ts';
import type { Rollout } from './rollout.ts';
import { amount, counted, listed } from './words.ts';

/** What conditions are judged by. Messages name nothing that changes all the time: each change is a write. */
export interface Situation {
  readonly cluster: BrokerCluster;
  readonly pools: readonly PoolPlan[];
  readonly nats: NatsSituation | undefined;
  /** What the exchange of the credential with managed NATS waits for, if one is under way. */
  readonly rotating: string | undefined;
  /** What must be put right by a person before anything can go on, each with its remedy. */
  readonly obstacles: readonly Obstacle[];
  /** What the placement rules wait for, if the brokers don't go by them yet, and what is kept of them. */
  readonly placement: {
    readonly pending: string | undefined;
    readonly status: BrokerClusterStatus['placement'];
  };
  /** Pools that the spec has no more, and that are not gone yet. */
  readonly leaving: readonly string[];
  /** Names of HorizontalPodAutoscalers that are aimed at this cluster. */
  readonly foreignAutoscalers: readonly string[];
}

/** The managed NATS servers. */
export interface NatsSituation {
  readonly servers: number;
  readonly pods: readonly PodView[];
  readonly rollout: Rollout;
}

/** Something that only a person can put right. */
export interface Obstacle {
  readonly reason: string;
  readonly message: string;
}

/** Whether agents are served: a broker of every pool is ready. */
export function available({ pools, obstacles }: Situation): Verdict {
  const type = 'Available';
  const without = pools.filter(({ pods, desired }) => desired > 0 && !pods.some(({ ready }) => ready));
  if (pools.every(({ desired }) => desired === 0)) {
    return {
      type,
      status: 'False',
      reason: 'NoBrokers',
      message: 'replicas is 0: there are to be no brokers',
    };
  }
  if (without.length === 0) {
    return { type, status: 'True', reason: 'BrokersReady', message: 'every pool has brokers that are ready' };
  }
  const names = listed(without.map(({ pool }) => pool.name));
  const hint = obstacles.length > 0 ? ', see Degraded' : '';
  const message = `no broker is ready in pool ${names}${hint}`;
  return { type, status: 'False', reason: 'NoBrokerReady', message };
}

/** Whether something is on its way to what the spec says. */
export function progressing({ cluster, pools, nats, rotating, placement, leaving }: Situation): Verdict {
  const type = 'Progressing';
  if (cluster.metadata.annotations[PAUSE] === 'true') {
    return {
      type,
      status: 'False',
      reason: 'Paused',
      message: `nothing is changed while the annotation ${PAUSE} is true`,
    };
  }
  const stuck = [...pools.map(({ rollout }) => rollout), ...(nats === undefined ? [] : [nats.rollout])].find(
    ({ state }) => state === 'stuck' || state === 'paused' || state === 'manual',
  );
  if (stuck !== undefined && 'reason' in stuck) {
    const reason = { stuck: 'UpdateStuck', paused: 'UpdatePaused', manual: 'UpdateManual' }[
      stuck.state as 'stuck'
    ];
    return { type, status: 'False', reason, message: stuck.reason };
  }
  if (nats !== undefined) {
    const ready = nats.pods.filter((pod) => pod.ready).length;
    if (ready < nats.servers) {
      const message = `${ready} of ${counted(nats.servers, 'NATS server')} are ready`;
      return { type, status: 'True', reason: 'NatsStarting', message };
    }
    if (nats.rollout.state !== 'done') {
      return { type, status: 'True', reason: 'NatsUpdating', message: nats.rollout.reason };
    }
  }
  for (const { pool, desired, replicas, pods, rollout, step } of pools) {
    const where = pools.length > 1 ? `pool ${pool.name}: ` : '';
    if (rollout.state !== 'done') {
      const message = step === undefined ? ('reason' in rollout ? rollout.reason : '') : stepText(step);
      return { type, status: 'True', reason: 'Updating', message: where + message };
    }
    if (replicas > desired || pods.length > desired) {
      const message = `${where}from ${pods.length} brokers down to ${desired}${step === undefined ? '' : `: ${stepText(step)}`}`;
      return { type, status: 'True', reason: 'ScalingDown', message };
    }
    const ready = pods.filter((pod) => pod.ready).length;
    if (ready < desired) {
      const message = `${where}${ready} of ${counted(desired, 'broker')} ready`;
      return { type, status: 'True', reason: 'Starting', message };
    }
  }
  for (const { pool, desired, unsettled } of pools) {
    if (unsettled === undefined || desired === 0) continue;
    const where = pools.length > 1 ? `pool ${pool.name}: ` : '';
    return { type, status: 'True', reason: 'ShardsMoving', message: where + calm(unsettled) };
  }
  if (placement.pending !== undefined) {
    return { type, status: 'True', reason: 'Placing', message: placement.pending };
  }
  if (leaving.length > 0) {
    const message = `pool ${listed(leaving)} is no more in the spec, and goes when nothing is left in it`;
    return { type, status: 'True', reason: 'PoolEmptying', message };
  }
  if (rotating !== undefined) {
    const message = `the credential of the brokers with NATS is being exchanged: ${rotating}`;
    return { type, status: 'True', reason: 'NatsRotating', message };
  }
  return { type, status: 'False', reason: 'Complete', message: 'all is as the spec says' };
}

/** Without how many of how many, which changes all the time. */
function calm(unsettled: string): string {
  return unsettled.replace(/^\d+ of \d+/, 'some');
}

function stepText(step: NonNullable<PoolPlan['step']>): string {
  // What is left changes all the time and is in status.pools[].drain.
  return step.step === 'wait' && !step.held ? step.reason.replace(/: \d.*$/, '') : step.reason;
}

/** Whether a person has to do something. */
export function degraded({ pools, nats, obstacles }: Situation): Verdict {
  const type = 'Degraded';
  const found = [...obstacles];
  for (const { rollout, pods, step } of pools) {
    if (rollout.state === 'stuck') {
      const message = `${rollout.reason}; ${remedy(rollout.trouble)}`;
      found.push({ reason: rollout.trouble.reason, message });
    } else found.push(...troubles(pods));
    if (step?.step === 'wait' && step.held) found.push({ reason: 'DrainTimedOut', message: step.reason });
  }
  if (nats !== undefined) found.push(...troubles(nats.pods));
  const [first] = found;
  if (first === undefined) {
    return { type, status: 'False', reason: 'AsExpected', message: 'nothing is known to be wrong' };
  }
  const message = [...new Set(found.map((each) => each.message))].slice(0, 5).join('. ');
  return { type, status: 'True', reason: first.reason, message };
}

function* troubles(pods: readonly PodView[]): Generator<Obstacle> {
  for (const { name, ready, trouble } of pods) {
    if (ready || trouble === undefined) continue;
    const said = trouble.message === '' ? '' : `: ${trouble.message}`;
    yield {
      reason: trouble.reason,
      message: `${name} does not work, ${trouble.reason}${said}; ${remedy(trouble)}`,
    };
  }
}

function remedy({ reason, message }: Trouble): string {
  if (reason === 'Unschedulable' && /persistentvolumeclaim/i.test(message)) {
    return 'see kubectl get pvc: name a storage class in nats.managed.volume.storageClassName, or make one the default';
  }
  switch (reason) {
    case 'ImagePullBackOff':
    case 'ErrImagePull':
    case 'ErrImageNeverPull':
    case 'InvalidImageName':
      return 'check the image in the spec, and spec.imagePullSecrets';
    case 'Unschedulable':
      return 'give the pool smaller resources or another topology, or add nodes';
    case 'CreateContainerConfigError':
      return 'make the Secret or ConfigMap that it names';
    case 'OOMKilled':
      return 'raise resources.limits.memory';
    default:
      return 'see kubectl logs --previous of that pod';
  }
}

/** Whether autoscaling decides the number of brokers. */
export function scalingActive({ cluster, pools, foreignAutoscalers }: Situation): Verdict {
  const type = 'ScalingActive';
  const { mode } = cluster.spec.autoscaling;
  if (mode === 'Off') {
    return { type, status: 'False', reason: 'Off', message: 'autoscaling.mode is Off: replicas decides' };
  }
  if (mode === 'Auto' && foreignAutoscalers.length > 0) {
    const message =
      `HorizontalPodAutoscaler ${listed(foreignAutoscalers)} sets spec.replicas, which does not count in mode Auto: ` +
      'delete it, or set autoscaling.mode to Off';
    return { type, status: 'True', reason: 'ForeignAutoscaler', message };
  }
  const blind = pools.find(({ scale }) => scale?.limit === 'unknown');
  if (blind !== undefined) {
    const message = `no broker of pool ${blind.pool.name} has told its load`;
    return { type, status: 'False', reason: 'CapacityUnknown', message };
  }
  const where = (name: string): string => (pools.length > 1 ? `${name}: ` : '');
  const reasons = pools.map(({ pool, scale }) => where(pool.name) + (scale?.history.reason ?? ''));
  return {
    type,
    status: 'True',
    reason: mode === 'Auto' ? 'Following' : 'Recommending',
    message: reasons.join('; '),
  };
}

/** Whether brokers don't tell their load. */
export function capacityStale({ pools }: Situation): Verdict {
  const type = 'CapacityStale';
  const stale = pools.flatMap(({ scale }) => scale?.stale ?? []);
  if (stale.length === 0) {
    return { type, status: 'False', reason: 'Fresh', message: 'every ready broker tells its load' };
  }
  const failures = pools
    .flatMap(({ pods }) => pods)
    .flatMap(({ name, answers }) =>
      stale.includes(name) && answers.failure !== undefined ? [answers.failure] : [],
    );
  const why = failures.length > 0 ? ` (${failures[0]})` : '';
  const message = `${listed(stale)} did not answer GET /capacity lately${why}; until then no broker is taken away for low load`;
  return { type, status: 'True', reason: 'NoAnswer', message };
}

/** Whether one shard alone is more than a broker should carry. */
export function shardHot({ cluster, pools }: Situation): Verdict {
  const type = 'ShardHot';
  const hot = pools.flatMap(({ scale }) => scale?.hot ?? []).map(({ shard }) => String(shard));
  if (hot.length === 0) {
    return { type, status: 'False', reason: 'Even', message: 'no shard is too much for one broker' };
  }
  const target = amount(cluster.spec.autoscaling.targets.tasksPerSecond);
  const message =
    `shard ${listed(hot)} alone gets more than ${target} tasks/s, and more brokers don't help: give its hot task type ` +
    'a rule with spread, or its agents a pool of their own';
  return { type, status: 'True', reason: 'AboveTarget', message };
}

/** Whether a broker is being emptied. */
export function draining({ pools }: Situation): Verdict {
  const type = 'Draining';
  const drains = pools.flatMap(({ drain }) => (drain === undefined ? [] : [drain]));
  if (drains.length === 0)
    return { type, status: 'False', reason: 'None', message: 'no broker is being emptied' };
  const causes = { ScaleDown: 'fewer are needed', Update: 'it is to be replaced' };
  const message = drains.map(({ pod, cause }) => `${pod} is being emptied: ${causes[cause]}`).join('; ');
  return { type, status: 'True', reason: drains[0]!.cause, message };
}

/** What the conditions say, before they are compared with what they said. */
export type Verdicts = readonly Verdict[];

/** All of them. */
export function verdicts(situation: Situation): Verdicts {
  return [available, progressing, degraded, scalingActive, capacityStale, shardHot, draining].map((judge) =>
    judge(situation),
  );
}
