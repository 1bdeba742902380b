import type { DrainingStatus } from '../api/status.ts';
import type { PodView } from './pods.ts';
import { counted, formatTime, parseTime } from './words.ts';

/** Why a broker is to go. */
export type Cause = DrainingStatus['cause'];

/** A broker that is to go, or that is on its way. */
export interface DrainInput {
  /** Unix ms. */
  readonly now: number;
  readonly cause: Cause;
  readonly victim: PodView;
  /** All pods of its pool. */
  readonly pods: readonly PodView[];
  /** The drain under way, as it was kept. */
  readonly drain: DrainingStatus | undefined;
  readonly deadlineSeconds: number;
  readonly onTimeout: 'Force' | 'Hold';
}

/** What is to be done with the broker that is to go. */
export type DrainStep =
  /** Nothing now. */
  | {
      readonly step: 'wait';
      readonly reason: string;
      readonly held: boolean;
      readonly drain?: DrainingStatus;
    }
  /** Ask it (again) to hand over what it has. */
  | { readonly step: 'evacuate'; readonly reason: string; readonly drain: DrainingStatus }
  /** It may go. */
  | { readonly step: 'remove'; readonly reason: string };

/** A pod on a node that has been silent for so long is given up. */
const NODE_LOST_MS = 60_000;

/** Whether a pod runs on a node that has not been heard of for so long that it may be deleted without its say. */
export function isLost({ nodeLostSince }: PodView, now: number): boolean {
  return nodeLostSince !== undefined && now - nodeLostSince > NODE_LOST_MS;
}

/**
 * The next step with a broker that is to go: wait, evacuate or remove, and why. It is emptied first if there is
 * somebody to take over and it is able to hand over.
 *
 * Called again and again with what is observed by then; `drain` is what the former answer said to keep.
 */
export function planDrain(input: DrainInput): DrainStep {
  const { now, victim, pods, cause } = input;
  const others = pods.filter(({ uid }) => uid !== victim.uid);
  const drain = input.drain?.uid === victim.uid ? input.drain : undefined;
  const wait = (reason: string, held = false): DrainStep => ({
    step: 'wait',
    reason,
    held,
    ...(drain === undefined ? {} : { drain }),
  });

  if (victim.deleting && !isLost(victim, now)) return wait(`${victim.name} is stopping`);
  if (isLost(victim, now)) {
    return { step: 'remove', reason: `the node of ${victim.name} has been silent for more than a minute` };
  }
  if (!victim.running) return { step: 'remove', reason: `${victim.name} does not run, so it holds nothing` };

  const unready = others.filter((pod) => !pod.ready && (cause === 'Update' || pod.ordinal < victim.ordinal));
  if (drain === undefined && unready.length > 0) {
    return wait(`${unready[0]!.name} is not ready; until it is, no other broker is taken away`);
  }
  const heirs = others.filter(({ ready, answers }) => ready && answers.capacity?.draining !== true);
  if (heirs.length === 0) {
    return { step: 'remove', reason: `${victim.name} is the only broker: there is nobody to hand over to` };
  }

  const kept = progress(drain ?? begun(input), victim, now);
  const deadline = parseTime(kept.deadline) ?? now;
  const { shards = 0, sessions = 0, leases = 0 } = kept;
  const { drain: answer } = victim.answers;
  if (drain !== undefined && answer?.state === 'drained' && shards === 0) {
    return { step: 'remove', reason: `${victim.name} is empty` };
  }
  const left = `${counted(shards, 'shard')}, ${counted(sessions, 'session')} and ${counted(leases, 'lease')} left`;
  if (now >= deadline) {
    const late = `${victim.name} was not empty within ${input.deadlineSeconds} s: ${left}`;
    if (input.onTimeout === 'Force') return { step: 'remove', reason: `${late}; drain.onTimeout is Force` };
    return {
      step: 'wait',
      held: true,
      reason: `${late}; drain.onTimeout is Hold: raise drain.deadlineSeconds, set Force, or delete the pod`,
      drain: kept,
    };
  }
  if (drain === undefined || answer === undefined || answer.state === 'serving') {
    const { failure } = victim.answers;
    const trouble = failure === undefined ? '' : ` (it could not be asked: ${failure})`;
    return { step: 'evacuate', reason: `${victim.name} is told to hand over${trouble}`, drain: kept };
  }
  return { step: 'wait', held: false, reason: `${victim.name} is handing over: ${left}`, drain: kept };
}

function begun({ victim, cause, now, deadlineSeconds }: DrainInput): DrainingStatus {
  return {
    pod: victim.name,
    uid: victim.uid,
    cause,
    since: formatTime(now),
    deadline: formatTime(now + deadlineSeconds * 1000),
  };
}

/** What is left, and about how long that will take at the pace so far; first figures say nothing of the pace. */
function progress(drain: DrainingStatus, { answers }: PodView, now: number): DrainingStatus {
  const { capacity, drain: answer } = answers;
  if (answer === undefined && capacity === undefined) return drain;
  const left = {
    shards: capacity?.shards.length ?? drain.shards ?? 0,
    sessions: answer?.sessions ?? drain.sessions ?? 0,
    leases: answer?.activeTasks ?? drain.leases ?? 0,
  };
  const same =
    left.shards === drain.shards && left.sessions === drain.sessions && left.leases === drain.leases;
  if (same) return drain;
  const before = (drain.shards ?? 0) + (drain.sessions ?? 0);
  const after = left.shards + left.sessions;
  const elapsed = (now - (parseTime(drain.since) ?? now)) / 1000;
  const { estimatedSeconds: _, ...rest } = drain;
  if (before <= after || elapsed <= 0) return { ...rest, ...left };
  return { ...rest, ...left, estimatedSeconds: Math.ceil((elapsed * after) / (before - after)) };
}
