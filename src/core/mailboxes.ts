import { grown } from './task-table.ts';

/** What a mailbox is among those of replies. */
const Form = { other: 0, lane: 1, replies: 2 } as const;

/**
 * The mailboxes of a shard by name, as small numbers. A mailbox exists as long as it holds a task
 * or somebody has pinned it, so names that nobody uses cost nothing.
 */
export class Mailboxes {
  /** Tasks that are queued, whether they may be delivered yet or not. */
  queued = new Uint32Array(0);
  leased = new Uint32Array(0);
  /** Bytes of envelopes and payloads of all its tasks. */
  bytes = new Float64Array(0);
  private readonly names: (string | undefined)[] = [];
  private readonly ids = new Map<string, number>();
  private readonly free: number[] = [];
  private references = new Uint32Array(0);
  private forms = new Uint8Array(0);

  get size(): number {
    return this.ids.size;
  }

  /** One more than the highest id ever used. */
  get end(): number {
    return this.names.length;
  }

  /** The id of a mailbox that exists, or -1. */
  find(name: string): number {
    return this.ids.get(name) ?? -1;
  }

  name(id: number): string {
    const name = this.names[id];
    if (name === undefined) throw new RangeError(`no mailbox ${id}`);
    return name;
  }

  /** Whether it is a session's own lane of an agent's replies. */
  isLane(id: number): boolean {
    return this.forms[id] === Form.lane;
  }

  /** Whether it holds an agent's replies, and sessions may have lanes of it. */
  mayHaveLanes(id: number): boolean {
    return this.forms[id] === Form.replies;
  }

  /** Whether that id is in use. */
  has(id: number): boolean {
    return this.names[id] !== undefined;
  }

  /** The id of the mailbox, made if need be, with one more reference. */
  acquire(name: string): number {
    let id = this.ids.get(name);
    if (id === undefined) {
      id = this.free.pop() ?? this.names.length;
      if (id >= this.queued.length) this.grow();
      this.names[id] = name;
      this.ids.set(name, id);
      this.forms[id] = formOf(name);
    }
    this.references[id]!++;
    return id;
  }

  retain(id: number): void {
    this.references[id]!++;
  }

  /** Takes a reference back; the last one forgets the mailbox. */
  release(id: number): void {
    if (--this.references[id]! > 0) return;
    this.ids.delete(this.name(id));
    this.names[id] = undefined;
    this.free.push(id);
  }

  *entries(): IterableIterator<[string, number]> {
    yield* this.ids;
  }

  private grow(): void {
    const size = Math.max(16, this.queued.length * 2);
    this.queued = grown(this.queued, new Uint32Array(size));
    this.leased = grown(this.leased, new Uint32Array(size));
    this.bytes = grown(this.bytes, new Float64Array(size));
    this.references = grown(this.references, new Uint32Array(size));
    this.forms = grown(this.forms, new Uint8Array(size));
  }
}

function formOf(name: string): number {
  if (!name.startsWith('reply:')) return Form.other;
  return name.includes('#') ? Form.lane : Form.replies;
}
