import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { readBrokerCluster } from '../../operator/api/brokercluster.ts';
import type { KubeObject } from '../../operator/api/object.ts';
import { loadOperatorConfig } from '../../operator/config.ts';
import { KubeClient } from '../../operator/kube/client.ts';
import { pathOf } from '../../operator/kube/kube.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock } from '../../src/std/system.ts';
import { KubeApiServer } from '../support/kube-apiserver.ts';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../..');
const CHART = join(ROOT, 'charts/agenthub');
const SIZES = globSync('*.yaml', { cwd: join(CHART, 'values') });
const SAMPLES = globSync('*.yaml', { cwd: join(CHART, 'samples') });
const PLURAL: Readonly<Record<string, string>> = {
  BrokerCluster: 'brokerclusters',
  NetworkPolicy: 'networkpolicies',
};

let server: KubeApiServer;
let kube: KubeClient;

beforeAll(async () => {
  server = await KubeApiServer.start();
  kube = await KubeClient.create({
    source: { file: server.kubeconfig(), env: {} },
    clock: systemClock,
    logger: silent,
  });
  const text = readFileSync(join(CHART, 'crds/brokerclusters.agenthub.io.yaml'), 'utf8');
  await send(parseAllDocuments(text)[0]!.toJS() as KubeObject, false);
  while (
    !(await kube.serves({
      apiVersion: 'agenthub.io/v1alpha1',
      kind: 'BrokerCluster',
      plural: 'brokerclusters',
      namespaced: true,
    }))
  ) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}, 120_000);

afterAll(async () => {
  kube?.close();
  await server?.remove();
});

/** What a release named hub would make, by kind and name. */
async function render(...args: string[]): Promise<KubeObject[]> {
  const { stdout } = await run(join(ROOT, '.tools/bin/helm'), [
    'template',
    'hub',
    CHART,
    '--namespace',
    'default',
    ...args,
  ]);
  return parseAllDocuments(stdout)
    .map((document) => document.toJS() as KubeObject | null)
    .filter((object) => object !== null);
}

/** Has the API server check the object to the letter. */
async function send(object: KubeObject, dryRun = true): Promise<void> {
  const { kind, apiVersion, metadata } = object;
  const namespaced = !['ClusterRole', 'ClusterRoleBinding', 'CustomResourceDefinition'].includes(kind);
  const type = { apiVersion, kind, plural: PLURAL[kind] ?? `${kind.toLowerCase()}s`, namespaced };
  await kube.raw({
    method: 'PATCH',
    path: pathOf(type, namespaced ? { namespace: 'default', ...metadata } : metadata),
    query: { fieldManager: 'helm', fieldValidation: 'Strict', ...(dryRun ? { dryRun: 'All' } : {}) },
    body: object,
    contentType: 'application/apply-patch+yaml',
  });
}

const find = (objects: readonly KubeObject[], kind: string): KubeObject => {
  const found = objects.find((object) => object.kind === kind);
  if (found === undefined) throw new Error(`there is no ${kind}`);
  return found;
};

describe('the chart', () => {
  test('is what helm thinks a chart should be', async () => {
    const { stdout } = await run(join(ROOT, '.tools/bin/helm'), ['lint', '--strict', CHART]);
    expect(stdout).toContain('0 chart(s) failed');
  });

  test.each(['', ...SIZES])(
    'makes objects that the API server takes to the letter, with values %j',
    async (size) => {
      const objects = await render(...(size === '' ? [] : ['--values', join(CHART, 'values', size)]));
      expect(objects.length).toBeGreaterThan(8);
      for (const object of objects) await send(object);
    },
  );

  test.each(SAMPLES)('comes with the sample %s, which the API server takes to the letter', async (sample) => {
    const text = readFileSync(join(CHART, 'samples', sample), 'utf8');
    for (const document of parseAllDocuments(text)) await send(document.toJS() as KubeObject);
  });

  test('lays patches over its objects', async () => {
    const objects = await render('--set', 'patches.Deployment.spec.minReadySeconds=7');
    expect(find(objects, 'Deployment').spec).toMatchObject({ replicas: 1, minReadySeconds: 7 });
  });

  test.each(SIZES)('makes a cluster that is what was meant, with values %s', async (size) => {
    const cluster = find(await render('--values', join(CHART, 'values', size)), 'BrokerCluster');
    const metadata = { ...cluster.metadata, namespace: 'default', uid: 'u', generation: 1 };
    const { spec } = readBrokerCluster({ ...cluster, metadata });
    const [pool] = spec.pools;
    expect(spec.replicas).toBeGreaterThanOrEqual(pool!.minReplicas);
    expect(spec.replicas).toBeLessThanOrEqual(pool!.maxReplicas);
  });

  test('tells the operator only what it knows', async () => {
    const deployment = find(await render('--set', 'operator.watchNamespace=agents'), 'Deployment');
    const { template } = deployment.spec as {
      template: { spec: { containers: { env: { name: string; value?: string }[] }[] } };
    };
    const env = template.spec.containers[0]!.env;
    const config = loadOperatorConfig(
      Object.fromEntries(env.map(({ name, value = 'pod-1' }) => [name, value])),
    );
    expect(config).toMatchObject({
      namespace: 'agents',
      lease: { namespace: 'default', name: 'hub-operator' },
      images: { broker: 'agenthub:0.1.0' },
      nodes: true,
      manageDefinition: true,
    });
    const source = readFileSync(join(ROOT, 'operator/config.ts'), 'utf8');
    for (const { name } of env) expect(source).toContain(name);
  });

  test('asks for no rights beyond one namespace if it is to watch only that', async () => {
    const objects = await render(
      '--set',
      'operator.watchNamespace=agents,operator.watchNodes=false,operator.manageDefinition=false,rbac.aggregate=false',
    );
    expect(objects.filter(({ kind }) => kind.startsWith('Cluster'))).toEqual([]);
  });

  test.each([
    ['operator.logLevel=loud', /logLevel/],
    ['cluster.name=Hub', /name/],
    ['clusters.enabled=true', /clusters/],
  ])('refuses %s', async (value, message) => {
    await expect(render('--set', value)).rejects.toThrow(message);
  });
});
