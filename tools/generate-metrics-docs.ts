import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { METRICS } from '../src/obs/table.ts';
import type { MetricSpec } from '../src/obs/table.ts';

const INTRODUCTION = `# Metrics

<!-- Written by tools/generate-metrics-docs.ts from src/obs/table.ts; make generate writes it again. -->

\`GET /metrics\` on the HTTP port (8080) answers in the text format of Prometheus. Histograms have the series
\`_bucket\`, \`_sum\` and \`_count\`. The first 200 task types (\`metrics.taskTypes\`) have series of their own; later
ones share \`task_type="other"\`.`;

function row({ name, type, labels, unit, help }: MetricSpec): string {
  const shown = labels.map((label) => `\`${label}\``).join(', ');
  return `| \`${name}\` | ${type} | ${shown} | ${unit} | ${help} |`;
}

const folder = join(process.argv[2] ?? '.', 'docs');
const table = ['| metric | type | labels | unit | meaning |', '|---|---|---|---|---|'];
table.push(...Object.values(METRICS).map(row));
await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'metrics.md'), `${INTRODUCTION}\n\n${table.join('\n')}\n`);
