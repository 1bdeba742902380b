import type { PodView, Trouble } from './pods.ts';
import { counted } from './words.ts';

/** What there is of a set of pods, and what they are to be. */
export interface RolloutInput {
  /** Unix ms. */
  readonly now: number;
  readonly pods: readonly PodView[];
  /** Pods that there are to be. */
  readonly replicas: number;
  /** What pods are to be made from. */
  readonly revision: string;
  readonly paused: boolean;
  /** Whether pods are replaced at all, or when somebody else deletes them. */
  readonly manual: boolean;
  readonly progressDeadlineSeconds: number;
  /** Why the cluster as a whole is not settled after the last replacement; absent if it is. */
  readonly unsettled?: string | undefined;
}

/** How far the roll is. */
export type Rollout =
  | { readonly state: 'done'; readonly updated: number }
  | { readonly state: 'paused' | 'manual' | 'waiting'; readonly updated: number; readonly reason: string }
  /** It goes no further by itself: pods of the new revision don't work. */
  | { readonly state: 'stuck'; readonly updated: number; readonly reason: string; readonly trouble: Trouble }
  /** This pod is the next to be replaced; a useless one at once, as it holds nothing that could be handed over. */
  | {
      readonly state: 'next';
      readonly updated: number;
      readonly reason: string;
      readonly pod: PodView;
      readonly useless: boolean;
    };

/** Troubles that time does not mend: one has to change the spec, or what it refers to. */
const HOPELESS = new Set([
  'ImagePullBackOff',
  'ErrImagePull',
  'ErrImageNeverPull',
  'InvalidImageName',
  'CreateContainerConfigError',
  'CreateContainerError',
  'RunContainerError',
  'CrashLoopBackOff',
]);

/**
 * Which pod is to be replaced next: one at a time, those that don't work first, else the highest ordinal, and only
 * while all others are ready.
 */
export function planRollout(input: RolloutInput): Rollout {
  const { pods, revision, replicas } = input;
  const outdated = pods.filter((pod) => pod.revision !== revision);
  const fresh = pods.filter((pod) => pod.revision === revision);
  const updated = fresh.length;
  if (outdated.length === 0) return { state: 'done', updated };
  const remaining = `${counted(outdated.length, 'pod')} of ${pods.length} still to be replaced`;
  if (input.paused) return { state: 'paused', updated, reason: `the update is paused, ${remaining}` };
  if (input.manual) {
    return {
      state: 'manual',
      updated,
      reason: `${remaining}: delete them, or set update.strategy to OneByOne`,
    };
  }

  const broken = fresh.find((pod) => !pod.ready && isBroken(pod, input));
  // Those that don't work are replaced whatever else is wrong: it costs nothing, and may be the remedy.
  const useless = outdated.filter((pod) => !pod.ready && !pod.deleting && isUseless(pod, input));
  if (broken === undefined && useless.length > 0) {
    const pod = highest(useless);
    return {
      state: 'next',
      updated,
      pod,
      useless: true,
      reason: `${pod.name} is outdated and does not work`,
    };
  }
  if (broken !== undefined) {
    const trouble = broken.trouble ?? {
      reason: 'NotReady',
      message: `not ready within ${input.progressDeadlineSeconds} s`,
    };
    const message = trouble.message === '' ? '' : `: ${trouble.message}`;
    return {
      state: 'stuck',
      updated,
      trouble,
      reason: `the update stops at ${broken.name}, ${trouble.reason}${message}; the other brokers go on as they are`,
    };
  }
  // Of one that was told to go nothing may be known any more, if the operator ended before it could delete it.
  const left = outdated.find((pod) => !pod.ready && !pod.deleting && pod.answers.capacity?.draining === true);
  const unready = pods.find((pod) => !pod.ready && pod !== left);
  if (unready === undefined && left !== undefined) {
    return {
      state: 'next',
      updated,
      pod: left,
      useless: false,
      reason: `${left.name} is being emptied, ${remaining}`,
    };
  }
  if (unready !== undefined) {
    const state = unready.deleting ? 'is stopping' : 'is not ready yet';
    return { state: 'waiting', updated, reason: `${unready.name} ${state}, ${remaining}` };
  }
  if (pods.length < replicas) {
    return {
      state: 'waiting',
      updated,
      reason: `${counted(replicas - pods.length, 'pod')} not made yet, ${remaining}`,
    };
  }
  if (input.unsettled !== undefined)
    return { state: 'waiting', updated, reason: `${input.unsettled}, ${remaining}` };
  const pod = highest(outdated);
  return {
    state: 'next',
    updated,
    pod,
    useless: false,
    reason: `${pod.name} is the next to be replaced, ${remaining}`,
  };
}

function isBroken(pod: PodView, input: RolloutInput): boolean {
  return (pod.trouble !== undefined && HOPELESS.has(pod.trouble.reason)) || isLate(pod, input);
}

function isUseless(pod: PodView, input: RolloutInput): boolean {
  return !pod.running || pod.trouble !== undefined || isLate(pod, input);
}

/** Whether it should have become ready by now. One that drains is not ready on purpose. */
function isLate(
  { since, createdAt, answers }: PodView,
  { now, progressDeadlineSeconds }: RolloutInput,
): boolean {
  if (answers.capacity?.draining === true) return false;
  return now - Math.max(since, createdAt) > progressDeadlineSeconds * 1000;
}

function highest(pods: readonly PodView[]): PodView {
  return pods.reduce((top, pod) => (pod.ordinal > top.ordinal ? pod : top));
}
