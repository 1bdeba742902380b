import { stringify } from 'yaml';
import { DEFAULT_POOL } from '../../../src/core/pools.ts';
import type { PoolSpec } from '../../api/spec.ts';
import type { Context } from '../context.ts';
import {
  brokerPool,
  defaultPool,
  host,
  nameOf,
  NATS_PORTS,
  NATS_PREFIX,
  PORTS,
  shardsOf,
} from '../context.ts';
import { fingerprint } from '../fingerprint.ts';
import { overlay } from '../overlay.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** The key of the ConfigMap, and the file of the pod. */
export const CONFIG_FILE = 'agenthub.yaml';

/** Where the pod has its files. */
export const FILES = {
  config: '/etc/agenthub/config',
  tokens: '/etc/agenthub/tokens',
  adminTokens: '/etc/agenthub/admin-tokens',
  policy: '/etc/agenthub/policy',
  jwks: '/etc/agenthub/jwks',
  jwksCa: '/etc/agenthub/jwks-ca',
  tls: '/etc/agenthub/tls',
  clientCa: '/etc/agenthub/client-ca',
  nats: '/etc/agenthub/nats',
} as const;

/** Time that a broker has to stop after its drain, in seconds. */
export const STOP_SECONDS = 15;

/** Placement rules come as the body of a request. */
const MAX_RULES_BYTES = '1MiB';

const PREFIX_LENGTH = 32;

/**
 * The configuration of the brokers of a pool. Its name says what is in it, and it never changes: a broker that
 * restarts by itself gets the configuration that it was made with, whatever the spec says by now.
 */
export function brokerConfig(context: Context, pool: PoolSpec): Child {
  const document = configDocument(context, pool);
  const about = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    name: `${nameOf.pool(context.cluster, pool.name)}-${fingerprint(document)}`,
    component: 'broker',
    pool: pool.name,
  } as const;
  return child(context.cluster, about, {
    immutable: true,
    data: { [CONFIG_FILE]: stringify(document, { aliasDuplicateObjects: false }) },
  });
}

/** The configuration, with the keys of docs/configuration.md. What the operator sets stands over `spec.config`. */
export function configDocument(context: Context, pool: PoolSpec): Readonly<Record<string, unknown>> {
  const { cluster } = context;
  const { config, auth, tls, monitoring } = cluster.spec;
  const wished = overlay({ service: { environment: 'production' }, log: { format: 'json' } }, config);
  return overlay(wished, {
    grpc: { host: '0.0.0.0', port: PORTS.grpc },
    http: {
      host: '0.0.0.0',
      port: PORTS.http,
      ...(cluster.spec.pools.length > 1 ? { maxBodyBytes: MAX_RULES_BYTES } : {}),
    },
    insecure: auth.anonymous,
    ...(tls === undefined
      ? {}
      : {
          tls: {
            certFile: `${FILES.tls}/tls.crt`,
            keyFile: `${FILES.tls}/tls.key`,
            ...(tls.clientCa === undefined ? {} : { clientCaFile: `${FILES.clientCa}/ca.crt` }),
            ...(auth.clientCertificates?.required === false ? { clientCertificates: 'request' } : {}),
          },
        }),
    auth: {
      ...(auth.tokens === undefined ? {} : { tokensFile: `${FILES.tokens}/tokens` }),
      ...(auth.adminTokens === undefined ? {} : { adminTokensFile: `${FILES.adminTokens}/tokens` }),
      ...(auth.policy === undefined ? {} : { policyFile: `${FILES.policy}/policy.yaml` }),
      ...(auth.clientCertificates === undefined ? {} : { certificates: auth.clientCertificates.name }),
    },
    ...issuers(context),
    data: { log: 'jetstream' },
    nats: natsSection(cluster),
    shards: shardsOf(cluster, defaultPool(cluster)),
    ...poolSection(cluster, pool),
    stop: { deadlineMs: `${STOP_SECONDS}s` },
    metrics: { public: monitoring.public },
  });
}

/** Those whose tokens are taken. */
function issuers({ cluster, issuer }: Context): object {
  const { jwt, serviceAccounts } = cluster.spec.auth;
  return {
    ...(jwt === undefined
      ? {}
      : {
          jwt: {
            issuer: jwt.issuer,
            audience: jwt.audience,
            jwks: jwt.jwksUrl ?? `${FILES.jwks}/jwks.json`,
            ...(jwt.ca === undefined ? {} : { caFile: `${FILES.jwksCa}/ca.crt` }),
            clockSkewMs: `${jwt.clockSkewSeconds}s`,
            nameClaim: jwt.nameClaim,
            groupsClaim: jwt.groupsClaim,
          },
        }),
    ...(serviceAccounts === undefined
      ? {}
      : {
          serviceAccounts: {
            issuer: serviceAccounts.issuer ?? issuer,
            audience: serviceAccounts.audience,
            clockSkewMs: `${serviceAccounts.clockSkewSeconds}s`,
          },
        }),
  };
}

/** Of the default pool nothing is said, so that clusters with one pool look as they always did. */
function poolSection(cluster: Context['cluster'], pool: PoolSpec): object {
  const name = brokerPool(cluster, pool);
  return name === DEFAULT_POOL ? {} : { cluster: { pool: name, poolShards: shardsOf(cluster, pool) } };
}

function natsSection(cluster: Context['cluster']): object {
  const { durability, nats } = cluster.spec;
  const kept = {
    replicas: durability.replicas,
    storage: durability.storage,
    sync: durability.sync,
    maxBytesPerShard: durability.maxBytesPerShard,
  };
  if (nats.external === undefined) {
    return {
      servers: natsHosts(cluster).map((name) => `${name}:${NATS_PORTS.client}`),
      streamPrefix: NATS_PREFIX,
      nkeyFile: `${FILES.nats}/nkey`,
      ...kept,
    };
  }
  const { servers, streamPrefix, credentials, nkey, token, userPassword, tls } = nats.external;
  return {
    servers,
    streamPrefix: streamPrefix === '' ? prefixOf(cluster) : streamPrefix,
    ...(credentials === undefined ? {} : { credentialsFile: `${FILES.nats}/credentials` }),
    ...(nkey === undefined ? {} : { nkeyFile: `${FILES.nats}/nkey` }),
    ...(token === undefined ? {} : { tokenFile: `${FILES.nats}/token` }),
    ...(userPassword === undefined
      ? {}
      : { userFile: `${FILES.nats}/username`, passwordFile: `${FILES.nats}/password` }),
    ...(tls === undefined
      ? {}
      : {
          tls: true,
          ...(tls.ca === undefined ? {} : { caFile: `${FILES.nats}/ca.crt` }),
          ...(tls.certificate === undefined
            ? {}
            : { certFile: `${FILES.nats}/tls.crt`, keyFile: `${FILES.nats}/tls.key` }),
        }),
    ...kept,
  };
}

/** The DNS names of the managed NATS servers. */
export function natsHosts(cluster: Context['cluster']): readonly string[] {
  const { managed } = cluster.spec.nats;
  return Array.from(
    { length: managed?.servers ?? 0 },
    (_, ordinal) => `${nameOf.nats(cluster)}-${ordinal}.${host(cluster, nameOf.natsPeers(cluster))}`,
  );
}

function prefixOf({ metadata: { namespace, name } }: Context['cluster']): string {
  const whole = `${namespace}-${name}`;
  if (whole.length <= PREFIX_LENGTH) return whole;
  const mark = fingerprint(whole);
  return `${whole.slice(0, PREFIX_LENGTH - mark.length - 1)}-${mark}`;
}
