/**
 * `make run`: a durable broker in a process of its own, two kinds of agents at work on a folder of
 * texts, and an editor that sends them the files and shows what came back.
 */
import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { connect } from '../src/client/index.ts';
import { createBars } from './crew/bars.ts';
import { startBroker } from './crew/broker.ts';
import type { Corpus } from './crew/corpus.ts';
import { complaint, readCorpus } from './crew/corpus.ts';
import { counts, lookUp, processAll } from './crew/editor.ts';
import { startLibrarian } from './crew/librarian.ts';
import { latencies, tableOf } from './crew/report.ts';
import { startSummarizer } from './crew/summarizer.ts';

const ROOT = dirname(import.meta.dirname);
const DATA = resolve(ROOT, 'agenthub-data/run');
const OWN_TEXTS = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'docs'];
const SUMMARIZERS = 3;

/** An error whose message is all that a person needs. */
class Complaint extends Error {}

async function main(input: string | undefined): Promise<void> {
  const corpus = await readTexts(input);
  mkdirSync(DATA, { recursive: true });
  const broker = await startBroker(DATA);
  say(`A broker is at ${broker.address}; what it accepts is ${broker.durability} in ${DATA}.`);
  try {
    await Promise.race([work(broker.address, corpus), broker.died]);
  } finally {
    await broker.stop();
  }
}

async function readTexts(input: string | undefined): Promise<Corpus> {
  const wrong = input === undefined ? undefined : await complaint(input);
  if (wrong !== undefined) throw new Complaint(wrong);
  const corpus = await (input === undefined
    ? readCorpus(
        OWN_TEXTS.map((name) => resolve(ROOT, name)),
        ROOT,
      )
    : readCorpus([input], input));
  if (corpus.texts.length > 0) return corpus;
  throw new Complaint(
    `There are no texts in ${resolve(input ?? ROOT)}: ${corpus.skipped} files are binary, empty or huge. ` +
      'Name another folder: make run INPUT=path/to/texts',
  );
}

async function work(address: string, { texts, skipped }: Corpus): Promise<void> {
  // Three parties with a connection each: they could as well be three programs on three machines.
  await using summarizers = await connect({ address, client: 'example-summarizers' });
  await using library = await connect({ address, client: 'example-library' });
  await using editor = await connect({ address, client: 'example-editor', agent: 'editor' });
  for (let number = 1; number <= SUMMARIZERS; number++) {
    await startSummarizer(summarizers, `summarizer-${number}`);
  }
  await startLibrarian(library);
  say(`${SUMMARIZERS} agents compete for the capability "summarize"; one is known by its name, "librarian".`);
  say(
    `The agent "editor" sends both ${texts.length} texts${skipped === 0 ? '' : ` (${skipped} files skipped)`}.\n`,
  );

  const began = performance.now();
  const rows = await processAll(editor, texts, createBars(process.stdout));
  const seconds = (performance.now() - began) / 1000;
  say(`\n${tableOf(rows, process.stdout.columns ?? 120)}\n`);
  const found = await lookUp(editor, rows);
  if (found !== undefined) say(`${found}\n`);
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
  say(`${2 * texts.length} results in ${seconds.toFixed(2)} s.\n`);
  say(await counts(editor));
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  await main(process.argv[2]);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof Complaint ? 2 : 1;
}
