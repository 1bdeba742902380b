import type { Context } from '../context.ts';
import { host, nameOf } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** What cert-manager is asked for: a certificate for every name by which brokers are reached. */
export function certificate({ cluster }: Context): Child {
  const { tls } = cluster.spec;
  const about = {
    apiVersion: 'cert-manager.io/v1',
    kind: 'Certificate',
    name: nameOf.certificate(cluster),
    component: 'broker',
  } as const;
  const clients = nameOf.clients(cluster);
  const { namespace } = cluster.metadata;
  return child(cluster, about, {
    spec: {
      secretName: nameOf.certificate(cluster),
      issuerRef: tls?.issuerRef,
      commonName: clients,
      dnsNames: [
        ...new Set([
          clients,
          `${clients}.${namespace}`,
          host(cluster, clients),
          `${host(cluster, clients)}.cluster.local`,
          // Each broker by its own name: where sessions are sent to, and where the operator asks.
          `*.${host(cluster, nameOf.brokers(cluster))}`,
          `*.${host(cluster, nameOf.brokers(cluster))}.cluster.local`,
          ...(tls?.dnsNames ?? []),
        ]),
      ],
      usages: ['digital signature', 'key encipherment', 'server auth'],
      privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
    },
  });
}
