import type { BrokerClusterSpec, PoolSpec } from '../../api/spec.ts';
import { USER_ID } from '../context.ts';

/** What the restricted Pod Security Standard asks of a pod. */
export const POD_SECURITY = {
  runAsNonRoot: true,
  runAsUser: USER_ID,
  runAsGroup: USER_ID,
  fsGroup: USER_ID,
  fsGroupChangePolicy: 'OnRootMismatch',
  seccompProfile: { type: 'RuntimeDefault' },
} as const;

/** What it asks of a container, and a root file system that nobody writes to. */
export const CONTAINER_SECURITY = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
} as const;

/** The members of a pod spec that brokers and NATS servers have in common. */
export function podBasics(
  spec: BrokerClusterSpec,
  topology: PoolSpec['topology'],
  matchLabels: Readonly<Record<string, string>>,
): Readonly<Record<string, unknown>> {
  return {
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: POD_SECURITY,
    ...(spec.imagePullSecrets.length > 0
      ? { imagePullSecrets: spec.imagePullSecrets.map((name) => ({ name })) }
      : {}),
    ...(topology.spread.length > 0
      ? {
          topologySpreadConstraints: topology.spread.map((topologyKey) => ({
            topologyKey,
            maxSkew: 1,
            whenUnsatisfiable: topology.strict ? 'DoNotSchedule' : 'ScheduleAnyway',
            labelSelector: { matchLabels },
          })),
        }
      : {}),
    ...(Object.keys(topology.nodeSelector).length > 0 ? { nodeSelector: topology.nodeSelector } : {}),
    ...(topology.tolerations.length > 0 ? { tolerations: topology.tolerations } : {}),
    ...(topology.affinity === undefined ? {} : { affinity: topology.affinity }),
    ...(topology.priorityClassName === undefined ? {} : { priorityClassName: topology.priorityClassName }),
  };
}

/** A variable whose value is a field of the pod. */
export function fieldVariable(name: string, fieldPath: string): object {
  return { name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } };
}

/** A variable whose value is in a Secret. */
export function secretVariable(name: string, secretName: string, key: string): object {
  return { name, valueFrom: { secretKeyRef: { name: secretName, key } } };
}

/** A volume of some keys of a Secret. */
export function secretVolume(
  name: string,
  secretName: string,
  items?: readonly [key: string, path: string][],
) {
  return {
    name,
    secret: {
      secretName,
      defaultMode: 0o440,
      ...(items === undefined ? {} : { items: items.map(([key, path]) => ({ key, path })) }),
    },
  };
}
