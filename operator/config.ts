import { z } from 'zod';
import { HubError } from '../src/std/errors.ts';

const flag = z.enum(['true', 'false']).transform((text) => text === 'true');

const schema = z.object({
  /** Only BrokerClusters of this namespace; unset: of all. */
  AGENTHUB_OPERATOR_NAMESPACE: z.string().min(1).optional(),
  /** Where the Lease is by which one of several operators leads. */
  AGENTHUB_OPERATOR_LEASE_NAMESPACE: z.string().min(1).default('default'),
  AGENTHUB_OPERATOR_LEASE_NAME: z.string().min(1).default('agenthub-operator'),
  /** What brokers run if their cluster names no image. */
  AGENTHUB_OPERATOR_BROKER_IMAGE: z.string().min(1).default('agenthub:0.1.0'),
  /** What NATS servers run if their cluster names no image. */
  AGENTHUB_OPERATOR_NATS_IMAGE: z.string().min(1).default('nats:2.12-alpine'),
  AGENTHUB_OPERATOR_LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  /** Port of `/healthz`, `/readyz` and `/metrics`; 0: any free one. */
  AGENTHUB_OPERATOR_HTTP_PORT: z.coerce.number().int().min(0).max(65_535).default(8081),
  AGENTHUB_OPERATOR_HTTP_HOST: z.string().min(1).default('0.0.0.0'),
  /** Clusters that are worked on at a time. */
  AGENTHUB_OPERATOR_WORKERS: z.coerce.number().int().min(1).max(64).default(4),
  /** Whether nodes may be read, to give up pods of nodes that are gone. */
  AGENTHUB_OPERATOR_WATCH_NODES: flag.default(true),
  /** Whether the definition of BrokerCluster is brought up to date at the start. */
  AGENTHUB_OPERATOR_MANAGE_DEFINITION: flag.default(false),
  /** Name of the pod that the operator runs in. */
  POD_NAME: z.string().min(1).default('agenthub-operator'),
});

/** How the operator runs. */
export interface OperatorConfig {
  readonly namespace: string | undefined;
  readonly lease: { readonly namespace: string; readonly name: string };
  readonly images: { readonly broker: string; readonly nats: string };
  readonly logLevel: string;
  readonly http: { readonly host: string; readonly port: number };
  readonly workers: number;
  readonly nodes: boolean;
  readonly manageDefinition: boolean;
  readonly podName: string;
}

/**
 * The configuration, from the environment; empty variables count as unset.
 *
 * @throws HubError `invalid`, naming the variable.
 */
export function loadOperatorConfig(env: Readonly<Record<string, string | undefined>>): OperatorConfig {
  const given = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value !== ''),
  );
  const result = schema.safeParse(given);
  if (!result.success) {
    const faults = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new HubError('invalid', faults.join('\n'), {
      field: String(result.error.issues[0]?.path[0] ?? ''),
    });
  }
  const { data } = result;
  return {
    namespace: data.AGENTHUB_OPERATOR_NAMESPACE,
    lease: { namespace: data.AGENTHUB_OPERATOR_LEASE_NAMESPACE, name: data.AGENTHUB_OPERATOR_LEASE_NAME },
    images: { broker: data.AGENTHUB_OPERATOR_BROKER_IMAGE, nats: data.AGENTHUB_OPERATOR_NATS_IMAGE },
    logLevel: data.AGENTHUB_OPERATOR_LOG_LEVEL,
    http: { host: data.AGENTHUB_OPERATOR_HTTP_HOST, port: data.AGENTHUB_OPERATOR_HTTP_PORT },
    workers: data.AGENTHUB_OPERATOR_WORKERS,
    nodes: data.AGENTHUB_OPERATOR_WATCH_NODES,
    manageDefinition: data.AGENTHUB_OPERATOR_MANAGE_DEFINITION,
    podName: data.POD_NAME,
  };
}
