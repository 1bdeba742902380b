import { hash128 } from '../../src/core/murmur3.ts';

/** Ten letters and digits that change when `value` does; the order of members does not count. */
export function fingerprint(value: unknown): string {
  const bytes = new TextEncoder().encode(JSON.stringify(value, sorted));
  const out = new Uint32Array(4);
  hash128(bytes, 0, bytes.length, 0, out);
  const number = (BigInt(out[0]!) << 32n) | BigInt(out[1]!);
  return number.toString(36).padStart(13, '0').slice(-10);
}

function sorted(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
