import type { NatsKeys, RotationStep } from './nats-keys.ts';
import type { PodView } from './pods.ts';
import type { Rollout } from './rollout.ts';
import { listed } from './words.ts';

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
