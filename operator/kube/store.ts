import type { KubeObject } from '../api/object.ts';
import { keyOf } from '../api/object.ts';

/** The values under which an index finds an object. */
export type IndexOf<T> = (object: T) => readonly string[];

/** Objects of one kind by `namespace/name`, and by whatever indexes are wanted. Pure. */
export class Store<T extends KubeObject> {
  readonly #objects = new Map<string, T>();
  readonly #indexes = new Map<
    string,
    { readonly of: IndexOf<T>; readonly entries: Map<string, Map<string, T>> }
  >();

  constructor(indexes: Readonly<Record<string, IndexOf<T>>> = {}) {
    for (const [name, of] of Object.entries(indexes)) this.#indexes.set(name, { of, entries: new Map() });
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  /** A copy of what there is, in no particular order. */
  list(): T[] {
    return [...this.#objects.values()];
  }

  /** What an index has under a value. An index that was not given finds nothing. */
  by(index: string, value: string): T[] {
    return [...(this.#indexes.get(index)?.entries.get(value)?.values() ?? [])];
  }

  /** Puts it in the place of the one of that name. */
  set(object: T): void {
    const key = keyOf(object.metadata);
    this.delete(key);
    this.#objects.set(key, object);
    for (const { of, entries } of this.#indexes.values()) {
      for (const value of of(object)) {
        const entry = entries.get(value);
        if (entry === undefined) entries.set(value, new Map([[key, object]]));
        else entry.set(key, object);
      }
    }
  }

  delete(key: string): void {
    const object = this.#objects.get(key);
    if (object === undefined) return;
    this.#objects.delete(key);
    for (const { of, entries } of this.#indexes.values()) {
      for (const value of of(object)) {
        const entry = entries.get(value);
        entry?.delete(key);
        if (entry?.size === 0) entries.delete(value);
      }
    }
  }
}

/** An index by the uids of all owners. */
export function byOwner(object: KubeObject): string[] {
  return object.metadata.ownerReferences?.map(({ uid }) => uid) ?? [];
}

/**
 * Whether version `a` is later than `b`: since Kubernetes 1.35 they may be compared as decimal numbers.
 * What is no number is later than nothing.
 */
export function isLater(a: string | undefined, b: string | undefined): boolean {
  if (a === undefined || b === undefined || !DECIMAL.test(a) || !DECIMAL.test(b)) return false;
  return a.length === b.length ? a > b : a.length > b.length;
}

const DECIMAL = /^(0|[1-9][0-9]*)$/;
