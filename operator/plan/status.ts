import type { BrokerClusterStatus, PoolStatus } from '../api/status.ts';
import { mergeConditions } from './conditions.ts';
import { defaultPool, host, nameOf, selector } from './context.ts';
import type { PoolPlan } from './pool.ts';
import { verdicts } from './verdicts.ts';
import type { Situation, Verdicts } from './verdicts.ts';

/** Figures follow the load only when they are off by more than this share: every write wakes all who watch. */
const FIGURE_CHANGE = 0.2;

/** The status to be written; equal to the one that is there if nothing has happened. */
export function statusOf(situation: Situation, now: number): BrokerClusterStatus {
  const { cluster, pools, nats, placement } = situation;
  const { status, metadata, spec } = cluster;
  const judged = verdicts(situation);
  const first = pools.find(({ pool }) => pool.name === defaultPool(cluster).name);
  const pods = pools.flatMap((pool) => pool.pods);
  const desired = pools.reduce((sum, pool) => sum + pool.desired, 0);
  return {
    observedGeneration: metadata.generation,
    phase: phaseOf(judged, situation),
    ready: `${pods.filter(({ ready }) => ready).length}/${desired}`,
    brokers: pods.length,
    desiredBrokers: desired,
    replicas: first?.pods.length ?? 0,
    selector: Object.entries(selector(cluster, 'broker', first?.pool.name))
      .map(([name, value]) => `${name}=${value}`)
      .join(','),
    ...figures(status, pools),
    endpoint: `${host(cluster, nameOf.clients(cluster))}:${spec.service.port}`,
    ...(nats === undefined
      ? {}
      : { natsReady: `${nats.pods.filter(({ ready }) => ready).length}/${nats.servers}` }),
    ...(placement.status === undefined ? {} : { placement: placement.status }),
    pools: pools.map((pool) => poolStatus(pool)),
    conditions: [...mergeConditions(status.conditions ?? [], judged, metadata.generation, now)],
  };
}

function poolStatus({ pool, pods, desired, revision, rollout, scale, drain }: PoolPlan): PoolStatus {
  return {
    name: pool.name,
    replicas: pods.length,
    ready: pods.filter(({ ready }) => ready).length,
    updated: rollout.updated,
    desired,
    revision,
    ...(scale === undefined ? {} : { scaling: scale.history }),
    ...(drain === undefined ? {} : { drain }),
  };
}

function phaseOf(judged: Verdicts, { cluster }: Situation): BrokerClusterStatus['phase'] {
  const is = (type: string): boolean => judged.some((each) => each.type === type && each.status === 'True');
  const reason = judged.find(({ type }) => type === 'Progressing')?.reason;
  if (cluster.metadata.deletionTimestamp !== undefined) return 'Deleting';
  if (is('Degraded')) return 'Degraded';
  if (reason === 'Paused' || reason === 'UpdatePaused') return 'Paused';
  if (!is('Available')) return is('Progressing') ? 'Creating' : 'Pending';
  if (!is('Progressing')) return 'Ready';
  return ['Updating', 'NatsUpdating', 'NatsRotating'].includes(reason ?? '') ? 'Updating' : 'Scaling';
}

type Figures = Pick<BrokerClusterStatus, 'agents' | 'tasksPerSecond' | 'load'>;

function figures(before: Figures, pools: readonly PoolPlan[]): Figures {
  const documents = pools.flatMap(({ pods }) =>
    pods.flatMap(({ answers }) => (answers.capacity === undefined ? [] : [answers.capacity])),
  );
  if (documents.length === 0) return pick(before);
  const load = Math.max(...documents.map(({ loadScore }) => loadScore));
  const shown = Number.parseInt(before.load ?? '', 10) / 100;
  return {
    agents: calm(
      before.agents,
      documents.reduce((sum, { activeAgents }) => sum + activeAgents, 0),
    ),
    tasksPerSecond: calm(
      before.tasksPerSecond,
      documents.reduce((sum, { tasksPerSecond }) => sum + tasksPerSecond, 0),
    ),
    // Ten points are as good as the same.
    load: Math.abs(load - shown) < 0.1 ? before.load : `${Math.round(load * 100)}%`,
  };
}

function pick({ agents, tasksPerSecond, load }: Figures): Figures {
  return {
    ...(agents === undefined ? {} : { agents }),
    ...(tasksPerSecond === undefined ? {} : { tasksPerSecond }),
    ...(load === undefined ? {} : { load }),
  };
}

/** The former figure as long as it is about right; the new one with two digits. */
function calm(before: number | undefined, now: number): number {
  const rounded = Number(now.toPrecision(2));
  const value = Math.round(rounded);
  if (before === undefined || (before === 0) !== (value === 0)) return value;
  return Math.abs(now - before) <= FIGURE_CHANGE * before ? before : value;
}
