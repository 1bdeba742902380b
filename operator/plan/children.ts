import { overlay } from './overlay.ts';
import type { Context } from './context.ts';
import type { PoolPlan } from './pool.ts';
import { brokerConfig } from './resources/broker-config.ts';
import { brokerSet } from './resources/broker-set.ts';
import { certificate } from './resources/certificate.ts';
import type { Child } from './resources/child.ts';
import { clientService } from './resources/client-service.ts';
import { disruptionBudget, natsDisruptionBudget } from './resources/disruption-budget.ts';
import { headlessService } from './resources/headless-service.ts';
import { monitoringObjects } from './resources/monitoring.ts';
import { natsConfig } from './resources/nats-config.ts';
import { natsClientService, natsPeersService } from './resources/nats-services.ts';
import { natsSet } from './resources/nats-set.ts';
import { brokerNetworkPolicy, natsNetworkPolicy } from './resources/network-policy.ts';
import { serviceAccount } from './resources/service-account.ts';

/** Every child object of the cluster as it is to be, in the order in which they are made: what others need first. */
export function childrenOf(
  context: Context,
  pools: readonly Pick<PoolPlan, 'pool' | 'replicas'>[],
): readonly Child[] {
  const { spec } = context.cluster;
  const { managed } = spec.nats;
  const objects = [
    serviceAccount(context),
    ...(spec.tls?.issuerRef !== undefined && context.kinds.certificate ? [certificate(context)] : []),
    clientService(context),
    headlessService(context),
    ...(spec.networkPolicy.enabled ? [brokerNetworkPolicy(context)] : []),
    ...(managed === undefined
      ? []
      : [
          natsClientService(context),
          natsPeersService(context),
          natsDisruptionBudget(context),
          ...(spec.networkPolicy.enabled ? [natsNetworkPolicy(context)] : []),
          // Without a credential there is nobody whom the servers could let in.
          ...(context.natsKeys === undefined ? [] : [natsConfig(context), natsSet(context, managed)]),
        ]),
    ...pools.flatMap(({ pool, replicas }) => [
      disruptionBudget(context, pool),
      brokerConfig(context, pool),
      brokerSet(context, pool, replicas),
    ]),
    ...monitoringObjects(context),
  ];
  return objects.map((object) => patched(context, object));
}

function patched({ cluster }: Context, object: Child): Child {
  return cluster.spec.patches
    .filter(({ kind, name }) => kind === object.kind && (name === undefined || name === object.metadata.name))
    .reduce((result, { patch }) => overlay(result, patch), object);
}
