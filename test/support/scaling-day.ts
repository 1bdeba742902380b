import { decideScale } from '../../operator/plan/scale.ts';
import type { ScaleInput } from '../../operator/plan/scale.ts';
import type { ScalingStatus } from '../../operator/api/status.ts';
import { assign, UNASSIGNED } from '../../src/core/assignment.ts';
import type { Capacity } from '../../src/wire/capacity.ts';

/** What happens at a time of the day. */
export interface Moment {
  /** Minutes since midnight. */
  readonly minute: number;
  /** Tasks per second, of all shards together. */
  readonly load: number;
  /** Whether the brokers can be asked. */
  readonly told: boolean;
}

/** A moment and what was decided then. */
export interface Decided extends Moment {
  readonly replicas: number;
  /** Tasks per second of the busiest broker. */
  readonly busiest: number;
  readonly reason: string;
}

/** Unix ms: 2026-01-01T00:00:00Z. */
const MIDNIGHT = 1_767_225_600_000;
const MINUTE_MS = 60_000;
/** Looks a minute, as with intervalSeconds 15. */
const LOOKS = 4;

/** A day of an office: a slow morning, a busy noon, a burst of two minutes, a broken network, a batch in the evening. */
export function officeDay(): Moment[] {
  return Array.from({ length: 24 * 60 * LOOKS }, (_, look) => {
    const minute = look / LOOKS;
    const hour = minute / 60;
    const bell = (at: number, width: number, height: number): number =>
      height * Math.exp(-(((hour - at) / width) ** 2));
    const wobble = 1 + 0.08 * Math.sin(minute / 3) + 0.05 * Math.sin(minute * 1.7);
    const burst = minute >= 510 && minute < 512 ? 150_000 : 0;
    const batch = hour >= 20 && hour < 21.5 ? 120_000 : 0;
    const load = (8000 + bell(11, 2, 170_000) + bell(15.5, 1.8, 210_000)) * wobble + burst + batch;
    return { minute, load: Math.round(load), told: !(hour >= 17.5 && hour < 18.25) };
  });
}

/** What autoscaling does through the day, with a new broker serving at its next look. */
export function replay(
  day: readonly Moment[],
  spec: ScaleInput['spec'],
  pool: ScaleInput['pool'],
): readonly Decided[] {
  let current = pool.minReplicas;
  let history: ScalingStatus | undefined;
  let spread = UNASSIGNED;
  let receivedAt = 0;
  let heard: readonly Capacity[] = [];
  return day.map((moment) => {
    const now = MIDNIGHT + Math.round(moment.minute * MINUTE_MS);
    const members = Array.from({ length: current }, (_, at) => ({
      id: `hub-default-${at}`,
      version: '',
      draining: false,
    }));
    spread = assign(spread, members, { shards: pool.shards });
    const documents = members.map(({ id }) => documentOf(id, spread.owners, moment.load / pool.shards, now));
    if (moment.told) [heard, receivedAt] = [documents, now];
    const decision = decideScale({
      now,
      spec,
      pool,
      current,
      history,
      brokers: members.map(({ id }) => ({
        pod: id,
        ready: true,
        readySince: 0,
        document: heard.find(({ broker }) => broker === id),
        receivedAt,
      })),
    });
    const busiest = Math.max(...documents.map(({ tasksPerSecond }) => tasksPerSecond));
    current = decision.replicas;
    history = decision.history;
    return { ...moment, replicas: current, busiest, reason: decision.reason };
  });
}

function documentOf(broker: string, owners: readonly string[], each: number, time: number): Capacity {
  const shards = owners.flatMap((owner, shard) =>
    owner === broker ? [{ shard, queued: 0, bytes: 0, tasksPerSecond: each }] : [],
  );
  return {
    broker,
    version: '',
    time,
    activeAgents: 0,
    activeTasks: 0,
    tasksPerSecond: each * shards.length,
    resultsPerSecond: 0,
    progressPerSecond: 0,
    messagesPerSecond: 0,
    cpu: 0,
    memory: 100 * 2 ** 20,
    memoryHighWater: 700 * 2 ** 20,
    eventLoopUtilization: 0,
    openConnections: 0,
    backlog: 0,
    oldestTaskAgeSeconds: 0,
    draining: false,
    loadScore: 0,
    shards,
  };
}
