import type { ShardState } from './shard-state.ts';
import { Flag, grown, NONE, State } from './task-table.ts';

/** Levels of priority. */
export const LEVELS = 5;

/** Where a queued task waits. */
const Place = { nowhere: 0, list: 1, heap: 2, aside: 3, unwanted: 4 } as const;

/** Tasks of a mailbox that were set aside, as binary heaps. */
interface Aside {
  readonly byType: Map<number, number[]>;
  readonly unwanted: number[];
}

/**
 * The tasks of a shard that may be delivered now, per mailbox in order of priority, then of
 * acceptance.
 *
 * Tasks come in order, so each level is a linked list that is appended to. The few that come back
 * (released, or delayed until now) go into a heap beside the lists, by the same order; the next
 * task is the lesser of both. Where receivers take only some tasks, those that nobody takes now are
 * set aside by their type, so that none of them stands in the way of what is behind it. Everything
 * here follows from the state and the time; it is rebuilt after a replay.
 */
export class ReadyQueues {
  private readonly state: ShardState;
  private heads = new Uint32Array(0);
  private tails = new Uint32Array(0);
  private counts = new Uint32Array(0);
  /** Tasks that came back, by mailbox: a binary heap of slots, positions in the column `prev`. */
  private readonly returned = new Map<number, number[]>();
  private readonly aside = new Map<number, Aside>();
  private place = new Uint8Array(0);

  constructor(state: ShardState) {
    this.state = state;
  }

  /** How many tasks of that mailbox may be delivered. */
  count(mailbox: number): number {
    return mailbox < this.counts.length ? this.counts[mailbox]! : 0;
  }

  /** Whether the task waits here. */
  has(slot: number): boolean {
    return slot < this.place.length && this.place[slot] !== Place.nowhere;
  }

  /** Adds a task whose time has come. */
  add(slot: number): void {
    const { tasks } = this.state;
    if (slot >= this.place.length) this.place = grown(this.place, new Uint8Array(tasks.capacity));
    const mailbox = tasks.mailbox[slot]!;
    if (mailbox >= this.counts.length) this.growMailboxes();
    this.counts[mailbox]!++;
    const level = mailbox * LEVELS + tasks.priority[slot]!;
    const tail = this.tails[level]!;
    if (tail === NONE || tasks.order[tail]! < tasks.order[slot]!) {
      if (tail === NONE) this.heads[level] = slot;
      else tasks.next[tail] = slot;
      tasks.prev[slot] = tail;
      tasks.next[slot] = NONE;
      this.tails[level] = slot;
      this.place[slot] = Place.list;
      return;
    }
    let heap = this.returned.get(mailbox);
    if (!heap) this.returned.set(mailbox, (heap = []));
    this.push(heap, slot, Place.heap);
  }

  /** Sets a task aside that nobody takes now: by its type, or until {@link reconsider} if nobody wants it. */
  setAside(slot: number, unwanted: boolean): void {
    const { tasks } = this.state;
    const mailbox = tasks.mailbox[slot]!;
    const type = tasks.type[slot]!;
    this.remove(slot);
    let aside = this.aside.get(mailbox);
    if (!aside) this.aside.set(mailbox, (aside = { byType: new Map(), unwanted: [] }));
    let heap = unwanted ? aside.unwanted : aside.byType.get(type);
    if (!heap) aside.byType.set(type, (heap = []));
    this.counts[mailbox]!++;
    this.push(heap, slot, unwanted ? Place.unwanted : Place.aside);
  }

  /** Whether tasks of the mailbox are set aside. */
  hasAside(mailbox: number): boolean {
    return this.aside.size > 0 && this.aside.has(mailbox);
  }

  /** Other receivers are there: what nobody wanted is looked at again. */
  reconsider(mailbox: number): void {
    const unwanted = this.aside.get(mailbox)?.unwanted ?? [];
    for (const slot of [...unwanted]) {
      this.remove(slot);
      this.add(slot);
    }
  }

  /**
   * The next task of the mailbox, or `NONE`. It stays. With `blocked`, tasks that were set aside are
   * passed over if they are of these types, or unwanted.
   */
  peek(mailbox: number, blocked?: ReadonlySet<number>): number {
    if (this.count(mailbox) === 0) return NONE;
    let first = NONE;
    for (let level = mailbox * LEVELS + LEVELS - 1; level >= mailbox * LEVELS; level--) {
      first = this.heads[level]!;
      if (first !== NONE) break;
    }
    first = this.lesser(first, this.returned.get(mailbox)?.[0] ?? NONE);
    const aside = this.aside.size === 0 ? undefined : this.aside.get(mailbox);
    if (!aside) return first;
    for (const [type, heap] of aside.byType) if (!blocked?.has(type)) first = this.lesser(first, heap[0]!);
    return blocked ? first : this.lesser(first, aside.unwanted[0] ?? NONE);
  }

  /** How many tasks of its mailbox come before a task that waits here; `most` stands for more. */
  ahead(slot: number, most: number): number {
    const { tasks } = this.state;
    const mailbox = tasks.mailbox[slot]!;
    let count = 0;
    for (let level = LEVELS - 1; level >= tasks.priority[slot]!; level--) {
      let at = this.heads[mailbox * LEVELS + level] ?? NONE;
      for (; at !== NONE && this.before(at, slot) && count < most; at = tasks.next[at]!) count++;
    }
    const aside = this.aside.get(mailbox);
    const heaps = [
      this.returned.get(mailbox) ?? [],
      aside?.unwanted ?? [],
      ...(aside?.byType.values() ?? []),
    ];
    for (const heap of heaps) {
      for (let index = 0; index < heap.length && count < most; index++)
        if (this.before(heap[index]!, slot)) count++;
    }
    return count;
  }

  /** Takes a task out, wherever it waits. */
  remove(slot: number): void {
    if (!this.has(slot)) return;
    const { tasks } = this.state;
    const mailbox = tasks.mailbox[slot]!;
    this.counts[mailbox]!--;
    if (this.place[slot] === Place.list) {
      const level = mailbox * LEVELS + tasks.priority[slot]!;
      const next = tasks.next[slot]!;
      const prev = tasks.prev[slot]!;
      if (prev === NONE) this.heads[level] = next;
      else tasks.next[prev] = next;
      if (next === NONE) this.tails[level] = prev;
      else tasks.prev[next] = prev;
    } else {
      const heap = this.heapOf(slot, mailbox);
      const at = tasks.prev[slot]!;
      const last = heap.pop()!;
      if (last !== slot) {
        heap[at] = last;
        tasks.prev[last] = at;
        this.up(heap, at);
        this.down(heap, tasks.prev[last]);
      }
      if (heap.length === 0) this.forgetHeap(slot, mailbox);
    }
    this.place[slot] = Place.nowhere;
    tasks.next[slot] = NONE;
    tasks.prev[slot] = NONE;
  }

  /** Fills the queues from the state. `later` gets the tasks whose time has not come. */
  rebuild(now: number, later: (slot: number) => void): void {
    const { tasks } = this.state;
    const orders: number[] = [];
    for (const slot of tasks.slots()) {
      if (tasks.state[slot] === State.queued) orders.push(tasks.order[slot]!);
    }
    for (const order of Float64Array.from(orders).sort()) {
      const slot = this.state.at(order);
      if (isDue(this.state, slot, now)) this.add(slot);
      else later(slot);
    }
  }

  private heapOf(slot: number, mailbox: number): number[] {
    if (this.place[slot] === Place.heap) return this.returned.get(mailbox)!;
    const aside = this.aside.get(mailbox)!;
    return this.place[slot] === Place.unwanted
      ? aside.unwanted
      : aside.byType.get(this.state.tasks.type[slot]!)!;
  }

  private forgetHeap(slot: number, mailbox: number): void {
    if (this.place[slot] === Place.heap) {
      this.returned.delete(mailbox);
      return;
    }
    const aside = this.aside.get(mailbox)!;
    if (this.place[slot] === Place.aside) aside.byType.delete(this.state.tasks.type[slot]!);
    if (aside.byType.size + aside.unwanted.length === 0) this.aside.delete(mailbox);
  }

  private push(heap: number[], slot: number, place: number): void {
    this.place[slot] = place;
    this.state.tasks.prev[slot] = heap.length;
    heap.push(slot);
    this.up(heap, heap.length - 1);
  }

  private lesser(a: number, b: number): number {
    if (a === NONE || b === NONE) return a === NONE ? b : a;
    return this.before(b, a) ? b : a;
  }

  private before(a: number, b: number): boolean {
    const { priority, order } = this.state.tasks;
    return priority[a] === priority[b] ? order[a]! < order[b]! : priority[a]! > priority[b]!;
  }

  private up(heap: number[], from: number): void {
    const { prev } = this.state.tasks;
    const slot = heap[from]!;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent]!;
      if (!this.before(slot, above)) break;
      heap[at] = above;
      prev[above] = at;
      at = parent;
    }
    heap[at] = slot;
    prev[slot] = at;
  }

  private down(heap: number[], from: number): void {
    const { prev } = this.state.tasks;
    const slot = heap[from]!;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.before(heap[child + 1]!, heap[child]!)) child++;
      const below = heap[child]!;
      if (!this.before(below, slot)) break;
      heap[at] = below;
      prev[below] = at;
      at = child;
    }
    heap[at] = slot;
    prev[slot] = at;
  }

  private growMailboxes(): void {
    const size = this.state.mailboxes.queued.length;
    const from = this.counts.length * LEVELS;
    this.counts = grown(this.counts, new Uint32Array(size));
    this.heads = grown(this.heads, new Uint32Array(size * LEVELS));
    this.heads.fill(NONE, from);
    this.tails = grown(this.tails, new Uint32Array(size * LEVELS));
    this.tails.fill(NONE, from);
  }
}

/** Whether the task may be delivered now, as far as its own times go. */
export function isDue(state: ShardState, slot: number, now: number): boolean {
  return (state.tasks.notBefore[slot] ?? 0) <= now;
}

/** Whether the task must not be delivered any more. */
export function isOverdue(state: ShardState, slot: number, now: number): boolean {
  return (state.tasks.flags[slot]! & Flag.deadline) !== 0 && state.tasks.deadline[slot]! <= now;
}
