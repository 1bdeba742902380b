import { createHash } from 'node:crypto';
import type { Logger } from '../../src/std/logger.ts';
import type { KubeObject, ObjectName } from '../api/object.ts';
import { controllerOf, keyOf } from '../api/object.ts';
import { KubeError } from './errors.ts';
import type { CallOptions, Kube, KubeType } from './kube.ts';
import { firstFieldLost, ownedFields } from './owned-fields.ts';
import { isLater } from './store.ts';

/** Where the hash of what was last applied is kept, so that an operator that starts anew writes nothing. */
export const APPLIED_ANNOTATION = 'agenthub.io/applied';

/** Objects whose writes are remembered; the oldest are forgotten. Forgetting costs one write without effect. */
const MAX_SETTLED = 4096;

/** What is known of the objects of one kind: an informer, or what a test says. */
export interface Cache<T extends KubeObject> {
  get(name: ObjectName): T | undefined;
  /** Takes in what a write answered. */
  observe(object: T): void;
}

/** What {@link Applier} did about an object. */
export type Outcome =
  /** Nothing: it is as it should be. */
  | 'unchanged'
  /** Nothing: it is being deleted, and has to go before it can come back. */
  | 'terminating'
  | 'created'
  /** What it should be had changed. */
  | 'changed'
  /** Somebody else had changed what is ours. */
  | 'repaired';

/** What came of it. */
export interface Applied {
  readonly outcome: Outcome;
  /** The field that was not ours any more, if it was `repaired`. */
  readonly field?: string;
}

/** What a write has led to. */
interface Settled {
  readonly uid: string | undefined;
  readonly version: string | undefined;
  /** Of what was asked for. */
  readonly hash: string;
  /** Of what it led to: the fields we own, or the status. */
  readonly result: string;
}

/**
 * Makes objects what they should be, and writes nothing if they are.
 *
 * An object is written if what it should be has changed since it was applied (a hash of that is kept in an
 * annotation), or if the API server no longer counts one of its fields as ours, which it does until
 * somebody else changes that field. So fields of others are left alone, changes to ours are undone, and
 * neither defaults nor the server's spelling of values lead to writes. If an admission webhook insists on
 * another value, that is accepted until something changes again.
 */
export class Applier {
  readonly #kube: Kube;
  readonly #logger: Logger;
  readonly #settled = new Map<string, Settled>();

  constructor(kube: Kube, logger: Logger) {
    this.#kube = kube;
    this.#logger = logger;
  }

  /**
   * Makes the object have the fields of `desired`, and no others that only we had set.
   *
   * @throws KubeError `conflict` if there is an object of that name which is not ours, or it was changed or
   * deleted just now; `invalid` if the API server refuses it, as it does changes of fields that are final.
   */
  async apply<T extends KubeObject>(
    type: KubeType<T>,
    desired: T,
    cache: Cache<T>,
    options: CallOptions = {},
  ): Promise<Applied> {
    const place = placeOf(type, desired);
    const hash = hashOf(desired);
    const live = cache.get(desired.metadata);
    const metadata = {
      ...desired.metadata,
      annotations: { ...desired.metadata.annotations, [APPLIED_ANNOTATION]: hash },
    };
    if (live === undefined) {
      // Not by force: what is there against all expectation is not overwritten.
      await this.#write(place, hash, cache, ownedBy, () =>
        this.#kube.apply(type, { ...desired, metadata }, { ...options, force: false }),
      );
      this.#logger.info({ object: place }, 'created');
      return { outcome: 'created' };
    }
    refuseForeign(place, desired, live);
    if (live.metadata.deletionTimestamp !== undefined) return { outcome: 'terminating' };
    if (this.#isSettled(place, live, hash, ownedBy)) return { outcome: 'unchanged' };
    const field =
      live.metadata.annotations?.[APPLIED_ANNOTATION] === hash
        ? firstFieldLost({ ...desired, metadata }, live)
        : undefined;
    if (live.metadata.annotations?.[APPLIED_ANNOTATION] === hash && field === undefined) {
      return { outcome: 'unchanged' };
    }
    await this.#write(place, hash, cache, ownedBy, () =>
      this.#kube.apply(type, { ...desired, metadata: { ...metadata, ...uidOf(live) } }, options),
    );
    if (field === undefined) {
      this.#logger.info({ object: place }, 'changed');
      return { outcome: 'changed' };
    }
    this.#logger.warn({ object: place, field }, 'repaired what somebody else had changed');
    return { outcome: 'repaired', field };
  }

  /**
   * Makes `status` the status of `live`. The kind must have a status subresource, and the operator must be
   * the only one who writes it.
   *
   * @throws KubeError `not_found` or `conflict` if it has been deleted, or made anew, since.
   */
  async applyStatus<T extends KubeObject>(
    type: KubeType<T>,
    live: T,
    status: NonNullable<T['status']>,
    cache: Cache<T>,
    options: CallOptions = {},
  ): Promise<Applied> {
    const place = `${placeOf(type, live)}/status`;
    const hash = hashOf(status);
    if (canonical(live.status) === canonical(status) || this.#isSettled(place, live, hash, statusOf)) {
      return { outcome: 'unchanged' };
    }
    const { namespace, name } = live.metadata;
    const object = {
      apiVersion: live.apiVersion,
      kind: live.kind,
      metadata: { name, ...(namespace === undefined ? {} : { namespace }), ...uidOf(live) },
      status,
    } as KubeObject as T;
    await this.#write(place, hash, cache, statusOf, () =>
      this.#kube.apply(type, object, { ...options, subresource: 'status' }),
    );
    return { outcome: 'changed' };
  }

  async #write<T extends KubeObject>(
    place: string,
    hash: string,
    cache: Cache<T>,
    resultOf: (object: T) => string,
    write: () => Promise<T>,
  ): Promise<void> {
    const object = await write();
    const { uid, resourceVersion } = object.metadata;
    this.#settled.delete(place);
    this.#settled.set(place, { uid, version: resourceVersion, hash, result: resultOf(object) });
    for (const oldest of this.#settled.keys()) {
      if (this.#settled.size <= MAX_SETTLED) break;
      this.#settled.delete(oldest);
    }
    cache.observe(object);
  }

  /** Whether we have written just that, and the object is as it was then, or the cache has not seen it yet. */
  #isSettled<T extends KubeObject>(
    place: string,
    live: T,
    hash: string,
    resultOf: (object: T) => string,
  ): boolean {
    const settled = this.#settled.get(place);
    if (settled === undefined || settled.uid !== live.metadata.uid || settled.hash !== hash) return false;
    return isLater(settled.version, live.metadata.resourceVersion) || settled.result === resultOf(live);
  }
}

function placeOf({ plural, apiVersion }: KubeType, { metadata }: KubeObject): string {
  return `${apiVersion} ${plural} ${keyOf(metadata)}`;
}

function uidOf({ metadata: { uid } }: KubeObject): { readonly uid?: string } {
  // So that the object that is meant is written, not one of the same name that was made since.
  return uid === undefined ? {} : { uid };
}

function ownedBy(object: KubeObject): string {
  return canonical(ownedFields(object));
}

function statusOf(object: KubeObject): string {
  return canonical(object.status);
}

function refuseForeign(place: string, desired: KubeObject, live: KubeObject): void {
  const theirs = controllerOf(live);
  const ours = controllerOf(desired);
  if (theirs?.uid === ours?.uid && theirs !== undefined) return;
  if (theirs === undefined && live.metadata.annotations?.[APPLIED_ANNOTATION] !== undefined) return;
  const whose =
    theirs === undefined ? 'was not made by this operator' : `belongs to ${theirs.kind} ${theirs.name}`;
  throw new KubeError(
    'conflict',
    `${place} exists already and ${whose}: delete or rename one of the two. It is left as it is`,
  );
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(canonical(value)).digest('base64url').slice(0, 22);
}

/** JSON that is the same for the same value, in whatever order its members came. */
function canonical(value: unknown): string {
  const text = JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  ) as string | undefined;
  return text ?? '';
}
