import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { JSONWebKeySet, JWTPayload, JWTVerifyGetKey } from 'jose';
import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, jwtVerify } from 'jose';
import { DEFAULT_NAMESPACE, DEFAULT_NAMESPACE_WORD } from '../core/namespace.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Principal } from '../trust/principal.ts';
import { principal } from '../trust/principal.ts';
import { LiveFile } from './live-file.ts';

/** Who signs tokens, and how they name their holder. */
export interface IssuerOptions {
  readonly source: 'jwt' | 'serviceaccount';
  /** How the configuration calls this issuer, for messages: `jwt`. */
  readonly section: string;
  /** `iss` of its tokens. */
  readonly issuer: string;
  /** `aud` of its tokens: one of these. */
  readonly audience: readonly string[];
  /** Where its keys are: a URL, or the path of a file. */
  readonly jwks: string;
  /** Authorities, PEM, for the URL; and a file with the bearer token that it wants. */
  readonly caFile?: string | undefined;
  readonly tokenFile?: string | undefined;
  /** How far its clock may be off. */
  readonly clockSkewMs: number;
  /** Claims with the name and the groups. */
  readonly nameClaim: string;
  readonly groupsClaim: string;
  /** The claim with the namespace, if there is one; of service accounts `true`: each namespace of Kubernetes is one. */
  readonly namespaces: string | boolean;
}

/** Everything that a signature may be made with, symmetric keys and `none` excluded. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
const MAX_JWKS_BYTES = 1024 * 1024;
const FETCH_MS = 5000;
/** A key that is not known is looked for this often at most, in milliseconds. */
const COOLDOWN_MS = 5000;
const SERVICE_ACCOUNT = 'system:serviceaccount:';

/** Takes the tokens of one issuer (RFC 7519, RFC 8725). */
export class JwtIssuer {
  readonly issuer: string;
  private readonly options: IssuerOptions;
  private readonly clock: Clock;
  private readonly file: LiveFile<JWTVerifyGetKey> | undefined;
  private readonly remote: JWTVerifyGetKey | undefined;

  /** @throws HubError `invalid` if the file with the keys can't be taken. */
  constructor(options: IssuerOptions, clock: Clock, logger: Logger) {
    const { jwks, section } = options;
    this.issuer = options.issuer;
    this.options = options;
    this.clock = clock;
    if (/^https?:\/\//.test(jwks)) {
      this.remote = createRemoteJWKSet(new URL(jwks), {
        cooldownDuration: COOLDOWN_MS,
        timeoutDuration: FETCH_MS,
        [customFetch]: (url) => fetchKeys(url, options),
      });
    } else {
      const what = `${section}.jwks: the file ${jwks}`;
      this.file = new LiveFile({ path: jwks, what, clock, logger, read: (text) => readKeys(text, what) });
    }
  }

  /**
   * Who has that token.
   *
   * @throws HubError `unauthenticated`, saying what is wrong with it; `unavailable` if its keys can't be had.
   */
  async verify(token: string): Promise<Principal> {
    const { issuer, audience, clockSkewMs, section } = this.options;
    try {
      const { payload } = await jwtVerify(token, this.remote ?? this.file!.value, {
        issuer,
        audience: [...audience],
        algorithms: ALGORITHMS,
        clockTolerance: clockSkewMs / 1000,
        currentDate: new Date(this.clock.now()),
        requiredClaims: ['exp'],
      });
      return this.principalOf(payload);
    } catch (error) {
      throw error instanceof HubError ? error : refusal(error, section);
    }
  }

  /** Looks for new keys no more. */
  close(): void {
    this.file?.close();
  }

  private principalOf(payload: JWTPayload): Principal {
    const { source, nameClaim, groupsClaim, namespaces, clockSkewMs, section } = this.options;
    const name = payload[nameClaim];
    if (typeof name !== 'string') {
      throw new HubError(
        'unauthenticated',
        `the token has no claim ${nameClaim} that is a text (${section}.nameClaim); ask its issuer for one`,
      );
    }
    const claimed = payload[groupsClaim];
    const groups = (Array.isArray(claimed) ? claimed : [claimed]).filter(
      (group) => typeof group === 'string',
    );
    const expiresAt = (payload.exp ?? 0) * 1000 + clockSkewMs;
    if (source === 'jwt') {
      const said = typeof namespaces === 'string' ? payload[namespaces] : undefined;
      if (said !== undefined && typeof said !== 'string') {
        throw new HubError(
          'unauthenticated',
          `the claim ${namespaces} of the token is no text (${section}.namespaceClaim)`,
        );
      }
      return principal(source, name, { groups, namespace: namespaceCalled(said), expiresAt });
    }
    const [namespace = '', account, ...more] = name.slice(SERVICE_ACCOUNT.length).split(':');
    if (!name.startsWith(SERVICE_ACCOUNT) || !account || more.length > 0) {
      throw new HubError('unauthenticated', 'the token is not one of a Kubernetes service account');
    }
    return principal(source, `${namespace}/${account}`, {
      groups: [`serviceaccounts:${namespace}`],
      namespace: namespaces === true ? namespaceCalled(namespace) : DEFAULT_NAMESPACE,
      expiresAt,
    });
  }
}

/** The namespace that an issuer calls so. */
function namespaceCalled(text = ''): string {
  return text === DEFAULT_NAMESPACE_WORD ? DEFAULT_NAMESPACE : text;
}

/** The issuer that a token names, before anything of it is believed; `undefined` if it is no JWT. */
export function issuerOf(token: string): string | undefined {
  const [header, payload, signature, ...more] = token.split('.');
  if (!header || !payload || signature === undefined || more.length > 0) return undefined;
  try {
    const { iss } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { iss?: unknown };
    return typeof iss === 'string' ? iss : '';
  } catch {
    return undefined;
  }
}

function readKeys(text: string, what: string): JWTVerifyGetKey {
  try {
    return createLocalJWKSet(JSON.parse(text) as JSONWebKeySet);
  } catch (cause) {
    throw new HubError('invalid', `${what} is no JSON Web Key Set: {"keys": […]}`, { cause });
  }
}

function refusal(error: unknown, section: string): HubError {
  const because = (message: string): HubError => new HubError('unauthenticated', message, { cause: error });
  if (error instanceof errors.JWTExpired)
    return because('the token has expired; get a new one from its issuer');
  if (error instanceof errors.JWTClaimValidationFailed) {
    return because(
      `the token is not for this broker: its claim ${error.claim} is not what ${section} asks for`,
    );
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    return because(`the token is signed with a key that is not among those of ${section}.jwks`);
  }
  if (error instanceof errors.JWTInvalid || error instanceof errors.JWSInvalid)
    return because('the token is malformed');
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return because('the signature of the token is wrong');
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return because('the token is signed in a way that is not accepted');
  }
  return new HubError('unavailable', `the keys of ${section}.jwks can't be had just now; try again`, {
    retryAfterMs: 1000,
    cause: error,
  });
}

/** Node's own fetch knows neither the authorities of a cluster nor how much is too much. */
function fetchKeys(url: string, { caFile, tokenFile }: IssuerOptions): Promise<Response> {
  const { promise, resolve, reject } = Promise.withResolvers<Response>();
  const authorization =
    tokenFile === undefined ? {} : { authorization: `Bearer ${readFileSync(tokenFile, 'utf8').trim()}` };
  const ask = url.startsWith('https:') ? httpsRequest : httpRequest;
  const asked = ask(url, {
    headers: { accept: 'application/json, application/jwk-set+json', ...authorization },
    timeout: FETCH_MS,
    ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
  });
  asked.on('error', reject);
  asked.on('timeout', () => asked.destroy(new Error('no answer in time')));
  asked.on('response', (response) => {
    const chunks: Buffer[] = [];
    let size = 0;
    response.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_JWKS_BYTES) asked.destroy(new Error('it is too large'));
      else chunks.push(chunk);
    });
    response.on('error', reject);
    response.on('end', () =>
      resolve(new Response(Buffer.concat(chunks), { status: response.statusCode ?? 502 })),
    );
  });
  asked.end();
  return promise;
}
