import type { Logger } from '../../src/std/logger.ts';
import { brokerClusterCrd } from '../api/crd.ts';
import type { KubeObject } from '../api/object.ts';
import type { Kube, KubeType } from '../kube/kube.ts';
import { fingerprint } from '../plan/fingerprint.ts';

const DEFINITION: KubeType = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  plural: 'customresourcedefinitions',
  namespaced: false,
};

/** What of the definition was applied, in short. */
const APPLIED = 'agenthub.io/definition';

/**
 * Brings the definition of BrokerCluster, which must be there, up to the version of this operator. Helm makes
 * definitions when a chart is installed and never touches them again.
 *
 * Writes nothing if it is up to date.
 *
 * @throws KubeError if it can't be read or written.
 */
export async function keepDefinition(kube: Kube, logger: Logger): Promise<void> {
  const wanted = brokerClusterCrd() as KubeObject;
  const mark = fingerprint(wanted);
  const live = await kube.get(DEFINITION, { name: wanted.metadata.name });
  if (live.metadata.annotations?.[APPLIED] === mark) return;
  const metadata = { ...wanted.metadata, annotations: { [APPLIED]: mark } };
  await kube.apply(DEFINITION, { ...wanted, metadata });
  logger.info({ name: wanted.metadata.name }, 'the definition is up to date now');
}
