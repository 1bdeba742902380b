import type { Capacity } from '../../src/wire/capacity.ts';
import type { KubeObject } from '../api/object.ts';
import { REVISION } from './context.ts';
import { parseTime } from './words.ts';

interface ContainerStatus {
  readonly name: string;
  readonly ready?: boolean;
  readonly restartCount?: number;
  readonly state?: {
    readonly running?: object;
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly terminated?: TerminatedState;
  };
  readonly lastState?: { readonly terminated?: TerminatedState };
}

interface TerminatedState {
  readonly exitCode?: number;
  readonly reason?: string;
  readonly message?: string;
}

/** A pod, as far as it is looked at here. */
export interface PodObject extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string;
    readonly volumes?: readonly { readonly configMap?: { readonly name?: string } }[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
      readonly lastTransitionTime?: string;
    }[];
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

/** What keeps a pod from working, in the words of Kubernetes. */
export interface Trouble {
  /** `ImagePullBackOff`, `CrashLoopBackOff`, `Unschedulable`. */
  readonly reason: string;
  readonly message: string;
}

/** What a broker said when it was asked how its drain goes. */
export interface DrainAnswer {
  readonly state: 'serving' | 'draining' | 'drained';
  readonly sessions: number;
  readonly activeTasks: number;
}

/** What a broker told the operator. */
export interface BrokerAnswers {
  readonly capacity?: Capacity | undefined;
  /** When that came: Unix ms. */
  readonly receivedAt?: number | undefined;
  readonly drain?: DrainAnswer | undefined;
  /** Why it could not be asked the last time. */
  readonly failure?: string | undefined;
}

/** A pod of a StatefulSet as the plan sees it. */
export interface PodView {
  readonly name: string;
  readonly uid: string;
  readonly ordinal: number;
  readonly node: string | undefined;
  readonly ip: string | undefined;
  /** What of the spec it was made from. */
  readonly revision: string;
  readonly createdAt: number;
  readonly ready: boolean;
  /** Since when it is ready, or not. Unix ms. */
  readonly since: number;
  /** Its container runs: it may hold something. */
  readonly running: boolean;
  readonly deleting: boolean;
  readonly trouble: Trouble | undefined;
  /** ConfigMaps that it mounts. */
  readonly configMaps: readonly string[];
  readonly answers: BrokerAnswers;
  /** Since when its node has not been heard of, if so. Unix ms. */
  readonly nodeLostSince: number | undefined;
}

/** Waiting for these is not trouble. */
const PATIENCE = new Set(['ContainerCreating', 'PodInitializing', '']);

/** So long a pod may be without a node before that is trouble: volumes are made, nodes are added. In milliseconds. */
const PLACING_MS = 30_000;

/** The view of a pod at a time; `undefined` if its name has no ordinal, so that it is of no StatefulSet. */
export function viewPod(
  pod: PodObject,
  now: number,
  container: string,
  answers: BrokerAnswers = {},
  nodeLostSince?: number,
): PodView | undefined {
  const { metadata, spec, status } = pod;
  const ordinal = /-(\d+)$/.exec(metadata.name)?.[1];
  if (ordinal === undefined) return undefined;
  const condition = status?.conditions?.find(({ type }) => type === 'Ready');
  const own = status?.containerStatuses?.find(({ name }) => name === container);
  const createdAt = parseTime(metadata.creationTimestamp) ?? 0;
  return {
    name: metadata.name,
    uid: metadata.uid ?? '',
    ordinal: Number(ordinal),
    node: spec?.nodeName,
    ip: status?.podIP,
    revision: metadata.annotations?.[REVISION] ?? '',
    createdAt,
    ready: condition?.status === 'True' && metadata.deletionTimestamp === undefined,
    since: parseTime(condition?.lastTransitionTime) ?? createdAt,
    running: own?.state?.running !== undefined,
    deleting: metadata.deletionTimestamp !== undefined,
    trouble: troubleOf(pod, own, now - createdAt),
    configMaps: (spec?.volumes ?? []).flatMap(({ configMap }) =>
      configMap?.name === undefined ? [] : [configMap.name],
    ),
    answers,
    nodeLostSince,
  };
}

function troubleOf(
  { metadata, status }: PodObject,
  own: ContainerStatus | undefined,
  ageMs: number,
): Trouble | undefined {
  // Of one that is to end, having ended is none.
  if (metadata.deletionTimestamp !== undefined) return undefined;
  const waiting = own?.state?.waiting;
  const ended = own?.state?.terminated ?? own?.lastState?.terminated;
  if (waiting !== undefined && !PATIENCE.has(waiting.reason ?? '')) {
    const last = waiting.reason === 'CrashLoopBackOff' ? lastWords(ended) : '';
    return { reason: waiting.reason ?? '', message: last === '' ? (waiting.message ?? '') : last };
  }
  if (own?.state?.terminated !== undefined) {
    const { reason = 'Error' } = own.state.terminated;
    return { reason, message: lastWords(own.state.terminated) };
  }
  const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
  if (scheduled?.status === 'False' && ageMs > PLACING_MS) {
    return { reason: scheduled.reason ?? 'Unschedulable', message: scheduled.message ?? '' };
  }
  return undefined;
}

function lastWords(ended: TerminatedState | undefined): string {
  if (ended === undefined) return '';
  const lines = (ended.message ?? '').trim().split('\n').slice(-3).join(' ');
  return `exit code ${ended.exitCode ?? '?'} (${ended.reason ?? 'Error'})${lines === '' ? '' : `: ${lines.slice(-500)}`}`;
}
