import Table from 'cli-table3';
import type { Card } from './librarian.ts';

/** What came back for one text. */
export interface Row {
  readonly file: string;
  readonly summary: string;
  /** Who made the summary. */
  readonly by: string;
  readonly card: Card | undefined;
  /** Milliseconds from the request to the result. */
  readonly summaryMs: number;
  readonly cardMs: number;
}

/** Rows that a person reads. */
const ROWS = 25;
const SUMMARY = 160;
const WIDTHS = { file: 26, terms: 22, words: 8, ms: 15 };

/** The rows as a table that fits the terminal. */
export function tableOf(rows: readonly Row[], columns: number): string {
  const width = Math.max(100, Math.min(columns, 160));
  const rest = Object.values(WIDTHS).reduce((sum, one) => sum + one, 0) + 6;
  const table = new Table({
    head: ['text', 'what it says', 'about', 'words', 'took, in ms'],
    colWidths: [WIDTHS.file, width - rest, WIDTHS.terms, WIDTHS.words, WIDTHS.ms],
    wordWrap: true,
    style: { head: [], border: [] },
  });
  for (const { file, summary, by, card, summaryMs, cardMs } of rows.slice(0, ROWS)) {
    const said = summary.length > SUMMARY ? `${summary.slice(0, SUMMARY)}…` : summary;
    table.push([
      file,
      by === '' ? said : `${said} (${by})`,
      card?.terms.join(', ') ?? '',
      `${card?.words ?? ''}`,
      `${summaryMs.toFixed(1)} / ${cardMs.toFixed(1)}`,
    ]);
  }
  const more = rows.length > ROWS ? `\n… and ${rows.length - ROWS} more.` : '';
  return table.toString() + more;
}

/** How long things took, in words. */
export function latencies(name: string, values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.ceil(sorted.length * share) - 1] ?? 0).toFixed(1);
  return `${name.padEnd(14)} p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, slowest ${at(1)} ms, from request to result`;
}
