import type { KubeObject, ObjectName } from '../api/object.ts';
import { keyOf } from '../api/object.ts';
import type { KubeError } from './errors.ts';
import type { Reflection, ReflectorOptions } from './reflector.ts';
import { Reflector } from './reflector.ts';
import type { IndexOf } from './store.ts';
import { byOwner, isLater, Store } from './store.ts';

/** Who wants to know of changes. All are optional; what one of them throws is logged. */
export interface InformerHandler<T extends KubeObject> {
  added?(object: T): void;
  updated?(object: T, before: T): void;
  /** `object` is its last known state. */
  deleted?(object: T): void;
}

/** What an informer is made of. */
export interface InformerOptions<T extends KubeObject> extends Omit<ReflectorOptions<T>, 'into'> {
  /** Beside `owner`, which finds objects by the uid of an owner. */
  readonly indexes?: Readonly<Record<string, IndexOf<T>>>;
}

/**
 * A copy of all objects of one kind, kept up to date, that can be read at once and tells what changes.
 *
 * It may be behind the API server, never ahead of it, and no object in it ever goes back to an older
 * version. Objects are shared: nobody may change them.
 */
export class Informer<T extends KubeObject> {
  readonly #options: InformerOptions<T>;
  readonly #reflector: Reflector<T>;
  readonly #store: Store<T>;
  readonly #handlers = new Set<InformerHandler<T>>();
  #waiting: (() => void)[] = [];

  constructor(options: InformerOptions<T>) {
    this.#options = options;
    this.#store = new Store<T>({ owner: byOwner, ...options.indexes });
    const into: Reflection<T> = {
      replaced: (objects, version, regressed) => this.#replace(objects, version, regressed),
      changed: (object) => this.#change(object),
      deleted: (object) => this.#remove(object),
    };
    this.#reflector = new Reflector({ ...options, into });
  }

  start(): void {
    this.#reflector.start();
  }

  stop(): void {
    this.#reflector.stop();
  }

  /** Whether everything has been seen once; before that what is missing may exist. */
  get synced(): boolean {
    return this.#reflector.synced;
  }

  /** Why it is behind now; absent while all goes well. */
  get failure(): KubeError | undefined {
    return this.#reflector.failure;
  }

  /** Waits until {@link synced}, if need be for ever. */
  async whenSynced(): Promise<void> {
    if (!this.synced) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  get(name: ObjectName): T | undefined {
    return this.#store.get(keyOf(name));
  }

  /** All there is, in no particular order. */
  list(): T[] {
    return this.#store.list();
  }

  /** What has an owner of that uid. */
  ownedBy(uid: string): T[] {
    return this.#store.by('owner', uid);
  }

  /** What one of the `indexes` has under a value. */
  by(index: string, value: string): T[] {
    return this.#store.by(index, value);
  }

  /** Tells `handler` of everything there is as added, then of every change. Answers how to end that. */
  subscribe(handler: InformerHandler<T>): () => void {
    for (const object of this.list()) this.#call(() => handler.added?.(object));
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  /**
   * Takes in what a write of our own answered, so that the next look already shows it. What is not later
   * than what is known is ignored. The object has to be one that the selection covers.
   */
  observe(object: T): void {
    const known = this.#store.get(keyOf(object.metadata));
    // What the watch has passed and is not here was deleted in the meantime.
    const later = isLater(object.metadata.resourceVersion, this.#reflector.version);
    if (this.synced && (known !== undefined || later)) this.#change(object);
  }

  #change(object: T): void {
    const before = this.#store.get(keyOf(object.metadata));
    if (before === undefined) this.#add(object);
    else if (isOlder(object, before)) return;
    else if (before.metadata.uid !== object.metadata.uid) this.#exchange(object, before);
    else this.#update(object, before);
  }

  #remove(object: T): void {
    const key = keyOf(object.metadata);
    const before = this.#store.get(key);
    if (before === undefined) return;
    // Another of that name has been observed since.
    if (before.metadata.uid !== object.metadata.uid && isOlder(object, before)) return;
    this.#store.delete(key);
    this.#tell((handler) => handler.deleted?.(object));
  }

  #replace(objects: readonly T[], version: string, regressed: boolean): void {
    const listed = new Set(objects.map((object) => keyOf(object.metadata)));
    for (const before of this.list()) {
      if (listed.has(keyOf(before.metadata))) continue;
      // We made it after the list was made.
      if (!regressed && isLater(before.metadata.resourceVersion, version)) continue;
      this.#store.delete(keyOf(before.metadata));
      this.#tell((handler) => handler.deleted?.(before));
    }
    for (const object of objects) {
      const before = this.#store.get(keyOf(object.metadata));
      if (!regressed || before === undefined) this.#change(object);
      else if (before.metadata.uid !== object.metadata.uid) this.#exchange(object, before);
      else if (before.metadata.resourceVersion !== object.metadata.resourceVersion)
        this.#update(object, before);
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #add(object: T): void {
    this.#store.set(object);
    this.#tell((handler) => handler.added?.(object));
  }

  #update(object: T, before: T): void {
    this.#store.set(object);
    this.#tell((handler) => handler.updated?.(object, before));
  }

  /** Another object of the same name. */
  #exchange(object: T, before: T): void {
    this.#store.delete(keyOf(before.metadata));
    this.#tell((handler) => handler.deleted?.(before));
    this.#add(object);
  }

  #tell(tell: (handler: InformerHandler<T>) => void): void {
    for (const handler of this.#handlers) this.#call(() => tell(handler));
  }

  #call(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#options.logger.error({ kind: this.#options.type.kind, error }, 'a handler of changes failed');
    }
  }
}

/** Whether it says nothing new: the same version, or an earlier one. */
function isOlder({ metadata }: KubeObject, before: KubeObject): boolean {
  const version = metadata.resourceVersion;
  const known = before.metadata.resourceVersion;
  return version === known || isLater(known, version);
}
