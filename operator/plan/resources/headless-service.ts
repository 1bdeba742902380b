import type { Context } from '../context.ts';
import { LABEL, nameOf, PORTS, selector } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/**
 * Gives each broker a name, also while it is not ready: the operator asks brokers that drain, and agents go on to
 * use the one they are connected to.
 */
export function headlessService({ cluster }: Context): Child {
  const about = {
    apiVersion: 'v1',
    kind: 'Service',
    name: nameOf.brokers(cluster),
    component: 'broker',
    labels: { [LABEL.service]: 'brokers' },
  } as const;
  return child(cluster, about, {
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: selector(cluster, 'broker'),
      ports: [
        { name: 'grpc', port: PORTS.grpc, targetPort: 'grpc', protocol: 'TCP' },
        { name: 'http', port: PORTS.http, targetPort: 'http', protocol: 'TCP' },
      ],
    },
  });
}
