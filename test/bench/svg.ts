import type { Chart } from './report.ts';
import { short } from './figures.ts';

const WIDTH = 760;
const HEIGHT = 400;
const LEFT = 80;
const RIGHT = 250;
const TOP = 40;
const BOTTOM = 50;
/** Distinguishable also without colour vision (Okabe and Ito, https://jfly.uni-koeln.de/color/). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];

/** Draws the chart; the vertical axis begins at 0. */
export function draw(chart: Chart): string {
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
  const text = (x: number, y: number, anchor: string, content: string): string =>
    `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escape(content)}</text>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(LEFT, TOP - 18, 'start', `${chart.title} (${chart.y})`),
    text((LEFT + right) / 2, HEIGHT - 12, 'middle', chart.x),
  ];
  for (let step = 0; step <= 4; step++) {
    const y = (top * step) / 4;
    parts.push(
      `<path d="M${LEFT} ${py(y).toFixed(1)}H${right}" stroke="#ddd"/>`,
      text(LEFT - 8, py(y) + 4, 'end', short(y)),
    );
  }
  for (const x of new Set(points.map(([x]) => x))) parts.push(text(px(x), bottom + 18, 'middle', short(x)));
  for (const [index, series] of chart.series.entries()) {
    const colour = COLOURS[index % COLOURS.length]!;
    const line = series.points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`);
    parts.push(
      `<polyline points="${line.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...series.points.map(
        ([x, y]) => `<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="3" fill="${colour}"/>`,
      ),
      `<rect x="${right + 16}" y="${TOP + index * 20}" width="12" height="12" fill="${colour}"/>`,
      text(right + 34, TOP + 10 + index * 20, 'start', series.name),
    );
  }
  return [...parts, '</svg>', ''].join('\n');
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
