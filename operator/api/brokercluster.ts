import { z } from 'zod';
import { HubError } from '../../src/std/errors.ts';
import { specSchema } from './spec.ts';
import type { BrokerClusterSpec } from './spec.ts';
import { statusSchema } from './status.ts';
import type { BrokerClusterStatus } from './status.ts';

/** The API group of everything here. */
export const GROUP = 'agenthub.io';
/** Its only version. */
export const VERSION = 'v1alpha1';
/** The only kind. */
export const KIND = 'BrokerCluster';
/** As in URLs. */
export const PLURAL = 'brokerclusters';
/** `apiVersion` of a BrokerCluster. */
export const API_VERSION = `${GROUP}/${VERSION}`;

const metadata = z.looseObject({
  name: z.string(),
  namespace: z.string(),
  uid: z.string(),
  generation: z.int(),
  resourceVersion: z.string().optional(),
  deletionTimestamp: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
  annotations: z.record(z.string(), z.string()).default({}),
});

const objectSchema = z.object({
  metadata,
  spec: z.unknown().optional(),
  status: statusSchema.optional().catch(undefined),
});

/** A BrokerCluster as the API server gives it, with all defaults of its spec. */
export interface BrokerCluster {
  readonly metadata: Readonly<z.output<typeof metadata>>;
  readonly spec: BrokerClusterSpec;
  /** Empty if there is none yet, or none that can be read. */
  readonly status: BrokerClusterStatus;
}

/**
 * Reads a BrokerCluster. Fields that this version does not know are dropped, defaults are filled in; a status
 * that can't be read counts as none, since all of it can be found out again.
 *
 * @throws HubError `invalid`, naming the field.
 */
export function readBrokerCluster(object: unknown): BrokerCluster {
  const { metadata, spec, status } = parse(objectSchema, object, '');
  return { metadata, spec: parse(specSchema, spec ?? {}, 'spec'), status: status ?? {} };
}

function parse<T extends z.ZodType>(schema: T, value: unknown, at: string): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = [at, ...(issue?.path ?? [])].filter((part) => part !== '').join('.');
  throw new HubError('invalid', `${field}: ${issue?.message ?? 'is not accepted'}`, { field });
}
