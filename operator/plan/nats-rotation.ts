import type { PodView } from './pods.ts';
import type { Rollout } from './rollout.ts';
import { listed } from './words.ts';

/** Public keys of those who may log in to the managed NATS servers, and how far an exchange of them is. */
export interface NatsKeys {
  /** As whom brokers are to log in. */
  readonly current: string;
  /** As whom they will: the servers are being told. */
  readonly next?: string | undefined;
  /** As whom they did: the servers still let them. */
  readonly former?: string | undefined;
  /** The wish that was heeded last: what the annotation was then. */
  readonly rotation: string;
  /** Who looks after the servers, in their system account. */
  readonly system: string;
}

/**
 * What is done next to the credential of the brokers. begin: make another one, so that the servers are told of it;
 * promote: hand it to the brokers, which take it without a restart; finish: the servers forget the former one.
 */
export type RotationStep = 'begin' | 'promote' | 'finish';

/** How far an exchange is. */
export interface Rotation {
  readonly step: RotationStep | undefined;
  /** Why it takes time; absent if none is under way. */
  readonly waits: string | undefined;
}

/** What is looked at to find out. */
export interface RotationInput {
  readonly keys: NatsKeys | undefined;
  /** What the annotation says; any other value than before is a wish. */
  readonly wish: string | undefined;
  /** How far the servers are with the configuration in which these keys are. */
  readonly servers: {
    readonly rollout: Rollout;
    readonly pods: readonly PodView[];
    readonly servers: number;
  };
  /** All broker pods, also those that are to go. */
  readonly brokers: readonly PodView[];
}

/** How the credential of the brokers is exchanged: at any time the servers know what any broker shows them. */
export function planNatsRotation({ keys, wish, servers, brokers }: RotationInput): Rotation {
  if (keys === undefined) return { step: undefined, waits: undefined };
  if (keys.former !== undefined) {
    const late = brokers.filter(
      ({ answers }) => answers.failure !== undefined || answers.capacity?.natsUser !== keys.current,
    );
    if (late.length === 0) return { step: 'finish', waits: 'the servers are to forget the former one' };
    const names = listed(late.map(({ name }) => name));
    return { step: undefined, waits: `${names} still has to take the new one, which is a file in its pod` };
  }
  if (keys.next !== undefined) {
    const told =
      servers.rollout.state === 'done' &&
      servers.pods.filter(({ ready }) => ready).length === servers.servers;
    return {
      step: told ? 'promote' : undefined,
      waits: 'the servers are told of the new one, one after the other',
    };
  }
  const wanted = wish !== undefined && wish !== keys.rotation;
  return { step: wanted ? 'begin' : undefined, waits: wanted ? 'a new one is made' : undefined };
}

/** What is in the Secret of the credential, as texts. */
export type NatsSecretData = Readonly<Record<string, string>>;

/** Keys of that Secret. */
export const NATS_KEYS = { seed: 'seed', next: 'next', former: 'former', rotation: 'rotation' } as const;

/** The contents of the Secret after the step; `undefined` if they are not those that the step is for. */
export function rotated(
  data: NatsSecretData,
  step: RotationStep,
  wish: string,
  newSeed: () => string,
): NatsSecretData | undefined {
  const { seed, next, former, rotation = '' } = data;
  if (seed === undefined) return undefined;
  switch (step) {
    case 'begin':
      return next === undefined && former === undefined ? { seed, next: newSeed(), rotation: wish } : undefined;
    case 'promote':
      return next === undefined || former !== undefined
        ? undefined
        : { seed: next, former: seed, rotation };
    case 'finish':
      return next !== undefined || former === undefined ? undefined : { seed, rotation };
  }
}
