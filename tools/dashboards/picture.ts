import type { Panel } from './dashboard.ts';

/** Values over time, with labels. */
interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [at: number, value: number])[];
}

/** A panel and what its queries gave, by the query's legend. */
export interface Picture {
  readonly panel: Panel;
  readonly series: readonly (readonly [legend: string, series: readonly Series[]])[];
}

const COLUMNS = 2;
const WIDTH = 480;
const HEIGHT = 190;
const PLOT = { left: 64, right: 12, top: 30, bottom: 52 } as const;
const HEAD = 44;
/** Lines that one panel shows at most. */
const MOST = 12;
/** Distinguishable also without colour vision (Okabe and Ito, https://jfly.uni-koeln.de/color/). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];

/** What a dashboard shows of that time, in Unix seconds, as SVG: a likeness of what Grafana draws. */
export function drawDashboard(
  title: string,
  pictures: readonly Picture[],
  span: readonly [start: number, end: number],
): string {
  const height = HEAD + Math.ceil(pictures.length / COLUMNS) * HEIGHT;
  const width = COLUMNS * WIDTH;
  const panels = pictures.map((picture, index) => {
    const x = (index % COLUMNS) * WIDTH;
    const y = HEAD + Math.floor(index / COLUMNS) * HEIGHT;
    return `<g transform="translate(${x} ${y})">${drawPanel(picture, span)}</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="12" y="28" font-size="18">${escape(title)}</text>`,
    ...panels,
    '</svg>',
    '',
  ].join('\n');
}

function drawPanel({ panel, series }: Picture, [start, end]: readonly [number, number]): string {
  const lines = series
    .flatMap(([legend, each]) => each.map(({ labels, values }) => ({ name: named(legend, labels), values })))
    .slice(0, MOST);
  const finite = lines.flatMap(({ values }) => values.map(([, value]) => value)).filter(Number.isFinite);
  const top = Math.max(...finite, 0) || 1;
  const right = WIDTH - PLOT.right;
  const bottom = HEIGHT - PLOT.bottom;
  const px = (at: number): number => PLOT.left + ((at - start) / (end - start)) * (right - PLOT.left);
  const py = (value: number): number => bottom - (Math.max(0, value) / top) * (bottom - PLOT.top);
  const parts = [
    `<rect x="4" y="2" width="${WIDTH - 8}" height="${HEIGHT - 6}" fill="none" stroke="#ddd" rx="4"/>`,
    `<text x="14" y="20" font-weight="bold">${escape(panel.title)}</text>`,
  ];
  for (const share of [0, 0.5, 1]) {
    const y = py(top * share).toFixed(1);
    parts.push(
      `<path d="M${PLOT.left} ${y}H${right}" stroke="#eee"/>`,
      `<text x="${PLOT.left - 6}" y="${y}" dy="4" text-anchor="end">${shown(top * share, panel.unit)}</text>`,
    );
  }
  let x = 14;
  let y = bottom + 18;
  for (const [index, { name, values }] of lines.entries()) {
    const colour = COLOURS[index % COLOURS.length]!;
    for (const run of runsOf(values)) {
      const points = run.map(([at, value]) => `${px(at).toFixed(1)},${py(value).toFixed(1)}`).join(' ');
      parts.push(`<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="1.5"/>`);
    }
    const length = 18 + name.length * 6;
    if (x + length > WIDTH - 12) {
      x = 14;
      y += 14;
    }
    if (y > HEIGHT - 8) continue;
    parts.push(
      `<rect x="${x}" y="${y - 8}" width="8" height="8" fill="${colour}"/>`,
      `<text x="${x + 12}" y="${y}">${escape(name)}</text>`,
    );
    x += length;
  }
  return parts.join('');
}

/** The pieces of a line between which there is nothing. */
function runsOf(values: Series['values']): (readonly (readonly [number, number])[])[] {
  const runs: (readonly [number, number])[][] = [];
  let last = -Infinity;
  for (const point of values) {
    if (!Number.isFinite(point[1])) continue;
    if (point[0] - last > 2) runs.push([]);
    runs.at(-1)!.push(point);
    [last] = point;
  }
  return runs;
}

function named(legend: string, labels: Series['labels']): string {
  return legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => labels[label] ?? '');
}

function shown(value: number, unit: Panel['unit']): string {
  switch (unit) {
    case 's':
      return value === 0
        ? '0'
        : value < 1
          ? `${Number((value * 1000).toPrecision(3))} ms`
          : `${Number(value.toPrecision(3))} s`;
    case 'percentunit':
      return `${Number((value * 100).toPrecision(3))} %`;
    case 'bytes':
    case 'Bps':
      return `${Number((value / 2 ** 20).toPrecision(3))} MiB${unit === 'Bps' ? '/s' : ''}`;
    case 'ops':
    case 'reqps':
      return `${Number(value.toPrecision(3))}/s`;
    default:
      return `${Number(value.toPrecision(3))}`;
  }
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
