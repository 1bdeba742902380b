import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DASHBOARDS } from './dashboards/all.ts';
import { grafana } from './dashboards/dashboard.ts';

const folder = join(process.argv[2] ?? '.', 'charts/agenthub/dashboards');
await mkdir(folder, { recursive: true });
for (const dashboard of DASHBOARDS) {
  const text = JSON.stringify(grafana(dashboard), null, 1);
  await writeFile(join(folder, `${dashboard.uid}.json`), `${text}\n`);
}
