import { hash, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { HubError } from '../std/errors.ts';

/** Agents publish, work and listen; administrators may do everything. */
export type Role = 'agent' | 'admin';

/** Who a call comes from, as far as we know. */
export interface Principal {
  readonly role: Role;
  /** Why it has that role: it showed a token, it is on this machine, or anybody is let in. */
  readonly by: 'token' | 'loopback' | 'open';
}

/** What an HTTP resource needs: nothing, leave to read figures, or an administrator. */
export type Scope = 'public' | 'metrics' | 'admin';

/** The configuration of the lock. */
export interface LockOptions {
  /** Bearer tokens of agents. */
  readonly tokens: readonly string[];
  /** Bearer tokens of administrators. */
  readonly adminTokens: readonly string[];
  /** Lets anybody in as an agent, if agents have no tokens. */
  readonly insecure: boolean;
  /** Lets anybody read figures. */
  readonly publicMetrics: boolean;
}

/** The credentials of a call. */
export interface Credentials {
  /** The value of the header or metadata entry `authorization`. */
  readonly authorization: string | undefined;
  /** The bare IP address of the peer; undefined if unknown, or if a proxy speaks for somebody else. */
  readonly address: string | undefined;
}

/**
 * A lock on the door: static bearer tokens (RFC 6750), and trust in this machine where none are configured.
 *
 * | shows | and is | is let in as |
 * |---|---|---|
 * | an admin token | anywhere | admin |
 * | an agent token | anywhere | agent |
 * | any other token | anywhere | nobody, unless no tokens are configured: then it does not count |
 * | nothing | on loopback, there are no admin tokens | admin |
 * | nothing | on loopback, there are admin tokens but none of agents | agent |
 * | nothing | anywhere, agents have no tokens, `insecure` | agent |
 * | nothing | else | nobody |
 *
 * Only hashes of the tokens stay in memory, and comparing takes the same time whatever is shown.
 */
export class Lock {
  readonly #agents: readonly Buffer[];
  readonly #admins: readonly Buffer[];
  readonly #insecure: boolean;
  readonly #publicMetrics: boolean;

  constructor({ tokens, adminTokens, insecure, publicMetrics }: LockOptions) {
    this.#agents = tokens.map(digest);
    this.#admins = adminTokens.map(digest);
    this.#insecure = insecure;
    this.#publicMetrics = publicMetrics;
  }

  /**
   * Who is calling.
   *
   * @throws HubError `unauthenticated` if nobody who is let in.
   */
  authenticate({ authorization, address }: Credentials): Principal {
    const locked = this.#agents.length + this.#admins.length > 0;
    if (authorization !== undefined && locked) return this.#holder(authorization);
    if (address !== undefined && isLoopback(address)) {
      if (this.#admins.length === 0) return { role: 'admin', by: 'loopback' };
      if (this.#agents.length === 0) return { role: 'agent', by: 'loopback' };
    }
    if (this.#insecure && this.#agents.length === 0) return { role: 'agent', by: 'open' };
    throw new HubError('unauthenticated', 'a token is needed; send "authorization: Bearer <token>"');
  }

  /**
   * The same for a call that only administrators may make.
   *
   * @throws HubError `unauthenticated`, or `permission` if the caller is known but no administrator.
   */
  authenticateAdmin(credentials: Credentials): Principal {
    const principal = this.authenticate(credentials);
    if (principal.role === 'admin') return principal;
    const way = this.#admins.length > 0 ? 'send an admin token' : 'call from the machine of the broker';
    throw new HubError('permission', `only an administrator may do this; ${way}`);
  }

  /**
   * Lets a call pass that needs `scope`.
   *
   * @throws HubError as the methods above.
   */
  authorize(credentials: Credentials, scope: Scope): void {
    if (scope === 'public' || (scope === 'metrics' && this.#publicMetrics)) return;
    if (scope === 'admin') this.authenticateAdmin(credentials);
    else this.authenticate(credentials);
  }

  #holder(authorization: string): Principal {
    const token = /^bearer +(\S+) *$/i.exec(authorization)?.[1];
    if (token === undefined) {
      throw new HubError(
        'unauthenticated',
        'the header is not understood; send "authorization: Bearer <token>"',
      );
    }
    const shown = digest(token);
    const admin = isAmong(shown, this.#admins);
    const agent = isAmong(shown, this.#agents);
    if (admin) return { role: 'admin', by: 'token' };
    if (agent) return { role: 'agent', by: 'token' };
    throw new HubError('unauthenticated', 'the token is not known to this broker; check it, or ask for one');
  }
}

/**
 * Refuses to listen where strangers can reach the broker and nothing would stop them.
 *
 * @param host as configured: an address, or a name.
 * @param key the configuration key of the host.
 * @throws HubError `precondition` that tells the ways out.
 */
export function guardListen(host: string, key: string, lock: LockOptions): void {
  const open = lock.tokens.length + lock.adminTokens.length === 0 && !lock.insecure;
  if (!open || host === 'localhost' || isLoopback(host)) return;
  throw new HubError(
    'precondition',
    `${key} is ${host === '' ? 'empty, which is every address' : host}: ` +
      'others could reach the broker, and no token is configured. Do one of these: ' +
      'set auth.tokens (or auth.tokensFile), so that callers need one; ' +
      `set ${key} to 127.0.0.1, so that only this machine reaches it; ` +
      'or set insecure (--insecure), if the network in front of it keeps strangers out.',
    { field: key },
  );
}

/** The bare address in what grpc-js calls a peer: `127.0.0.1:1234`, `::1:1234`; undefined if there is none. */
export function addressOfPeer(peer: string): string | undefined {
  const address = peer.slice(0, Math.max(0, peer.lastIndexOf(':'))).replace(/^\[(.*)\]$/, '$1');
  return isIP(address) === 0 ? undefined : address;
}

/** Whether an IP address is one of this machine only, IPv4 written as IPv6 included. */
export function isLoopback(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && LOOPBACK.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

function digest(token: string): Buffer {
  return hash('sha256', token, 'buffer');
}

function isAmong(shown: Buffer, known: readonly Buffer[]): boolean {
  let found = false;
  for (const each of known) found = timingSafeEqual(shown, each) || found;
  return found;
}
