const ANY_RUN = '*';
const ANY_ONE = '?';

/**
 * A pattern over whole strings, in which `*` stands for any run of characters and `?` for any one.
 * Nothing else is special, and nothing can be escaped.
 *
 * Matching takes time linear in the text whatever the pattern: it runs all readings of the pattern
 * side by side, a bit each (Shift-And; Baeza-Yates and Gonnet, A new approach to text searching,
 * CACM 35(10), 1992).
 */
export class Glob {
  readonly pattern: string;
  /** Whether the pattern stands for itself alone. */
  readonly literal: boolean;
  /** What every match starts with. */
  private readonly prefix: string;
  /** Whether the pattern is its prefix and `*`. */
  private readonly open: boolean;

  // Bit i stands for the reading that has matched i characters of the pattern after the prefix,
  // not counting `*`.
  private readonly length: number;
  /** By character of the pattern: bit i if it leads from i - 1 to i. */
  private readonly steps = new Map<number, Uint32Array>();
  /** The steps of every other character: those of `?`. */
  private readonly anyStep: Uint32Array;
  /** Bit i if a `*` follows, so that the reading may stay where it is. */
  private readonly stays: Uint32Array;

  constructor(pattern: string) {
    this.pattern = pattern;
    const special = /[*?]/.exec(pattern)?.index ?? pattern.length;
    this.literal = special === pattern.length;
    this.prefix = pattern.slice(0, special);

    const symbols = Array.from(pattern.slice(special));
    this.open = symbols.length > 0 && symbols.every((symbol) => symbol === ANY_RUN);
    this.length = symbols.filter((symbol) => symbol !== ANY_RUN).length;
    const words = (this.length >>> 5) + 1;
    this.anyStep = new Uint32Array(words);
    this.stays = new Uint32Array(words);

    let at = 0;
    for (const symbol of symbols) {
      if (symbol === ANY_RUN) set(this.stays, at);
      else set(symbol === ANY_ONE ? this.anyStep : this.stepFor(symbol), ++at);
    }
    for (const step of this.steps.values()) {
      this.anyStep.forEach((bits, word) => (step[word]! |= bits));
    }
  }

  /** Whether all of `text` matches. */
  matches(text: string): boolean {
    if (this.literal) return text === this.pattern;
    if (!text.startsWith(this.prefix)) return false;
    return this.open || this.run(text, this.prefix.length);
  }

  private stepFor(symbol: string): Uint32Array {
    const code = symbol.codePointAt(0)!;
    let step = this.steps.get(code);
    if (step === undefined) this.steps.set(code, (step = new Uint32Array(this.anyStep.length)));
    return step;
  }

  private run(text: string, start: number): boolean {
    const { stays, steps, anyStep } = this;
    const readings = new Uint32Array(stays.length);
    readings[0] = 1;
    for (let at = start; at < text.length; at++) {
      const code = text.codePointAt(at)!;
      if (code > 0xffff) at++;
      const step = steps.get(code) ?? anyStep;
      let carry = 0;
      for (let word = 0; word < readings.length; word++) {
        const bits = readings[word]!;
        readings[word] = (((bits << 1) | carry) & step[word]!) | (bits & stays[word]!);
        carry = bits >>> 31;
      }
    }
    return ((readings[this.length >>> 5]! >>> (this.length & 31)) & 1) === 1;
  }
}

function set(bits: Uint32Array, index: number): void {
  bits[index >>> 5]! |= 1 << (index & 31);
}
