import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { keyOf, nameOf } from '../../../operator/api/object.ts';
import { Applier } from '../../../operator/kube/apply.ts';
import { KubeClient } from '../../../operator/kube/client.ts';
import { Elector } from '../../../operator/kube/elector.ts';
import { isNotFound } from '../../../operator/kube/errors.ts';
import { Informer } from '../../../operator/kube/informer.ts';
import { isLater } from '../../../operator/kube/store.ts';
import { WorkQueue } from '../../../operator/kube/workqueue.ts';
import { silent } from '../../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../../src/std/system.ts';
import { until } from '../../support/inbox.ts';
import { KubeApiServer, TOKENS } from '../../support/kube-apiserver.ts';
import { KubeFaults, seededPlan } from '../../support/kube-faults.ts';
import type { ConfigMap } from '../../support/kube-objects.ts';
import { CONFIG_MAP, configMap } from '../../support/kube-objects.ts';
import { SeededRandom } from '../../support/random.ts';

const SEEDS = [1, 2, 3];
const RATES = { refuse: 0.15, reset: 0.1, delay: 0.1, stale: 0.1, watch: 0.6 };
const BACKOFF = { initialMs: 5, maxMs: 100 };

let server: KubeApiServer;
let proxy: KubeFaults;
/** Through the proxy. */
let kube: KubeClient;
/** Straight to the server. */
let direct: KubeClient;

beforeAll(async () => {
  server = await KubeApiServer.start();
  proxy = await KubeFaults.start(server.url);
  kube = await client(server.kubeconfig(TOKENS.admin, proxy.url));
  direct = await client(server.kubeconfig());
}, 90_000);

afterAll(async () => {
  kube?.close();
  direct?.close();
  await proxy?.close();
  await server?.remove();
});

function client(file: string): Promise<KubeClient> {
  return KubeClient.create({
    source: { file, env: {} },
    clock: systemClock,
    logger: silent,
    timeoutMs: 3000,
  });
}

/** An informer of a test's own ConfigMaps that checks what it is told. */
class Watcher {
  readonly informer: Informer<ConfigMap>;
  /** What was told that can't be true. */
  readonly wrong: string[] = [];
  readonly #shown = new Map<string, ConfigMap>();
  /** Objects that somebody has asked the server to delete. */
  readonly doomed = new Set<string>();

  constructor(labelSelector: string, silenceMs = 400) {
    this.informer = new Informer({
      kube,
      type: CONFIG_MAP,
      selection: { namespace: 'default', labelSelector },
      clock: systemClock,
      random: systemRandom,
      logger: silent,
      pageSize: 3,
      silenceMs,
      backoff: BACKOFF,
    });
    this.informer.subscribe({
      added: (object) => {
        if (this.#shown.has(keyOf(object.metadata)))
          this.wrong.push(`${object.metadata.name} was added twice`);
        this.#shown.set(keyOf(object.metadata), object);
      },
      updated: (object, before) => {
        if (this.#shown.get(keyOf(object.metadata)) !== before)
          this.wrong.push('an update of something else');
        if (!isLater(object.metadata.resourceVersion, before.metadata.resourceVersion)) {
          this.wrong.push(`${object.metadata.name} went back`);
        }
        this.#shown.set(keyOf(object.metadata), object);
      },
      deleted: ({ metadata }) => {
        if (!this.doomed.has(metadata.uid ?? '')) this.wrong.push(`${metadata.name} was not deleted`);
        this.#shown.delete(keyOf(metadata));
      },
    });
  }

  /** Whether it shows, and has told, exactly what the server has. */
  async shows(labelSelector: string): Promise<boolean> {
    const { items } = await direct.list(CONFIG_MAP, { namespace: 'default', labelSelector });
    return (
      versions(items) === versions(this.informer.list()) &&
      versions(items) === versions([...this.#shown.values()])
    );
  }
}

function versions(objects: readonly ConfigMap[]): string {
  return objects
    .map(({ metadata }) => `${metadata.name}@${metadata.resourceVersion}`)
    .sort()
    .join(' ');
}

function labelled(name: string, value: string, suite: string): ConfigMap {
  const object = configMap(name, value);
  return { ...object, metadata: { ...object.metadata, labels: { suite } } };
}

describe('an informer', () => {
  test.each(SEEDS)(
    'shows what there is and tells nothing untrue, whatever fails (seed %i)',
    async (seed) => {
      const suite = `informer-${seed}`;
      const random = new SeededRandom(seed);
      const watcher = new Watcher(`suite=${suite}`);
      proxy.plan = seededPlan(seed, RATES);
      proxy.done.length = 0;
      watcher.informer.start();
      for (let step = 0; proxy.done.length < 25; step++) {
        if (random.chance(0.1)) proxy.cutWatches();
        const name = `${suite}-${random.below(12)}`;
        const at = { namespace: 'default', name };
        if (random.chance(0.3)) {
          const found = await direct.get(CONFIG_MAP, at).catch((error: unknown) => {
            if (isNotFound(error)) return undefined;
            throw error;
          });
          if (found !== undefined) {
            watcher.doomed.add(found.metadata.uid ?? '');
            await direct.delete(CONFIG_MAP, at);
          }
        } else {
          const written = await direct.apply(CONFIG_MAP, labelled(name, `${step}`, suite));
          if (random.chance(0.2)) watcher.informer.observe(written);
        }
      }
      proxy.plan = () => undefined;
      await until(() => watcher.shows(`suite=${suite}`));
      watcher.informer.stop();
      expect(watcher.wrong).toEqual([]);
      expect(new Set(proxy.done.map(({ kind }) => kind)).size).toBeGreaterThan(3);
    },
    60_000,
  );

  test('goes on after the API server was killed, and lists anew when that has forgotten its version', async () => {
    const suite = 'restart';
    const watcher = new Watcher(`suite=${suite}`, 60_000);
    watcher.informer.start();
    const names = ['restart-1', 'restart-2', 'restart-3'];
    for (const name of names) await direct.apply(CONFIG_MAP, labelled(name, 'x', suite));
    await until(() => watcher.shows(`suite=${suite}`));
    // It hears nothing while everything changes and the server forgets how.
    proxy.plan = () => ({ kind: 'reset', done: false });
    proxy.cutWatches();
    for (const { metadata } of watcher.informer.list()) watcher.doomed.add(metadata.uid ?? '');
    await direct.delete(CONFIG_MAP, { namespace: 'default', name: 'restart-1' });
    await direct.apply(CONFIG_MAP, labelled('restart-2', 'y', suite));
    await server.kill();
    await server.restart();
    await until(() => watcher.informer.failure !== undefined);
    const from = proxy.seen.length;
    proxy.plan = () => undefined;
    await until(() => watcher.shows(`suite=${suite}`));
    watcher.informer.stop();
    expect(watcher.wrong).toEqual([]);
    const asked = proxy.seen.slice(from).map(({ watch }) => (watch ? 'watch' : 'list'));
    expect(asked.slice(0, 2)).toEqual(['watch', 'list']);
  }, 60_000);

  test('resumes a watch that was cut without listing anything again', async () => {
    const suite = 'resume';
    const watcher = new Watcher(`suite=${suite}`, 60_000);
    watcher.informer.start();
    await watcher.informer.whenSynced();
    const from = proxy.seen.length;
    for (let round = 0; round < 5; round++) {
      await direct.apply(CONFIG_MAP, labelled('resumed', `${round}`, suite));
      proxy.cutWatches();
      await direct.apply(CONFIG_MAP, labelled('resumed', `${round} again`, suite));
      await until(() => watcher.shows(`suite=${suite}`));
    }
    watcher.informer.stop();
    expect(watcher.wrong).toEqual([]);
    expect(proxy.seen.slice(from).filter(({ watch }) => !watch)).toEqual([]);
  });
});

describe('an election', () => {
  test.each(SEEDS)(
    'never has two leaders, whatever fails (seed %i)',
    async (seed) => {
      const leading = new Set<string>();
      const wrong: string[] = [];
      let terms = 0;
      const electors = ['a', 'b', 'c'].map(
        (identity) =>
          new Elector({
            kube,
            clock: systemClock,
            random: systemRandom,
            logger: silent,
            lease: { namespace: 'default', name: `operator-${seed}` },
            identity,
            leaseMs: 1000,
            renewWithinMs: 400,
            retryMs: 50,
            lead: () => {
              terms++;
              if (leading.size > 0) wrong.push(`${identity} leads beside ${[...leading].join()}`);
              leading.add(identity);
            },
            lost: () => void leading.delete(identity),
          }),
      );
      const random = new SeededRandom(seed);
      proxy.plan = seededPlan(seed, { refuse: 0.3, reset: 0.2, delay: 0.2 });
      for (const elector of electors) elector.start();
      for (let term = 1; term <= 4; term++) {
        await until(() => terms >= term);
        // The leader is cut off, or stops and stands again.
        const leader = electors.find((elector) => elector.leading);
        if (random.chance(0.5)) {
          await leader?.stop();
          leader?.start();
        } else {
          const { plan } = proxy;
          proxy.plan = ({ write }) => (write ? { kind: 'reset', done: false } : undefined);
          await until(() => leading.size === 0);
          proxy.plan = plan;
        }
      }
      proxy.plan = () => undefined;
      await until(() => leading.size === 1);
      await Promise.all(electors.map((elector) => elector.stop()));
      expect([wrong, leading.size]).toEqual([[], 0]);
    },
    60_000,
  );
});

describe('informer, queue and applier together', () => {
  test.each(SEEDS)(
    'bring about what is wanted, undo what others do, then write nothing (seed %i)',
    async (seed) => {
      const suite = `loop-${seed}`;
      const random = new SeededRandom(seed);
      const watcher = new Watcher(`suite=${suite}`);
      const { informer } = watcher;
      const applier = new Applier(kube, silent);
      const queue = new WorkQueue({ backoff: BACKOFF, random: systemRandom });
      const wanted = new Map(
        Array.from({ length: 8 }, (_, index) => labelled(`${suite}-${index}`, `wanted ${index}`, suite)).map(
          (object) => [keyOf(object.metadata), object],
        ),
      );
      let working = true;
      const work = async (): Promise<void> => {
        while (working) {
          const key = informer.synced ? queue.take(systemClock.now()) : undefined;
          if (key === undefined) {
            await new Promise((resolve) => setTimeout(resolve, 2));
            continue;
          }
          try {
            await applier.apply(CONFIG_MAP, wanted.get(key)!, informer);
            queue.forget(key);
          } catch {
            queue.retry(key, systemClock.now());
          }
          queue.done(key, systemClock.now());
        }
      };
      const all = (): void => {
        for (const key of wanted.keys()) queue.add(key, systemClock.now());
      };
      const idle = (): boolean => queue.depth + queue.taken + queue.waiting === 0;
      informer.subscribe({
        updated: ({ metadata }) => queue.add(keyOf(metadata), systemClock.now()),
        deleted: ({ metadata }) => queue.add(keyOf(metadata), systemClock.now()),
      });
      proxy.plan = seededPlan(seed, RATES);
      informer.start();
      all();
      const workers = [work(), work(), work()];
      for (let step = 0; step < 60; step++) {
        const key = [...wanted.keys()][random.below(wanted.size)]!;
        const at = nameOf(key);
        try {
          const { metadata } = await direct.get(CONFIG_MAP, at);
          if (random.chance(0.3)) {
            watcher.doomed.add(metadata.uid ?? '');
            await direct.delete(CONFIG_MAP, at, { uid: metadata.uid! });
          } else {
            await direct.raw({
              method: 'PATCH',
              path: `/api/v1/namespaces/default/configmaps/${at.name}`,
              query: { fieldManager: 'somebody' },
              contentType: 'application/merge-patch+json',
              body: { data: random.chance(0.5) ? { value: `spoilt ${step}` } : { theirs: `${step}` } },
            });
          }
        } catch (error) {
          if (!isNotFound(error)) throw error;
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }
      proxy.plan = () => undefined;
      const right = async (): Promise<boolean> => {
        const { items } = await direct.list(CONFIG_MAP, {
          namespace: 'default',
          labelSelector: `suite=${suite}`,
        });
        return (
          items.length === wanted.size &&
          items.every((item) => item.data?.['value'] === wanted.get(keyOf(item.metadata))?.data?.['value'])
        );
      };
      await until(async () => idle() && (await watcher.shows(`suite=${suite}`)) && (await right()));
      const writes = proxy.writes;
      for (let round = 0; round < 3; round++) {
        all();
        await until(idle);
      }
      working = false;
      await Promise.all(workers);
      informer.stop();
      expect([watcher.wrong, await right(), proxy.writes - writes]).toEqual([[], true, 0]);
    },
    60_000,
  );
});
