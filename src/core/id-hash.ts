import { hash128 } from './murmur3.ts';

/** What the names of ids depend on beside the ids: who does not know it can't make two that have one name. */
export interface IdKey {
  readonly low: number;
  readonly high: number;
}

/** The key that follows from a secret text. */
export function idKey(secret: string): IdKey {
  const bytes = Buffer.from(secret);
  const words = new Uint32Array(4);
  hash128(bytes, 0, bytes.length, 0, words);
  return { low: words[0]! ^ words[2]!, high: words[1]! ^ words[3]! };
}

/**
 * Writes the 128-bit name of an id, `bytes[start, end)`, into `out[0..3]`, without allocating.
 *
 * It is HalfSipHash-1-3 (J.-P. Aumasson and D. J. Bernstein, https://github.com/veorq/SipHash), what Linux has in
 * its hash tables, but for its end: four words are squeezed out instead of two, with three rounds before each.
 * Names stand in logs, so it must never change.
 */
export function hashId(bytes: Uint8Array, start: number, end: number, key: IdKey, out: Uint32Array): void {
  let v0 = key.low | 0;
  let v1 = key.high ^ 0xee;
  let v2 = key.low ^ 0x6c796765;
  let v3 = key.high ^ 0x74656462;
  let at = start;
  // The last word has what is left, and the length.
  for (let last = false; !last;) {
    let word: number;
    if (at + 4 <= end) {
      word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
      at += 4;
    } else {
      last = true;
      word = (end - start) << 24;
      for (let shift = 0; at < end; shift += 8) word |= bytes[at++]! << shift;
    }
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  v2 ^= 0xee;
  for (let word = 0; word < 4; word++) {
    for (let round = 0; round < 3; round++) {
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
    }
    out[word] = v1 ^ v3;
    v1 ^= 0xdd;
  }
}
