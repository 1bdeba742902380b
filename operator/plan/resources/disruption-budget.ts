import type { PoolSpec } from '../../api/spec.ts';
import type { Context } from '../context.ts';
import { nameOf, selector } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** How many brokers of a pool evictions may take away at a time; one that does not work may always go. */
export function disruptionBudget({ cluster }: Context, pool: PoolSpec): Child {
  const about = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    name: nameOf.pool(cluster, pool.name),
    component: 'broker',
    pool: pool.name,
  } as const;
  return child(cluster, about, {
    spec: {
      maxUnavailable: cluster.spec.disruption.maxUnavailable,
      unhealthyPodEvictionPolicy: 'AlwaysAllow',
      selector: { matchLabels: selector(cluster, 'broker', pool.name) },
    },
  });
}

/** The same for the NATS servers: one at a time, so that the others keep their quorum. */
export function natsDisruptionBudget({ cluster }: Context): Child {
  const about = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    name: nameOf.nats(cluster),
    component: 'nats',
  } as const;
  return child(cluster, about, {
    spec: {
      maxUnavailable: 1,
      unhealthyPodEvictionPolicy: 'IfHealthyBudget',
      selector: { matchLabels: selector(cluster, 'nats') },
    },
  });
}
