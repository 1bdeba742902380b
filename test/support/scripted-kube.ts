import type { KubeObject } from '../../operator/api/object.ts';
import type {
  Kube,
  KubeType,
  ListOptions,
  ListPage,
  WatchHandler,
  WatchOptions,
} from '../../operator/kube/kube.ts';

/** A call that waits for the test to say what comes of it. */
export interface Call {
  readonly verb: string;
  /** What it was called with. */
  readonly with: readonly unknown[];
  readonly answer: (value: unknown) => Promise<void>;
  readonly fail: (error: Error) => Promise<void>;
}

/** A watch that a test speaks for. */
export interface ScriptedWatch {
  readonly options: WatchOptions;
  readonly handler: WatchHandler<KubeObject>;
  closed: boolean;
}

/** An API server whose every answer is given by the test. */
export class ScriptedKube implements Kube {
  /** Calls without an answer yet, oldest first. */
  readonly calls: Call[] = [];
  readonly watches: ScriptedWatch[] = [];

  /** The oldest call without an answer; it must be of that verb. */
  take(verb: string): Call {
    const call = this.calls.shift();
    if (call?.verb !== verb) throw new Error(`expected ${verb}, there is ${call?.verb ?? 'no call'}`);
    return call;
  }

  /** The newest watch. */
  get watching(): ScriptedWatch {
    const watch = this.watches.at(-1);
    if (watch === undefined) throw new Error('nothing is watched');
    return watch;
  }

  /** Answers a list with one page. */
  async page(items: readonly KubeObject[], resourceVersion: string, next?: string): Promise<ListOptions> {
    const call = this.take('list');
    const page: ListPage<KubeObject> = {
      items,
      resourceVersion,
      ...(next === undefined ? {} : { continue: next }),
    };
    const [, options] = call.with as readonly [KubeType, ListOptions];
    await call.answer(page);
    return options;
  }

  watch<T extends KubeObject>(
    _: KubeType<T>,
    options: WatchOptions,
    handler: WatchHandler<T>,
  ): { close(): void } {
    const watch: ScriptedWatch = {
      options,
      handler,
      closed: false,
    };
    this.watches.push(watch);
    return { close: () => (watch.closed = true) };
  }

  list = this.#scripted('list') as Kube['list'];
  get = this.#scripted('get') as Kube['get'];
  create = this.#scripted('create') as Kube['create'];
  apply = this.#scripted('apply') as Kube['apply'];
  patch = this.#scripted('patch') as Kube['patch'];
  delete = this.#scripted('delete') as Kube['delete'];
  serves = this.#scripted('serves') as Kube['serves'];
  raw = this.#scripted('raw') as Kube['raw'];

  #scripted(verb: string): (...args: unknown[]) => Promise<unknown> {
    return (...args) =>
      new Promise((resolve, reject) => {
        this.calls.push({
          verb,
          with: args,
          answer: (value) => {
            resolve(value);
            return turn();
          },
          fail: (error) => {
            reject(error);
            return turn();
          },
        });
      });
  }
}

/** Lets everything happen that only waits for promises. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** A ConfigMap, for tests that need some object. */
export function configMap(name: string, resourceVersion: string, more: object = {}): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'default', uid: `uid-${name}`, resourceVersion, ...more },
  };
}

/** How ConfigMaps are called in URLs. */
export const CONFIG_MAP: KubeType = {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  namespaced: true,
};
