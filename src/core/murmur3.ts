/*
 * MurmurHash3_x86_128 by Austin Appleby (public domain,
 * https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp). It names task ids, also in
 * checkpoints, so it must never change.
 */
const C1 = 0x239b961b;
const C2 = 0xab0e9789;
const C3 = 0x38b34ae5;
const C4 = 0xa1e38b93;

/**
 * Writes the 128-bit hash of `bytes[start, end)` into `out[0..3]`, without allocating. Read as
 * little-endian words, `out` is the digest that the reference implementation writes.
 */
export function hash128(bytes: Uint8Array, start: number, end: number, seed: number, out: Uint32Array): void {
  let h1 = seed | 0;
  let h2 = h1;
  let h3 = h1;
  let h4 = h1;
  let at = start;

  for (; at + 16 <= end; at += 16) {
    h1 ^= scramble(word(bytes, at), C1, 15, C2);
    h1 = Math.imul(rotl(h1, 19) + h2, 5) + 0x561ccd1b;
    h2 ^= scramble(word(bytes, at + 4), C2, 16, C3);
    h2 = Math.imul(rotl(h2, 17) + h3, 5) + 0x0bcaa747;
    h3 ^= scramble(word(bytes, at + 8), C3, 17, C4);
    h3 = Math.imul(rotl(h3, 15) + h4, 5) + 0x96cd1c35;
    h4 ^= scramble(word(bytes, at + 12), C4, 18, C1);
    h4 = Math.imul(rotl(h4, 13) + h1, 5) + 0x32ac3b17;
  }

  // A missing word reads as 0, which scrambles to 0 and so changes nothing.
  h1 ^= scramble(partialWord(bytes, at, end), C1, 15, C2);
  h2 ^= scramble(partialWord(bytes, at + 4, end), C2, 16, C3);
  h3 ^= scramble(partialWord(bytes, at + 8, end), C3, 17, C4);
  h4 ^= scramble(partialWord(bytes, at + 12, end), C4, 18, C1);

  const length = end - start;
  h1 ^= length;
  h2 ^= length;
  h3 ^= length;
  h4 ^= length;

  h1 = (h1 + h2 + h3 + h4) | 0;
  h2 = mix(h2 + h1);
  h3 = mix(h3 + h1);
  h4 = mix(h4 + h1);
  h1 = mix(h1);

  h1 = (h1 + h2 + h3 + h4) | 0;
  out[0] = h1;
  out[1] = h2 + h1;
  out[2] = h3 + h1;
  out[3] = h4 + h1;
}

function scramble(word: number, before: number, bits: number, after: number): number {
  return Math.imul(rotl(Math.imul(word, before), bits), after);
}

/** MurmurHash3's 32-bit finalizer: every bit of the input reaches every bit of the output. */
export function mix(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function rotl(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

function partialWord(bytes: Uint8Array, at: number, end: number): number {
  let word = 0;
  const last = Math.min(at + 4, end);
  for (let byte = last - 1; byte >= at; byte--) word = (word << 8) | bytes[byte]!;
  return word;
}
