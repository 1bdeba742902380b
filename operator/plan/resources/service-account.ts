import type { Context } from '../context.ts';
import { nameOf } from '../context.ts';
import { child } from './child.ts';
import type { Child } from './child.ts';

/** Who the pods are to the API server: somebody with no rights and no token. */
export function serviceAccount({ cluster }: Context): Child {
  const about = {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    name: nameOf.account(cluster),
    component: 'broker',
  } as const;
  return child(cluster, about, { automountServiceAccountToken: false });
}
