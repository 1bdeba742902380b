import { fnv1a } from '../core/fnv1a.ts';
import { textOf } from './bytes.ts';

/**
 * Short texts that were read lately, found by their bytes: the same name comes as the same string, whose
 * hash JavaScript has computed already, and need not be decoded or checked again.
 *
 * Direct-mapped: a text that falls on the place of another takes it.
 */
export class TextCache {
  private readonly texts: (string | undefined)[];
  private readonly mask: number;
  /** FNV-1a-32 of the bytes that were last looked up. */
  hash = 0;

  /** @param places a power of two; each takes 8 bytes and the text. */
  constructor(places = 131_072) {
    this.texts = new Array<string | undefined>(places);
    this.mask = places - 1;
  }

  /** The text in `bytes[start, end)`, or `undefined` if it is not known. */
  find(bytes: Uint8Array, start: number, end: number): string | undefined {
    this.hash = fnv1a(bytes, start, end);
    const text = this.texts[this.hash & this.mask];
    if (text?.length !== end - start) return undefined;
    for (let at = start, index = 0; at < end; at++, index++) {
      // Bytes above ASCII might spell a text in Latin-1 that was checked as UTF-8.
      if (bytes[at]! > 127 || text.charCodeAt(index) !== bytes[at]) return undefined;
    }
    return text;
  }

  /** Remembers the text of the last {@link find}. One that is not ASCII won't be found again. */
  add(text: string): void {
    this.texts[this.hash & this.mask] = text;
  }

  /** The text in `bytes[start, end)`, whether it was known or not. */
  get(bytes: Uint8Array, start: number, end: number): string {
    const known = this.find(bytes, start, end);
    if (known !== undefined) return known;
    const text = textOf(bytes, start, end);
    this.add(text);
    return text;
  }
}
