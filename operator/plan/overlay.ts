type Json = Readonly<Record<string, unknown>>;

/** By which member the items of a list are told apart, the first that all of them have. */
const KEYS = ['name', 'mountPath', 'topologyKey', 'containerPort', 'devicePath'];

/**
 * `base` with `patch` laid over it, as a strategic merge without the schema:
 *
 * - objects are merged member by member, and `null` removes a member;
 * - lists whose items all have a `name` (else a `mountPath`, `topologyKey`, `containerPort`) are merged item by
 *   item; what is new comes last, and `$patch: delete` in an item removes it;
 * - all else is replaced.
 */
export function overlay<T>(base: T, patch: unknown): T {
  return merge(base, patch) as T;
}

function merge(base: unknown, patch: unknown): unknown {
  if (isObject(base) && isObject(patch)) return mergeObjects(base, patch);
  if (Array.isArray(patch)) return mergeLists(Array.isArray(base) ? base : [], patch);
  return isObject(patch) ? mergeObjects({}, patch) : patch;
}

function mergeObjects(base: Json, patch: Json): Json {
  const result: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merge(Object.hasOwn(result, name) ? result[name] : undefined, value);
  }
  return result;
}

function mergeLists(base: readonly unknown[], patch: readonly unknown[]): readonly unknown[] {
  const key = KEYS.find((name) =>
    [...base, ...patch].every((item) => isObject(item) && isScalar(item[name])),
  );
  if (key === undefined) return base.length === 0 ? patch : mergeLists([], patch);
  const items = new Map(base.map((item) => [(item as Json)[key], item as Json]));
  for (const item of patch as readonly Json[]) {
    const { $patch, ...rest } = item;
    if ($patch === 'delete') items.delete(item[key]);
    else items.set(item[key], mergeObjects($patch === 'replace' ? {} : (items.get(item[key]) ?? {}), rest));
  }
  return [...items.values()];
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isScalar(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'number';
}
