import { API_VERSION, KIND } from '../../api/brokercluster.ts';
import type { BrokerCluster } from '../../api/brokercluster.ts';
import type { KubeObject } from '../../api/object.ts';
import { labels } from '../context.ts';
import type { Component } from '../context.ts';

/** A child object as the operator wants it: only the fields that it cares for. */
export interface Child extends KubeObject {
  readonly [member: string]: unknown;
}

/** What a child object is called. */
export interface ChildName {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly component: Component;
  readonly pool?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A child object of the cluster: it has the labels, and goes when the cluster goes. */
export function child(
  cluster: BrokerCluster,
  about: ChildName,
  body: Readonly<Record<string, unknown>>,
): Child {
  const { apiVersion, kind, name, component, pool, annotations = {} } = about;
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      namespace: cluster.metadata.namespace,
      labels: { ...labels(cluster, component, pool), ...about.labels },
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
      ownerReferences: [
        {
          apiVersion: API_VERSION,
          kind: KIND,
          name: cluster.metadata.name,
          uid: cluster.metadata.uid,
          controller: true,
          blockOwnerDeletion: false,
        },
      ],
    },
    ...body,
  };
}
