import type { AutoscalingSpec } from '../api/spec.ts';
import type { ScalingStatus } from '../api/status.ts';
import { formatTime, parseTime } from './words.ts';

interface Moment {
  /** Unix ms. */
  readonly now: number;
  readonly spec: AutoscalingSpec;
  readonly current: number;
}

interface Past extends Moment {
  readonly history: ScalingStatus | undefined;
}

type Changes = NonNullable<ScalingStatus['changes']>;
type Recommendations = NonNullable<ScalingStatus['recommendations']>;

/** So many changes are kept for people, whatever the policies need. */
const KEPT_CHANGES = 10;
const MAX_KEPT = 100;

/**
 * The number that the stabilisation windows let through: on the way down the largest that was asked for within the
 * window, on the way up the smallest. What was asked for once is asked for until something else is.
 */
export function stabilized(recommended: number, { now, spec, current, history }: Past): number {
  let up = recommended;
  let down = recommended;
  const asked: Recommendations = history?.recommendations ?? [];
  // Whoever has forgotten what was asked for takes the present number for it.
  if (asked.length === 0 && spec.scaleDown.stabilizationWindowSeconds > 0) down = Math.max(down, current);
  asked.forEach(({ replicas }, index) => {
    const until = parseTime(asked[index + 1]?.time) ?? now;
    if (until > now - spec.scaleUp.stabilizationWindowSeconds * 1000) up = Math.min(up, replicas);
    if (until > now - spec.scaleDown.stabilizationWindowSeconds * 1000) down = Math.max(down, replicas);
  });
  let replicas = current;
  if (replicas < up) replicas = up;
  if (replicas > down) replicas = down;
  return replicas;
}

/** The number that the policies allow now, and which of them decided. */
export function limited(
  wished: number,
  { now, spec, current, history }: Past,
): { readonly replicas: number; readonly policy: string } {
  if (wished === current) return { replicas: wished, policy: '' };
  const up = wished > current;
  const rules = up ? spec.scaleUp : spec.scaleDown;
  if (rules.selectPolicy === 'Disabled') {
    return { replicas: current, policy: `${up ? 'scaleUp' : 'scaleDown'}.selectPolicy Disabled` };
  }
  const changes: Changes = history?.changes ?? [];
  const limits = rules.policies.map(({ type, value, periodSeconds }) => {
    const since = now - periodSeconds * 1000;
    const lately = changes.filter(({ time }) => (parseTime(time) ?? 0) > since);
    const start = current - lately.reduce((sum, { from, to }) => sum + to - from, 0);
    const policy = `${value}${type === 'Percent' ? ' %' : ''} per ${periodSeconds} s`;
    if (up) {
      const limit = type === 'Pods' ? start + value : Math.ceil(start * (1 + value / 100));
      return { limit, policy };
    }
    const limit = type === 'Pods' ? start - value : Math.floor(start * (1 - value / 100));
    return { limit, policy };
  });
  if (limits.length === 0) return { replicas: wished, policy: '' };
  const most = (rules.selectPolicy === 'Max') === up;
  const chosen = limits.reduce((best, each) =>
    (most ? each.limit > best.limit : each.limit < best.limit) ? each : best,
  );
  const replicas = up
    ? Math.max(current, Math.min(wished, chosen.limit))
    : Math.min(current, Math.max(wished, chosen.limit));
  return { replicas, policy: chosen.policy };
}

/** What is to be kept: the same object as before if nothing new was asked for and nothing decided. */
export function remembered(
  history: ScalingStatus | undefined,
  decision: Moment & {
    readonly replicas: number;
    readonly recommended: number;
    readonly reason: string;
    readonly metrics: NonNullable<ScalingStatus['metrics']>;
  },
): ScalingStatus {
  const { now, spec, current, replicas, recommended, reason, metrics } = decision;
  const before: Recommendations = history?.recommendations ?? [];
  const asked = before.at(-1)?.replicas !== recommended;
  if (history !== undefined && !asked && replicas === current) return history;
  const time = formatTime(now);
  const changes: Changes = history?.changes ?? [];
  return {
    recommended,
    reason,
    metrics,
    ...(replicas === current
      ? history?.lastScaleTime === undefined
        ? {}
        : { lastScaleTime: history.lastScaleTime }
      : { lastScaleTime: time }),
    recommendations: asked
      ? forget(
          [...before, ...seed(before, current, recommended, time), { time, replicas: recommended }],
          now,
          spec,
        )
      : before,
    changes:
      replicas === current
        ? changes
        : [...recent(changes, now, spec), { time, from: current, to: replicas, reason }],
  };
}

/** The first thing that is kept is what there was. */
function seed(before: Recommendations, current: number, recommended: number, time: string): Recommendations {
  return before.length === 0 && current !== recommended ? [{ time, replicas: current }] : [];
}

function forget(asked: Recommendations, now: number, spec: AutoscalingSpec): Recommendations {
  const window = Math.max(spec.scaleUp.stabilizationWindowSeconds, spec.scaleDown.stabilizationWindowSeconds);
  const since = now - window * 1000;
  return asked.filter((_, index) => (parseTime(asked[index + 1]?.time) ?? now) >= since).slice(-MAX_KEPT);
}

function recent(changes: Changes, now: number, spec: AutoscalingSpec): Changes {
  const periods = [...spec.scaleUp.policies, ...spec.scaleDown.policies].map(
    ({ periodSeconds }) => periodSeconds,
  );
  const since = now - Math.max(0, ...periods) * 1000;
  return changes
    .filter(({ time }, index) => index >= changes.length - KEPT_CHANGES + 1 || (parseTime(time) ?? 0) > since)
    .slice(-MAX_KEPT);
}
