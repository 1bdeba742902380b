import type { BrokerCluster } from '../../api/brokercluster.ts';
import { AGENT_TOKEN_KEY, INTERNAL_KEYS, nameOf, ROTATE_NATS } from '../context.ts';
import type { Component } from '../context.ts';
import type { NatsSecretData } from '../nats-keys.ts';
import { NATS_KEYS } from '../nats-keys.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** What a secret is made of: nobody can guess it, and it is called anew for each. */
export interface SecretSources {
  readonly token: () => string;
  /** The seed of a user of NATS. */
  readonly natsSeed: () => string;
}

/** Secrets that the operator makes once and then leaves alone, but for a credential that it is told to exchange. */
export function generatedSecrets(
  cluster: BrokerCluster,
  { token, natsSeed }: SecretSources,
): readonly Child[] {
  const { auth, nats } = cluster.spec;
  const secret = (name: string, stringData: NatsSecretData, component: Component = 'broker'): Child =>
    child(cluster, { apiVersion: 'v1', kind: 'Secret', name, component }, { type: 'Opaque', stringData });
  return [
    secret(nameOf.internalSecret(cluster), { [INTERNAL_KEYS.adminToken]: token() }),
    ...(nats.managed === undefined
      ? []
      : [
          natsCredentials(cluster, {
            [NATS_KEYS.seed]: natsSeed(),
            [NATS_KEYS.rotation]: cluster.metadata.annotations[ROTATE_NATS] ?? '',
          }),
          secret(nameOf.natsSystem(cluster), { [NATS_KEYS.seed]: natsSeed() }, 'nats'),
        ]),
    ...(auth.anonymous || auth.tokens !== undefined
      ? []
      : [secret(nameOf.agentSecret(cluster), { [AGENT_TOKEN_KEY]: token() })]),
  ];
}

/** The Secret with the credential of the brokers; `stringData` would stay behind when a key goes. */
export function natsCredentials(cluster: BrokerCluster, texts: NatsSecretData): Child {
  const name = nameOf.natsCredentials(cluster);
  const data = Object.fromEntries(
    Object.entries(texts).map(([key, text]) => [key, Buffer.from(text).toString('base64')]),
  );
  const about = { apiVersion: 'v1', kind: 'Secret', name, component: 'nats' } as const;
  return child(cluster, about, { type: 'Opaque', data });
}

/** A Secret that the spec refers to, with the keys that must be in it and where the spec says so. */
export interface SecretReference {
  readonly name: string;
  readonly keys: readonly string[];
  /** `spec.tls.secretName` */
  readonly field: string;
}

/** All Secrets that must be there before brokers can start. What changes in them, brokers take without a restart. */
export function secretReferences(cluster: BrokerCluster): readonly SecretReference[] {
  const { auth, tls, nats } = cluster.spec;
  const references: SecretReference[] = [];
  const key = (from: { secretName: string; key: string } | undefined, field: string): void => {
    if (from !== undefined)
      references.push({ name: from.secretName, keys: [from.key], field: `${field}.secretName` });
  };
  key(auth.tokens, 'spec.auth.tokens');
  key(auth.adminTokens, 'spec.auth.adminTokens');
  key(auth.policy, 'spec.auth.policy');
  key(auth.jwt?.jwks, 'spec.auth.jwt.jwks');
  key(auth.jwt?.ca, 'spec.auth.jwt.ca');
  if (tls !== undefined) {
    const field = tls.issuerRef === undefined ? 'spec.tls.secretName' : 'spec.tls.issuerRef';
    references.push({ name: nameOf.certificate(cluster), keys: ['tls.crt', 'tls.key'], field });
    key(tls.clientCa, 'spec.tls.clientCa');
  }
  const at = 'spec.nats.external';
  key(nats.external?.credentials, `${at}.credentials`);
  key(nats.external?.nkey, `${at}.nkey`);
  key(nats.external?.token, `${at}.token`);
  key(nats.external?.tls?.ca, `${at}.tls.ca`);
  const pair = (name: string | undefined, keys: readonly string[], field: string): void => {
    if (name !== undefined) references.push({ name, keys, field: `${at}.${field}` });
  };
  pair(nats.external?.userPassword, ['username', 'password'], 'userPassword');
  pair(nats.external?.tls?.certificate, ['tls.crt', 'tls.key'], 'tls.certificate');
  return references;
}
