/** How sessions are spread over brokers. */
export type Steering = 'owner' | 'capacity' | 'round-robin' | 'stay';

/** A broker as a place for sessions. */
export interface Berth {
  readonly id: string;
  /** 0 idle to 1 full. */
  readonly loadScore: number;
  readonly sessions: number;
}

/** Differences smaller than these are no reason to move anybody. */
const LOAD_SLACK = 0.2;
const SESSIONS_SLACK = 1.1;

/**
 * The broker, other than this one, that owns most of what the session is attached to, if that is more than half;
 * else `undefined`. `owners` has attachments by broker.
 */
export function homeOf(self: string, owners: ReadonlyMap<string, number>): string | undefined {
  let sum = 0;
  let home = '';
  let most = 0;
  for (const [broker, attachments] of owners) {
    sum += attachments;
    if (attachments <= most) continue;
    most = attachments;
    home = broker;
  }
  return home !== '' && home !== self && most * 2 > sum ? home : undefined;
}

/**
 * Where this broker's sessions should go, and which share of them, so that all are alike: by sessions
 * (`owner`, `round-robin`) or by load (`capacity`). `undefined` if they are alike enough.
 */
export function overflow(
  mode: Steering,
  self: Berth,
  others: readonly Berth[],
): { readonly to: string; readonly share: number } | undefined {
  if (mode === 'stay' || others.length === 0 || self.sessions === 0) return undefined;
  const measure = ({ loadScore, sessions }: Berth): number => (mode === 'capacity' ? loadScore : sessions);
  const least = others.reduce((best, other) => (measure(other) < measure(best) ? other : best));
  const mean = (measure(self) + others.reduce((sum, other) => sum + measure(other), 0)) / (others.length + 1);
  const excess = measure(self) - mean;
  const enough =
    mode === 'capacity'
      ? measure(self) - measure(least) > LOAD_SLACK
      : self.sessions > mean * SESSIONS_SLACK + 1;
  if (!enough || excess <= 0) return undefined;
  return { to: least.id, share: excess / measure(self) };
}
