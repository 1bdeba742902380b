import type { KubeObject, ObjectName } from '../api/object.ts';

/** How a kind of object is called in URLs. */
export interface KubeType<T extends KubeObject = KubeObject> {
  /** `v1`, `apps/v1`. */
  readonly apiVersion: string;
  readonly kind: string;
  /** Lower case: `statefulsets`. */
  readonly plural: string;
  readonly namespaced: boolean;
  /** Never set: it ties the TypeScript type of the objects to their kind. */
  readonly object?: T;
}

/** What every call takes. */
export interface CallOptions {
  /** Gives the call up when it fires; the promise then fails with `cancelled`. */
  readonly signal?: AbortSignal;
  /** Milliseconds until the call fails with `deadline`. Default: the client's. */
  readonly timeoutMs?: number;
}

/** Which objects are meant. */
export interface Selection {
  /** Only in this namespace; absent: in all. */
  readonly namespace?: string;
  /** `app=agenthub,tier!=test` */
  readonly labelSelector?: string;
  /** `metadata.name=planner` */
  readonly fieldSelector?: string;
}

/** One page of a list. */
export interface ListOptions extends Selection, CallOptions {
  /** The most objects of a page; absent: all at once. */
  readonly limit?: number;
  /** Where the former page ended. */
  readonly continue?: string;
  /** Absent: the newest state, agreed on by a quorum. `0`: whatever the server has at hand. */
  readonly resourceVersion?: string;
}

/** A page, and where the next one begins. */
export interface ListPage<T extends KubeObject> {
  readonly items: readonly T[];
  /** The state that all pages of this list show; a watch goes on from here. */
  readonly resourceVersion: string;
  /** Absent: this was the last page. */
  readonly continue?: string;
}

/** From where to watch, and for how long. */
export interface WatchOptions extends Selection {
  readonly resourceVersion: string;
  /** Seconds after which the server ends the watch by itself. */
  readonly timeoutSeconds: number;
}

/** What a watch says; never after it was closed. */
export interface WatchHandler<T extends KubeObject> {
  /** The server has begun to answer. */
  opened(): void;
  added(object: T): void;
  modified(object: T): void;
  /** `object` is its last state. */
  deleted(object: T): void;
  /** All changes up to this version have been told. */
  bookmark(resourceVersion: string): void;
  /** Called once, last. No error: the server ended it in order. `isExpired(error)`: list anew. */
  ended(error?: Error): void;
}

/** A running watch. */
export interface Watch {
  /** Ends it; its handler is not called any more. */
  close(): void;
}

/** How to apply. */
export interface ApplyOptions extends CallOptions {
  /** Take over fields that others own; else such a field is a `conflict` that names it. Default: true. */
  readonly force?: boolean;
  /** `status`, `scale`. */
  readonly subresource?: string;
}

/** How to patch. */
export interface PatchOptions extends CallOptions {
  /** `status`, `scale`. */
  readonly subresource?: string;
}

/** What to delete, and what becomes of what it owns. */
export interface DeleteOptions extends CallOptions {
  /** Delete only the object with this uid, not a later one of that name; else `conflict`. */
  readonly uid?: string;
  /** Delete only this version; else `conflict`. */
  readonly resourceVersion?: string;
  /** Default: the server's, which is Background for nearly all kinds. */
  readonly propagation?: 'Background' | 'Foreground' | 'Orphan';
  /** 0: at once, without waiting for the kubelet. Only for pods on dead nodes. */
  readonly gracePeriodSeconds?: number;
}

/** A call that has no method of its own: an eviction, a scale, discovery. */
export interface RawRequest extends CallOptions {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** From the root of the API server: `/api/v1/namespaces/x/pods/y/eviction`; see {@link pathOf}. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Default: `application/json`. */
  readonly contentType?: string;
}

/**
 * What the operator needs of the Kubernetes API, and no more.
 *
 * Every failure is a `KubeError` (errors.ts). Writes are never repeated here: who gets `unavailable` or
 * `deadline` doesn't know whether the server did it, so writes must bear repetition.
 */
export interface Kube {
  list<T extends KubeObject>(type: KubeType<T>, options?: ListOptions): Promise<ListPage<T>>;
  /** Watches with bookmarks. Calls back later, never before it returns. */
  watch<T extends KubeObject>(type: KubeType<T>, options: WatchOptions, handler: WatchHandler<T>): Watch;
  get<T extends KubeObject>(type: KubeType<T>, name: ObjectName, options?: CallOptions): Promise<T>;
  create<T extends KubeObject>(type: KubeType<T>, object: T, options?: CallOptions): Promise<T>;
  /**
   * Server-side apply as the manager `agenthub-operator`: creates the object, or makes exactly the given
   * fields ours and drops those that only we had set before. What others have set stays.
   */
  apply<T extends KubeObject>(type: KubeType<T>, object: T, options?: ApplyOptions): Promise<T>;
  /**
   * A JSON merge patch (RFC 7386) of an object that exists. `metadata.resourceVersion` in `patch` makes it
   * conditional: `conflict` if the object has changed since.
   */
  patch<T extends KubeObject>(
    type: KubeType<T>,
    name: ObjectName,
    patch: object,
    options?: PatchOptions,
  ): Promise<T>;
  /** Deletes. Fails with `not_found` if it is not there. */
  delete(type: KubeType, name: ObjectName, options?: DeleteOptions): Promise<void>;
  /** Whether the cluster has this kind now: `false` until its CRD is installed. */
  serves(type: KubeType, options?: CallOptions): Promise<boolean>;
  /** Any other request; answers the JSON of the response. */
  raw<R>(request: RawRequest): Promise<R>;
}

/** The field manager that owns what the operator has set. */
export const FIELD_MANAGER = 'agenthub-operator';

/** The path of an object, of one of its subresources, or (no name) of the collection it is in. */
export function pathOf(
  type: KubeType,
  { namespace, name }: Partial<ObjectName>,
  subresource?: string,
): string {
  const parts = [type.apiVersion.includes('/') ? 'apis' : 'api', ...type.apiVersion.split('/')];
  if (type.namespaced && namespace !== undefined) parts.push('namespaces', namespace);
  parts.push(type.plural);
  if (name !== undefined) parts.push(name);
  if (subresource !== undefined) parts.push(subresource);
  return `/${parts.map(encodeURIComponent).join('/')}`;
}
