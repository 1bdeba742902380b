import { hash } from 'node:crypto';
import { advice, token as tokenKind } from '../config/kinds.ts';
import { DEFAULT_NAMESPACE } from '../core/namespace.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Principal, Role } from '../trust/principal.ts';
import { principal } from '../trust/principal.ts';

/** A token as it may be kept: nobody gets the token from it. */
const HASHED = /^sha256:([0-9a-f]{64})$/;

/** What a file or a configuration calls a token, as it is found by what is shown. */
export type Tokens = ReadonlyMap<string, Principal>;

/** The hash of a token, as token files have it. Tokens are long and random, so that a fast hash will do. */
export function hashedToken(token: string): string {
  return `sha256:${digestOf(token)}`;
}

/** The tokens that the configuration itself lists; each is called by the first digits of its hash. */
export function listedTokens(tokens: readonly string[], role: Role): Tokens {
  return new Map(tokens.map((token) => entryOf(digestOf(token), [], role)));
}

/**
 * The tokens of a file, one a line: the token or its hash, then if you like a name and groups; `namespace=acme` among
 * them says the namespace. Lines with # are comments.
 *
 * @param what how messages call the file.
 * @throws HubError `invalid`, naming the line but never the token.
 */
export function readTokens(text: string, role: Role, what: string): Tokens {
  const tokens = new Map<string, Principal>();
  for (const [index, line] of text.split('\n').entries()) {
    const [shown = '', ...names] = line.trim().split(/\s+/);
    if (shown === '' || shown.startsWith('#')) continue;
    const hashed = HASHED.exec(shown)?.[1];
    if (hashed === undefined && tokenKind.parse(shown) === undefined) {
      throw new HubError(
        'invalid',
        `${what}, line ${index + 1}: the token is not accepted; ${advice(tokenKind)}, or sha256: and the hash of one`,
      );
    }
    try {
      tokens.set(...entryOf(hashed ?? digestOf(shown), names, role));
    } catch (error) {
      throw new HubError('invalid', `${what}, line ${index + 1}: ${toHubError(error).message}`);
    }
  }
  return tokens;
}

/** Who has that token, if anybody has. What is compared are hashes, so that the time it takes tells nothing. */
export function holderOf(tokens: Tokens, token: string): Principal | undefined {
  return tokens.get(digestOf(token));
}

/** Whether somebody of that name, and in that namespace, has a token. */
export function isHolder(tokens: Tokens, { name, namespace }: Principal): boolean {
  let holders = HOLDERS.get(tokens);
  if (holders === undefined) {
    holders = new Set([...tokens.values()].map((one) => `${one.namespace} ${one.name}`));
    HOLDERS.set(tokens, holders);
  }
  return holders.has(`${namespace} ${name}`);
}

/** Whether some holder of a token is in a namespace beside the default one. */
export function showNamespaces(tokens: Tokens): boolean {
  for (const { namespace } of tokens.values()) if (namespace !== DEFAULT_NAMESPACE) return true;
  return false;
}

/** Worked out once for each reading of a file: every session asks. */
const HOLDERS = new WeakMap<Tokens, ReadonlySet<string>>();
const NAMESPACE = 'namespace=';

function entryOf(digest: string, words: readonly string[], role: Role): [string, Principal] {
  const namespace = words.find((word) => word.startsWith(NAMESPACE))?.slice(NAMESPACE.length);
  const [name, ...groups] = words.filter((word) => !word.startsWith(NAMESPACE));
  const more = { groups, role, ...(namespace === undefined ? {} : { namespace }) };
  return [digest, principal('token', name ?? digest.slice(0, 8), more)];
}

function digestOf(token: string): string {
  return hash('sha256', token, 'hex');
}
