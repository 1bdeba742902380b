import type { KubeObject } from '../api/object.ts';
import type { KubeType } from './kube.ts';

/** What a Lease says. Times are RFC 3339 with six decimals. */
export interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

/** An object that at most one holds at a time. */
export type Lease = KubeObject<LeaseSpec>;

/** How it is called in URLs. */
export const LEASE: KubeType<Lease> = {
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  plural: 'leases',
  namespaced: true,
};

/** V1MicroTime: the API server refuses milliseconds. `ms` since the Unix epoch. */
export function microTime(ms: number): string {
  const micros = Math.floor((ms - Math.floor(ms)) * 1000);
  return new Date(Math.floor(ms)).toISOString().replace('Z', `${`${micros}`.padStart(3, '0')}Z`);
}
