import type { Bars, Chart } from '../../src/cli/bench/svg.ts';

/** A figure that shall be reached. */
export interface Target {
  readonly measure: string;
  readonly reach: string;
  readonly got: string;
  readonly reached: boolean;
}

/** A table of figures. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** What a measurement has found. */
export interface Report {
  /** What was measured, exactly, in Markdown. */
  readonly text: string;
  readonly tables: readonly Table[];
  readonly targets: readonly Target[];
  readonly charts: readonly (Chart | Bars)[];
  /** All figures as they came. */
  readonly raw: unknown;
}

/** Where, when and with what it was measured. */
export interface Circumstances {
  readonly date: string;
  readonly command: string;
  readonly machine: string;
  readonly versions: string;
}

/** The report as a page. @param charts file names of its charts, in order. */
export function page(
  title: string,
  report: Report,
  circumstances: Circumstances,
  charts: readonly string[],
): string {
  const { date, command, machine, versions } = circumstances;
  return [
    `# ${title}`,
    `<!-- Written by \`${command}\`; do not edit. -->`,
    `${date} · \`${command}\` · ${machine} · ${versions}`,
    report.text.trim(),
    ...(report.targets.length > 0 ? ['## Reached', targets(report.targets)] : []),
    ...report.tables.flatMap((table) => [`## ${table.title}`, grid(table.columns, table.rows)]),
    ...charts.map((file, index) => `![${report.charts[index]?.title ?? ''}](${file})`),
    '',
  ].join('\n\n');
}

/** A Markdown table of what was to be reached. */
export function targets(all: readonly Target[]): string {
  return grid(
    ['measure', 'to reach', 'measured', ''],
    all.map(({ measure, reach, got, reached }) => [measure, reach, got, reached ? 'yes' : '**no**']),
  );
}

function grid(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('\n');
}
