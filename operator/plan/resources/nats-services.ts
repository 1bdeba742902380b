import type { Context } from '../context.ts';
import { nameOf, NATS_PORTS, selector } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** The Service for people who look into NATS, as `nats --server`. */
export function natsClientService({ cluster }: Context): Child {
  const about = { apiVersion: 'v1', kind: 'Service', name: nameOf.nats(cluster), component: 'nats' } as const;
  return child(cluster, about, {
    spec: {
      selector: selector(cluster, 'nats'),
      ports: [{ name: 'client', port: NATS_PORTS.client, targetPort: 'client', protocol: 'TCP' }],
    },
  });
}

/** Gives each server its name, also before it is ready: it becomes ready by finding the others. */
export function natsPeersService({ cluster }: Context): Child {
  const about = {
    apiVersion: 'v1',
    kind: 'Service',
    name: nameOf.natsPeers(cluster),
    component: 'nats',
  } as const;
  return child(cluster, about, {
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: selector(cluster, 'nats'),
      ports: [
        { name: 'client', port: NATS_PORTS.client, targetPort: 'client', protocol: 'TCP' },
        { name: 'cluster', port: NATS_PORTS.cluster, targetPort: 'cluster', protocol: 'TCP' },
        { name: 'monitor', port: NATS_PORTS.monitor, targetPort: 'monitor', protocol: 'TCP' },
      ],
    },
  });
}
