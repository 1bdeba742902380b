import type { Condition } from '../api/status.ts';
import { formatTime } from './words.ts';

/** What a condition is about. */
export type ConditionType =
  'Available' | 'Progressing' | 'Degraded' | 'ScalingActive' | 'CapacityStale' | 'ShardHot' | 'Draining';

/** What is judged, before it is compared with what was. */
export interface Verdict {
  readonly type: ConditionType;
  readonly status: Condition['status'];
  /** One word, CamelCase. */
  readonly reason: string;
  /** Why, and what to do. */
  readonly message: string;
}

/**
 * The conditions as they are to be written: `lastTransitionTime` changes only with `status`. Conditions of others
 * stay as they are.
 */
export function mergeConditions(
  before: readonly Condition[],
  verdicts: readonly Verdict[],
  generation: number,
  now: number,
): readonly Condition[] {
  const merged = verdicts.map((verdict): Condition => {
    const former = before.find(({ type }) => type === verdict.type);
    const since = former?.status === verdict.status ? former.lastTransitionTime : formatTime(now);
    return { ...verdict, observedGeneration: generation, lastTransitionTime: since };
  });
  const own = new Set<string>(verdicts.map(({ type }) => type));
  return [...merged, ...before.filter(({ type }) => !own.has(type))];
}
