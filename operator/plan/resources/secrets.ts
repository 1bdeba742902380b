import type { BrokerCluster } from '../../api/brokercluster.ts';
import { AGENT_TOKEN_KEY, INTERNAL_KEYS, nameOf } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/**
 * Secrets that the operator makes once and then leaves alone. `token` answers one that nobody can guess, and is
 * called anew for each.
 */
export function generatedSecrets(cluster: BrokerCluster, token: () => string): readonly Child[] {
  const { auth } = cluster.spec;
  const secret = (name: string, stringData: Readonly<Record<string, string>>): Child =>
    child(
      cluster,
      { apiVersion: 'v1', kind: 'Secret', name, component: 'broker' },
      { type: 'Opaque', stringData },
    );
  return [
    secret(nameOf.internalSecret(cluster), {
      [INTERNAL_KEYS.adminToken]: token(),
      // Begins with a letter, so that NATS does not take it for a number.
      [INTERNAL_KEYS.natsPassword]: `p${token()}`,
    }),
    ...(auth.anonymous || auth.tokens !== undefined
      ? []
      : [secret(nameOf.agentSecret(cluster), { [AGENT_TOKEN_KEY]: token() })]),
  ];
}

/** A Secret that the spec refers to, with the keys that must be in it and where the spec says so. */
export interface SecretReference {
  readonly name: string;
  readonly keys: readonly string[];
  /** `spec.tls.secretName` */
  readonly field: string;
  /** Brokers take another content without a restart. */
  readonly live?: boolean;
}

/** All Secrets that must be there before brokers can start. */
export function secretReferences({ spec }: BrokerCluster): readonly SecretReference[] {
  const { auth, tls, nats } = spec;
  const references: SecretReference[] = [];
  const key = (from: { secretName: string; key: string } | undefined, field: string): void => {
    if (from !== undefined)
      references.push({ name: from.secretName, keys: [from.key], field: `${field}.secretName` });
  };
  key(auth.tokens, 'spec.auth.tokens');
  key(auth.adminTokens, 'spec.auth.adminTokens');
  const { policy } = auth;
  if (policy !== undefined) {
    const field = 'spec.auth.policy.secretName';
    references.push({ name: policy.secretName, keys: [policy.key], field, live: true });
  }
  if (tls !== undefined) {
    references.push({ name: tls.secretName, keys: ['tls.crt', 'tls.key'], field: 'spec.tls.secretName' });
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
