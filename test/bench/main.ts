import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { draw } from '../../src/cli/bench/svg.ts';
import { cluster } from './measure/cluster.ts';
import { compare } from './measure/compare.ts';
import { crowd } from './measure/crowd.ts';
import { eventbus } from './measure/eventbus.ts';
import { growth } from './measure/growth.ts';
import { latency } from './measure/latency.ts';
import { memory } from './measure/memory.ts';
import { moves } from './measure/moves.ts';
import { native } from './measure/native.ts';
import { rate } from './measure/rate.ts';
import type { Circumstances, Report, Target } from './report.ts';
import { page, targets } from './report.ts';
import { Rig } from './rig.ts';

/** The measurements by name, in the order in which they run. */
const MEASUREMENTS: Readonly<
  Record<string, { readonly title: string; readonly run: (rig: Rig) => Promise<Report> }>
> = {
  native: { title: 'Throughput of native sessions', run: native },
  eventbus: { title: 'Calls of the event bus', run: eventbus },
  latency: { title: 'Latency of one task', run: latency },
  rate: { title: 'Latency under load', run: rate },
  memory: { title: 'Memory', run: memory },
  crowd: { title: 'Very many agents and tasks', run: crowd },
  growth: { title: 'Cost by number of agents and tasks', run: growth },
  cluster: { title: 'Brokers on NATS', run: cluster },
  moves: { title: 'Shards that change their owner', run: moves },
  compare: { title: 'Beside what one would use instead', run: compare },
};

/** Needs what tools/compare/install.sh installs, so it is run by a command of its own: make bench-compare. */
const APART = 'compare';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Where the pages of the repository are. */
const PUBLISHED = join(ROOT, 'docs', 'benchmarks');
const USAGE = `make bench [ONLY=${Object.keys(MEASUREMENTS).join(',')}] [ARGS="--quick"]`;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    quick: { type: 'boolean', default: false },
    /** Where the pages go; a quick run writes none unless it is given. */
    out: { type: 'string' },
    /** Where brokers keep their logs. */
    folder: { type: 'string', default: join(ROOT, 'node_modules', '.cache', 'bench') },
    /** Of many contenders, only those whose name has this in it; no pages are written then. */
    match: { type: 'string', default: '' },
    /** Where CPU profiles of the brokers go. */
    profile: { type: 'string' },
  },
});

await main();

async function main(): Promise<void> {
  const names =
    values.only === '' ? Object.keys(MEASUREMENTS).filter((name) => name !== APART) : values.only.split(',');
  const unknown = names.find((name) => !(name in MEASUREMENTS));
  if (unknown !== undefined) {
    console.error(`There is no measurement ${unknown}: ${USAGE}`);
    process.exitCode = 2;
    return;
  }
  const out = values.out ?? (values.quick || values.match !== '' ? undefined : PUBLISHED);
  mkdirSync(values.folder, { recursive: true });
  const folder = mkdtempSync(join(values.folder, 'run-'));
  try {
    for (const [index, name] of names.entries()) {
      const { title, run } = MEASUREMENTS[name]!;
      const tell = progress(`${index + 1}/${names.length} ${name}`);
      const report = await run(new Rig({ ...values, profile: values.profile, folder, tell }));
      tell(undefined);
      const circumstances = await here(name);
      console.log(page(title, report, circumstances, []));
      if (out !== undefined) write(out, name, title, report, circumstances);
    }
    if (out !== undefined) writeIndex(out);
    // What it says of a hundred brokers is computed from what was measured.
    if (out === PUBLISHED) execFileSync(process.execPath, [join(ROOT, 'tools/generate-scale-docs.ts'), ROOT]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Shows what goes on: one line that changes on a terminal, else a line each. */
function progress(prefix: string): (text: string | undefined) => void {
  const { stderr } = process;
  const started = performance.now();
  return (text) => {
    const seconds = Math.round((performance.now() - started) / 1000);
    if (stderr.isTTY) stderr.write(`\r\x1b[K${text === undefined ? '' : `${prefix} ${seconds} s: ${text}`}`);
    else if (text !== undefined) stderr.write(`${prefix} ${seconds} s: ${text}\n`);
  };
}

async function here(name: string): Promise<Circumstances> {
  const processors = cpus();
  const version = (file: string): string =>
    (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
  return {
    date: new Date().toISOString().slice(0, 10),
    command: `make ${name === APART ? 'bench-compare' : `bench ONLY=${name}`}${values.quick ? ' ARGS=--quick' : ''}`,
    machine: `${processors.length} × ${processors[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`,
    versions: `agenthub ${version(join(ROOT, 'package.json'))}, Node ${process.version}, grpc-js ${version(join(ROOT, 'node_modules/@grpc/grpc-js/package.json'))}`,
  };
}

function write(out: string, name: string, title: string, report: Report, circumstances: Circumstances): void {
  mkdirSync(out, { recursive: true });
  const charts = report.charts.map((chart, index) => {
    const file = `${name}${report.charts.length > 1 ? `-${index + 1}` : ''}.svg`;
    writeFileSync(join(out, file), draw(chart));
    return file;
  });
  writeFileSync(join(out, `${name}.md`), page(title, report, circumstances, charts));
  const kept = { name, title, ...circumstances, targets: report.targets, raw: report.raw };
  writeFileSync(join(out, `${name}.json`), `${JSON.stringify(kept, undefined, 1)}\n`);
}

/** The list of all measurements that were ever written, and what of them was to be reached. */
function writeIndex(out: string): void {
  const kept = readdirSync(out)
    .filter((file) => file.endsWith('.json'))
    .map((file) => JSON.parse(readFileSync(join(out, file), 'utf8')) as Kept)
    .toSorted((a, b) => order(a.name) - order(b.name));
  const text = [
    '# Benchmarks',
    '<!-- Written by `make bench`; do not edit. -->',
    'What this version of AgentHub was measured to do, by `make bench`. Broker and load share the processors of one machine; figures are also given as ratios to something simpler that was measured in the same run, since those change less from machine to machine.',
    targets(kept.flatMap((each) => each.targets)),
    kept.map(({ name, title, date }) => `- [${title}](${name}.md), ${date}`).join('\n'),
    '',
  ];
  writeFileSync(join(out, 'README.md'), text.join('\n\n'));
}

interface Kept {
  readonly name: string;
  readonly title: string;
  readonly date: string;
  readonly targets: readonly Target[];
}

function order(name: string): number {
  return Object.keys(MEASUREMENTS).indexOf(name);
}
