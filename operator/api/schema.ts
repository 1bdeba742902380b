import { z } from 'zod';

declare module 'zod' {
  interface GlobalMeta {
    /** Rules in CEL (https://kubernetes.io/docs/reference/using-api/cel/), which the API server checks. */
    'x-kubernetes-validations'?: readonly Rule[];
    'x-kubernetes-list-type'?: 'map' | 'set' | 'atomic';
    'x-kubernetes-list-map-keys'?: readonly string[];
  }
}

/** One rule in CEL and what it tells the person who broke it. */
export interface Rule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly reason?: 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueRequired';
  /** Which field the message is shown at: `.maxReplicas`. */
  readonly fieldPath?: string;
}

/** Adds rules to a schema. To be called last: what is derived from a schema loses them. */
export function ruled<T extends z.ZodType>(schema: T, ...rules: readonly Rule[]): T {
  return schema.meta({ ...schema.meta(), 'x-kubernetes-validations': rules });
}

/** A value that stays what it was when the object was made. */
export function fixed<T extends z.ZodType>(schema: T, why: string): T {
  return ruled(schema, { rule: 'self == oldSelf', message: `can't be changed: ${why}` });
}

/** An object whose members all have defaults, so that it may be left out, or given in part. */
export function section<S extends z.core.$ZodLooseShape>(shape: S, description: string) {
  const schema = z.object(shape);
  return schema.default(() => schema.parse({}) as never).describe(description);
}

/** An object of Kubernetes' own that is passed on as it is. */
export function passedOn(description: string) {
  return z.looseObject({}).describe(description);
}

/** https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ */
export function quantity(description: string) {
  return z
    .union([
      z.int(),
      z
        .string()
        .max(32)
        .regex(
          /^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$/,
        ),
    ])
    .describe(description);
}

/** A whole number of seconds. */
export function seconds(min: number, max: number, fallback: number, description: string) {
  return z.int().min(min).max(max).default(fallback).describe(`${description} In seconds.`);
}

/** The name of an object in the namespace of the cluster. */
export function objectName(description: string) {
  return z
    .string()
    .min(1)
    .max(253)
    .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/)
    .describe(description);
}

/** A key of a Secret in the namespace of the cluster. */
export function secretKey(fallback: string, description: string) {
  return z
    .object({
      secretName: objectName('Name of the Secret, in the namespace of the cluster.'),
      key: z.string().min(1).max(253).default(fallback).describe('Key within the Secret.'),
    })
    .describe(description);
}

/** Labels or annotations. */
export function names(description: string) {
  return z.record(z.string(), z.string().max(4096)).default({}).describe(description);
}
