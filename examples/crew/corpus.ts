import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';

/** A text to work on. */
export interface Text {
  /** Relative to where one looks. */
  readonly file: string;
  readonly content: string;
}

/** Texts, and what was found beside them. */
export interface Corpus {
  readonly texts: readonly Text[];
  /** Files that are binary, empty, or too large. */
  readonly skipped: number;
}

/** Larger files are no texts for people. */
const MAX_BYTES = 1024 * 1024;
/** Text that is not for reading. */
const DRAWN = /\.(svg|map|lock)$/i;
const IGNORED = new Set(['node_modules', 'dist', 'coverage', 'agenthub-data']);

/** The texts in `places`, which are files or folders, with paths relative to `base`. */
export async function readCorpus(places: readonly string[], base: string): Promise<Corpus> {
  const texts: Text[] = [];
  let skipped = 0;
  for (const place of places) {
    for (const path of await filesIn(place)) {
      const content = await readText(path);
      if (content === undefined) skipped++;
      else texts.push({ file: relative(base, path), content });
    }
  }
  return { texts, skipped };
}

/** What is wrong with a folder that somebody named, for people; undefined: nothing. */
export async function complaint(folder: string): Promise<string | undefined> {
  const found = await stat(folder).catch(() => undefined);
  if (found === undefined)
    return `There is no folder ${resolve(folder)}. Name one that exists: make run INPUT=path/to/texts`;
  if (!found.isDirectory())
    return `${resolve(folder)} is a file. Name the folder it is in: make run INPUT=path/to/texts`;
  return undefined;
}

async function filesIn(place: string): Promise<string[]> {
  const found = await stat(place).catch(() => undefined);
  if (found?.isFile()) return [place];
  if (!found?.isDirectory()) return [];
  const entries = await readdir(place, { withFileTypes: true });
  const inside: string[] = [];
  for (const entry of entries.sort((a, b) => a.name.localeCompare(b.name))) {
    if (entry.name.startsWith('.') || IGNORED.has(entry.name)) continue;
    const path = join(place, entry.name);
    if (entry.isDirectory()) inside.push(...(await filesIn(path)));
    else if (entry.isFile() && !DRAWN.test(entry.name)) inside.push(path);
  }
  return inside;
}

async function readText(path: string): Promise<string | undefined> {
  const { size } = await stat(path);
  if (size === 0 || size > MAX_BYTES) return undefined;
  const bytes = await readFile(path);
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
