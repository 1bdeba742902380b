/** One segment: how far it is written, and what of it is still retained. */
interface Segment {
  end: number;
  records: number;
  bytes: number;
}

/** Which segments there are, and how much of each is still needed. */
export class Space {
  /** Bytes of all segments. */
  used = 0;
  /** Bytes of all retained records. */
  retained = 0;
  readonly #segments = new Map<number, Segment>();

  /** Notes that `segment` is written up to `end`. */
  extend(segment: number, end: number): void {
    const state = this.#segments.get(segment);
    this.used += end - (state?.end ?? 0);
    if (state === undefined) this.#segments.set(segment, { end, records: 0, bytes: 0 });
    else state.end = end;
  }

  has(segment: number): boolean {
    return this.#segments.has(segment);
  }

  /** How far `segment` is written. */
  end(segment: number): number {
    return this.#segments.get(segment)?.end ?? 0;
  }

  /** Records of `bytes` together in `segment` are retained. */
  hold(segment: number, bytes: number, records = 1): void {
    this.#count(segment, records, bytes);
  }

  /** They are not retained any more, at least not there. */
  release(segment: number, bytes: number, records = 1): void {
    this.#count(segment, -records, -bytes);
  }

  remove(segment: number): void {
    this.used -= this.#segments.get(segment)?.end ?? 0;
    this.#segments.delete(segment);
  }

  /** The segments but `current` of which nothing is retained. */
  dead(current: number): number[] {
    return [...this.#segments].flatMap(([number, { records }]) =>
      records === 0 && number !== current ? [number] : [],
    );
  }

  /**
   * The segment but `current` and those in `except` of which the smallest part is retained, and no
   * more than `share` and `room`.
   */
  sparsest(current: number, except: ReadonlySet<number>, share: number, room: number): number | undefined {
    let found: number | undefined;
    let least = share;
    for (const [number, { records, bytes, end }] of this.#segments) {
      if (number === current || records === 0 || except.has(number)) continue;
      if (bytes / end > least || bytes > room) continue;
      found = number;
      least = bytes / end;
    }
    return found;
  }

  #count(segment: number, records: number, bytes: number): void {
    const state = this.#segments.get(segment);
    if (state === undefined) throw new RangeError(`no segment ${segment}`);
    state.records += records;
    state.bytes += bytes;
    this.retained += bytes;
  }
}
