import type { BrokerClusterStatus, PoolStatus } from '../api/status.ts';
import type { Situation } from './verdicts.ts';

/** What is told as an Event of the cluster. */
export interface PlannedEvent {
  readonly type: 'Normal' | 'Warning';
  /** One word, CamelCase. */
  readonly reason: string;
  readonly message: string;
}

/** What happens between the status that is there and the one to come: each thing once. */
export function eventsOf(
  { cluster, pools, foreignAutoscalers }: Situation,
  next: BrokerClusterStatus,
): readonly PlannedEvent[] {
  const { status: before } = cluster;
  const events: PlannedEvent[] = [];
  const say = (type: PlannedEvent['type'], reason: string, message: string): void =>
    void events.push({ type, reason, message });

  for (const pool of pools) {
    const former = before.pools?.find(({ name }) => name === pool.pool.name);
    const where = pools.length > 1 ? `Pool ${pool.pool.name}: ` : '';
    const change = newChange(
      former,
      next.pools?.find(({ name }) => name === pool.pool.name),
    );
    if (change !== undefined) {
      const what = change.to > change.from ? 'ScalingUp' : 'ScalingDown';
      say('Normal', what, where + change.reason);
    } else if (former !== undefined && former.desired !== pool.desired) {
      const what = pool.desired > former.desired ? 'ScalingUp' : 'ScalingDown';
      say('Normal', what, `${where}${former.desired} → ${pool.desired}: as the spec says`);
    }
    if (pool.drain !== undefined && former?.drain?.uid !== pool.drain.uid) {
      say('Normal', 'Draining', `${pool.drain.pod} is told to hand over what it has`);
    }
    for (const { name } of pool.keep) say('Normal', 'DrainCancelled', `${name} may stay after all`);
    for (const { pod, reason } of pool.remove) say('Normal', 'Removing', `${pod.name}: ${reason}`);
    if (pool.step?.step === 'remove' && pool.remove.length === 0)
      say('Normal', 'Removing', where + pool.step.reason);
  }

  for (const { type, status, reason, message } of next.conditions ?? []) {
    const former = before.conditions?.find((condition) => condition.type === type);
    const changed = former?.status !== status || former.reason !== reason;
    if (!changed) continue;
    if (type === 'Degraded' && status === 'True') say('Warning', reason, message);
    if (type === 'Degraded' && status === 'False' && former?.status === 'True')
      say('Normal', 'Recovered', 'what was wrong is right again');
    if ((type === 'CapacityStale' || type === 'ShardHot') && status === 'True') say('Warning', type, message);
    if (type === 'Available' && status === 'True') say('Normal', 'Available', message);
    if (type === 'Available' && status === 'False' && former?.status === 'True')
      say('Warning', 'Unavailable', message);
    if (type === 'ScalingActive' && foreignAutoscalers.length > 0 && reason === 'ForeignAutoscaler')
      say('Warning', reason, message);
  }
  return events;
}

function newChange(before: PoolStatus | undefined, next: PoolStatus | undefined) {
  const last = next?.scaling?.changes?.at(-1);
  const former = before?.scaling?.changes?.at(-1);
  if (last === undefined || before === undefined) return undefined;
  const same = former?.time === last.time && former.to === last.to;
  return same || before.desired === last.to ? undefined : last;
}
