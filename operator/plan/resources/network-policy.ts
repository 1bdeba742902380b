import type { Context } from '../context.ts';
import { nameOf, NATS_PORTS, PORTS, selector } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

type Peers = readonly Readonly<Record<string, unknown>>[];

/** Who may reach the brokers. */
export function brokerNetworkPolicy({ cluster }: Context): Child {
  const { agents, http } = cluster.spec.networkPolicy;
  const about = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    name: nameOf.brokers(cluster),
    component: 'broker',
  } as const;
  return child(cluster, about, {
    spec: {
      podSelector: { matchLabels: selector(cluster, 'broker') },
      policyTypes: ['Ingress'],
      ingress: [ingress(agents, PORTS.grpc), ingress(http, PORTS.http)],
    },
  });
}

/** Who may reach the NATS servers: the brokers, and each other. */
export function natsNetworkPolicy({ cluster }: Context): Child {
  const brokers = { podSelector: { matchLabels: selector(cluster, 'broker') } };
  const servers = { podSelector: { matchLabels: selector(cluster, 'nats') } };
  const about = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    name: nameOf.nats(cluster),
    component: 'nats',
  } as const;
  return child(cluster, about, {
    spec: {
      podSelector: { matchLabels: selector(cluster, 'nats') },
      policyTypes: ['Ingress'],
      ingress: [
        ingress([brokers, servers], NATS_PORTS.client),
        ingress([servers], NATS_PORTS.cluster),
        ingress(cluster.spec.networkPolicy.http, NATS_PORTS.monitor),
      ],
    },
  });
}

/** No peers: everybody. */
function ingress(peers: Peers, port: number): object {
  const ports = [{ protocol: 'TCP', port }];
  return peers.length === 0 ? { ports } : { from: peers, ports };
}
