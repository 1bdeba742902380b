/** Plain functions on text, for the two agents. Segmentation is Unicode's, so any language will do. */

const WORDS_PER_MINUTE = 220;
const WORDS = new Intl.Segmenter('en', { granularity: 'word' });
const SENTENCES = new Intl.Segmenter('en', { granularity: 'sentence' });
const COMMON = new Set(
  (
    'about after again all also and another any are because been before being between both but can could did does ' +
    'each either every for from get has have here how into its itself just like made make many may might more most ' +
    'must neither not now off one only other our out over own same see she should since some such than that the ' +
    'their them then there these they this those through too under until use used using very was were what when ' +
    'where which while who whom why will with without would you your'
  ).split(' '),
);

/** The prose of a Markdown or plain text: no code, tables, images or markup. */
export function prose(text: string): string {
  return text
    .replace(/^(```|~~~)[\s\S]*?^\1.*$/gm, '')
    .replace(/<[^>\n]+>/g, ' ')
    .replace(/^\s*\[[^\]]+\]:.*$/gm, '')
    .replace(/!\[[^\]]*\]\([^)]*\)/g, ' ')
    .replace(/\[([^\]]+)\]\([^)]*\)/g, '$1')
    .replace(/^\s*(\||#|={3,}|-{3,}|\/\/|import |export ).*$/gm, '\n')
    .replace(/^\s*([-*+>]|\d+\.)\s+/gm, '\n')
    .replace(/https?:\/\/\S+/g, ' ')
    .replace(/[`*_]{1,3}/g, '');
}

/** The words of a text, in lower case. */
export function words(text: string): string[] {
  const found: string[] = [];
  for (const { segment, isWordLike } of WORDS.segment(text)) {
    if (isWordLike) found.push(segment.toLowerCase());
  }
  return found;
}

/** The sentences of a text, without line breaks. */
export function sentences(text: string): string[] {
  return text
    .split(/\n\s*\n/)
    .flatMap((paragraph) => [...SENTENCES.segment(paragraph.replace(/\s+/g, ' '))])
    .map(({ segment }) => segment.trim())
    .filter((sentence) => sentence.length > 0);
}

/** How often each word occurs that says something. */
export function frequencies(all: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const word of all) {
    if (word.length < 3 || COMMON.has(word) || /^\d+$/.test(word)) continue;
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

/** The most frequent words. */
export function topTerms(counts: ReadonlyMap<string, number>, most: number): string[] {
  const byCount = [...counts].sort(([a, m], [b, n]) => n - m || a.localeCompare(b));
  return byCount.slice(0, most).map(([word]) => word);
}

/** Minutes that a reader needs. */
export function readingMinutes(count: number): number {
  return Math.max(1, Math.round(count / WORDS_PER_MINUTE));
}
