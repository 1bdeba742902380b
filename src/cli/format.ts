/** How figures are shown to people; programs get them as they are. */

const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const SPANS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
] as const;

/** `17 B`, `3.4 MiB`. */
export function bytes(value: number): string {
  let unit = 0;
  let rest = value;
  while (rest >= 1000 && unit < SIZES.length - 1) {
    rest /= 1024;
    unit++;
  }
  return `${short(rest, unit === 0 ? 0 : 1)} ${SIZES[unit]!}`;
}

/** `1,234,567`. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** How long something is ago or takes, in its largest unit or two: `350ms`, `42s`, `3m20s`, `5d`. */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`;
  const index = SPANS.findIndex(([, length]) => ms >= length);
  const [unit, length] = SPANS[index]!;
  const whole = Math.floor(ms / length);
  const next = SPANS[index + 1];
  const rest = next === undefined || whole >= 10 ? 0 : Math.floor((ms - whole * length) / next[1]);
  return `${whole}${unit}${rest === 0 ? '' : `${rest}${next![0]}`}`;
}

/** Milliseconds with three digits that count: `0.18`, `4.20`, `1,250`. */
export function milliseconds(ms: number): string {
  return ms >= 100 ? count(ms) : ms.toFixed(ms >= 10 ? 1 : 2);
}

/** Three significant digits, thousands apart: `248,000`, `3.14`. */
export function significant(value: number): string {
  if (!Number.isFinite(value)) return '–';
  return new Intl.NumberFormat('en', { maximumSignificantDigits: 3 }).format(value);
}

/** A number a second. */
export function rate(perSecond: number): string {
  return perSecond >= 100 ? count(perSecond) : short(perSecond, 1);
}

/** `42 %`. */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** Unix milliseconds as a program reads a time. */
export function time(ms: number): string {
  return new Date(ms).toISOString();
}

function short(value: number, digits: number): string {
  return value >= 100 ? String(Math.round(value)) : value.toFixed(digits).replace(/\.0$/, '');
}
