import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OPERATOR_METRICS } from '../operator/metric-table.ts';
import { METRICS } from '../src/obs/table.ts';
import type { MetricSpec } from '../src/obs/table.ts';

const INTRODUCTION = `# Metrics

<!-- Written by tools/generate-metrics-docs.ts from src/obs/table.ts and operator/metric-table.ts; make generate writes it again. -->

\`GET /metrics\` on the HTTP port (8080) answers in the text format of Prometheus. Histograms have the series
\`_bucket\`, \`_sum\` and \`_count\`. The first 200 task types (\`metrics.taskTypes\`) have series of their own; later
ones share \`task_type="other"\`. No other label has values that clients choose, so a broker has a few hundred series
and 24 more for each of those task types, however many agents there are.`;

const OPERATOR = `## The operator

\`GET /metrics\` on its port 8081.`;

function row({ name, type, labels, unit, help }: MetricSpec): string {
  const shown = labels.map((label) => `\`${label}\``).join(', ');
  return `| \`${name}\` | ${type} | ${shown} | ${unit} | ${help} |`;
}

const folder = join(process.argv[2] ?? '.', 'docs');

function table(metrics: Readonly<Record<string, MetricSpec>>): string {
  const head = ['| metric | type | labels | unit | meaning |', '|---|---|---|---|---|'];
  return [...head, ...Object.values(metrics).map(row)].join('\n');
}

await mkdir(folder, { recursive: true });
const parts = [INTRODUCTION, table(METRICS), OPERATOR, table(OPERATOR_METRICS)];
await writeFile(join(folder, 'metrics.md'), `${parts.join('\n\n')}\n`);
