import type { KubeObject } from '../api/object.ts';
import { FIELD_MANAGER } from './kube.ts';

/** A tree of fields, FieldsV1: `f:<name>`, `k:<keys of a list item>`, `v:<item of a set>`, `i:<index>`. */
interface Fields {
  readonly [step: string]: Fields;
}

/** Identity and bookkeeping, which nobody owns. */
const UNOWNED_METADATA = new Set([
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'managedFields',
]);

/**
 * The fields that we own in an object by server-side apply, as the API server keeps them; of the object
 * itself, not its subresources. The server takes a field away from us as soon as anybody else changes its
 * value, so as long as this stays the same nobody has.
 */
export function ownedFields(live: KubeObject): object | undefined {
  return live.metadata.managedFields?.find(
    ({ manager, operation, apiVersion, subresource }) =>
      manager === FIELD_MANAGER &&
      operation === 'Apply' &&
      apiVersion === live.apiVersion &&
      (subresource ?? '') === '',
  )?.fieldsV1;
}

/**
 * The first field of `desired` that we don't own in `live`: it is missing, or somebody else has changed it.
 * Nothing if we own all of them.
 *
 * This asks who owns a field instead of comparing values, because the server writes values as it likes
 * (`1000m` as `1`, defaults filled in, empty values left out).
 */
export function firstFieldLost(desired: KubeObject, live: KubeObject): string | undefined {
  const fields = ownedFields(live) as Fields | undefined;
  if (fields === undefined) return 'metadata.managedFields';
  const { metadata, ...rest } = desired;
  const ownable = Object.fromEntries(
    Object.entries(metadata).filter(([name]) => !UNOWNED_METADATA.has(name)),
  );
  const { apiVersion: _, kind: __, status: ___, ...content } = rest;
  return lost({ metadata: ownable, ...content }, fields, '');
}

function lost(value: unknown, fields: Fields | undefined, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  // Of a list that others may add to, an empty one claims nothing, and the server says so.
  if (fields === undefined && Array.isArray(value) && value.length === 0) return undefined;
  if (fields === undefined) return path;
  // A leaf, or something that is only ever owned as a whole.
  if (Object.keys(fields).every((step) => step === '.')) return undefined;
  if (typeof value !== 'object') return path;
  for (const [name, item, field] of Array.isArray(value)
    ? itemsOf(value, fields)
    : membersOf(value, fields)) {
    const found = lost(
      item,
      field,
      Array.isArray(value) ? `${path}${name}` : path === '' ? name : `${path}.${name}`,
    );
    if (found !== undefined) return found;
  }
  return undefined;
}

type Step = readonly [name: string, value: unknown, fields: Fields | undefined];

function membersOf(value: object, fields: Fields): Step[] {
  return Object.entries(value).map(([name, member]) => [name, member, fields[`f:${name}`]]);
}

function itemsOf(items: readonly unknown[], fields: Fields): Step[] {
  const keyed = Object.keys(fields)
    .filter((step) => step.startsWith('k:'))
    .map((step) => ({ step, keys: JSON.parse(step.slice(2)) as Record<string, unknown> }));
  return items.map((item, index) => {
    if (typeof item !== 'object' || item === null) {
      const text = JSON.stringify(item);
      return [`[${text}]`, item, fields[`v:${text}`] ?? fields[`i:${index}`]];
    }
    const step = stepOf(item as Record<string, unknown>, keyed) ?? `i:${index}`;
    return [`[${step.slice(2)}]`, item, fields[step]];
  });
}

/** The key of an item of a list. The server fills in keys that have a default, like `protocol: TCP`. */
function stepOf(
  item: Record<string, unknown>,
  keyed: readonly { readonly step: string; readonly keys: Record<string, unknown> }[],
): string | undefined {
  let best: { readonly step: string; readonly matched: number } | undefined;
  for (const { step, keys } of keyed) {
    const entries = Object.entries(keys);
    if (entries.some(([name, value]) => item[name] !== undefined && item[name] !== value)) continue;
    const matched = entries.filter(([name]) => item[name] !== undefined).length;
    if (matched > (best?.matched ?? 0)) best = { step, matched };
  }
  return best?.step;
}
