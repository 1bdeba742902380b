import { z } from 'zod';
import { API_VERSION, GROUP, KIND, PLURAL, VERSION } from './brokercluster.ts';
import { specSchema } from './spec.ts';
import { statusSchema } from './status.ts';

/** A JSON Schema as a CRD holds it: OpenAPI 3.0, structural. */
export interface StructuralSchema {
  type?: string;
  format?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  properties?: Record<string, StructuralSchema>;
  additionalProperties?: StructuralSchema | boolean;
  items?: StructuralSchema;
  required?: string[];
  [key: string]: unknown;
}

const MAX_NAME = 30;

/** The definition of the kind, as Kubernetes takes it. */
export function brokerClusterCrd(): object {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${PLURAL}.${GROUP}`, labels: { 'app.kubernetes.io/part-of': 'agenthub' } },
    spec: {
      group: GROUP,
      scope: 'Namespaced',
      names: {
        kind: KIND,
        listKind: `${KIND}List`,
        plural: PLURAL,
        singular: KIND.toLowerCase(),
        shortNames: ['bc'],
        categories: ['agenthub'],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: objectSchema() },
          subresources: {
            status: {},
            scale: {
              specReplicasPath: '.spec.replicas',
              statusReplicasPath: '.status.replicas',
              labelSelectorPath: '.status.selector',
            },
          },
          additionalPrinterColumns: [
            column('Ready', 'string', '.status.ready', 'Ready brokers of those that there are to be'),
            column('Desired', 'integer', '.status.desiredBrokers', 'Brokers that there are to be'),
            column('Brokers', 'integer', '.status.brokers', 'Broker pods that there are'),
            column('Agents', 'integer', '.status.agents', 'Connected agents'),
            column('Tasks/s', 'integer', '.status.tasksPerSecond', 'Tasks accepted per second'),
            column('Load', 'string', '.status.load', 'How busy the busiest broker is'),
            column('Phase', 'string', '.status.phase', 'All in one word'),
            column('Age', 'date', '.metadata.creationTimestamp', 'Since when it exists'),
          ],
        },
      ],
    },
  };
}

/** The schema of spec and status, for the definition and for the reference. */
export function objectSchema(): StructuralSchema {
  return {
    type: 'object',
    description:
      'A cluster of AgentHub brokers, with the NATS servers that keep its tasks, that grows, shrinks, heals and updates itself.',
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string', description: `Always ${API_VERSION}.` },
      kind: { type: 'string', description: `Always ${KIND}.` },
      metadata: { type: 'object' },
      spec: structural(specSchema),
      status: structural(statusSchema),
    },
    'x-kubernetes-validations': [
      {
        rule: `self.metadata.name.size() <= ${MAX_NAME} && self.metadata.name.matches('^[a-z][-a-z0-9]*$')`,
        message: `the name must be of at most ${MAX_NAME} lower-case letters, digits and hyphens and begin with a letter: it begins the names of pods and Services`,
      },
    ],
  };
}

function structural(schema: z.ZodType): StructuralSchema {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    target: 'openapi-3.0',
    io: 'input',
    override: ({ zodSchema, jsonSchema }) => rewrite(zodSchema, jsonSchema as StructuralSchema),
  });
  return rest as StructuralSchema;
}

/** What JSON Schema says and a CRD must not, or says otherwise. */
function rewrite(zod: z.core.$ZodType, json: StructuralSchema): void {
  const def = (zod as z.core.$ZodTypes)._zod.def;
  if (def.type === 'object' && def.catchall !== undefined) {
    delete json.additionalProperties;
    delete json.properties;
    json['x-kubernetes-preserve-unknown-fields'] = true;
  }
  if (Array.isArray(json['anyOf'])) {
    // Only int-or-string is written as a union here.
    const text = (json['anyOf'] as StructuralSchema[]).find(({ type }) => type === 'string');
    delete json['anyOf'];
    json['x-kubernetes-int-or-string'] = true;
    if (text?.['pattern'] !== undefined) json['pattern'] = text['pattern'];
  }
  if (json.type === 'integer') {
    if (json['minimum'] === Number.MIN_SAFE_INTEGER) delete json['minimum'];
    const max = json['maximum'];
    if (max === Number.MAX_SAFE_INTEGER) delete json['maximum'];
    json.format = typeof max === 'number' && max < 2 ** 31 ? 'int32' : 'int64';
  }
  if (json.format === 'date-time') delete json['pattern'];
}

function column(name: string, type: string, jsonPath: string, description: string) {
  return { name, type, jsonPath, description };
}
