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
      return next === undefined && former === undefined
        ? { seed, next: newSeed(), rotation: wish }
        : undefined;
    case 'promote':
      return next === undefined || former !== undefined ? undefined : { seed: next, former: seed, rotation };
    case 'finish':
      return next !== undefined || former === undefined ? undefined : { seed, rotation };
  }
}
