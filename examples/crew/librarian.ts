import type { Hub, ReceivedTask, TaskContext, Worker } from '../../src/client/index.ts';
import { PermanentError } from '../../src/client/index.ts';
import { frequencies, prose, readingMinutes, topTerms, words } from './text.ts';

/** What the librarian keeps of a text. */
export interface Card {
  readonly file: string;
  readonly headings: readonly string[];
  readonly terms: readonly string[];
  readonly words: number;
  readonly minutes: number;
}

/** What the librarian answers when asked for a term. */
export interface Shelf {
  readonly term: string;
  /** Files that use it, most often first. */
  readonly files: readonly { readonly file: string; readonly times: number }[];
}

const TERMS = 4;

/** An agent by name: there is one librarian, and it remembers what it has read. */
export function startLibrarian(hub: Hub): Promise<Worker> {
  const index = new Map<string, Map<string, number>>();

  function read(task: ReceivedTask, context: TaskContext): Card {
    const file = task.headers['file'] ?? task.id;
    const text = task.text();
    const headings = [...text.matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)].map(([, heading = '']) => heading);
    context.progress(30, `${headings.length} headings`);
    const all = words(prose(text));
    const counts = frequencies(all);
    index.set(file, counts);
    return {
      file,
      headings,
      terms: topTerms(counts, TERMS),
      words: all.length,
      minutes: readingMinutes(all.length),
    };
  }

  function find(task: ReceivedTask): Shelf {
    const term = task.text().toLowerCase();
    const files = [...index].map(([file, counts]) => ({ file, times: counts.get(term) ?? 0 }));
    return { term, files: files.filter(({ times }) => times > 0).sort((a, b) => b.times - a.times) };
  }

  return hub.work('librarian', (task, context) => {
    if (task.type === 'read') return read(task, context);
    if (task.type === 'find') return find(task);
    throw new PermanentError(`the librarian knows "read" and "find", not "${task.type}"`);
  });
}
