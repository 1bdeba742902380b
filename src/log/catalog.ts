/** Records whose places share one allocation. */
const PAGE = 1024;
/** Numbers kept of a record: segment, offset, length. */
const FIELDS = 3;

/**
 * Where the retained records of one shard are: 12 bytes a record, whatever its size.
 *
 * Sequences run without a gap from `first` to before `next`; while a store is being opened some of
 * them may be absent.
 */
export class Catalog {
  first: number;
  next: number;
  /** The sum of the retained records' lengths. */
  bytes = 0;
  /** The sequence of the last owner record, 0 if there is none. */
  owner = 0;
  readonly #pages: Uint32Array[] = [];
  /** The sequence of the first place of the first page. */
  #base: number;

  constructor(first: number) {
    this.first = first;
    this.next = first;
    this.#base = first;
  }

  /** Notes where the record `sequence` is; a former place of it is forgotten. */
  put(sequence: number, segment: number, offset: number, length: number): void {
    const index = sequence - this.#base;
    while (this.#pages.length * PAGE <= index) this.#pages.push(new Uint32Array(PAGE * FIELDS));
    const page = this.#pages[Math.floor(index / PAGE)] as Uint32Array;
    const at = (index % PAGE) * FIELDS;
    if (page[at] === 0) this.bytes += length;
    page[at] = segment;
    page[at + 1] = offset;
    page[at + 2] = length;
    if (sequence >= this.next) this.next = sequence + 1;
  }

  /** The number of the segment that holds `sequence`; 0 if it is absent or not retained. */
  segment(sequence: number): number {
    return this.#field(sequence, 0);
  }

  offset(sequence: number): number {
    return this.#field(sequence, 1);
  }

  length(sequence: number): number {
    return this.#field(sequence, 2);
  }

  /**
   * Goes through the records from `from` to before `to`, and calls `visit` for each stretch of them
   * that is in one segment: with its first sequence, their number, and the sum of their lengths.
   */
  stretches(
    from: number,
    to: number,
    visit: (segment: number, first: number, records: number, bytes: number) => void,
  ): void {
    for (let sequence = from; sequence < to;) {
      const segment = this.segment(sequence);
      const first = sequence;
      let bytes = 0;
      do bytes += this.length(sequence++);
      while (sequence < to && this.segment(sequence) === segment);
      visit(segment, first, sequence - first, bytes);
    }
  }

  /** Forgets what is below `before`. */
  drop(before: number): void {
    for (; this.first < before; this.first++) this.bytes -= this.length(this.first);
    if (this.first > this.next) this.next = this.first;
    const pages = Math.min(this.#pages.length, Math.floor((this.first - this.#base) / PAGE));
    this.#pages.splice(0, pages);
    this.#base += pages * PAGE;
    if (this.#pages.length === 0) this.#base = this.first;
  }

  #field(sequence: number, field: number): number {
    if (sequence < this.first || sequence >= this.next) return 0;
    const index = sequence - this.#base;
    return this.#pages[Math.floor(index / PAGE)]?.[(index % PAGE) * FIELDS + field] ?? 0;
  }
}
