import { hash } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import type { PeerCertificate } from 'node:tls';
import type { Done } from '../broker/question.ts';
import type { Clock } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Principal } from '../trust/principal.ts';
import { ANONYMOUS, loopback, principal } from '../trust/principal.ts';
import type { JwtIssuer } from './jwt.ts';
import { issuerOf } from './jwt.ts';
import type { Tokens } from './tokens.ts';
import { holderOf, isHolder } from './tokens.ts';

/** What names the principal in a client certificate that was verified: nothing, or that part of it. */
export type CertificateName = 'none' | 'cn' | 'dns' | 'uri';

/** What a {@link Lock} takes. */
export interface LockOptions {
  /** Tokens of agents and of administrators, as they are in force now. */
  readonly tokens: () => readonly Tokens[];
  /** Tokens of administrators, as they are in force now. */
  readonly adminTokens: () => readonly Tokens[];
  readonly issuers: readonly JwtIssuer[];
  readonly certificates: CertificateName;
  /** Lets anybody in, if agents have nothing to show. */
  readonly insecure: boolean;
  readonly clock: Clock;
}

/** The credentials of a call. */
export interface Credentials {
  /** The value of the header or metadata entry `authorization`. */
  readonly authorization: string | undefined;
  /** The bare IP address of the peer; undefined if unknown, or if a proxy speaks for somebody else. */
  readonly address: string | undefined;
  /** The certificate of the peer, if one was shown and verified. */
  readonly certificate: () => PeerCertificate | undefined;
}

/** How long a verified token is believed without a look at its keys, in milliseconds, and how many are. */
const BELIEVED_MS = 60_000;
const BELIEVED = 10_000;
/** Longer tokens are not even looked at. */
const MAX_TOKEN = 16 * 1024;

/**
 * A lock on the door. Several keys fit at once: static bearer tokens (RFC 6750), tokens of an issuer (JWT), client
 * certificates; and where none of them is configured, being on this machine.
 *
 * | shows | and is | is let in as |
 * |---|---|---|
 * | a token of an administrator | anywhere | that administrator |
 * | a token of an agent, static or of an issuer | anywhere | that agent |
 * | any other token | anywhere | nobody, unless no tokens are configured: then it does not count |
 * | a certificate that was verified, certificates name principals | anywhere | that agent |
 * | nothing | on loopback, there are no admin tokens | an administrator |
 * | nothing | on loopback, there are admin tokens, and agents have nothing to show | an agent |
 * | nothing | anywhere, agents have nothing to show, `insecure` | an agent |
 * | nothing | else | nobody |
 *
 * Of static tokens only hashes are known.
 */
export class Lock {
  readonly #options: LockOptions;
  /** Tokens that were verified lately, by their hash. */
  readonly #believed = new Map<string, { readonly principal: Principal; readonly until: number }>();

  constructor(options: LockOptions) {
    this.#options = options;
  }

  /**
   * Who is calling; `done` is called at once unless keys have to be had first. The error is `unauthenticated` if it
   * is nobody who is let in.
   */
  authenticate(credentials: Credentials, done: Done<Principal>): void {
    let found: Principal | { readonly token: string; readonly issuer: JwtIssuer };
    try {
      found = this.#find(credentials);
    } catch (error) {
      return done(toHubError(error), undefined);
    }
    if ('issuer' in found) this.#believe(found.token, found.issuer, done);
    else done(undefined, found);
  }

  /** Whether somebody who was let in would still be: tokens may have been taken out of their files. */
  stands(principal: Principal): boolean {
    const { source, role } = principal;
    if (source !== 'token') return true;
    const { tokens, adminTokens } = this.#options;
    return (role === 'admin' ? adminTokens() : tokens()).some((known) => isHolder(known, principal));
  }

  #find({ authorization, address, certificate }: Credentials) {
    const { issuers, certificates, insecure } = this.#options;
    const agents = this.#options.tokens().reduce((sum, { size }) => sum + size, 0) + issuers.length;
    const admins = this.#options.adminTokens().reduce((sum, { size }) => sum + size, 0);
    if (authorization !== undefined && agents + admins > 0) return this.#holder(authorization);
    const shown = certificates === 'none' ? undefined : certificate();
    if (shown) {
      const expiresAt = Date.parse(shown.valid_to) || Infinity;
      return principal('cert', nameIn(shown, certificates), { expiresAt });
    }
    const keyless = agents === 0 && certificates === 'none';
    if (address !== undefined && isLoopback(address)) {
      if (admins === 0) return loopback('admin');
      if (keyless) return loopback('agent');
    }
    if (insecure && keyless) return ANONYMOUS;
    throw new HubError('unauthenticated', 'a token is needed; send "authorization: Bearer <token>"');
  }

  #holder(authorization: string) {
    const { tokens, adminTokens, issuers } = this.#options;
    const token = /^bearer +(\S+) *$/i.exec(authorization)?.[1];
    if (token === undefined || token.length > MAX_TOKEN) {
      throw new HubError(
        'unauthenticated',
        'the header is not understood; send "authorization: Bearer <token>"',
      );
    }
    for (const known of [...adminTokens(), ...tokens()]) {
      const holder = holderOf(known, token);
      if (holder) return holder;
    }
    const named = issuers.length === 0 ? undefined : issuerOf(token);
    if (named === undefined) {
      throw new HubError(
        'unauthenticated',
        'the token is not known to this broker; check it, or ask for one',
      );
    }
    const issuer = issuers.find((one) => one.issuer === named);
    if (issuer) return { token, issuer };
    throw new HubError('unauthenticated', 'the token is of an issuer that this broker does not trust');
  }

  #believe(token: string, issuer: JwtIssuer, done: Done<Principal>): void {
    const { clock } = this.#options;
    const key = hash('sha256', token, 'hex');
    const known = this.#believed.get(key);
    if (known && clock.now() < known.until) return done(undefined, known.principal);
    this.#believed.delete(key);
    issuer.verify(token).then(
      (holder) => {
        if (this.#believed.size >= BELIEVED) this.#believed.clear();
        const until = Math.min(holder.expiresAt, clock.now() + BELIEVED_MS);
        this.#believed.set(key, { principal: holder, until });
        done(undefined, holder);
      },
      (error: unknown) => done(toHubError(error), undefined),
    );
  }
}

/** The name in a certificate. Of several ones of a kind, the first counts. */
function nameIn({ subject, subjectaltname = '' }: PeerCertificate, part: CertificateName): string {
  const kind = { none: '', cn: '', dns: 'DNS:', uri: 'URI:' }[part];
  const [cn] = [subject.CN].flat();
  // Values with a comma in them are quoted, and none of those names anybody.
  const alternative = subjectaltname.split(', ').find((one) => one.startsWith(kind));
  const name = part === 'cn' ? cn : alternative?.slice(kind.length);
  if (name && !name.includes('"')) return name;
  throw new HubError(
    'unauthenticated',
    `the client certificate has no ${part === 'cn' ? 'common name' : `${kind} subject alternative name`} (auth.certificates: ${part})`,
  );
}

/**
 * Refuses to listen where strangers can reach the broker and nothing would stop them.
 *
 * @param host as configured: an address, or a name.
 * @param key the configuration key of the host.
 * @param open whether nothing is asked of callers, and nobody has said that this is meant (`insecure`).
 * @throws HubError `precondition` that tells the ways out.
 */
export function guardListen(host: string, key: string, open: boolean): void {
  if (!open || host === 'localhost' || isLoopback(host)) return;
  throw new HubError(
    'precondition',
    `${key} is ${host === '' ? 'empty, which is every address' : host}: ` +
      'others could reach the broker, and nothing is asked of them. Do one of these: ' +
      'set auth.tokens (or auth.tokensFile, or jwt.issuer), so that callers need one; ' +
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
