import { hash } from 'node:crypto';
import { advice, token as tokenKind } from '../config/kinds.ts';
import { HubError } from '../std/errors.ts';
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
 * The tokens of a file, one a line: the token or its hash, then if you like a name and groups. Lines with # are
 * comments.
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
    tokens.set(...entryOf(hashed ?? digestOf(shown), names, role));
  }
  return tokens;
}

/** Who has that token, if anybody has. What is compared are hashes, so that the time it takes tells nothing. */
export function holderOf(tokens: Tokens, token: string): Principal | undefined {
  return tokens.get(digestOf(token));
}

/** The names of all who have a token. */
export function namesIn(tokens: Tokens): ReadonlySet<string> {
  let names = NAMES.get(tokens);
  if (names === undefined) NAMES.set(tokens, (names = new Set([...tokens.values()].map(({ name }) => name))));
  return names;
}

/** Worked out once for each reading of a file: every session asks. */
const NAMES = new WeakMap<Tokens, ReadonlySet<string>>();

function entryOf(digest: string, [name, ...groups]: readonly string[], role: Role): [string, Principal] {
  return [digest, principal('token', name ?? digest.slice(0, 8), { groups, role })];
}

function digestOf(token: string): string {
  return hash('sha256', token, 'hex');
}
