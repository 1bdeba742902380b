import type { Hub, TaskInput } from '../../src/client/index.ts';
import { Admin, TaskFailedError } from '../../src/client/index.ts';
import type { Bar, Bars } from './bars.ts';
import type { Text } from './corpus.ts';
import type { Card, Shelf } from './librarian.ts';
import type { Row } from './report.ts';
import type { Summary } from './summarizer.ts';

/** Texts that are on their way at a time. */
const AT_A_TIME = 16;
const TIMEOUT_MS = 60_000;

/** Has every text summarized by whoever can, and filed by the librarian. */
export async function processAll(hub: Hub, texts: readonly Text[], bars: Bars): Promise<Row[]> {
  const summaries = bars.add('summaries', texts.length);
  const cards = bars.add('library', texts.length);
  const rows: Row[] = [];
  const queue = texts.entries();
  const sender = async (): Promise<void> => {
    for (const [index, { file, content }] of queue) {
      const task = { payload: content, headers: { file }, contextId: file };
      const [summary, card] = await Promise.all([
        ask<Summary>(hub, { ...task, capability: 'summarize' }, summaries),
        ask<Card>(hub, { ...task, to: 'librarian', type: 'read' }, cards),
      ]);
      rows[index] = {
        file,
        summary: summary.answer?.summary ?? `(${summary.error})`,
        by: summary.by,
        card: card.answer,
        summaryMs: summary.ms,
        cardMs: card.ms,
      };
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, sender));
  bars.stop();
  return rows;
}

/** Asks the librarian, who has read everything, about the term that most texts are about. */
export async function lookUp(hub: Hub, rows: readonly Row[]): Promise<string | undefined> {
  const byTerm = Map.groupBy(
    rows.flatMap(({ card }) => card?.terms ?? []),
    (term) => term,
  );
  const [term] = [...byTerm].sort(([, a], [, b]) => b.length - a.length)[0] ?? [];
  if (term === undefined) return undefined;
  const result = await hub.request(
    { to: 'librarian', type: 'find', payload: term },
    { timeoutMs: TIMEOUT_MS },
  );
  const files = result.json<Shelf>()?.files.slice(0, 3) ?? [];
  const where = files.map(({ file, times }) => `${file} (${times}×)`).join(', ');
  return `The librarian, asked for "${term}": ${where}.`;
}

/** What the broker has counted since it started. */
export async function counts(hub: Hub): Promise<string> {
  const { accepted, completed, failed, dead, redelivered, refused, routing, append } = await hub.call(
    Admin.method.stats,
    {},
  );
  const ms = (value = 0): string => `${value.toFixed(1)} ms`;
  return (
    `The broker counted ${accepted} tasks accepted, ${completed} completed, ${failed} failed, ${dead} dead letters, ` +
    `${redelivered} redelivered, ${refused} refused.\n` +
    `From publish to worker p50 ${ms(routing?.p50)}, p99 ${ms(routing?.p99)}; writing to the log p50 ${ms(append?.p50)}.`
  );
}

interface Asked<T> {
  readonly answer: T | undefined;
  /** Why there is no answer. */
  readonly error: string;
  readonly by: string;
  readonly ms: number;
}

/** Requests a result and notes how long it took. That a task can't be done is an answer, too. */
async function ask<T>(hub: Hub, task: TaskInput, bar: Bar): Promise<Asked<T>> {
  const began = performance.now();
  const file = task.contextId ?? '';
  const onProgress = ({ percent }: { percent: number }): void => bar.note(`${file} ${percent} %`);
  try {
    const result = await hub.request(task, { timeoutMs: TIMEOUT_MS, onProgress });
    return { answer: result.json<T>(), error: '', by: result.executor, ms: performance.now() - began };
  } catch (error) {
    if (!(error instanceof TaskFailedError)) throw error;
    return { answer: undefined, error: error.result.error, by: '', ms: performance.now() - began };
  } finally {
    bar.step(file);
  }
}
