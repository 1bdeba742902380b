import { DEFAULT_NAMESPACE, isNamespace, NAMESPACE_ADVICE } from '../core/namespace.ts';
import { HubError } from '../std/errors.ts';

/** Agents publish, work and listen; administrators may do everything. */
export type Role = 'agent' | 'admin';

/** What a caller has shown; it begins the name of a principal, so that names of different sources never meet. */
export type Source = 'token' | 'jwt' | 'serviceaccount' | 'cert' | 'loopback' | 'anonymous';

/** Who a call comes from, as far as it was shown. */
export interface Principal {
  /** `token:planner`, `jwt:alice@example.org`, `serviceaccount:default/worker`, `cert:agent-7`, `loopback`, `anonymous`. */
  readonly name: string;
  readonly source: Source;
  /** The namespace that what it showed puts it in; '': the default one, unless something else says otherwise. */
  readonly namespace: string;
  /** What rules may name instead of the principal. */
  readonly groups: readonly string[];
  /** What it may do while there is no policy. */
  readonly role: Role;
  /** Unix milliseconds from which it must be shown anew; `Infinity`: never. */
  readonly expiresAt: number;
}

const MAX_NAME = 512;

/**
 * A principal that showed something with that name in it.
 *
 * @throws HubError `unauthenticated` if the name can't be one.
 */
export function principal(
  source: Exclude<Source, 'loopback' | 'anonymous'>,
  name: string,
  {
    groups = [],
    role = 'agent',
    namespace = DEFAULT_NAMESPACE,
    expiresAt = Infinity,
  }: Partial<Omit<Principal, 'name' | 'source'>> = {},
): Principal {
  for (const text of [name, ...groups]) {
    if (text !== '' && text.length <= MAX_NAME && !/\p{Cc}/u.test(text)) continue;
    throw new HubError(
      'unauthenticated',
      `the name or a group in the ${source} is not accepted; it must have 1 to ${MAX_NAME} characters, none of them a control character`,
    );
  }
  if (namespace !== DEFAULT_NAMESPACE && !isNamespace(namespace)) {
    throw new HubError(
      'unauthenticated',
      `the namespace in the ${source} is not accepted; ${NAMESPACE_ADVICE}`,
    );
  }
  return { name: `${source}:${name}`, source, namespace, groups, role, expiresAt };
}

/** Whoever calls from this machine and shows nothing. */
export function loopback(role: Role): Principal {
  return {
    name: 'loopback',
    source: 'loopback',
    namespace: DEFAULT_NAMESPACE,
    groups: [],
    role,
    expiresAt: Infinity,
  };
}

/** Whoever calls from anywhere and shows nothing. */
export const ANONYMOUS: Principal = {
  name: 'anonymous',
  source: 'anonymous',
  namespace: DEFAULT_NAMESPACE,
  groups: [],
  role: 'agent',
  expiresAt: Infinity,
};
