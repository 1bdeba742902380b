/*
 * FNV-1a, 32 bits, as published by Fowler, Noll and Vo (http://www.isthe.com/chongo/tech/comp/fnv/,
 * draft-eastlake-fnv). It decides which shard holds a mailbox, so it must never change.
 */
const OFFSET_BASIS = 0x811c9dc5;
const PRIME = 0x01000193;

/** The unsigned 32-bit FNV-1a hash of `bytes[start, end)`. */
export function fnv1a(bytes: Uint8Array, start = 0, end = bytes.length): number {
  let hash = OFFSET_BASIS;
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, PRIME);
  return hash >>> 0;
}

/**
 * The unsigned 32-bit FNV-1a hash of the UTF-8 form of `text[start, end)`, without making that
 * form. A lone surrogate counts as U+FFFD, as it does to TextEncoder.
 */
export function fnv1aText(text: string, start = 0, end = text.length): number {
  let hash = OFFSET_BASIS;
  for (let at = start; at < end; at++) {
    let code = text.charCodeAt(at);
    if (code < 0x80) {
      hash = Math.imul(hash ^ code, PRIME);
      continue;
    }
    if (code < 0x800) {
      hash = Math.imul(hash ^ (0xc0 | (code >> 6)), PRIME);
      hash = Math.imul(hash ^ (0x80 | (code & 0x3f)), PRIME);
      continue;
    }
    if ((code & 0xf800) === 0xd800) {
      const next = code < 0xdc00 && at + 1 < end ? text.charCodeAt(at + 1) : 0;
      if ((next & 0xfc00) === 0xdc00) {
        at++;
        code = 0x10000 + ((code & 0x3ff) << 10) + (next & 0x3ff);
        hash = Math.imul(hash ^ (0xf0 | (code >> 18)), PRIME);
        hash = Math.imul(hash ^ (0x80 | ((code >> 12) & 0x3f)), PRIME);
        hash = Math.imul(hash ^ (0x80 | ((code >> 6) & 0x3f)), PRIME);
        hash = Math.imul(hash ^ (0x80 | (code & 0x3f)), PRIME);
        continue;
      }
      code = 0xfffd;
    }
    hash = Math.imul(hash ^ (0xe0 | (code >> 12)), PRIME);
    hash = Math.imul(hash ^ (0x80 | ((code >> 6) & 0x3f)), PRIME);
    hash = Math.imul(hash ^ (0x80 | (code & 0x3f)), PRIME);
  }
  return hash >>> 0;
}
