import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { brokerClusterCrd } from '../../operator/api/crd.ts';
import type { KubeObject } from '../../operator/api/object.ts';
import type { BrokerClusterStatus } from '../../operator/api/status.ts';
import { loadOperatorConfig } from '../../operator/config.ts';
import { BROKER_CLUSTER, CERTIFICATE, SECRET } from '../../operator/controller/kinds.ts';
import type { SecretObject } from '../../operator/controller/kinds.ts';
import { natsPublicKey } from '../../operator/controller/nkeys.ts';
import { KubeClient } from '../../operator/kube/client.ts';
import { Operator } from '../../operator/operator.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../src/std/system.ts';
import { CERTIFICATE as CERTIFICATE_PEM, KEY as KEY_PEM } from '../support/certificate.ts';
import { BROKEN, FakeWorkloads } from '../support/fake-workloads.ts';
import { KubeApiServer, TOKENS } from '../support/kube-apiserver.ts';
import { KubeFaults } from '../support/kube-faults.ts';
import { CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, POD, STATEFUL_SET } from '../support/kube-objects.ts';
import { SeededRandom } from '../support/random.ts';

/** A cluster that is quick to look at itself, and that changes as fast as it may. */
const QUICK = {
  image: 'agenthub:1',
  durability: { replicas: 1 },
  nats: { managed: { servers: 1 } },
  autoscaling: { mode: 'Off', intervalSeconds: 5 },
};
const NO_MANNERS = {
  scaleUp: { policies: [] },
  scaleDown: { stabilizationWindowSeconds: 0, policies: [] },
};

let server: KubeApiServer;
let proxy: KubeFaults;
/** Past the proxy: for the test and the workloads. */
let direct: KubeClient;
let workloads: FakeWorkloads;
let operator: Operator;
let namespace = '';
let count = 0;
let stepping: Promise<void> | undefined;
let stopStepping = false;

const NAMESPACE = { apiVersion: 'v1', kind: 'Namespace', plural: 'namespaces', namespaced: false };

beforeAll(async () => {
  server = await KubeApiServer.start();
  proxy = await KubeFaults.start(server.url);
  direct = await client(server.kubeconfig());
  await direct.create(CUSTOM_RESOURCE_DEFINITION, brokerClusterCrd() as KubeObject);
  await eventually(() => direct.serves(BROKER_CLUSTER));
}, 90_000);

afterAll(async () => {
  direct?.close();
  await proxy?.close();
  await server?.remove();
});

beforeEach(async () => {
  namespace = `agents-${++count}`;
  await direct.create(NAMESPACE, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
  workloads = new FakeWorkloads(direct, namespace);
  stopStepping = false;
  stepping = (async () => {
    while (!stopStepping) {
      // What the operator does meanwhile may get in the way.
      await workloads.step().catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  await startOperator();
});

afterEach(async () => {
  proxy.plan = () => undefined;
  await stopOperator();
  stopStepping = true;
  await stepping;
});

function client(file: string): Promise<KubeClient> {
  return KubeClient.create({
    source: { file, env: {} },
    clock: systemClock,
    logger: silent,
    timeoutMs: 10_000,
  });
}

/** Waits until something is so; asks now and then, so that the API server has time for others. */
async function eventually(holds: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) {
      const { conditions } = await status().catch(() => ({ conditions: [] }));
      throw new Error(`not so within ${timeoutMs / 1000} s: ${JSON.stringify(conditions)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

let operatorClient: KubeClient;

async function startOperator(): Promise<void> {
  operatorClient = await client(server.kubeconfig(TOKENS.admin, proxy.url));
  operator = new Operator({
    kube: operatorClient,
    pods: workloads,
    clock: systemClock,
    random: systemRandom,
    logger: silent,
    config: loadOperatorConfig({
      AGENTHUB_OPERATOR_NAMESPACE: namespace,
      AGENTHUB_OPERATOR_LEASE_NAMESPACE: namespace,
    }),
  });
  void operator.start();
}

async function stopOperator(): Promise<void> {
  await operator.stop();
  operatorClient.close();
}

const at = (name: string) => ({ namespace, name });
const make = (spec: object = {}): Promise<KubeObject> =>
  direct.create(BROKER_CLUSTER, {
    apiVersion: BROKER_CLUSTER.apiVersion,
    kind: BROKER_CLUSTER.kind,
    metadata: at('hub'),
    spec: { ...QUICK, ...spec },
  });
const change = (spec: object): Promise<KubeObject> => direct.patch(BROKER_CLUSTER, at('hub'), { spec });
const status = async (): Promise<BrokerClusterStatus> =>
  (await direct.get(BROKER_CLUSTER, at('hub'))).status ?? {};
const condition = async (type: string) => (await status()).conditions?.find((each) => each.type === type);
const phase = (wanted: string) => eventually(async () => (await status()).phase === wanted, 60_000);
const replicas = async (): Promise<number> => {
  const set = await direct.get(STATEFUL_SET, at('hub-default'));
  return (set.spec as { replicas: number }).replicas;
};
const images = async (): Promise<string[]> => {
  const { items } = await direct.list(POD, { namespace, labelSelector: 'agenthub.io/pool=default' });
  return items.map(({ spec }) => (spec as { containers: { image: string }[] }).containers[0]!.image);
};
const textsOf = ({ data = {} }: SecretObject): Record<string, string> =>
  Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
  );

/** As much of cert-manager's definition as there has to be. */
function certificateCrd(): KubeObject {
  const schema = {
    openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
  };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: 'certificates.cert-manager.io',
      annotations: { 'api-approved.kubernetes.io': 'unapproved, a test' },
    },
    spec: {
      group: 'cert-manager.io',
      scope: 'Namespaced',
      names: {
        kind: 'Certificate',
        listKind: 'CertificateList',
        plural: 'certificates',
        singular: 'certificate',
      },
      versions: [{ name: 'v1', served: true, storage: true, schema }],
    },
  };
}

const writes = (): number =>
  proxy.seen.filter(({ write, path }) => write && path.includes(namespace) && !path.includes('/leases'))
    .length;

describe('the operator, on a real API server', () => {
  test('makes a cluster, and then writes nothing more', async () => {
    await make();
    await phase('Ready');
    expect(await status()).toMatchObject({ ready: '3/3', brokers: 3, natsReady: '1/1' });
    await eventually(() => Object.values(workloads.shardsOf).sort().join() === '5,5,6');
    const scale = await direct.raw<object>({
      method: 'GET',
      path: `/apis/agenthub.io/v1alpha1/namespaces/${namespace}/brokerclusters/hub/scale`,
    });
    expect(scale).toMatchObject({ spec: { replicas: 3 }, status: { replicas: 3 } });
    await eventually(() => operator.depth === 0);
    const before = writes();
    const looked = proxy.seen.length;
    // It looks again every five seconds, and whenever something changes.
    await direct.patch(POD, at('hub-default-0'), { metadata: { annotations: { touched: 'yes' } } });
    await eventually(() => proxy.seen.length > looked + 2, 30_000);
    expect(writes()).toBe(before);
  }, 120_000);

  test('scales up at once, and down one drained broker after the other', async () => {
    await make();
    await phase('Ready');
    await change({ replicas: 5 });
    await eventually(async () => (await status()).ready === '5/5', 60_000);
    await phase('Ready');
    await change({ replicas: 2 });
    await eventually(
      async () => (await status()).ready === '2/2' && (await status()).phase === 'Ready',
      90_000,
    );
    expect(await replicas()).toBe(2);
    expect(workloads.history.lossy).toEqual([]);
    await eventually(() => Object.keys(workloads.shardsOf).sort().join() === 'hub-default-0,hub-default-1');
  }, 180_000);

  test('follows the load', async () => {
    await make({
      autoscaling: {
        ...NO_MANNERS,
        intervalSeconds: 5,
        targets: { tasksPerSecond: 1000, agents: 0, cpuPercent: 0, memoryPercent: 0 },
      },
    });
    await phase('Ready');
    workloads.load = 300;
    await eventually(async () => (await replicas()) > 4, 60_000);
    const { pools } = await status();
    expect(pools?.[0]?.scaling?.changes?.at(-1)?.reason).toMatch(
      /the busiest broker carries .* tasks\/s, of 1,000 it should/,
    );
    workloads.load = 0;
    await eventually(async () => (await replicas()) === 2, 90_000);
    expect(workloads.history.lossy).toEqual([]);
  }, 240_000);

  test('replaces brokers one at a time, each drained first', async () => {
    await make();
    await phase('Ready');
    workloads.history.mostAway = 0;
    await change({ image: 'agenthub:2' });
    await eventually(async () => (await images()).every((image) => image === 'agenthub:2'), 90_000);
    await phase('Ready');
    expect(workloads.history).toEqual({ lossy: [], mostAway: 1 });
  }, 180_000);

  test('stops at an image that can not be had, and goes back', async () => {
    await make();
    await phase('Ready');
    await change({ image: `agenthub:${BROKEN}` });
    await phase('Degraded');
    expect(await condition('Degraded')).toMatchObject({
      status: 'True',
      reason: 'ErrImagePull',
      message: expect.stringContaining('check the image in the spec'),
    });
    expect((await images()).sort()).toEqual(['agenthub:1', 'agenthub:1', `agenthub:${BROKEN}`]);
    expect(await condition('Available')).toMatchObject({ status: 'True' });
    await change({ image: 'agenthub:1' });
    await phase('Ready');
    expect(workloads.history.lossy).toEqual([]);
  }, 180_000);

  test('has pools with rules of their own, and removes one only when nothing is left in it', async () => {
    const main = { name: 'default' };
    const ocr = { name: 'ocr', replicas: 1, rules: [{ taskTypes: 'ocr-*' }, { region: 'eu-west' }] };
    workloads.queued.set('ocr', 3);
    await make({ pools: [main, ocr] });
    await phase('Ready');
    expect(workloads.rules).toEqual({
      version: 1,
      defaultPool: 'default',
      rules: [
        { pool: 'ocr', taskTypes: 'ocr-*' },
        { pool: 'ocr', region: 'eu-west' },
      ],
    });
    expect(await status()).toMatchObject({ ready: '4/4', placement: { version: 1, rules: 2 } });
    await change({ pools: [main] });
    await eventually(async () => (await condition('Progressing'))?.reason === 'PoolEmptying');
    expect(workloads.rules).toMatchObject({ version: 2, rules: [] });
    const { items } = await direct.list(STATEFUL_SET, { namespace });
    expect(items.map(({ metadata }) => metadata.name)).toContain('hub-ocr');
    workloads.queued.set('ocr', 0);
    await phase('Ready');
    expect((await direct.list(STATEFUL_SET, { namespace })).items).toHaveLength(2);
    expect((await status()).placement).toBeUndefined();
  }, 180_000);

  test('puts back what somebody has changed or deleted', async () => {
    await make();
    await phase('Ready');
    await direct.patch(STATEFUL_SET, at('hub-default'), { spec: { replicas: 9 } });
    const SERVICE = { apiVersion: 'v1', kind: 'Service', plural: 'services', namespaced: true };
    await direct.delete(SERVICE, at('hub'));
    await eventually(async () => (await replicas()) === 3, 30_000);
    await eventually(
      () =>
        direct.get(SERVICE, at('hub')).then(
          () => true,
          () => false,
        ),
      30_000,
    );
  }, 120_000);

  test('exchanges the credential with NATS when it is told to, and at no other time', async () => {
    const seeds = async () => textsOf(await direct.get(SECRET, at('hub-nats-credentials')));
    const wish = (value: string) =>
      direct.patch(BROKER_CLUSTER, at('hub'), {
        metadata: { annotations: { 'agenthub.io/rotate-nats-credentials': value } },
      });
    /** What is in the configuration that the NATS servers are made with now. */
    const known = async (): Promise<string> => {
      const set = await direct.get(STATEFUL_SET, at('hub-nats'));
      const { template } = set.spec as {
        template: { spec: { volumes: { configMap?: { name: string } }[] } };
      };
      const { name } = template.spec.volumes.find(({ configMap }) => configMap !== undefined)!.configMap!;
      return (await direct.get(CONFIG_MAP, at(name))).data?.['nats.conf'] ?? '';
    };
    await make();
    await phase('Ready');
    const first = await seeds();
    workloads.natsUser = natsPublicKey(first['seed']!);
    expect(await known()).toContain(workloads.natsUser);

    // Whoever can't see it makes no other one.
    proxy.plan = ({ path }) => (path.includes('/secrets/') ? { kind: 'refuse', status: 500 } : undefined);
    await stopOperator();
    await startOperator();
    await eventually(() => proxy.seen.filter(({ path }) => path.includes('/secrets/')).length > 10);
    proxy.plan = () => undefined;
    expect(await seeds()).toEqual(first);

    await wish('today');
    await eventually(async () => (await seeds())['former'] !== undefined, 60_000);
    const second = await seeds();
    expect(second).toEqual({ seed: expect.any(String), former: first['seed'], rotation: 'today' });
    expect(await known()).toContain(workloads.natsUser);
    expect(await known()).toContain(natsPublicKey(second['seed']!));
    expect(await condition('Progressing')).toMatchObject({ status: 'True' });
    await eventually(async () => (await condition('Progressing'))?.reason === 'NatsRotating', 60_000);

    // The former one is good until the last broker has taken the new one, and then it is not.
    workloads.natsUser = natsPublicKey(second['seed']!);
    await eventually(async () => (await seeds())['former'] === undefined, 60_000);
    await phase('Ready');
    expect(await seeds()).toEqual({ seed: second['seed'], rotation: 'today' });
    expect(await known()).not.toContain(natsPublicKey(first['seed']!));
    expect(workloads.history.mostAway).toBe(0);
  }, 240_000);

  test('asks cert-manager for a certificate, as soon as it is there', async () => {
    await make({ tls: { issuerRef: { name: 'house' } } });
    await phase('Degraded');
    expect(await condition('Degraded')).toMatchObject({ reason: 'CertManagerNotFound' });
    await direct.create(CUSTOM_RESOURCE_DEFINITION, certificateCrd());
    await eventually(() => direct.serves(CERTIFICATE));
    // It looks for such kinds when it starts, and every minute.
    await stopOperator();
    await startOperator();
    await eventually(async () => (await condition('Degraded'))?.reason === 'CertificateNotIssued', 60_000);
    const { spec } = await direct.get(CERTIFICATE, at('hub-tls'));
    expect(spec).toMatchObject({
      secretName: 'hub-tls',
      issuerRef: { name: 'house', kind: 'Issuer', group: 'cert-manager.io' },
      dnsNames: expect.arrayContaining([`hub.${namespace}.svc`, `*.hub-brokers.${namespace}.svc`]),
    });
    await direct.create(SECRET, {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: at('hub-tls'),
      type: 'kubernetes.io/tls',
      stringData: { 'tls.crt': CERTIFICATE_PEM, 'tls.key': KEY_PEM },
    } as KubeObject);
    await phase('Ready');
  }, 180_000);

  test('asks the API server who signs the tokens of service accounts', async () => {
    await make({ auth: { serviceAccounts: {} } });
    await phase('Ready');
    const { items } = await direct.list(CONFIG_MAP, { namespace });
    const config = items.find(({ metadata }) => metadata.name.startsWith('hub-default-'))?.data?.[
      'agenthub.yaml'
    ];
    expect(config).toContain('issuer: https://kubernetes.default.svc');
  }, 120_000);

  test('says which Secret is missing, and goes on when it is there', async () => {
    await make({ auth: { tokens: { secretName: 'agents' } } });
    await phase('Degraded');
    expect(await condition('Degraded')).toMatchObject({ reason: 'SecretNotFound' });
    await direct.create(SECRET, {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: at('agents'),
      stringData: { tokens: 'a-token-of-some-length' },
    } as KubeObject);
    await phase('Ready');
  }, 120_000);
});

describe('in trouble', () => {
  /** Everything goes wrong now and then. */
  function storm(seed: number): void {
    const random = new SeededRandom(seed);
    proxy.plan = ({ watch }) => {
      const dice = random.float();
      if (watch) {
        if (dice < 0.2) return { kind: 'cut', after: 2 };
        return dice < 0.25 ? { kind: 'expire', after: 1 } : undefined;
      }
      if (dice < 0.05) return { kind: 'refuse', status: 500 };
      if (dice < 0.08) return { kind: 'refuse', status: 429, retryAfter: 1 };
      if (dice < 0.1) return { kind: 'refuse', status: 409 };
      if (dice < 0.15) return { kind: 'reset', done: random.float() < 0.5 };
      return dice < 0.25 ? { kind: 'delay', ms: 200 } : undefined;
    };
  }

  test('with the API server it ends at the same, and no broker goes that still has something', async () => {
    storm(1);
    await make();
    await eventually(async () => (await status().catch(() => undefined))?.ready === '3/3', 90_000);
    await change({ replicas: 5 });
    await eventually(async () => (await replicas()) === 5, 60_000);
    await change({ replicas: 2, image: 'agenthub:2' });
    await eventually(
      async () => (await replicas()) === 2 && (await images()).join() === 'agenthub:2,agenthub:2',
      120_000,
    );
    proxy.plan = () => undefined;
    await phase('Ready');
    expect(workloads.history.lossy).toEqual([]);
  }, 300_000);

  test('killed again and again while it removes brokers, it goes on where it was', async () => {
    await make({ replicas: 6, update: { progressDeadlineSeconds: 600 } });
    await phase('Ready');
    await change({ replicas: 2 });
    for (let kills = 0; (await replicas()) > 2 && kills < 60; kills++) {
      // At another moment each time.
      await new Promise((resolve) => setTimeout(resolve, 37 * (1 + (kills % 30))));
      await stopOperator();
      await startOperator();
    }
    await eventually(async () => (await replicas()) === 2, 60_000);
    await phase('Ready');
    expect(workloads.history.lossy).toEqual([]);
  }, 300_000);
});
