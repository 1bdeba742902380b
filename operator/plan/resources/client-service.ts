import type { Context } from '../context.ts';
import { nameOf, selector } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** The Service that agents use: any ready broker will do. */
export function clientService({ cluster }: Context): Child {
  const { service, tls } = cluster.spec;
  const about = {
    apiVersion: 'v1',
    kind: 'Service',
    name: nameOf.clients(cluster),
    component: 'broker',
    labels: service.labels,
    annotations: service.annotations,
  } as const;
  return child(cluster, about, {
    spec: {
      type: service.type,
      selector: selector(cluster, 'broker'),
      ports: [
        {
          name: 'grpc',
          port: service.port,
          targetPort: 'grpc',
          protocol: 'TCP',
          ...(tls === undefined ? { appProtocol: 'kubernetes.io/h2c' } : {}),
        },
      ],
      ...(service.loadBalancerClass === undefined ? {} : { loadBalancerClass: service.loadBalancerClass }),
      ...(service.externalTrafficPolicy === undefined
        ? {}
        : { externalTrafficPolicy: service.externalTrafficPolicy }),
    },
  });
}
