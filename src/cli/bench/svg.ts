import { significant } from '../format.ts';

/** A line of a chart. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** A chart of lines over a common axis. */
export interface Chart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly logX?: boolean;
  readonly series: readonly Series[];
}

/** A chart of bars, in groups that have a name. */
export interface Bars {
  readonly title: string;
  readonly unit: string;
  readonly groups: readonly {
    readonly name: string;
    readonly bars: readonly { readonly name: string; readonly value: number; readonly ours: boolean }[];
  }[];
}

const WIDTH = 760;
const HEIGHT = 400;
const LEFT = 80;
const RIGHT = 250;
const TOP = 40;
const BOTTOM = 50;
/** Distinguishable also without colour vision (Okabe and Ito, https://jfly.uni-koeln.de/color/). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];

/** Lines with more points than this have no marks on them, and not each has its place named. */
const MARKED = 40;
const NAMED = 10;
const ROW = 22;

/** Draws charts, one below the other, in one picture. */
export function drawAll(charts: readonly Chart[]): string {
  const parts = charts.map((chart, index) =>
    drawLines(chart).replace('<svg ', `<svg y="${index * HEIGHT}" height="${HEIGHT}" `),
  );
  const box = `viewBox="0 0 ${WIDTH} ${HEIGHT * charts.length}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${box}>\n${parts.join('')}</svg>\n`;
}

/** Draws the chart as SVG. */
export function draw(chart: Chart | Bars): string {
  return 'groups' in chart ? drawBars(chart) : drawLines(chart);
}

function drawBars({ title, unit, groups }: Bars): string {
  const most = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => value)), 1e-9);
  const rows = groups.reduce((sum, { bars }) => sum + bars.length + 1.5, 0);
  const height = TOP + rows * ROW + 10;
  const [left, right] = [RIGHT, WIDTH - LEFT];
  const parts = [...opening(height), text(10, TOP - 18, 'start', `${title} (${unit})`)];
  let y = TOP;
  for (const { name, bars } of groups) {
    y += ROW;
    parts.push(`<text x="10" y="${y - 6}" font-weight="bold">${escape(name)}</text>`);
    for (const bar of bars) {
      const width = Math.max(1, (bar.value / most) * (right - left));
      const colour = bar.ours ? COLOURS[0]! : '#999999';
      parts.push(
        text(left - 8, y + 13, 'end', bar.name),
        `<rect x="${left}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 6}" fill="${colour}"/>`,
        text(left + width + 6, y + 13, 'start', significant(bar.value)),
      );
      y += ROW;
    }
    y += ROW / 2;
  }
  return [...parts, '</svg>', ''].join('\n');
}

function opening(height: number): string[] {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
  ];
}

function text(x: number, y: number, anchor: string, content: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escape(content)}</text>`;
}

/** The vertical axis begins at 0. */
function drawLines(chart: Chart): string {
  const points = chart.series.flatMap((series) => series.points);
  const scale = (x: number): number => (chart.logX ? Math.log10(Math.max(x, 1)) : x);
  const xs = points.map(([x]) => scale(x));
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const top = nice(Math.max(...points.map(([, y]) => y)));
  const right = WIDTH - RIGHT;
  const bottom = HEIGHT - BOTTOM;
  const px = (x: number): number =>
    LEFT + (high === low ? 0.5 : (scale(x) - low) / (high - low)) * (right - LEFT);
  const py = (y: number): number => bottom - (y / top) * (bottom - TOP);
  const parts = [
    ...opening(HEIGHT),
    text(LEFT, TOP - 18, 'start', `${chart.title} (${chart.y})`),
    text((LEFT + right) / 2, HEIGHT - 12, 'middle', chart.x),
  ];
  for (let step = 0; step <= 4; step++) {
    const y = (top * step) / 4;
    parts.push(
      `<path d="M${LEFT} ${py(y).toFixed(1)}H${right}" stroke="#ddd"/>`,
      text(LEFT - 8, py(y) + 4, 'end', significant(y)),
    );
  }
  for (const x of named([...new Set(points.map(([x]) => x))]))
    parts.push(text(px(x), bottom + 18, 'middle', significant(x)));
  for (const [index, series] of chart.series.entries()) {
    const colour = COLOURS[index % COLOURS.length]!;
    const line = series.points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`);
    parts.push(
      `<polyline points="${line.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...(series.points.length > MARKED ? [] : series.points).map(
        ([x, y]) => `<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="3" fill="${colour}"/>`,
      ),
      `<rect x="${right + 16}" y="${TOP + index * 20}" width="12" height="12" fill="${colour}"/>`,
      text(right + 34, TOP + 10 + index * 20, 'start', series.name),
    );
  }
  return [...parts, '</svg>', ''].join('\n');
}

/** The places that are named: all, or some of many. */
function named(xs: readonly number[]): readonly number[] {
  const step = Math.ceil(xs.length / NAMED);
  return xs.length > MARKED ? xs.filter((_, index) => index % step === 0) : xs;
}

/** The next of 1, 2, 2.5, 5, 10 × a power of ten. */
function nice(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 2.5, 5, 10].find((step) => step * power >= value) ?? 10);
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
