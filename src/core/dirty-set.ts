/** Small integers to look at once, in the order in which they were first added. */
export class DirtySet {
  private marks = new Uint8Array(64);
  private list: number[] = [];

  add(id: number): void {
    if (id >= this.marks.length) {
      const longer = new Uint8Array(Math.max(id + 1, this.marks.length * 2));
      longer.set(this.marks);
      this.marks = longer;
    }
    if (this.marks[id] === 1) return;
    this.marks[id] = 1;
    this.list.push(id);
  }

  get empty(): boolean {
    return this.list.length === 0;
  }

  /** Takes all out, those that are added meanwhile included. */
  drain(visit: (id: number) => void): void {
    for (let at = 0; at < this.list.length; at++) {
      const id = this.list[at]!;
      this.marks[id] = 0;
      visit(id);
    }
    this.list = [];
  }
}
