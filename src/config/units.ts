type Units = readonly (readonly [name: string, factor: number])[];

const DURATIONS: Units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
];

const SIZES: Units = [
  ['TiB', 2 ** 40],
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
  ['B', 1],
];

/** What people write beside these: the short forms of Kubernetes, and decimal units. */
const ALSO_SIZES: Units = [
  ['Ti', 2 ** 40],
  ['Gi', 2 ** 30],
  ['Mi', 2 ** 20],
  ['Ki', 2 ** 10],
  ['TB', 1e12],
  ['GB', 1e9],
  ['MB', 1e6],
  ['KB', 1e3],
];

/**
 * Milliseconds of a duration as people write it: `500` or `500ms`, `1.5s`, `1h30m`, `7d`.
 * Answers undefined if it is none, or no whole number of milliseconds.
 */
export function parseDuration(input: unknown): number | undefined {
  return parseSum(input, DURATIONS);
}

/**
 * Bytes of a size as people write it: `4096`, `64MiB`, `64Mi`, `1.5 GiB`, `10MB` (decimal), in any case.
 * Answers undefined if it is none, or no whole number of bytes.
 */
export function parseSize(input: unknown): number | undefined {
  const anyCase = [...SIZES, ...ALSO_SIZES].map(([name, factor]) => [name.toLowerCase(), factor] as const);
  return parseSum(typeof input === 'string' ? input.toLowerCase() : input, anyCase);
}

/** The shortest exact form of a duration that {@link parseDuration} reads back. */
export function formatDuration(ms: number): string {
  return formatIn(ms, DURATIONS);
}

/** The shortest exact form of a size that {@link parseSize} reads back. */
export function formatSize(bytes: number): string {
  return formatIn(bytes, SIZES);
}

function parseSum(input: unknown, units: Units): number | undefined {
  if (typeof input === 'number') return whole(input);
  if (typeof input !== 'string' || input.length > 64) return undefined;
  const text = input.trim();
  if (/^\d+$/.test(text)) return whole(Number(text));
  let sum = 0;
  let read = 0;
  for (const [part, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)\s*/g)) {
    const factor = units.find(([name]) => name === unit)?.[1];
    if (factor === undefined) return undefined;
    sum += Number(amount) * factor;
    read += part.length;
  }
  return read > 0 && read === text.length ? whole(sum) : undefined;
}

/** Forgives what binary fractions do to `2.3s`. */
function whole(value: number): number | undefined {
  const near = Math.round(value);
  return Number.isSafeInteger(near) && near >= 0 && Math.abs(value - near) < 1e-6 ? near : undefined;
}

function formatIn(value: number, units: Units): string {
  const [unit, factor] = units.find(([, size]) => value >= size && value % size === 0) ?? ['', 1];
  return `${value / factor}${unit}`;
}
