/**
 * `make run`: a durable broker, two kinds of agents at work on a folder of texts, and a requester
 * that sends them the files and shows what came back.
 */
import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { MultiBar } from 'cli-progress';
import type { SingleBar } from 'cli-progress';
import Table from 'cli-table3';
import type { Hub, TaskInput } from '../src/client/index.ts';
import { Admin, connect, TaskFailedError } from '../src/client/index.ts';
import type { BrokerProcess } from './crew/broker.ts';
import { startBroker } from './crew/broker.ts';
import type { Text } from './crew/corpus.ts';
import { complaint, readCorpus } from './crew/corpus.ts';
import type { Card, Shelf } from './crew/librarian.ts';
import { startLibrarian } from './crew/librarian.ts';
import type { Summary } from './crew/summarizer.ts';
import { startSummarizer } from './crew/summarizer.ts';

const SUMMARIZERS = 3;
/** Texts that are on their way at a time. */
const AT_A_TIME = 16;
/** Rows that a person reads. */
const ROWS = 25;
const ROOT = dirname(import.meta.dirname);
const DATA = resolve(ROOT, 'agenthub-data/run');

/** What came back for one text. */
interface Row {
  readonly file: string;
  readonly summary: string;
  readonly by: string;
  readonly card: Card | undefined;
  readonly summaryMs: number;
  readonly cardMs: number;
}

async function main(): Promise<number> {
  const { positionals } = parseArgs({ allowPositionals: true });
  const [input] = positionals;
  const wrong = input === undefined ? undefined : await complaint(input);
  if (wrong !== undefined) return fail(wrong);
  const { texts, skipped } = await (input === undefined
    ? readCorpus([resolve(ROOT, 'README.md'), resolve(ROOT, 'CONTRIBUTING.md'), resolve(ROOT, 'docs')], ROOT)
    : readCorpus([input], input));
  if (texts.length === 0) {
    return fail(
      `There are no texts in ${resolve(input ?? ROOT)} (${skipped} binary, empty or huge files). Name another folder: make run INPUT=path/to/texts`,
    );
  }

  mkdirSync(DATA, { recursive: true });
  const broker = await startBroker(DATA);
  try {
    say(`A broker is at ${broker.address}; what it accepts is ${broker.durability} in ${DATA}.`);
    await work(broker, texts, skipped);
  } finally {
    const code = await broker.stop();
    if (code !== 0) process.exitCode = 1;
  }
  return 0;
}

async function work(broker: BrokerProcess, texts: readonly Text[], skipped: number): Promise<void> {
  const { address } = broker;
  // Three parties, three connections: they could as well be three programs on three machines.
  await using summarizers = await connect({ address, client: 'example-summarizers' });
  await using library = await connect({ address, client: 'example-library' });
  await using editor = await connect({ address, agent: 'editor', client: 'example-editor' });
  for (let number = 1; number <= SUMMARIZERS; number++)
    await startSummarizer(summarizers, `summarizer-${number}`);
  await startLibrarian(library);
  say(
    `Agents: ${SUMMARIZERS} summarizers compete for the capability "summarize"; one agent is named "librarian".`,
  );
  const more = skipped === 0 ? '' : `, ${skipped} others skipped`;
  say(`The agent "editor" sends them ${texts.length} texts${more}.\n`);

  const began = performance.now();
  const rows = await sendAll(editor, texts);
  const seconds = (performance.now() - began) / 1000;
  say(tableOf(rows));
  if (rows.length > ROWS) say(`… and ${rows.length - ROWS} more.`);
  await ask(editor, rows);
  say(
    latencies(
      'summaries',
      rows.map(({ summaryMs }) => summaryMs),
    ),
  );
  say(
    latencies(
      'library cards',
      rows.map(({ cardMs }) => cardMs),
    ),
  );
  say(await counts(editor, seconds));
}

/** Sends every text to both agents, a few at a time. */
async function sendAll(editor: Hub, texts: readonly Text[]): Promise<Row[]> {
  const bars = new MultiBar({
    format: '  {name} [{bar}] {value}/{total} {file}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    hideCursor: true,
    noTTYOutput: false,
  });
  const bar = (name: string): SingleBar => bars.create(texts.length, 0, { name: name.padEnd(9), file: '' });
  const summarized = bar('summaries');
  const read = bar('library');
  const rows: Row[] = [];
  const queue = texts.entries();
  const sender = async (): Promise<void> => {
    for (const [index, { file, content }] of queue) {
      const task = { payload: content, headers: { file }, contextId: file };
      const [summary, card] = await Promise.all([
        timed<Summary>(editor, { ...task, capability: 'summarize' }, summarized),
        timed<Card>(editor, { ...task, to: 'librarian', type: 'read' }, read),
      ]);
      rows[index] = {
        file,
        summary: summary.value?.summary ?? `(${summary.error})`,
        by: summary.executor,
        card: card.value,
        summaryMs: summary.ms,
        cardMs: card.ms,
      };
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, sender));
  bars.stop();
  return rows;
}

interface Timed<T> {
  readonly value: T | undefined;
  readonly error: string;
  readonly executor: string;
  readonly ms: number;
}

/** Requests a result, and how long it took. A task that fails is a result, too. */
async function timed<T>(editor: Hub, task: TaskInput, bar: SingleBar): Promise<Timed<T>> {
  const began = performance.now();
  const file = task.contextId ?? '';
  const done = (): number => {
    bar.increment(1, { file });
    return performance.now() - began;
  };
  try {
    const result = await editor.request(task, {
      timeoutMs: 60_000,
      onProgress: ({ percent }) => bar.update({ file: `${file} ${percent} %` }),
    });
    return { value: result.json<T>(), error: '', executor: result.executor, ms: done() };
  } catch (error) {
    if (!(error instanceof TaskFailedError)) throw error;
    const { result } = error;
    return { value: undefined, error: result.error, executor: result.executor, ms: done() };
  }
}

/** Asks the librarian, who has read everything, where the most frequent term stands. */
async function ask(editor: Hub, rows: readonly Row[]): Promise<void> {
  const terms = Map.groupBy(
    rows.flatMap(({ card }) => card?.terms ?? []),
    (term) => term,
  );
  const [term] = [...terms].sort(([, a], [, b]) => b.length - a.length)[0] ?? [];
  if (term === undefined) return;
  const result = await editor.request(
    { to: 'librarian', type: 'find', payload: term },
    { timeoutMs: 60_000 },
  );
  const files = result.json<Shelf>()?.files.slice(0, 3) ?? [];
  const where = files.map(({ file, times }) => `${file} (${times} times)`).join(', ');
  say(`\nThe librarian, asked for "${term}": ${where}.`);
}

function tableOf(rows: readonly Row[]): string {
  const width = Math.max(80, Math.min(process.stdout.columns ?? 120, 160));
  const summary = width - 26 - 24 - 8 - 14 - 6;
  const table = new Table({
    head: ['text', 'what it says', 'about', 'words', 'done in ms'],
    colWidths: [26, summary, 24, 8, 14],
    wordWrap: true,
    style: { head: [], border: [] },
  });
  for (const { file, summary: said, by, card, summaryMs, cardMs } of rows.slice(0, ROWS)) {
    const short = said.length > 200 ? `${said.slice(0, 199)}…` : said;
    table.push([
      file,
      `${short}\n— ${by}`,
      card?.terms.join(', ') ?? '',
      `${card?.words ?? ''}`,
      `${summaryMs.toFixed(1)} / ${cardMs.toFixed(1)}`,
    ]);
  }
  return table.toString();
}

function latencies(name: string, values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.ceil(sorted.length * share) - 1] ?? 0).toFixed(1);
  return `${name.padEnd(14)} p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, slowest ${at(1)} ms, from request to result`;
}

async function counts(editor: Hub, seconds: number): Promise<string> {
  const stats = await editor.call(Admin.method.stats, {});
  const { accepted, completed, failed, dead, redelivered, refused, queued, running } = stats;
  const ms = (value: number | undefined): string => (value ?? 0).toFixed(2);
  return (
    `\nThe broker counted ${accepted} accepted, ${completed} completed, ${failed} failed, ${dead} dead letters, ` +
    `${redelivered} redelivered, ${refused} refused; ${queued} queued and ${running} running now.\n` +
    `It took ${seconds.toFixed(2)} s; routing p50 ${ms(stats.routing?.p50)} ms, writing to the log p50 ${ms(stats.append?.p50)} ms.`
  );
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function fail(text: string): number {
  process.stderr.write(`${text}\n`);
  return 2;
}

try {
  const code = await main();
  if (code !== 0) process.exitCode = code;
} catch (error) {
  process.exitCode = fail(error instanceof Error ? error.message : String(error)) && 1;
}
