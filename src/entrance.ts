import type { Config } from './config/schema.ts';
import { Audit } from './edge/audit.ts';
import { guardListen, Lock } from './edge/auth.ts';
import { Door } from './edge/calls.ts';
import type { IssuerOptions } from './edge/jwt.ts';
import { JwtIssuer } from './edge/jwt.ts';
import { LiveFile } from './edge/live-file.ts';
import { readNamespaces, readPolicy } from './edge/policy-file.ts';
import type { Tokens } from './edge/tokens.ts';
import { listedTokens, readTokens, showNamespaces } from './edge/tokens.ts';
import type { Metrics } from './obs/metrics.ts';
import type { Clock } from './std/clock.ts';
import { toHubError } from './std/errors.ts';
import type { Logger } from './std/logger.ts';
import { Namespaces } from './trust/namespaces.ts';
import type { Role } from './trust/principal.ts';

/** Where Kubernetes puts what a pod needs to talk to its API server. */
const POD = '/var/run/secrets/kubernetes.io/serviceaccount';

/** What an entrance is made with. */
export interface EntranceParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** The door that the configuration asks for. */
export interface Entrance {
  readonly door: Door;
  /** What is said of namespaces now. */
  readonly namespaces: () => Namespaces;
  /** Has `rejudge` called whenever the policy or tokens were replaced: sessions have to be judged anew. */
  watch(rejudge: () => void): void;
  /** Files are looked at no more. */
  close(): void;
}

/**
 * Who may come in and do what, as the configuration says; its files are read anew when they change.
 *
 * @throws HubError `invalid` if a file can't be taken; `precondition` if strangers could come in, and nobody said
 *   that they may.
 */
export function openEntrance(config: Config, parts: EntranceParts): Entrance {
  const { clock, logger, metrics } = parts;
  let rejudge = (): void => {};
  const { auth, jwt, serviceAccounts, insecure } = config;
  const audit = new Audit(logger, metrics, clock);
  const closing: (() => void)[] = [];
  const close = (): void => {
    for (const one of closing) one();
  };
  const live = <T>(
    path: string,
    what: string,
    read: (text: string) => T,
    key: string,
    changed = (): void => {},
  ) => {
    const actor = { who: 'broker', peer: '' };
    const file = new LiveFile({
      path,
      what,
      clock,
      logger,
      read,
      changed: (error) => {
        audit.act(actor, 'reload', key, error && toHubError(error));
        if (!error) changed();
      },
    });
    closing.push(() => file.close());
    return file;
  };
  const tokensOf = (list: 'tokens' | 'adminTokens', role: Role): (() => readonly Tokens[]) => {
    const listed = listedTokens(auth[list], role);
    const path = auth[`${list}File`];
    if (path === undefined) return () => [listed];
    const what = `auth.${list}File: the file ${path}`;
    const read = (text: string): Tokens => readTokens(text, role, what);
    const file = live(path, what, read, `auth.${list}File`, () => rejudge());
    return () => [listed, file.value];
  };
  const issuerOf = (options: IssuerOptions): JwtIssuer => {
    const issuer = new JwtIssuer(options, clock, logger);
    closing.push(() => issuer.close());
    return issuer;
  };
  try {
    const tokens = tokensOf('tokens', 'agent');
    const adminTokens = tokensOf('adminTokens', 'admin');
    const issuers: JwtIssuer[] = [];
    if (jwt.issuer !== undefined) {
      const { issuer, jwks, namespaceClaim: namespaces = false } = jwt;
      issuers.push(issuerOf({ ...jwt, source: 'jwt', section: 'jwt', issuer, jwks: jwks!, namespaces }));
    }
    if (serviceAccounts.issuer !== undefined) {
      issuers.push(
        issuerOf({
          ...serviceAccounts,
          source: 'serviceaccount',
          section: 'serviceAccounts',
          issuer: serviceAccounts.issuer,
          jwks: serviceAccounts.jwks ?? 'https://kubernetes.default.svc/openid/v1/jwks',
          ...(serviceAccounts.jwks === undefined
            ? { caFile: `${POD}/ca.crt`, tokenFile: `${POD}/token` }
            : { caFile: serviceAccounts.caFile }),
          nameClaim: 'sub',
          groupsClaim: 'groups',
          namespaces: serviceAccounts.namespaced,
        }),
      );
    }
    const known = [...tokens(), ...adminTokens()].some(({ size }) => size > 0);
    const open = !known && issuers.length === 0 && auth.certificates === 'none' && !insecure;
    guardListen(config.grpc.host, 'grpc.host', open);
    guardListen(config.http.host, 'http.host', open);
    if (config.http.privatePort !== undefined) guardListen(config.http.privateHost, 'http.privateHost', open);
    const { policyFile: path } = auth;
    const policy =
      path === undefined
        ? undefined
        : live(
            path,
            `auth.policyFile: the file ${path}`,
            (text) => readPolicy(text, path),
            'auth.policyFile',
            () => rejudge(),
          );
    const { namespacesFile } = auth;
    const spaces =
      namespacesFile === undefined
        ? undefined
        : live(
            namespacesFile,
            `auth.namespacesFile: the file ${namespacesFile}`,
            (text) => readNamespaces(text, namespacesFile),
            'auth.namespacesFile',
            () => rejudge(),
          );
    const namespaces = (): Namespaces => spaces?.value ?? Namespaces.none;
    const shown = jwt.namespaceClaim !== undefined || serviceAccounts.namespaced;
    const lock = new Lock({ tokens, adminTokens, issuers, certificates: auth.certificates, insecure, clock });
    return {
      door: new Door({
        lock,
        audit,
        policy: () => policy?.value,
        namespaces,
        showNamespaces: () => shown || [...tokens(), ...adminTokens()].some(showNamespaces),
      }),
      namespaces,
      watch: (listener) => {
        rejudge = listener;
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
