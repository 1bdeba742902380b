import type { Clock } from '../../src/std/clock.ts';
import type { Logger } from '../../src/std/logger.ts';
import type { KubeObject, ObjectName } from '../api/object.ts';
import { keyOf } from '../api/object.ts';
import type { Credentials, CredentialsSource } from './credentials.ts';
import { findCredentials } from './credentials.ts';
import { isNotFound } from './errors.ts';
import type {
  ApplyOptions,
  CallOptions,
  DeleteOptions,
  Kube,
  KubeType,
  ListOptions,
  ListPage,
  PatchOptions,
  RawRequest,
  Watch,
  WatchHandler,
  WatchOptions,
} from './kube.ts';
import { FIELD_MANAGER, pathOf } from './kube.ts';
import type { Exchange, Observed } from './transport.ts';
import { Transport } from './transport.ts';
import { WatchStream } from './watch-stream.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** So many different warnings are remembered, so that each is logged once. */
const MAX_WARNINGS = 256;

/** What a client is made of. */
export interface KubeClientOptions {
  readonly source: CredentialsSource;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Milliseconds for one call. Default: 30 s. A watch has to begin within that time. */
  readonly timeoutMs?: number;
  /** Default: `agenthub-operator`. */
  readonly userAgent?: string;
  readonly observed?: Observed;
}

/** A call of one kind of object. */
interface Call {
  readonly verb: string;
  readonly method: string;
  readonly type: KubeType;
  readonly at: { readonly namespace?: string | undefined; readonly name?: string };
  readonly subresource?: string | undefined;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: object;
  readonly contentType?: string;
}

/** {@link Kube} over HTTP. */
export class KubeClient implements Kube {
  readonly #transport: Transport;
  readonly #logger: Logger;
  readonly #timeoutMs: number;
  readonly #warnings = new Set<string>();

  /**
   * Finds out how to log in; asks nobody yet.
   *
   * @throws KubeError `invalid`: the kubeconfig can't be used.
   */
  static async create(options: KubeClientOptions): Promise<KubeClient> {
    return new KubeClient(await findCredentials(options.source, options.clock), options);
  }

  private constructor(credentials: Credentials, options: KubeClientOptions) {
    const { clock, logger, timeoutMs = DEFAULT_TIMEOUT_MS, userAgent = FIELD_MANAGER } = options;
    this.#transport = new Transport(
      credentials,
      clock,
      userAgent,
      (warning) => this.#warn(warning),
      options.observed,
    );
    this.#logger = logger;
    this.#timeoutMs = timeoutMs;
  }

  /** Ends connections that are not in use. */
  close(): void {
    this.#transport.close();
  }

  async list<T extends KubeObject>(type: KubeType<T>, options: ListOptions = {}): Promise<ListPage<T>> {
    const { namespace, labelSelector, fieldSelector, limit, resourceVersion } = options;
    const query = {
      labelSelector,
      fieldSelector,
      limit: limit?.toString(),
      continue: options.continue,
      resourceVersion,
    };
    const page = await this.#send<{
      items?: T[];
      metadata?: { resourceVersion?: string; continue?: string };
    }>({ verb: 'list', method: 'GET', type, at: { namespace }, query }, options);
    const next = page.metadata?.continue;
    return {
      // The items of a list lack what they have in common.
      items: (page.items ?? []).map((item) => ({ ...item, apiVersion: type.apiVersion, kind: type.kind })),
      resourceVersion: page.metadata?.resourceVersion ?? '',
      ...(next === undefined || next === '' ? {} : { continue: next }),
    };
  }

  watch<T extends KubeObject>(type: KubeType<T>, options: WatchOptions, handler: WatchHandler<T>): Watch {
    const { namespace, labelSelector, fieldSelector, resourceVersion, timeoutSeconds } = options;
    const query = {
      watch: 'true',
      allowWatchBookmarks: 'true',
      labelSelector,
      fieldSelector,
      resourceVersion,
      timeoutSeconds: `${timeoutSeconds}`,
    };
    const opening = new AbortController();
    const exchange = this.#exchange(
      { verb: 'watch', method: 'GET', type, at: { namespace }, query },
      { signal: opening.signal },
    );
    const stream = new WatchStream(handler, exchange.asked);
    this.#transport.open(exchange).then(
      ({ response, settle }) => {
        settle();
        stream.read(response);
      },
      (error: unknown) => stream.end(error),
    );
    return {
      close() {
        stream.close();
        opening.abort();
      },
    };
  }

  get<T extends KubeObject>(type: KubeType<T>, at: ObjectName, options: CallOptions = {}): Promise<T> {
    return this.#send({ verb: 'get', method: 'GET', type, at }, options);
  }

  create<T extends KubeObject>(type: KubeType<T>, object: T, options: CallOptions = {}): Promise<T> {
    const { namespace } = object.metadata;
    const query = { fieldManager: FIELD_MANAGER };
    return this.#send(
      { verb: 'create', method: 'POST', type, at: { namespace }, query, body: object },
      options,
    );
  }

  apply<T extends KubeObject>(type: KubeType<T>, object: T, options: ApplyOptions = {}): Promise<T> {
    const { force = true, subresource } = options;
    const call = {
      verb: 'apply',
      method: 'PATCH',
      type,
      at: object.metadata,
      subresource,
      query: { fieldManager: FIELD_MANAGER, force: `${force}` },
      body: object,
      contentType: 'application/apply-patch+yaml',
    };
    return this.#send(call, options);
  }

  patch<T extends KubeObject>(
    type: KubeType<T>,
    at: ObjectName,
    patch: object,
    options: PatchOptions = {},
  ): Promise<T> {
    const call = {
      verb: 'patch',
      method: 'PATCH',
      type,
      at,
      subresource: options.subresource,
      query: { fieldManager: FIELD_MANAGER },
      body: patch,
      contentType: 'application/merge-patch+json',
    };
    return this.#send(call, options);
  }

  async delete(type: KubeType, at: ObjectName, options: DeleteOptions = {}): Promise<void> {
    const { uid, resourceVersion, propagation, gracePeriodSeconds } = options;
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      preconditions: { uid, resourceVersion },
      propagationPolicy: propagation,
      gracePeriodSeconds,
    };
    await this.#send({ verb: 'delete', method: 'DELETE', type, at, body }, options);
  }

  async serves({ apiVersion, plural }: KubeType, options: CallOptions = {}): Promise<boolean> {
    const path = `/${apiVersion.includes('/') ? 'apis' : 'api'}/${apiVersion}`;
    try {
      const group = await this.raw<{ resources?: { name: string }[] }>({ ...options, method: 'GET', path });
      return group.resources?.some(({ name }) => name === plural) ?? false;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  async raw<R>(request: RawRequest): Promise<R> {
    const { method, path, query = {}, body, contentType, timeoutMs = this.#timeoutMs, signal } = request;
    const answer = await this.#transport.exchange({
      asked: { verb: method.toLowerCase(), resource: path, key: '' },
      method,
      path,
      query,
      body: body === undefined ? undefined : JSON.stringify(body),
      contentType,
      timeoutMs,
      signal,
    });
    return answer as R;
  }

  async #send<R>(call: Call, options: CallOptions): Promise<R> {
    return (await this.#transport.exchange(this.#exchange(call, options))) as R;
  }

  #exchange(call: Call, { timeoutMs = this.#timeoutMs, signal }: CallOptions): Exchange {
    const { verb, method, type, subresource, query = {}, body, contentType } = call;
    const { name } = call.at;
    const namespace = type.namespaced ? call.at.namespace : undefined;
    const at = { ...(namespace === undefined ? {} : { namespace }), ...(name === undefined ? {} : { name }) };
    return {
      asked: {
        verb,
        resource: resourceOf(type, subresource),
        key: keyOf({ ...at, name: name ?? '' }),
      },
      method,
      path: pathOf(type, at, subresource),
      query,
      body: body === undefined ? undefined : JSON.stringify(body),
      contentType,
      timeoutMs,
      signal,
    };
  }

  #warn(warning: string): void {
    if (this.#warnings.has(warning) || this.#warnings.size === MAX_WARNINGS) return;
    this.#warnings.add(warning);
    this.#logger.warn({ warning }, 'the API server warns');
  }
}

/** `statefulsets.apps`, `pods/eviction`: as RBAC and its errors call it. */
function resourceOf({ apiVersion, plural }: KubeType, subresource?: string): string {
  const slash = apiVersion.indexOf('/');
  const group = slash === -1 ? '' : `.${apiVersion.slice(0, slash)}`;
  return `${plural}${group}${subresource === undefined ? '' : `/${subresource}`}`;
}
