import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { plan } from '../../../operator/plan/plan.ts';
import type { Plan, Snapshot } from '../../../operator/plan/plan.ts';
import type { Child } from '../../../operator/plan/resources/child.ts';
import { loadConfig } from '../../../src/config/load.ts';
import type { PodView } from '../../../operator/plan/pods.ts';
import { answers, cluster, madeSecrets, NATS_KEYS, pod, shard, START } from './support.ts';

function snapshot(spec: object = {}, differs: Partial<Snapshot> = {}): Snapshot {
  let tokens = 0;
  return {
    now: START,
    cluster: cluster(spec),
    kinds: { serviceMonitor: true, prometheusRule: true, certificate: true },
    defaultImages: { broker: 'agenthub:1', nats: 'nats:2.12' },
    children: [],
    pods: {},
    natsPods: [],
    foreignAutoscalers: [],
    obstacles: [],
    token: () => `token-${++tokens}-of-16-letters`,
    natsSeed: () => `SU-${++tokens}`,
    natsKeys: NATS_KEYS,
    ...differs,
    secrets: { ...madeSecrets(), ...differs.secrets },
  };
}

const named = ({ apply }: Plan, kind: string, name?: string): Child => {
  const found = apply.find(
    (object) => object.kind === kind && (name === undefined || object.metadata.name === name),
  );
  if (found === undefined) throw new Error(`there is no ${kind} ${name ?? ''}`);
  return found;
};

interface Template {
  readonly metadata: { readonly annotations: Record<string, string> };
  readonly spec: {
    readonly containers: readonly Record<string, unknown>[];
    readonly [member: string]: unknown;
  };
}
const templateOf = (set: Child): Template => (set.spec as { template: Template }).template;
const revisionOf = (planned: Plan, set = 'hub-default'): string =>
  templateOf(named(planned, 'StatefulSet', set)).metadata.annotations['agenthub.io/revision']!;

describe('a new cluster', () => {
  const planned = plan(snapshot());
  const first = plan({ ...snapshot(), secrets: {}, natsKeys: undefined });

  test('gets its Secrets before pods are made of them', () => {
    expect(first.create.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
      'Secret hub-internal',
      'Secret hub-nats-credentials',
      'Secret hub-nats-system',
      'Secret hub-agent-token',
    ]);
    expect(first.apply.filter(({ kind }) => kind === 'StatefulSet')).toEqual([]);
    expect(first.againMs).toBe(0);
  });

  test('gets all its objects, what others need first', () => {
    expect(
      planned.apply.map(({ kind, metadata }) => `${kind} ${metadata.name.replace(/-[a-z0-9]{10}$/, '-#')}`),
    ).toEqual([
      'ServiceAccount hub-broker',
      'Service hub',
      'Service hub-brokers',
      'NetworkPolicy hub-brokers',
      'Service hub-nats',
      'Service hub-nats-peers',
      'PodDisruptionBudget hub-nats',
      'NetworkPolicy hub-nats',
      'ConfigMap hub-nats-#',
      'StatefulSet hub-nats',
      'PodDisruptionBudget hub-default',
      'ConfigMap hub-default-#',
      'StatefulSet hub-default',
    ]);
  });

  test('owns every one of them, so that they go with it', () => {
    for (const { metadata } of [...planned.apply, ...first.create]) {
      expect(metadata.ownerReferences).toEqual([
        expect.objectContaining({ kind: 'BrokerCluster', name: 'hub', uid: 'cluster-uid', controller: true }),
      ]);
      expect(metadata.namespace).toBe('agents');
    }
  });

  test('says what is going on', () => {
    expect(planned.status).toMatchObject({
      phase: 'Creating',
      ready: '0/3',
      desiredBrokers: 3,
      natsReady: '0/3',
      endpoint: 'hub.agents.svc:50051',
    });
    const is = Object.fromEntries(planned.status.conditions!.map(({ type, status }) => [type, status]));
    expect(is).toEqual({
      Available: 'False',
      Progressing: 'True',
      Degraded: 'False',
      ScalingActive: 'False',
      CapacityStale: 'False',
      ShardHot: 'False',
      Draining: 'False',
    });
  });

  test('has pods that the restricted Pod Security Standard lets in', () => {
    for (const set of ['hub-default', 'hub-nats']) {
      const { spec } = templateOf(named(planned, 'StatefulSet', set));
      expect(spec).toMatchObject({
        automountServiceAccountToken: false,
        securityContext: {
          runAsNonRoot: true,
          runAsUser: 65_532,
          seccompProfile: { type: 'RuntimeDefault' },
        },
        containers: [
          {
            securityContext: {
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { drop: ['ALL'] },
            },
          },
        ],
      });
    }
  });

  test('makes tokens that nobody can guess, once', () => {
    const [internal, credentials, system, agent] = first.create;
    expect(internal).toHaveProperty('stringData', { 'admin-token': 'token-1-of-16-letters' });
    const seed = Buffer.from('SU-2').toString('base64');
    expect(credentials).toHaveProperty('data', { seed, rotation: '' });
    expect(system).toHaveProperty('stringData', { seed: 'SU-3' });
    expect(agent).toHaveProperty('stringData', { token: 'token-4-of-16-letters' });
    expect(plan(snapshot()).create).toEqual([]);
    // Also if what is in them can't be used: that is for a person to decide.
    const broken = plan(snapshot({}, { natsKeys: undefined }));
    expect(broken.create).toEqual([]);
    expect(broken.apply.filter(({ kind }) => kind === 'StatefulSet')).toEqual([]);
    expect(broken.status.conditions).toContainEqual(
      expect.objectContaining({ type: 'Degraded', status: 'True', reason: 'NatsCredentialsBroken' }),
    );
  });
});

test('nothing that is in files is a reason to replace brokers: they read them anew', () => {
  const key = (secretName: string) => ({ secretName });
  const spec = {
    auth: {
      tokens: key('s'),
      adminTokens: key('s'),
      policy: key('s'),
      jwt: { issuer: 'i', jwks: key('s') },
      clientCertificates: {},
    },
    tls: { secretName: 's', clientCa: key('s') },
    nats: {
      external: { servers: ['nats:4222'], userPassword: 's', tls: { ca: key('s'), certificate: 's' } },
    },
  };
  const keys = ['tokens', 'policy.yaml', 'jwks.json', 'ca.crt', 'tls.crt', 'tls.key', 'username', 'password'];
  const set = (fingerprint: string): Child =>
    named(plan(snapshot(spec, { secrets: { s: { keys, fingerprint } } })), 'StatefulSet', 'hub-default');
  expect(set('2')).toEqual(set('1'));
  for (const folder of ['tokens', 'admin-tokens', 'policy', 'jwks', 'tls', 'client-ca', 'nats']) {
    expect(JSON.stringify(set('1'))).toContain(`"/etc/agenthub/${folder}"`);
  }
});

describe('the configuration of a broker', () => {
  const key = (secretName: string) => ({ secretName });
  const nats = (external: object) => ({ nats: { external: { servers: ['nats:4222'], ...external } } });
  const present = Object.fromEntries(
    ['t', 'a', 'p', 'tls', 'ca', 'n', 'c', 'hub-tls'].map((name) => [
      name,
      {
        keys: [
          'tokens',
          'policy.yaml',
          'jwks.json',
          'tls.crt',
          'tls.key',
          'ca.crt',
          'user.creds',
          'username',
          'password',
        ],
        fingerprint: '1',
      },
    ]),
  );

  test.each<[string, object]>([
    ['by itself', {}],
    [
      'with tokens and certificates',
      {
        auth: { tokens: key('t'), adminTokens: key('a'), policy: key('p') },
        tls: { secretName: 'tls', clientCa: key('ca') },
      },
    ],
    ['open to all', { auth: { anonymous: true } }],
    [
      'for who shows something that others vouch for',
      {
        auth: {
          jwt: { issuer: 'https://id.example.org', jwksUrl: 'https://id.example.org/keys', ca: key('ca') },
          serviceAccounts: {},
          clientCertificates: { name: 'uri', required: false },
        },
        tls: { issuerRef: { name: 'house' }, clientCa: key('ca') },
      },
    ],
    [
      'with keys of an issuer in a Secret',
      { auth: { jwt: { issuer: 'i', audience: ['a', 'b'], jwks: key('p'), groupsClaim: 'roles' } } },
    ],
    ['with other NATS servers', nats({ credentials: key('n'), tls: { ca: key('ca'), certificate: 'c' } })],
    ['with a user of other NATS servers', nats({ userPassword: 'n', streamPrefix: 'mine' })],
    [
      'with wishes',
      {
        config: { limits: { taskBytes: '1MiB' }, log: { level: 'debug' } },
        shards: 64,
        durability: { sync: 'always' },
      },
    ],
  ])('%s is one that the broker reads', (_, spec) => {
    const planned = plan(snapshot(spec, { secrets: present, issuer: 'https://kubernetes.default.svc' }));
    const set = templateOf(named(planned, 'StatefulSet', 'hub-default'));
    const map = planned.apply.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('hub-default-'),
    )!;
    const text = (map as unknown as { data: Record<string, string> }).data['agenthub.yaml']!;
    const folder = mkdtempSync(join(tmpdir(), 'opplan-'));
    try {
      const tokens = join(folder, 'tokens');
      writeFileSync(tokens, 'a-token-of-some-length\n');
      const file = join(folder, 'agenthub.yaml');
      writeFileSync(file, text.replaceAll(/\/etc\/agenthub\/(admin-)?tokens\/tokens/g, tokens));
      const variables = (set.spec.containers[0]!['env'] as { name: string; value?: string }[])
        .filter(({ name }) => name !== 'AGENTHUB_CONFIG')
        .map(({ name, value = 'a-secret-of-some-length' }) => [name, value]);
      const { config } = loadConfig({
        file,
        env: Object.fromEntries(variables) as Record<string, string>,
        flags: {},
      });
      expect(config).toMatchObject({
        grpc: { host: '0.0.0.0', port: 50_051 },
        data: { log: 'jetstream' },
        nats: { replicas: 3 },
        shards: (spec as { shards?: number }).shards ?? 16,
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('has what the operator needs over what was wished', () => {
    const planned = plan(
      snapshot({ config: { grpc: { port: 1, keepaliveMs: '1m' }, metrics: { public: false } } }),
    );
    const map = planned.apply.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('hub-default-'),
    )!;
    expect(parse((map as unknown as { data: Record<string, string> }).data['agenthub.yaml']!)).toMatchObject({
      grpc: { port: 50_051, keepaliveMs: '1m' },
      metrics: { public: true },
    });
  });
});

describe('what is replaced and what is not', () => {
  test('another version of the operator, with other images, replaces nobody', () => {
    const first = plan(snapshot());
    const children = first.apply.map((object) => ({ ...object }));
    const later = plan(snapshot({}, { children, defaultImages: { broker: 'agenthub:2', nats: 'nats:3' } }));
    expect(revisionOf(later)).toBe(revisionOf(first));
    expect(revisionOf(later, 'hub-nats')).toBe(revisionOf(first, 'hub-nats'));
    expect(templateOf(named(later, 'StatefulSet', 'hub-default')).spec.containers[0]).toMatchObject({
      image: 'agenthub:1',
    });
  });

  test.each<[string, object]>([
    ['image', { image: 'agenthub:2' }],
    ['configuration', { config: { limits: { taskBytes: '1MiB' } } }],
    ['resources', { pools: [{ name: 'default', resources: { requests: { cpu: '2' } } }] }],
    ['pod template', { podTemplate: { spec: { hostAliases: [] } } }],
    ['Secret to use', { auth: { tokens: { secretName: 't' } } }],
  ])('another %s replaces all', (_, spec) => {
    const secrets = { t: { keys: ['tokens'], fingerprint: '1' } };
    expect(revisionOf(plan(snapshot(spec, { secrets })))).not.toBe(revisionOf(plan(snapshot())));
  });

  test.each<[string, object]>([
    ['number of brokers', { replicas: 5 }],
    ['bounds', { pools: [{ name: 'default', maxReplicas: 5 }] }],
    ['target', { autoscaling: { targets: { agents: 5 } } }],
    ['deadline for drains', { drain: { deadlineSeconds: 5 } }],
    ['port of the Service', { service: { port: 443 } }],
  ])('another %s replaces nobody', (_, spec) => {
    expect(revisionOf(plan(snapshot(spec)))).toBe(revisionOf(plan(snapshot())));
  });

  test('another token of those that are variables of pods replaces all', () => {
    const secret = (fingerprint: string) => ({ 'hub-agent-token': { keys: ['token'], fingerprint } });
    const [one, other] = ['1', '2'].map((each) => revisionOf(plan(snapshot({}, { secrets: secret(each) }))));
    expect(one).not.toBe(other);
  });

  test('a restart that is asked for replaces all', () => {
    const restarted = cluster({}, { annotations: { 'agenthub.io/restart': 'today' } });
    expect(revisionOf(plan(snapshot({}, { cluster: restarted })))).not.toBe(revisionOf(plan(snapshot())));
  });
});

describe('what a person has to put right', () => {
  const degraded = (planned: Plan) => planned.status.conditions!.find(({ type }) => type === 'Degraded');

  test('a Secret that is not there: pods are left as they are, and it is said what to make', () => {
    const planned = plan(snapshot({ tls: { secretName: 'cert' } }));
    expect(degraded(planned)).toMatchObject({
      status: 'True',
      reason: 'SecretNotFound',
      message:
        'spec.tls.secretName: there is no Secret cert in namespace agents; make it, with the key tls.crt and tls.key',
    });
    expect(
      planned.apply.some(({ metadata, kind }) => kind === 'StatefulSet' && metadata.name === 'hub-default'),
    ).toBe(false);
    expect(planned.events).toContainEqual(
      expect.objectContaining({ type: 'Warning', reason: 'SecretNotFound' }),
    );
  });

  test('a Secret without the key', () => {
    const secrets = { cert: { keys: ['tls.crt', 'key.pem'], fingerprint: '' } };
    expect(degraded(plan(snapshot({ tls: { secretName: 'cert' } }, { secrets })))).toMatchObject({
      reason: 'SecretKeyNotFound',
      message: 'spec.tls.secretName: the Secret cert has no key tls.key; it has tls.crt, key.pem',
    });
  });

  describe('a certificate of cert-manager', () => {
    const spec = {
      tls: { issuerRef: { name: 'house', kind: 'ClusterIssuer' }, dnsNames: ['hub.example.org'] },
    };
    const kinds = { serviceMonitor: false, prometheusRule: false, certificate: false };

    test('that is not installed: it is said what to do', () => {
      const planned = plan(snapshot(spec, { kinds }));
      expect(degraded(planned)).toMatchObject({
        reason: 'CertManagerNotFound',
        message: expect.stringContaining('install cert-manager, or name a Secret in spec.tls.secretName'),
      });
      expect(planned.apply.some(({ kind }) => kind === 'Certificate')).toBe(false);
    });

    test('that is not issued yet: it is asked for, and pods wait', () => {
      const planned = plan(snapshot(spec));
      expect(named(planned, 'Certificate', 'hub-tls').spec).toMatchObject({
        secretName: 'hub-tls',
        issuerRef: { name: 'house', kind: 'ClusterIssuer', group: 'cert-manager.io' },
        dnsNames: expect.arrayContaining(['hub.agents.svc', '*.hub-brokers.agents.svc', 'hub.example.org']),
      });
      expect(planned.apply.some(({ kind }) => kind === 'StatefulSet')).toBe(false);
      expect(degraded(planned)).toMatchObject({ reason: 'CertificateNotIssued' });
      const refused = {
        ...named(planned, 'Certificate'),
        status: { conditions: [{ type: 'Ready', status: 'False', message: 'no such issuer' }] },
      };
      expect(degraded(plan(snapshot(spec, { children: [refused] })))?.message).toContain('(no such issuer)');
    });

    test('that is issued: brokers use it', () => {
      const secrets = { 'hub-tls': { keys: ['ca.crt', 'tls.crt', 'tls.key'], fingerprint: '1' } };
      const planned = plan(snapshot(spec, { secrets }));
      expect(degraded(planned)).toMatchObject({ status: 'False' });
      const { volumes } = templateOf(named(planned, 'StatefulSet', 'hub-default')).spec;
      expect(volumes).toContainEqual(
        expect.objectContaining({ secret: expect.objectContaining({ secretName: 'hub-tls' }) }),
      );
    });
  });

  test('who signs the tokens of service accounts, if the API server does not say', () => {
    const spec = { auth: { serviceAccounts: {} } };
    expect(degraded(plan(snapshot(spec)))).toMatchObject({ reason: 'IssuerUnknown' });
    expect(degraded(plan(snapshot(spec, { issuer: 'https://api' })))).toMatchObject({ status: 'False' });
    const said = plan(snapshot({ auth: { serviceAccounts: { issuer: 'https://api' } } }));
    expect(degraded(said)).toMatchObject({ status: 'False' });
    // Only then brokers have a token, and it is good for nothing but to ask for keys.
    const sources = (planned: Plan) =>
      JSON.stringify(templateOf(named(planned, 'StatefulSet', 'hub-default')).spec['volumes']);
    expect(sources(said)).toContain('serviceAccountToken');
    expect(sources(plan(snapshot()))).not.toContain('serviceAccountToken');
  });

  test('another autoscaler on a cluster that scales itself', () => {
    const planned = plan(
      snapshot({}, { foreignAutoscalers: ['hub-hpa'], pods: { default: [pod(0), pod(1), pod(2)] } }),
    );
    expect(planned.status.conditions).toContainEqual(
      expect.objectContaining({
        type: 'ScalingActive',
        reason: 'ForeignAutoscaler',
        message: expect.stringContaining('hub-hpa'),
      }),
    );
  });
});

describe('what is not needed any more', () => {
  test('goes, if it is ours and nobody uses it', () => {
    const first = plan(snapshot({ config: { log: { level: 'debug' } } }));
    const old = first.apply.filter(({ kind }) => kind === 'ConfigMap' || kind === 'NetworkPolicy');
    const foreign = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'hub-notes', namespace: 'agents' },
    };
    const children = [...old, foreign];
    const gone = (planned: Plan) =>
      planned.removeObjects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    const config = old.find(({ metadata }) => metadata.name.startsWith('hub-default-'))!.metadata.name;

    expect(gone(plan(snapshot({}, { children })))).toEqual([`ConfigMap ${config}`]);
    const pods = { default: [pod(0, { configMaps: [config] })] };
    expect(gone(plan(snapshot({}, { children, pods })))).toEqual([]);
    expect(gone(plan(snapshot({ networkPolicy: { enabled: false } }, { children, pods })))).toEqual([
      'NetworkPolicy hub-brokers',
      'NetworkPolicy hub-nats',
    ]);
  });
});

describe('a cluster is done', () => {
  const spec = {
    shards: 4,
    replicas: 2,
    autoscaling: { mode: 'Off' },
    nats: { external: { servers: ['a:1'] } },
  };
  const made = plan(snapshot(spec));
  const owning = (ordinal: number, ...shards: number[]) =>
    pod(ordinal, {
      revision: revisionOf(made),
      answers: answers(`b-${ordinal}`, { shards: shards.map((number) => shard(number)) }),
    });
  const look = (...pods: PodView[]) =>
    plan(snapshot(spec, { children: made.apply, pods: { default: pods } }));
  const progressing = ({ status }: Plan) => status.conditions!.find(({ type }) => type === 'Progressing');

  test('when each shard has one owner, not when all pods are ready', () => {
    const settled = look(owning(0, 0, 1), owning(1, 2, 3));
    expect(progressing(settled)).toMatchObject({ status: 'False', reason: 'Complete' });
    expect(settled.status.phase).toBe('Ready');
    expect(settled.againMs).toBeGreaterThan(10_000);
  });

  test.each([
    ['a shard has no owner', [owning(0, 0, 1), owning(1, 2)], 'some shards are without an owner'],
    ['a shard has two', [owning(0, 0, 1, 2), owning(1, 2, 3)], 'some shards are changing hands'],
    [
      'a broker has not told',
      [owning(0, 0, 1), pod(1, { revision: revisionOf(made), answers: {} })],
      'hub-default-1 has not told yet which shards it has',
    ],
  ])('not while %s', (_, pods, message) => {
    const moving = look(...pods);
    expect(progressing(moving)).toMatchObject({ status: 'True', reason: 'ShardsMoving', message });
    expect(moving.status.phase).toBe('Scaling');
    expect(moving.againMs).toBeLessThan(5000);
  });

  test('and what it says does not change with every shard that moves: each change is a write', () => {
    const before = look(owning(0, 0), owning(1, 1));
    const after = look(owning(0, 0, 2), owning(1, 1));
    expect(progressing(after)).toEqual(progressing(before));
  });
});

test('a broker that is on its way out is not told that it may stay', () => {
  const drain = {
    pod: 'hub-default-2',
    uid: 'uid-2',
    cause: 'ScaleDown',
    since: '2026-01-01T00:00:00Z',
    deadline: '2026-01-01T00:05:00Z',
  };
  const status = { pools: [{ name: 'default', replicas: 3, ready: 3, updated: 3, desired: 2, drain }] };
  const spec = { replicas: 2, autoscaling: { mode: 'Off' } };
  const revision = revisionOf(plan(snapshot(spec)));
  const draining = pod(2, { revision, answers: answers('c', { draining: true }), ready: false });
  const set = (replicas: number) => ({
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'hub-default', namespace: 'agents' },
    spec: { replicas },
  });
  const planned = (replicas: number, wanted = spec) =>
    plan(
      snapshot(wanted, {
        cluster: cluster(wanted, { status }),
        children: [set(replicas)],
        pods: { default: [pod(0, { revision }), pod(1, { revision }), draining] },
      }),
    ).keep.map(({ name }) => name);
  expect(planned(2)).toEqual([]);
  expect(planned(3)).toEqual([]);
  expect(planned(3, { ...spec, replicas: 3 })).toEqual(['hub-default-2']);
});

test('a paused cluster is looked at and not touched', () => {
  const paused = cluster({}, { annotations: { 'agenthub.io/pause': 'true' } });
  const planned = plan(snapshot({}, { cluster: paused }));
  expect(planned).toMatchObject({
    apply: [],
    create: [],
    removePods: [],
    removeObjects: [],
    status: { phase: 'Paused' },
  });
});

test('objects can be patched in every way', () => {
  const planned = plan(
    snapshot({
      podTemplate: { spec: { containers: [{ name: 'broker', env: [{ name: 'EXTRA', value: '1' }] }] } },
      patches: [{ kind: 'Service', name: 'hub', patch: { metadata: { labels: { team: 'a' } } } }],
    }),
  );
  expect(named(planned, 'Service', 'hub').metadata.labels).toMatchObject({ team: 'a' });
  expect(named(planned, 'Service', 'hub-brokers').metadata.labels).not.toHaveProperty('team');
  const [broker] = templateOf(named(planned, 'StatefulSet', 'hub-default')).spec.containers;
  expect(broker!['env']).toContainEqual({ name: 'EXTRA', value: '1' });
});
