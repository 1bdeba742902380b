import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { KubeObject, OwnerReference } from '../../../operator/api/object.ts';
import type { Cache } from '../../../operator/kube/apply.ts';
import { Applier } from '../../../operator/kube/apply.ts';
import { KubeClient } from '../../../operator/kube/client.ts';
import { Elector } from '../../../operator/kube/elector.ts';
import { isConflict, isNotFound, KubeError } from '../../../operator/kube/errors.ts';
import { EventRecorder } from '../../../operator/kube/events.ts';
import type { KubeType } from '../../../operator/kube/kube.ts';
import { pathOf } from '../../../operator/kube/kube.ts';
import { LEASE } from '../../../operator/kube/lease.ts';
import { silent } from '../../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../../src/std/system.ts';
import { VirtualClock } from '../../support/clock.ts';
import { until } from '../../support/inbox.ts';
import { KubeApiServer, TOKENS } from '../../support/kube-apiserver.ts';
import { KubeFaults } from '../../support/kube-faults.ts';
import type { ConfigMap } from '../../support/kube-objects.ts';
import {
  CONFIG_MAP,
  configMap,
  CUSTOM_RESOURCE_DEFINITION,
  POD,
  POD_DISRUPTION_BUDGET,
  PROBE,
  PROBE_DEFINITION,
  samples,
  STATEFUL_SET,
} from '../../support/kube-objects.ts';

let server: KubeApiServer;
let proxy: KubeFaults;
/** Through the proxy. */
let kube: KubeClient;

beforeAll(async () => {
  server = await KubeApiServer.start();
  proxy = await KubeFaults.start(server.url);
  kube = await client(server.kubeconfig(TOKENS.admin, proxy.url));
}, 90_000);

afterAll(async () => {
  kube?.close();
  await proxy?.close();
  await server?.remove();
});

function client(file: string, timeoutMs = 30_000): Promise<KubeClient> {
  return KubeClient.create({ source: { file, env: {} }, clock: systemClock, logger: silent, timeoutMs });
}

const at = (name: string): { namespace: string; name: string } => ({ namespace: 'default', name });

async function failure(call: Promise<unknown>): Promise<KubeError> {
  const error = await call.then(
    () => new Error('the call did not fail'),
    (reason: unknown) => reason,
  );
  if (error instanceof KubeError) return error;
  throw error;
}

/** What somebody else with kubectl does. */
async function edit<T extends KubeObject>(type: KubeType<T>, name: string, patch: object): Promise<void> {
  await kube.raw({
    method: 'PATCH',
    path: pathOf(type, at(name)),
    query: { fieldManager: 'kubectl-edit' },
    contentType: 'application/strategic-merge-patch+json',
    body: patch,
  });
}

describe('the client', () => {
  test('gives what was applied, also by pages that show one state', async () => {
    for (const name of ['p1', 'p2', 'p3']) await kube.apply(CONFIG_MAP, configMap(name, 'x'));
    const first = await kube.list(CONFIG_MAP, { namespace: 'default', labelSelector: 'test=yes', limit: 2 });
    await kube.apply(CONFIG_MAP, configMap('p4', 'x'));
    const next = first.continue ?? '';
    const second = await kube.list(CONFIG_MAP, {
      namespace: 'default',
      labelSelector: 'test=yes',
      limit: 2,
      continue: next,
    });
    expect(second.resourceVersion).toBe(first.resourceVersion);
    expect(
      [...first.items, ...second.items].map(({ kind, metadata: { name } }) => `${kind} ${name}`),
    ).toEqual(['ConfigMap p1', 'ConfigMap p2', 'ConfigMap p3']);
    expect((await kube.get(CONFIG_MAP, at('p1'))).data).toEqual({ value: 'x' });
  });

  test('says what is wrong and what to do about it', async () => {
    const missing = await failure(kube.get(STATEFUL_SET, at('nothing')));
    expect([missing.code, missing.message]).toEqual([
      'not_found',
      expect.stringContaining('statefulsets.apps default/nothing does not exist'),
    ]);
    const [, , , , statefulSet] = samples('wrong', { apiVersion: 'v1', kind: 'X', name: 'x', uid: 'x' });
    const invalid = await failure(
      kube.apply(STATEFUL_SET, {
        ...statefulSet!.object,
        spec: { ...(statefulSet!.object.spec as object), replicas: -1 },
      }),
    );
    expect([invalid.code, invalid.field]).toEqual(['invalid', 'spec.replicas']);
    await kube.apply(CONFIG_MAP, configMap('taken', 'x'));
    const exists = await failure(kube.create(CONFIG_MAP, configMap('taken', 'y')));
    expect([exists.code, exists.reason]).toEqual(['conflict', 'AlreadyExists']);
    const gone = await failure(kube.list(CONFIG_MAP, { limit: 1, continue: 'x' }));
    expect(gone.code).toBe('invalid');
  });

  test('names the permission that is missing, and who is unknown', async () => {
    const nobody = await client(server.kubeconfig(TOKENS.nobody));
    const refused = await failure(
      nobody.raw({ method: 'POST', path: pathOf(POD, at('p'), 'eviction'), body: {} }),
    );
    expect([refused.code, refused.message]).toEqual([
      'permission',
      expect.stringMatching(/cannot create resource "pods\/eviction".*Role/),
    ]);
    const listing = await failure(nobody.list(STATEFUL_SET));
    expect(listing.message).toMatch(/not allowed to list statefulsets\.apps/);
    const stranger = await failure((await client(server.kubeconfig('wrong-token'))).list(CONFIG_MAP));
    expect(stranger.code).toBe('unauthenticated');
  });

  test('logs in as the pod that it is in, also after its token has been replaced', async () => {
    const serviceAccountDir = server.serviceAccount(TOKENS.nobody);
    const { hostname, port } = new URL(server.url);
    const clock = new VirtualClock();
    const pod = await KubeClient.create({
      source: {
        env: { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port },
        serviceAccountDir,
      },
      clock,
      logger: silent,
    });
    expect((await failure(pod.list(CONFIG_MAP))).message).toContain('User "nobody"');
    server.serviceAccount(TOKENS.admin);
    clock.advance(60_000);
    expect((await pod.list(CONFIG_MAP, { limit: 1 })).items.length).toBe(1);
    pod.close();
  });

  test('says what is wrong with a kubeconfig', async () => {
    const source = { file: '/nowhere/config', env: {} };
    const options = { clock: systemClock, logger: silent };
    expect((await failure(KubeClient.create({ ...options, source }))).message).toMatch(
      /can't read the kubeconfig/,
    );
    const context = { file: server.kubeconfig(), context: 'other', env: {} };
    expect((await failure(KubeClient.create({ ...options, source: context }))).message).toMatch(
      /no context other/,
    );
  });

  test('deletes only the object that is meant', async () => {
    const { metadata } = await kube.apply(CONFIG_MAP, configMap('doomed', 'x'));
    const changed = await kube.apply(CONFIG_MAP, configMap('doomed', 'y'));
    expect((await failure(kube.delete(CONFIG_MAP, at('doomed'), { uid: 'other' }))).code).toBe('conflict');
    const { resourceVersion } = metadata;
    expect(
      (await failure(kube.delete(CONFIG_MAP, at('doomed'), { resourceVersion: resourceVersion! }))).code,
    ).toBe('conflict');
    await kube.delete(CONFIG_MAP, at('doomed'), { uid: changed.metadata.uid!, propagation: 'Background' });
    expect(isNotFound(await failure(kube.get(CONFIG_MAP, at('doomed'))))).toBe(true);
    expect(isNotFound(await failure(kube.delete(CONFIG_MAP, at('doomed'))))).toBe(true);
  });

  test('patches on condition that nobody else has', async () => {
    const { metadata } = await kube.apply(CONFIG_MAP, configMap('patched', 'x'));
    const patch = { metadata: { resourceVersion: metadata.resourceVersion }, data: { value: 'y' } };
    expect((await kube.patch(CONFIG_MAP, at('patched'), patch)).data).toEqual({ value: 'y' });
    expect(isConflict(await failure(kube.patch(CONFIG_MAP, at('patched'), patch)))).toBe(true);
  });

  test('evicts, and says when a disruption budget refuses that and for how long', async () => {
    const labels = { app: 'evicted' };
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...at('evicted'), labels },
      spec: { nodeName: 'none', containers: [{ name: 'c', image: 'i' }] },
    };
    await kube.create(POD, pod);
    const evict = (): Promise<unknown> =>
      kube.raw({
        method: 'POST',
        path: pathOf(POD, at('evicted'), 'eviction'),
        body: { apiVersion: 'policy/v1', kind: 'Eviction', metadata: at('evicted') },
      });
    await kube.raw({
      method: 'PATCH',
      path: pathOf(POD, at('evicted'), 'status'),
      contentType: 'application/merge-patch+json',
      body: { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } },
    });
    const { apiVersion, kind } = POD_DISRUPTION_BUDGET;
    await kube.create(POD_DISRUPTION_BUDGET, {
      apiVersion,
      kind,
      metadata: at('evicted'),
      spec: { maxUnavailable: 0, selector: { matchLabels: labels } },
    });
    // Nothing here counts pods, so the budget says that it does not know yet.
    const refused = await failure(evict());
    expect([refused.code, refused.status, refused.retryAfterMs]).toEqual(['unavailable', 429, 10_000]);
    await kube.delete(POD_DISRUPTION_BUDGET, at('evicted'));
    await evict();
    expect((await kube.get(POD, at('evicted'))).metadata.deletionTimestamp).toBeDefined();
  });

  test('gives up what takes too long, or is not wanted any more', async () => {
    const slow = await client(server.kubeconfig(TOKENS.admin, proxy.url), 200);
    const isList = ({ path }: { path: string }): boolean => path.endsWith('/configmaps');
    proxy.next(isList, { kind: 'delay', ms: 2000 });
    expect((await failure(slow.list(CONFIG_MAP, { namespace: 'default' }))).code).toBe('deadline');
    proxy.next(isList, { kind: 'delay', ms: 2000 });
    const stop = new AbortController();
    const call = failure(kube.list(CONFIG_MAP, { namespace: 'default', signal: stop.signal }));
    stop.abort();
    expect((await call).code).toBe('cancelled');
    slow.close();
  });

  test('says unavailable when the connection breaks, and heeds when to come back', async () => {
    proxy.next(({ write }) => write, { kind: 'reset', done: true });
    expect((await failure(kube.apply(CONFIG_MAP, configMap('cut', 'x')))).code).toBe('unavailable');
    expect((await kube.get(CONFIG_MAP, at('cut'))).data).toEqual({ value: 'x' });
    proxy.next(() => true, { kind: 'refuse', status: 429, retryAfter: 7 });
    const busy = await failure(kube.get(CONFIG_MAP, at('cut')));
    expect([busy.code, busy.retryAfterMs]).toEqual(['unavailable', 7000]);
  });

  test('knows which kinds there are', async () => {
    expect([await kube.serves(STATEFUL_SET), await kube.serves(PROBE), await kube.serves(LEASE)]).toEqual([
      true,
      false,
      true,
    ]);
    expect(await kube.serves({ ...STATEFUL_SET, plural: 'others' })).toBe(false);
  });
});

/** Reads the server before each look, as a cache does that is never behind. */
class FreshCache<T extends KubeObject> implements Cache<T> {
  readonly #objects = new Map<string, T>();

  static async of<T extends KubeObject>(type: KubeType<T>): Promise<FreshCache<T>> {
    const cache = new FreshCache<T>();
    for (const object of (await kube.list(type)).items) cache.observe(object);
    return cache;
  }

  get({ namespace, name }: { namespace?: string; name: string }): T | undefined {
    return this.#objects.get(`${namespace}/${name}`);
  }

  observe(object: T): void {
    this.#objects.set(`${object.metadata.namespace}/${object.metadata.name}`, object);
  }
}

describe('applying', () => {
  let owner: OwnerReference;

  beforeAll(async () => {
    const { metadata } = await kube.apply(CONFIG_MAP, configMap('owner', 'x'));
    owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: metadata.uid!, controller: true };
  });

  async function apply<T extends KubeObject>(
    applier: Applier,
    type: KubeType<T>,
    object: T,
  ): Promise<string> {
    const { outcome, field } = await applier.apply(type, object, await FreshCache.of(type));
    return field === undefined ? outcome : `${outcome} ${field}`;
  }

  test('every kind of child writes once, and nothing ever after, also by an operator that starts anew', async () => {
    const applier = new Applier(kube, silent);
    const children = samples('steady', owner);
    for (const { type, object } of children) {
      expect(`${type.kind} ${await apply(applier, type, object)}`).toBe(`${type.kind} created`);
    }
    const writes = proxy.writes;
    for (const next of [applier, new Applier(kube, silent)]) {
      for (const { type, object } of children) {
        expect(`${type.kind} ${await apply(next, type, object)}`).toBe(`${type.kind} unchanged`);
      }
    }
    expect(proxy.writes).toBe(writes);
  });

  test('undoes what others change of ours, and leaves alone what is not', async () => {
    const children = samples('touched', owner);
    const [{ object: map }, , , { object: service, type: serviceType }, { object: set }] = children as [
      { object: KubeObject },
      unknown,
      unknown,
      { object: KubeObject; type: KubeType },
      { object: KubeObject },
    ];
    for (const { type, object } of children) await apply(new Applier(kube, silent), type, object);
    const cases: [KubeType, KubeObject, object, string][] = [
      [CONFIG_MAP, map, { data: { 'agenthub.yaml': 'log: memory\n' } }, 'data.agenthub.yaml'],
      [CONFIG_MAP, map, { data: { empty: null } }, 'data.empty'],
      [CONFIG_MAP, map, { metadata: { labels: null } }, 'metadata.labels'],
      [serviceType, service, { spec: { ports: [{ port: 8080, $patch: 'delete' }] } }, 'spec.ports'],
      [STATEFUL_SET, set, { spec: { replicas: 1 } }, 'spec.replicas'],
      [
        STATEFUL_SET,
        set,
        {
          spec: {
            template: { spec: { containers: [{ name: 'broker', resources: { limits: { cpu: '3' } } }] } },
          },
        },
        'spec.template.spec.containers[{"name":"broker"}].resources.limits.cpu',
      ],
      [
        STATEFUL_SET,
        set,
        {
          spec: {
            template: { spec: { containers: [{ name: 'broker', env: [{ name: 'EMPTY', value: 'no' }] }] } },
          },
        },
        'env[{"name":"EMPTY"}].value',
      ],
      [
        STATEFUL_SET,
        set,
        { spec: { template: { spec: { containers: [{ name: 'broker', args: ['serve'] }] } } } },
        '.args',
      ],
      [STATEFUL_SET, set, { spec: { template: { spec: { tolerations: null } } } }, '.tolerations'],
    ];
    for (const [type, object, patch, field] of cases) {
      await edit(type, 'touched', patch);
      const applier = new Applier(kube, silent);
      const outcome = await apply(applier, type, object);
      expect(outcome).toMatch(/^repaired /);
      expect(outcome).toContain(field);
      expect(await apply(applier, type, object)).toBe('unchanged');
    }
    const foreign = {
      metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': 'now' }, finalizers: ['test.io/hold'] },
      spec: {
        minReadySeconds: 7,
        template: {
          metadata: { annotations: { sidecar: 'yes' } },
          spec: {
            containers: [
              { name: 'broker', env: [{ name: 'THEIRS', value: '1' }] },
              { name: 'sidecar', image: 's' },
            ],
          },
        },
      },
    };
    await edit(STATEFUL_SET, 'touched', foreign);
    const writes = proxy.writes;
    expect(await apply(new Applier(kube, silent), STATEFUL_SET, set)).toBe('unchanged');
    expect(proxy.writes).toBe(writes);
    await edit(STATEFUL_SET, 'touched', { spec: { replicas: 9 } });
    expect(await apply(new Applier(kube, silent), STATEFUL_SET, set)).toBe('repaired spec.replicas');
    const kept = await kube.get(STATEFUL_SET, at('touched'));
    expect(kept).toMatchObject({
      metadata: { annotations: foreign.metadata.annotations, finalizers: ['test.io/hold'] },
      spec: { replicas: 3, minReadySeconds: 7, template: { metadata: { annotations: { sidecar: 'yes' } } } },
    });
    expect(JSON.stringify(kept.spec)).toContain('THEIRS');
    await edit(STATEFUL_SET, 'touched', { metadata: { finalizers: null } });
  });

  test('takes what is not wanted any more away, though only ours', async () => {
    const applier = new Applier(kube, silent);
    const wanted = { ...configMap('shrinks', 'x', owner), data: { a: '1', b: '2' } };
    await apply(applier, CONFIG_MAP, wanted);
    await edit(CONFIG_MAP, 'shrinks', { data: { theirs: '3' } });
    expect(await apply(applier, CONFIG_MAP, { ...wanted, data: { a: '1' } })).toBe('changed');
    expect((await kube.get(CONFIG_MAP, at('shrinks'))).data).toEqual({ a: '1', theirs: '3' });
  });

  test('owns its fields again when somebody has wiped out who owns what', async () => {
    const wanted = configMap('wiped', 'x', owner);
    await apply(new Applier(kube, silent), CONFIG_MAP, wanted);
    await edit(CONFIG_MAP, 'wiped', { metadata: { managedFields: [{}] } });
    const applier = new Applier(kube, silent);
    expect(await apply(applier, CONFIG_MAP, wanted)).toBe('repaired metadata.managedFields');
    expect(await apply(new Applier(kube, silent), CONFIG_MAP, wanted)).toBe('unchanged');
  });

  test('never overwrites what is not ours, whether it was known or not', async () => {
    const theirs = { ...configMap('foreign', 'theirs'), metadata: at('foreign') };
    await kube.raw({ method: 'POST', path: pathOf(CONFIG_MAP, { namespace: 'default' }), body: theirs });
    const applier = new Applier(kube, silent);
    const known = await failure(apply(applier, CONFIG_MAP, configMap('foreign', 'ours', owner)));
    expect([known.code, known.message]).toEqual([
      'conflict',
      expect.stringContaining('not made by this operator'),
    ]);
    const unknown = await failure(
      applier.apply(CONFIG_MAP, configMap('foreign', 'ours', owner), new FreshCache<ConfigMap>()),
    );
    expect([unknown.code, unknown.message]).toEqual(['conflict', expect.stringContaining('.data.value')]);
    const other = { ...owner, uid: 'another', name: 'another' };
    await kube.apply(CONFIG_MAP, configMap('foreign-owned', 'theirs', other));
    const owned = await failure(apply(applier, CONFIG_MAP, configMap('foreign-owned', 'ours', owner)));
    expect(owned.message).toContain('belongs to ConfigMap another');
    expect((await kube.get(CONFIG_MAP, at('foreign'))).data).toEqual({ value: 'theirs' });
  });

  test('waits for what is being deleted, and does not take a later object for it', async () => {
    const applier = new Applier(kube, silent);
    const wanted = configMap('terminating', 'x', owner);
    await apply(applier, CONFIG_MAP, wanted);
    const stale = await FreshCache.of(CONFIG_MAP);
    await edit(CONFIG_MAP, 'terminating', { metadata: { finalizers: ['test.io/hold'] } });
    await kube.delete(CONFIG_MAP, at('terminating'));
    expect(await apply(applier, CONFIG_MAP, configMap('terminating', 'y', owner))).toBe('terminating');
    await edit(CONFIG_MAP, 'terminating', { metadata: { finalizers: null } });
    const gone = await failure(applier.apply(CONFIG_MAP, configMap('terminating', 'y', owner), stale));
    expect(gone.code).toBe('conflict');
    expect(await apply(applier, CONFIG_MAP, wanted)).toBe('created');
  });

  test('does not write again because its cache is behind', async () => {
    const applier = new Applier(kube, silent);
    await apply(applier, CONFIG_MAP, configMap('behind', 'x', owner));
    const behind = await FreshCache.of(CONFIG_MAP);
    const old = behind.get(at('behind'))!;
    await applier.apply(CONFIG_MAP, configMap('behind', 'y', owner), behind);
    behind.observe(old);
    expect(await applier.apply(CONFIG_MAP, configMap('behind', 'y', owner), behind)).toEqual({
      outcome: 'unchanged',
    });
  });

  test('objects and statuses of a kind of its own writes only what differs', async () => {
    await kube.apply(CUSTOM_RESOURCE_DEFINITION, PROBE_DEFINITION);
    await until(() => kube.serves(PROBE));
    const { apiVersion, kind } = PROBE;
    const probe = {
      apiVersion,
      kind,
      metadata: { ...at('probe'), ownerReferences: [owner] },
      spec: { size: 3, hosts: ['a', 'b'] },
    };
    const applier = new Applier(kube, silent);
    await until(() =>
      apply(applier, PROBE, probe).then(
        () => true,
        () => false,
      ),
    );
    expect(await apply(new Applier(kube, silent), PROBE, probe)).toBe('unchanged');
    await kube.patch(PROBE, at('probe'), { spec: { hosts: ['a'] } });
    expect(await apply(new Applier(kube, silent), PROBE, probe)).toBe('repaired spec.hosts');

    const status = { ready: 1, phase: 'running', conditions: [{ type: 'Available', status: 'True' }] };
    const say = async (by: Applier, wanted: object): Promise<string> => {
      const cache = await FreshCache.of(PROBE);
      return (await by.applyStatus(PROBE, cache.get(at('probe'))!, wanted, cache)).outcome;
    };
    expect(await say(applier, status)).toBe('changed');
    const writes = proxy.writes;
    expect([await say(applier, { ...status }), await say(new Applier(kube, silent), status)]).toEqual([
      'unchanged',
      'unchanged',
    ]);
    expect(await apply(applier, PROBE, probe)).toBe('unchanged');
    expect(proxy.writes).toBe(writes);
    expect(await say(applier, { ready: 2, conditions: [] })).toBe('changed');
    // What the server fills in is no reason to write again.
    expect(await say(applier, { ready: 2, conditions: [] })).toBe('unchanged');
    expect(await kube.get(PROBE, at('probe'))).toMatchObject({
      spec: probe.spec,
      status: { ready: 2, phase: 'new' },
    });
  });
});

describe('an election', () => {
  const lease = at('operator');

  function candidate(identity: string, heard: string[]): Elector {
    return new Elector({
      kube,
      clock: systemClock,
      random: systemRandom,
      logger: silent,
      lease,
      identity,
      leaseMs: 2000,
      renewWithinMs: 1200,
      retryMs: 100,
      lead: () => heard.push(`${identity} leads`),
      lost: () => void heard.push(`${identity} lost`),
    });
  }

  test('has one leader, another as soon as it stops, and another when it dies', async () => {
    const heard: string[] = [];
    const [a, b, c] = ['a', 'b', 'c'].map((identity) => candidate(identity, heard)) as [
      Elector,
      Elector,
      Elector,
    ];
    a.start();
    await until(() => a.leading);
    b.start();
    await until(() => b.leader === 'a');
    const { spec } = await kube.get(LEASE, lease);
    expect(spec).toMatchObject({ holderIdentity: 'a', leaseDurationSeconds: 2, leaseTransitions: 0 });
    await a.stop();
    await until(() => b.leading);
    expect(heard).toEqual(['a leads', 'a lost', 'b leads']);
    c.start();
    await until(() => c.leader === 'b');
    // As if it had died: nothing of it reaches the API server.
    const dead = (request: { write: boolean; path: string }): boolean => request.path.includes('/leases/');
    proxy.plan = (request) => (dead(request) && !c.leading ? { kind: 'refuse', status: 503 } : undefined);
    await until(() => heard.includes('b lost'));
    expect(heard).toEqual(['a leads', 'a lost', 'b leads', 'b lost']);
    proxy.plan = () => undefined;
    await until(() => b.leading || c.leading);
    expect([a, b, c].filter(({ leading }) => leading).length).toBe(1);
    await Promise.all([b.stop(), c.stop()]);
    expect((await kube.get(LEASE, lease)).spec?.holderIdentity).toBe('');
  });
});

describe('an event', () => {
  interface Told extends KubeObject {
    readonly reason: string;
    readonly note: string;
    readonly series?: { readonly count: number };
  }
  const EVENT: KubeType<Told> = {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    plural: 'events',
    namespaced: true,
  };

  function recorder(): EventRecorder {
    return new EventRecorder({
      kube,
      clock: systemClock,
      random: systemRandom,
      logger: silent,
      controller: 'agenthub.io/operator',
      instance: 'operator-0',
    });
  }

  async function told(name: string): Promise<Told[]> {
    const { items } = await kube.list(EVENT, { namespace: 'default' });
    return items.filter((event) => event.metadata.name.startsWith(`${name}.`));
  }

  test('is written once with the count of its repetitions', async () => {
    const about = await kube.apply(CONFIG_MAP, configMap('told', 'x'));
    const events = recorder();
    const scaled = {
      type: 'Normal',
      reason: 'Scaled',
      action: 'Scaling',
      note: 'from 2 to 3 brokers',
    } as const;
    events.record(about, scaled);
    await until(async () => (await told('told')).length === 1);
    for (let again = 0; again < 4; again++) events.record(about, scaled);
    events.record(about, { ...scaled, note: 'from 3 to 4 brokers, '.padEnd(2000, 'ü') });
    await events.stop();
    const written = (await told('told')).map(({ note, series }) => [note.slice(0, 20), series?.count]);
    expect(written).toContainEqual(['from 2 to 3 brokers', 5]);
    expect(written).toContainEqual(['from 3 to 4 brokers,', undefined]);
    events.record(about, { ...scaled, reason: 'Late' });
    expect((await told('told')).length).toBe(2);
  });

  test('does not flood the API server, nor come from there what fails', async () => {
    const about = await kube.apply(CONFIG_MAP, configMap('flood', 'x'));
    const events = recorder();
    proxy.next(({ path }) => path.includes('/events'), { kind: 'refuse', status: 500 });
    for (let index = 0; index < 200; index++) {
      events.record(about, { type: 'Warning', reason: 'Failed', action: 'Trying', note: `attempt ${index}` });
    }
    await events.stop();
    expect((await told('flood')).length).toBe(24);
  });
});
