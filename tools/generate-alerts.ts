import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Alert, RulesOptions } from '../operator/plan/alerts.ts';
import { alertRules } from '../operator/plan/alerts.ts';

const HEAD =
  '# Written by tools/generate-alerts.ts from operator/plan/alerts.ts; make generate writes it again.\n';
/** How Prometheus without Kubernetes knows our brokers among its targets. */
const TARGETS = 'job=~".*agenthub.*"';

function groups(...abouts: readonly Alert['about'][]): string {
  const groupOf = (about: Alert['about']): object => {
    const options: RulesOptions = { about, targets: TARGETS };
    return { name: `agenthub.${about}`, rules: alertRules(options) };
  };
  return HEAD + stringify({ groups: abouts.map(groupOf) }, { lineWidth: 0 });
}

const folder = join(process.argv[2] ?? '.', 'charts/agenthub/alerts');
await mkdir(folder, { recursive: true });
await writeFile(join(folder, 'agenthub.rules.yaml'), groups('brokers', 'operator'));
await writeFile(join(folder, 'operator.rules.yaml'), groups('operator'));
