import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readBrokerCluster } from '../../operator/api/brokercluster.ts';
import { brokerClusterCrd } from '../../operator/api/crd.ts';
import type { KubeObject } from '../../operator/api/object.ts';
import { KubeClient } from '../../operator/kube/client.ts';
import type { KubeError } from '../../operator/kube/errors.ts';
import type { KubeType } from '../../operator/kube/kube.ts';
import { pathOf } from '../../operator/kube/kube.ts';
import { plan } from '../../operator/plan/plan.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock } from '../../src/std/system.ts';
import { until } from '../support/inbox.ts';
import { KubeApiServer } from '../support/kube-apiserver.ts';
import { CUSTOM_RESOURCE_DEFINITION } from '../support/kube-objects.ts';
import { madeSecrets, NATS_KEYS, START } from './plan/support.ts';

const BROKER_CLUSTER: KubeType = {
  apiVersion: 'agenthub.io/v1alpha1',
  kind: 'BrokerCluster',
  plural: 'brokerclusters',
  namespaced: true,
};
const PLURALS: Readonly<Record<string, string>> = {
  ServiceAccount: 'serviceaccounts',
  Service: 'services',
  Secret: 'secrets',
  ConfigMap: 'configmaps',
  StatefulSet: 'statefulsets',
  PodDisruptionBudget: 'poddisruptionbudgets',
  NetworkPolicy: 'networkpolicies',
  Certificate: 'certificates',
};

let server: KubeApiServer;
let kube: KubeClient;
let count = 0;

beforeAll(async () => {
  server = await KubeApiServer.start();
  kube = await KubeClient.create({
    source: { file: server.kubeconfig(), env: {} },
    clock: systemClock,
    logger: silent,
  });
  await kube.create(CUSTOM_RESOURCE_DEFINITION, brokerClusterCrd() as KubeObject);
  await until(() => kube.serves(BROKER_CLUSTER));
}, 90_000);

afterAll(async () => {
  kube?.close();
  await server?.remove();
});

function object(spec: object, name = `hub-${++count}`): KubeObject {
  return {
    apiVersion: BROKER_CLUSTER.apiVersion,
    kind: BROKER_CLUSTER.kind,
    metadata: { name, namespace: 'default' },
    spec,
  };
}

const make = (spec: object, name?: string): Promise<KubeObject> =>
  kube.create(BROKER_CLUSTER, object(spec, name));
const change = (made: KubeObject, spec: object): Promise<KubeObject> =>
  kube.patch(BROKER_CLUSTER, made.metadata, { spec });
const refusal = async (call: Promise<unknown>): Promise<string> => {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason as KubeError,
  );
  expect(error).toMatchObject({ code: 'invalid' });
  return error!.message;
};

const pool = (differs: object) => ({ pools: [{ name: 'default', ...differs }] });
const second = (...rules: object[]) => ({ pools: [{ name: 'default' }, { name: 'second', rules }] });

describe('the API server', () => {
  test('finds nothing wrong with the definition', async () => {
    const name = { name: 'brokerclusters.agenthub.io' };
    const crd = await kube.get<KubeObject<unknown, { conditions: { type: string; status: string }[] }>>(
      CUSTOM_RESOURCE_DEFINITION as KubeType<
        KubeObject<unknown, { conditions: { type: string; status: string }[] }>
      >,
      name,
    );
    const is = Object.fromEntries(crd.status!.conditions.map(({ type, status }) => [type, status]));
    expect(is).toEqual({ NamesAccepted: 'True', Established: 'True' });
  });

  test('fills in the same defaults as the operator', async () => {
    const made = await make({});
    expect(made.spec).toEqual(JSON.parse(JSON.stringify(readBrokerCluster({ ...made, spec: {} }).spec)));
  });

  test('keeps what is only passed on', async () => {
    const podTemplate = { spec: { containers: [{ name: 'broker', env: [{ name: 'A', value: '1' }] }] } };
    const made = await make({ podTemplate, config: { limits: { taskBytes: '1MiB' } } });
    expect(made.spec).toMatchObject({ podTemplate, config: { limits: { taskBytes: '1MiB' } } });
  });

  test.each<[string, object]>([
    [
      'agent ranges, globs, task types and regions',
      second(
        { range: { prefix: 'agents_', first: 1, last: 1000 } },
        { agents: 'b-*' },
        { taskTypes: 'ocr*', spread: 4 },
        { region: 'eu-west' },
      ),
    ],
    [
      'external NATS',
      { nats: { external: { servers: ['nats:4222'], credentials: { secretName: 'creds' }, tls: {} } } },
    ],
    [
      'one of everything',
      {
        replicas: 1,
        durability: { replicas: 1 },
        nats: { managed: { servers: 1 } },
        ...pool({ minReplicas: 1 }),
      },
    ],
    ['amounts as numbers and as texts', pool({ resources: { requests: { cpu: 2, memory: '1.5Gi' } } })],
    [
      'agents that others vouch for',
      {
        auth: {
          jwt: { issuer: 'https://id.example.org', jwksUrl: 'https://id.example.org/keys' },
          serviceAccounts: {},
          clientCertificates: { name: 'dns', required: false },
        },
        tls: { secretName: 'a', clientCa: { secretName: 'b' } },
      },
    ],
    ['a certificate of cert-manager', { tls: { issuerRef: { name: 'a' }, dnsNames: ['hub.example.org'] } }],
    ['no brokers at all', { replicas: 0, autoscaling: { mode: 'Off' } }],
  ])('takes %s', async (_, spec) => {
    await make(spec);
  });

  test.each<[string, object, RegExp]>([
    [
      'min above max',
      pool({ minReplicas: 5, maxReplicas: 4 }),
      /minReplicas must not be greater than maxReplicas/,
    ],
    [
      'max above shards',
      { shards: 4, ...pool({ maxReplicas: 5 }) },
      /maxReplicas of a pool must not be greater than its shards/,
    ],
    [
      'more replicas than shards',
      { shards: 2, autoscaling: { mode: 'Off' }, ...pool({ maxReplicas: 2 }) },
      /replicas must not be greater than the number of shards/,
    ],
    [
      'two modes of NATS',
      { nats: { managed: {}, external: { servers: ['a:1'] } } },
      /choose one of nats\.managed and nats\.external/,
    ],
    ['no mode of NATS', { nats: {} }, /choose one of nats\.managed and nats\.external/],
    [
      'two ways to log in',
      { nats: { external: { servers: ['a:1'], token: { secretName: 'a' }, userPassword: 'b' } } },
      /at most one of credentials, nkey, token and userPassword/,
    ],
    [
      'more copies than servers',
      { nats: { managed: { servers: 1 } } },
      /durability\.replicas must not be greater than nats\.managed\.servers/,
    ],
    ['an even number of copies', { durability: { replicas: 2 } }, /must be 1, 3 or 5/],
    [
      'two pools of one name',
      { pools: [{ name: 'default' }, { name: 'default', rules: [{ agents: 'a' }] }] },
      /Duplicate value|two pools have the same name/,
    ],
    [
      'two pools without rules',
      { pools: [{ name: 'default' }, { name: 'other' }] },
      /exactly one pool must have no rules/,
    ],
    [
      'a rule with two matchers',
      second({ agents: 'a', region: 'b' }),
      /exactly one of agents, range, region and taskTypes/,
    ],
    ['a rule without any', second({}), /exactly one of agents, range, region and taskTypes/],
    [
      'a range backwards',
      second({ range: { prefix: 'a_', first: 2, last: 1 } }),
      /first must not be greater than last/,
    ],
    [
      'a prefix that ends with a digit',
      second({ range: { prefix: 'a1', first: 1, last: 2 } }),
      /must not end with a digit/,
    ],
    ['spread of agents', second({ agents: 'a', spread: 2 }), /spread is for rules with taskTypes only/],
    ['replicas of the default pool in two places', pool({ replicas: 2 }), /is spec\.replicas; set that/],
    [
      'many workers in a pod',
      pool({ workers: 2 }),
      /one broker per pod; raise maxReplicas or replicas instead/,
    ],
    [
      'a pool that is called nats',
      { pools: [{ name: 'default' }, { name: 'nats', rules: [{ agents: 'a' }] }] },
      /can't be called nats/,
    ],
    [
      'autoscaling towards nothing',
      { autoscaling: { targets: { tasksPerSecond: 0, agents: 0, cpuPercent: 0, memoryPercent: 0 } } },
      /at least one target that is not 0/,
    ],
    [
      'tokens that nobody needs',
      { auth: { anonymous: true, tokens: { secretName: 'a' } } },
      /anonymous lets everybody in/,
    ],
    [
      'an issuer that nobody needs',
      { auth: { anonymous: true, serviceAccounts: {} } },
      /anonymous lets everybody in: remove it, or remove jwt/,
    ],
    ['an issuer without keys', { auth: { jwt: { issuer: 'a' } } }, /give one of jwksUrl and jwks/],
    [
      'an issuer with keys in two places',
      { auth: { jwt: { issuer: 'a', jwksUrl: 'https://a/b', jwks: { secretName: 'a' } } } },
      /give one of jwksUrl and jwks/,
    ],
    [
      'keys of an issuer at no address',
      { auth: { jwt: { issuer: 'a', jwksUrl: 'ftp://a' } } },
      /auth\.jwt\.jwksUrl/,
    ],
    [
      'authorities for a file',
      { auth: { jwt: { issuer: 'a', jwks: { secretName: 'a' }, ca: { secretName: 'a' } } } },
      /ca is for the certificate of jwksUrl/,
    ],
    [
      'certificates of agents without an authority',
      { auth: { clientCertificates: {} }, tls: { secretName: 'a' } },
      /auth\.clientCertificates needs tls\.clientCa/,
    ],
    [
      'two certificates',
      { tls: { secretName: 'a', issuerRef: { name: 'b' } } },
      /one of secretName, a certificate that you have, and issuerRef/,
    ],
    ['encryption without a certificate', { tls: {} }, /one of secretName, a certificate that you have/],
    [
      'names for a certificate that has them',
      { tls: { secretName: 'a', dnsNames: ['b'] } },
      /dnsNames are for the certificate of issuerRef/,
    ],
    ['what is no amount', pool({ resources: { requests: { cpu: 'much' } } }), /cpu/],
    ['an unknown mode', { autoscaling: { mode: 'auto' } }, /supported values: "Auto", "Recommend", "Off"/],
  ])('refuses %s', async (_, spec, message) => {
    expect(await refusal(make(spec))).toMatch(message);
  });

  test('refuses a name that would be too long for pods', async () => {
    expect(await refusal(make({}, 'a'.repeat(31)))).toMatch(/the name must be of at most 30/);
  });

  test.each<[string, object, object, RegExp]>([
    ['shards', {}, { shards: 32 }, /can't be changed: the log is laid out by them/],
    ['shards of a pool', pool({ shards: 12 }), pool({ shards: 13 }), /shards of a pool can't be changed/],
    [
      'who runs NATS',
      {},
      { nats: { managed: null, external: { servers: ['a:1'] } } },
      /can't be moved to other servers/,
    ],
    [
      'the size of volumes',
      {},
      { nats: { managed: { volume: { size: '20Gi' } } } },
      /can't be changed: Kubernetes does not resize/,
    ],
    [
      'the number of NATS servers',
      {},
      { nats: { managed: { servers: 5 } } },
      /can't be changed: a NATS cluster/,
    ],
    ['the default pool', {}, { pools: [{ name: 'other' }] }, /the pool without rules must stay/],
    ['copies, to fewer', {}, { durability: { replicas: 1 } }, /can't be lowered/],
  ])('does not let %s be changed', async (_, before, after, message) => {
    const made = await make(before);
    expect(await refusal(change(made, after))).toMatch(message);
  });

  test('scales the default pool by the scale subresource', async () => {
    const made = await make({ autoscaling: { mode: 'Off' } });
    await kube.patch(BROKER_CLUSTER, made.metadata, { spec: { replicas: 7 } }, { subresource: 'scale' });
    const { spec } = await kube.get(BROKER_CLUSTER, made.metadata);
    expect(spec).toMatchObject({ replicas: 7 });
  });

  test.each<[string, object]>([
    ['by itself', {}],
    [
      'with agents that others vouch for',
      {
        auth: {
          jwt: { issuer: 'a', jwks: { secretName: 's', key: 'tokens' } },
          serviceAccounts: {},
          clientCertificates: {},
        },
        tls: { secretName: 's', clientCa: { secretName: 's' } },
      },
    ],
    [
      'without autoscaling, encrypted, with all that can be had',
      {
        autoscaling: { mode: 'Off' },
        tls: { secretName: 's', clientCa: { secretName: 's' } },
        auth: { tokens: { secretName: 's' }, adminTokens: { secretName: 's' } },
        service: { type: 'LoadBalancer', externalTrafficPolicy: 'Local', annotations: { a: 'b' } },
        imagePullSecrets: ['pull'],
        networkPolicy: {
          agents: [{ namespaceSelector: {} }],
          http: [{ podSelector: { matchLabels: { a: 'b' } } }],
        },
        pools: [
          {
            name: 'default',
            topology: {
              strict: true,
              nodeSelector: { a: 'b' },
              tolerations: [{ operator: 'Exists' }],
              affinity: {},
            },
          },
          {
            name: 'second',
            rules: [{ agents: 'a-*' }],
            replicas: 1,
            resources: { requests: { cpu: 1, memory: '512Mi' }, limits: {} },
          },
        ],
      },
    ],
    [
      'with other NATS servers',
      {
        nats: {
          external: {
            servers: ['nats:4222'],
            credentials: { secretName: 's' },
            tls: { ca: { secretName: 's' } },
          },
        },
      },
    ],
    [
      'with one NATS server, patched',
      {
        durability: { replicas: 1 },
        nats: { managed: { servers: 1, volume: { storageClassName: 'fast', onDelete: 'Delete' } } },
        podTemplate: { spec: { containers: [{ name: 'broker', env: [{ name: 'A', value: 'b' }] }] } },
      },
    ],
  ])('takes every object of a cluster %s, to the letter', async (_, spec) => {
    const cluster = readBrokerCluster(await make(spec));
    const key = { keys: ['tokens', 'tls.crt', 'tls.key', 'ca.crt', 'user.creds'], fingerprint: 'f' };
    const snapshot = {
      now: START,
      cluster,
      kinds: { serviceMonitor: false, prometheusRule: false, certificate: true },
      defaultImages: { broker: 'agenthub:1', nats: 'nats:2.12' },
      children: [],
      pods: {},
      natsPods: [],
      secrets: { ...madeSecrets(cluster.metadata.name), s: key },
      natsKeys: NATS_KEYS,
      issuer: 'https://kubernetes.default.svc',
      foreignAutoscalers: [],
      obstacles: [],
      token: () => 'a-token-of-some-length',
      natsSeed: () => 'SUSEED',
    };
    const planned = plan(snapshot);
    const created = plan({ ...snapshot, secrets: { s: key } }).create;
    expect(planned.apply.length).toBeGreaterThanOrEqual(7);
    for (const object of [...created, ...planned.apply]) {
      const type = {
        apiVersion: object.apiVersion,
        kind: object.kind,
        plural: PLURALS[object.kind]!,
        namespaced: true,
      };
      // What the API server would warn of or drop, it refuses then.
      await kube.raw({
        method: 'PATCH',
        path: pathOf(type, object.metadata),
        query: { fieldManager: 'test', fieldValidation: 'Strict', dryRun: 'All' },
        body: object,
        contentType: 'application/apply-patch+yaml',
      });
    }
    await kube.patch(BROKER_CLUSTER, cluster.metadata, { status: planned.status }, { subresource: 'status' });
    const { status } = await kube.get(BROKER_CLUSTER, cluster.metadata);
    expect(status).toEqual(JSON.parse(JSON.stringify(planned.status)));
  });
});
