import { describe, expect, test } from '@jest/globals';
import { readBrokerCluster } from '../../../operator/api/brokercluster.ts';
import { brokerClusterCrd, objectSchema } from '../../../operator/api/crd.ts';
import type { StructuralSchema } from '../../../operator/api/crd.ts';

const METADATA = { name: 'hub', namespace: 'agents', uid: 'u1', generation: 1 };

function* walk(path: string, schema: StructuralSchema): Generator<[string, StructuralSchema]> {
  yield [path, schema];
  for (const [name, field] of Object.entries(schema.properties ?? {})) yield* walk(`${path}.${name}`, field);
  if (schema.items !== undefined) yield* walk(`${path}[]`, schema.items);
  if (typeof schema.additionalProperties === 'object') yield* walk(`${path}.*`, schema.additionalProperties);
}

const all = [...walk('', objectSchema())];

describe('the definition of BrokerCluster', () => {
  test('describes every field', () => {
    const silent = all.filter(
      ([path, { description }]) => description === undefined && !path.endsWith('.*') && path !== '.metadata',
    );
    expect(silent.filter(([path]) => !path.endsWith('[]')).map(([path]) => path)).toEqual([]);
  });

  test('uses no word of JSON Schema that Kubernetes refuses', () => {
    const refused = [
      '$ref',
      '$defs',
      'definitions',
      'anyOf',
      'oneOf',
      'allOf',
      'const',
      'propertyNames',
      'patternProperties',
      'exclusiveMinimum',
      'id',
    ];
    const found = all.flatMap(([path, schema]) =>
      refused.filter((word) => word in schema).map((word) => `${path}: ${word}`),
    );
    expect(found).toEqual([]);
    expect(all.filter(([, schema]) => schema.additionalProperties === false)).toEqual([]);
  });

  test('says of everything what it is', () => {
    const vague = all.filter(
      ([, schema]) => schema.type === undefined && schema['x-kubernetes-int-or-string'] !== true,
    );
    expect(vague).toEqual([]);
  });

  test('gives every list of the spec an end, so that rules over it have a price', () => {
    const endless = all.filter(
      ([path, schema]) =>
        path.startsWith('.spec') && schema.type === 'array' && schema['maxItems'] === undefined,
    );
    expect(endless.map(([path]) => path)).toEqual([]);
  });

  test('has patterns that RE2 can read', () => {
    const looking = all.filter(([, { pattern }]) => typeof pattern === 'string' && /\(\?[=!<]/.test(pattern));
    expect(looking).toEqual([]);
  });

  test('tells of every rule what to do', () => {
    const rules = all.flatMap(
      ([, schema]) => (schema['x-kubernetes-validations'] ?? []) as { message?: string }[],
    );
    expect(rules.length).toBeGreaterThan(20);
    expect(rules.filter(({ message }) => message === undefined || message.length < 15)).toEqual([]);
  });

  test('is served with status and scale', () => {
    expect(brokerClusterCrd()).toMatchObject({
      spec: { versions: [{ subresources: { status: {}, scale: { specReplicasPath: '.spec.replicas' } } }] },
    });
  });
});

describe('a BrokerCluster', () => {
  test('needs no spec: three brokers, three NATS servers, each record on all three', () => {
    const { spec, status } = readBrokerCluster({ metadata: METADATA });
    expect(spec).toMatchObject({
      replicas: 3,
      shards: 16,
      pools: [{ name: 'default', minReplicas: 2, maxReplicas: 10, rules: [] }],
      durability: { replicas: 3, storage: 'file', sync: 'interval' },
      nats: { managed: { servers: 3 } },
      autoscaling: { mode: 'Auto', tolerancePercent: 10, scaleDown: { stabilizationWindowSeconds: 300 } },
      auth: { anonymous: false },
    });
    expect(status).toEqual({});
  });

  test('of a newer operator is read as far as it is known', () => {
    const { spec, status } = readBrokerCluster({
      metadata: METADATA,
      spec: { tomorrow: true, drain: { kindly: true } },
      status: { pools: 'many' },
    });
    expect(spec).not.toHaveProperty('tomorrow');
    expect(spec.drain).toEqual({
      deadlineSeconds: 300,
      onTimeout: 'Force',
      terminationGracePeriodSeconds: 90,
    });
    expect(status).toEqual({});
  });

  test('that makes no sense is refused by the name of its field', () => {
    expect(() => readBrokerCluster({ metadata: METADATA, spec: { drain: { deadlineSeconds: -1 } } })).toThrow(
      /spec\.drain\.deadlineSeconds|drain\.deadlineSeconds/,
    );
  });

  test('keeps what it passes on', () => {
    const podTemplate = { metadata: { labels: { team: 'a' } }, spec: { hostNetwork: false } };
    const { spec } = readBrokerCluster({ metadata: METADATA, spec: { podTemplate } });
    expect(spec.podTemplate).toEqual(podTemplate);
  });
});
