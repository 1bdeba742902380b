import type { Random } from '../../src/std/clock.ts';

/** Chance that repeats itself: the same seed gives the same numbers (sfc32, by Chris Doty-Humphrey). */
export class SeededRandom implements Random {
  #a = 0x9e37_79b9;
  #b = 0x243f_6a88;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#c = seed | 0;
    for (let i = 0; i < 12; i++) this.uint32();
  }

  uint32(): number {
    const result = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + result) | 0;
    return result >>> 0;
  }

  float(): number {
    return this.uint32() / 2 ** 32;
  }

  token(bytes: number): string {
    return Array.from({ length: bytes }, () => this.below(256).toString(16).padStart(2, '0')).join('');
  }

  /** An integer from 0 to before `limit`. */
  below(limit: number): number {
    return Math.floor(this.float() * limit);
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.float() < probability;
  }
}
