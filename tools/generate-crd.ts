import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { GROUP, PLURAL } from '../operator/api/brokercluster.ts';
import { brokerClusterCrd, objectSchema } from '../operator/api/crd.ts';
import type { StructuralSchema } from '../operator/api/crd.ts';

const INTRODUCTION = `# BrokerCluster

<!-- Written by tools/generate-crd.ts from operator/api; make generate writes it again. -->

A cluster of brokers on Kubernetes, \`agenthub.io/v1alpha1\`. \`kubectl explain brokercluster.spec\` says the same. All
of the spec may be left out:

\`\`\`yaml
apiVersion: agenthub.io/v1alpha1
kind: BrokerCluster
metadata:
  name: hub
spec: {}
\`\`\`

A field in brackets is a list, one with \`*\` a map. What is below the heading of a field is a part of it.`;

interface Row {
  readonly path: string;
  readonly schema: StructuralSchema;
}

/** All fields with a description, in the order of the schema, parents first. */
function* fields(path: string, schema: StructuralSchema): Generator<Row> {
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const own = path === '' ? name : `${path}.${name}`;
    yield { path: own, schema: field };
    yield* inner(own, field);
  }
}

function* inner(path: string, field: StructuralSchema): Generator<Row> {
  if (field.items?.properties !== undefined) yield* fields(`${path}[]`, field.items);
  else yield* fields(path, field);
}

function typeOf(schema: StructuralSchema): string {
  if (schema['x-kubernetes-int-or-string'] === true) return 'quantity';
  if (schema.type === 'array')
    return `list of ${schema.items === undefined ? 'anything' : typeOf(schema.items)}`;
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (typeof schema.additionalProperties === 'object') return `map of ${typeOf(schema.additionalProperties)}`;
  return schema.type ?? 'any';
}

function limitsOf(schema: StructuralSchema): string {
  const { minimum, maximum } = schema as { minimum?: number; maximum?: number };
  if (minimum === undefined && maximum === undefined) return '';
  return `, ${minimum ?? '…'} to ${maximum ?? '…'}`;
}

function defaultOf(schema: StructuralSchema): string {
  const { default: value } = schema;
  if (value === undefined) return '';
  // That of a section follows from those of its fields.
  if (schema.properties !== undefined) return 'see below';
  return `\`${JSON.stringify(value)}\``;
}

function table(rows: readonly Row[], withDefaults: boolean): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  const head = withDefaults
    ? '| field | type | default | meaning |\n|---|---|---|---|'
    : '| field | type | meaning |\n|---|---|---|';
  return [
    head,
    ...rows.map(({ path, schema }) => {
      const type = cell(`${typeOf(schema)}${limitsOf(schema)}`);
      const meaning = cell(schema.description ?? '');
      const value = withDefaults ? ` ${cell(defaultOf(schema))} |` : '';
      return `| \`${path}\` | ${type} |${value} ${meaning} |`;
    }),
  ].join('\n');
}

/** What the API server refuses, in its own words. */
function* rules(path: string, schema: StructuralSchema): Generator<string> {
  for (const { message, messageExpression } of (schema['x-kubernetes-validations'] ?? []) as {
    message?: string;
    messageExpression?: string;
  }[]) {
    yield `| \`${path}\` | ${message ?? messageExpression ?? ''} |`;
  }
  for (const [name, field] of Object.entries(schema.properties ?? {})) yield* rules(`${path}.${name}`, field);
  if (schema.items !== undefined) yield* rules(`${path}[]`, schema.items);
}

const schema = objectSchema();
const spec = schema.properties!['spec']!;
const status = schema.properties!['status']!;
const sections = Object.entries(spec.properties!).map(([name, field]) => {
  const rows = [...inner(name, field)];
  const plain = `${typeOf(field)}${limitsOf(field)}; default ${defaultOf(field) || 'none'}`;
  return `### \`${name}\`\n\n${field.description ?? ''}\n\n${rows.length === 0 ? plain : table(rows, true)}`;
});
const page = [
  INTRODUCTION,
  '## Spec',
  ...sections,
  '## What is refused',
  'The API server refuses an object that breaks one of these, with this message.',
  `| field | message |\n|---|---|\n${[...rules('spec', spec)].join('\n')}`,
  '## Status',
  table([...fields('', status)], false),
];

const root = process.argv[2] ?? '.';
await mkdir(join(root, 'docs'), { recursive: true });
await writeFile(join(root, 'docs/brokercluster.md'), `${page.join('\n\n')}\n`);
const definition = `# Written by tools/generate-crd.ts from operator/api; make generate writes it again.\n${stringify(brokerClusterCrd(), { lineWidth: 0, aliasDuplicateObjects: false })}`;
for (const folder of ['crds', 'charts/agenthub/crds']) {
  await mkdir(join(root, folder), { recursive: true });
  await writeFile(join(root, folder, `${PLURAL}.${GROUP}.yaml`), definition);
}
