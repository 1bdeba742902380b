/** Says that another object brought this one about, so that the garbage collector removes it afterwards. */
export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  /** The one owner that manages the object. */
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

/** Who has set which fields, as the API server keeps it. */
export interface ManagedFields {
  readonly manager?: string;
  readonly operation?: string;
  readonly apiVersion?: string;
  readonly subresource?: string;
  readonly time?: string;
  /** FieldsV1: the tree of the fields; see operator/kube/owned-fields.ts. */
  readonly fieldsV1?: object;
}

/** The metadata that the operator reads or writes; what it doesn't name stays in the JSON untouched. */
export interface ObjectMeta {
  readonly name: string;
  /** Absent: the object belongs to the whole cluster. */
  readonly namespace?: string;
  /** Set by the API server, as are all further fields up to `managedFields`. */
  readonly uid?: string;
  /** The version of the object. A larger decimal number is a later version. */
  readonly resourceVersion?: string;
  /** Rises with each change of the spec. */
  readonly generation?: number;
  /** RFC 3339. */
  readonly creationTimestamp?: string;
  /** RFC 3339; set once the object is being deleted. */
  readonly deletionTimestamp?: string;
  readonly managedFields?: readonly ManagedFields[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
  readonly finalizers?: readonly string[];
}

/**
 * An object of Kubernetes: plain JSON, never changed in place, because caches share it.
 *
 * Kinds with other top-level fields extend it: `interface ConfigMap extends KubeObject { readonly data?: … }`.
 */
export interface KubeObject<Spec = unknown, Status = unknown> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec?: Spec;
  readonly status?: Status;
}

/** Where an object is: a name, in a namespace unless it belongs to the whole cluster. */
export interface ObjectName {
  readonly namespace?: string;
  readonly name: string;
}

/** `namespace/name`, or `name` alone: what caches and queues know an object by. */
export function keyOf({ namespace, name }: ObjectName): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** What {@link keyOf} was made from. */
export function nameOf(key: string): ObjectName {
  const slash = key.indexOf('/');
  return slash === -1 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** The owner that manages the object, if any. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true);
}
