import type { Hub, ReceivedTask, TaskContext, Worker } from '../../src/client/index.ts';
import { PermanentError } from '../../src/client/index.ts';
import { frequencies, prose, sentences, words } from './text.ts';

/** What a summarizer answers. */
export interface Summary {
  /** The sentences that say most, in their order. */
  readonly summary: string;
  /** How many sentences there were. */
  readonly of: number;
}

const KEPT = 2;

/** An agent by capability: whoever is free takes the next text. */
export function startSummarizer(hub: Hub, name: string): Promise<Worker> {
  return hub.work('type:summarize', summarize, { agent: name, concurrency: 4 });
}

function summarize(task: ReceivedTask, context: TaskContext): Summary {
  const all = sentences(prose(task.text()));
  // Trying again would not help: the text stays as it is.
  if (all.length === 0) throw new PermanentError('there is no prose in this text');
  context.progress(30, `${all.length} sentences`);
  const counts = frequencies(words(all.join(' ')));
  const scored = all.map((sentence, index) => ({ sentence, index, score: score(sentence, index, counts) }));
  context.progress(80, 'scored');
  const best = scored.sort((a, b) => b.score - a.score).slice(0, KEPT);
  const inOrder = best.sort((a, b) => a.index - b.index).map(({ sentence }) => sentence);
  return { summary: inOrder.join(' '), of: all.length };
}

/** A sentence matters as its words are frequent in the text, and a little more at the beginning. */
function score(sentence: string, index: number, counts: ReadonlyMap<string, number>): number {
  const own = words(sentence);
  if (own.length < 5 || own.length > 60) return 0;
  const sum = own.reduce((total, word) => total + (counts.get(word) ?? 0), 0);
  return (sum / own.length) * (1 + 1 / (1 + index));
}
