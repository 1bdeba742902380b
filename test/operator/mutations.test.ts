import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readBrokerCluster } from '../../operator/api/brokercluster.ts';
import { brokerClusterCrd } from '../../operator/api/crd.ts';
import type { KubeObject } from '../../operator/api/object.ts';
import { BROKER_CLUSTER } from '../../operator/controller/kinds.ts';
import { KubeClient } from '../../operator/kube/client.ts';
import { KubeError } from '../../operator/kube/errors.ts';
import { plan } from '../../operator/plan/plan.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock } from '../../src/std/system.ts';
import { until } from '../support/inbox.ts';
import { KubeApiServer } from '../support/kube-apiserver.ts';
import { CUSTOM_RESOURCE_DEFINITION } from '../support/kube-objects.ts';
import { SeededRandom } from '../support/random.ts';
import { madeSecrets, NATS_KEYS, START } from './plan/support.ts';

const COUNT = 250;
/** Values that some field has, and others must not have. */
const VALUES = [
  ...[
    -1,
    0,
    1,
    2,
    3,
    5,
    64,
    300,
    100_000,
    1.5,
    '',
    'a',
    'UPPER',
    '1Gi',
    'Auto',
    'Off',
    'always',
    true,
    false,
  ],
  ...[[], [''], [{ name: 'default' }], [{ agents: 'a-*' }], {}, { a: 'b' }, { secretName: 's' }],
];
const PATHS = [
  ...['image', 'imagePullPolicy', 'imagePullSecrets', 'replicas', 'shards', 'pools', 'durability.replicas'],
  ...['durability.storage', 'durability.sync', 'durability.maxBytesPerShard', 'nats.managed.servers'],
  ...['nats.managed.volume.size', 'nats.managed.volume.onDelete', 'nats.external', 'autoscaling.mode'],
  ...['autoscaling.targets.agents', 'autoscaling.tolerancePercent', 'autoscaling.intervalSeconds'],
  ...['autoscaling.scaleDown.policies', 'drain.deadlineSeconds', 'drain.onTimeout', 'update.strategy'],
  ...[
    'disruption.maxUnavailable',
    'service.type',
    'service.port',
    'service.annotations',
    'service.advertise',
  ],
  ...['tls', 'auth.anonymous', 'auth.tokens', 'monitoring.public', 'networkPolicy.enabled', 'config.limits'],
  ...['podTemplate', 'patches'],
];

let server: KubeApiServer;
let kube: KubeClient;

beforeAll(async () => {
  server = await KubeApiServer.start();
  const source = { file: server.kubeconfig(), env: {} };
  kube = await KubeClient.create({ source, clock: systemClock, logger: silent });
  await kube.create(CUSTOM_RESOURCE_DEFINITION, brokerClusterCrd() as KubeObject);
  await until(() => kube.serves(BROKER_CLUSTER));
}, 180_000);

afterAll(async () => {
  kube?.close();
  await server?.remove();
});

function nested(path: string, value: unknown): object {
  return path
    .split('.')
    .reverse()
    .reduce<unknown>((inner, name) => ({ [name]: inner }), value) as object;
}

/** What the operator would make of it. */
function objectsOf(object: KubeObject): unknown {
  const key = { keys: ['tokens', 'tls.crt', 'tls.key', 'ca.crt'], fingerprint: 'f' };
  const cluster = readBrokerCluster(object);
  const { name } = cluster.metadata;
  return plan({
    now: START,
    cluster,
    kinds: { serviceMonitor: true, prometheusRule: true, certificate: true },
    defaultImages: { broker: 'agenthub:1', nats: 'nats:2' },
    children: [],
    pods: {},
    natsPods: [],
    secrets: { ...madeSecrets(name), s: key },
    natsKeys: NATS_KEYS,
    natsSeed: () => 'SUSEED',
    foreignAutoscalers: [],
    obstacles: [],
    token: () => 'a-token-of-some-length',
  }).apply;
}

test(`of ${COUNT} changes at random the API server refuses the bad with a reason, and the good can be taken back`, async () => {
  const random = new SeededRandom(5);
  const pick = <T>(items: readonly T[]): T => items[random.below(items.length)]!;
  const made = await kube.create(BROKER_CLUSTER, {
    apiVersion: BROKER_CLUSTER.apiVersion,
    kind: BROKER_CLUSTER.kind,
    metadata: { name: 'hub', namespace: 'default' },
    spec: {},
  });
  let original = objectsOf(made);
  const tally = { refused: 0, taken: 0, changed: 0 };
  for (let turn = 0; turn < COUNT; turn++) {
    const change = nested(pick(PATHS), pick(VALUES));
    let changed: KubeObject;
    try {
      changed = await kube.patch(BROKER_CLUSTER, made.metadata, { spec: change });
    } catch (error) {
      expect(error).toBeInstanceOf(KubeError);
      expect((error as KubeError).code).toBe('invalid');
      expect((error as KubeError).message).toMatch(/spec/);
      tally.refused++;
      continue;
    }
    tally.taken++;
    // What the API server takes the operator can read, and make something of.
    if (!isDeepStrictEqual(objectsOf(changed), original)) tally.changed++;
    const { resourceVersion } = changed.metadata;
    const back = { ...made, metadata: { ...made.metadata, resourceVersion } };
    const path = `/apis/agenthub.io/v1alpha1/namespaces/default/brokerclusters/hub`;
    try {
      const restored = await kube.raw<KubeObject>({ method: 'PUT', path, body: back });
      expect(objectsOf(restored)).toEqual(original);
    } catch (error) {
      // Some things may only grow: a new object then.
      expect((error as KubeError).message).toMatch(/can't be (lowered|changed)|must stay/);
      await kube.delete(BROKER_CLUSTER, made.metadata);
      const { uid: _, resourceVersion: __, ...metadata } = made.metadata;
      Object.assign(made, await kube.create(BROKER_CLUSTER, { ...made, metadata }));
      original = objectsOf(made);
    }
  }
  expect(tally.refused).toBeGreaterThan(50);
  expect(tally.changed).toBeGreaterThan(5);
}, 180_000);
