import { significant as short } from '../../src/cli/format.ts';

export { short };

/** The middle of the values: half of them are not above it. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value that the part `q` of the values does not exceed (nearest rank). */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const rank = Math.ceil(q * sorted.length) - 1;
  return sorted[Math.min(Math.max(rank, 0), sorted.length - 1)] ?? NaN;
}

/** Lowest and highest value. */
export function spread(values: readonly number[]): string {
  return `${short(Math.min(...values))} – ${short(Math.max(...values))}`;
}
