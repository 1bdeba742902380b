/**
 * Strings as small dense integers, for as long as someone refers to them.
 *
 * The tables of a shard hold the id (4 bytes) in place of the string. Ids count from 0; a freed id
 * is the next one handed out, so arrays that are indexed by id stay small.
 */
export class Names {
  private readonly ids = new Map<string, number>();
  private readonly texts: string[] = [];
  /** References by id; 0 means free. */
  private readonly references: number[] = [];
  private readonly free: number[] = [];

  /** How many strings are known. */
  get size(): number {
    return this.ids.size;
  }

  /** The id of `text`, which from now on has one reference more. */
  acquire(text: string): number {
    const known = this.ids.get(text);
    if (known !== undefined) {
      this.references[known]! += 1;
      return known;
    }
    const id = this.free.pop() ?? this.texts.length;
    this.texts[id] = text;
    this.references[id] = 1;
    this.ids.set(text, id);
    return id;
  }

  /** All known strings. */
  values(): IterableIterator<string> {
    return this.ids.keys();
  }

  /** The id of `text`, or -1 if it is not known. Takes no reference. */
  find(text: string): number {
    return this.ids.get(text) ?? -1;
  }

  /** Adds a reference to a known id. */
  retain(id: number): void {
    this.check(id);
    this.references[id]! += 1;
  }

  /** Gives a reference back. With the last one the string is forgotten and the id is free. */
  release(id: number): void {
    this.check(id);
    const left = this.references[id]! - 1;
    this.references[id] = left;
    if (left > 0) return;
    this.ids.delete(this.texts[id]!);
    this.texts[id] = '';
    this.free.push(id);
  }

  /** The string of a known id. */
  text(id: number): string {
    this.check(id);
    return this.texts[id]!;
  }

  private check(id: number): void {
    if (!(this.references[id]! > 0)) throw new RangeError(`name ${id} is not in use`);
  }
}
