import type { Atlas } from '../core/atlas.ts';
import { broadcastBeside } from '../core/namespace.ts';
import { laneOf } from '../core/placement.ts';
import { capabilityMailbox, deadMailbox } from '../core/shard.ts';
import type { ShardState } from '../core/shard-state.ts';
import { Outcome } from '../core/shard-state.ts';
import { Flag, Kind, NONE, State } from '../core/task-table.ts';
import type { Clock, Timer } from '../std/clock.ts';
import { entryHash } from '../wire/entry.ts';
import { rehashed } from '../wire/envelope.ts';
import { movedEntry } from '../wire/moved-entry.ts';
import type { Endings } from './endings.ts';
import { Decided, type Holds } from './holds.ts';

/** Between two steps, in milliseconds. */
const STEP_MS = 5;
/** What one step looks at and moves at most, so that others have their turn. */
const LOOKED_AT = 5000;
const MOVED = 500;
const MOVED_BYTES = 256 * 1024;
/** Parcels on their way, beyond which no more are sent after them. */
const ON_THE_WAY = 4000;

const DEAD = deadMailbox('');
const CAPABILITY = capabilityMailbox('');

/** What a {@link Mover} works with. */
export interface MoverOptions {
  readonly shard: number;
  readonly state: ShardState;
  readonly atlas: Atlas;
  readonly clock: Clock;
  readonly holds: Holds;
  readonly endings: Endings;
  /** The task is about to leave: it must not be delivered, and has no alarm. */
  readonly withdraw: (slot: number) => void;
}

/**
 * Moves what the placement rules place elsewhere: tasks, results and dead letters go to the shards where their
 * mailboxes live now, in the order in which they were accepted. What somebody holds stays until it comes back.
 */
export class Mover {
  private readonly options: MoverOptions;
  /** Orders of tasks that may have to move, and how many of them were looked at. */
  private waiting: number[] = [];
  private done = 0;
  /** Tasks that have been moved here. */
  private arrived: number[] = [];
  private timer: Timer | undefined;
  private closed = false;

  constructor(options: MoverOptions) {
    this.options = options;
  }

  /** The rules have changed, or nobody has looked yet. */
  review(): void {
    const { state, atlas } = this.options;
    if (atlas.isUntouched) return;
    const { tasks } = state;
    const orders: number[] = [];
    for (const slot of tasks.slots()) orders.push(tasks.order[slot]!);
    this.waiting = [...Float64Array.from(orders).sort()];
    this.done = 0;
    this.plan();
  }

  /** A task has come, has come back, or has died. */
  consider(slot: number): void {
    if (this.options.atlas.isUntouched || !this.destination(slot)) return;
    this.waiting.push(this.options.state.tasks.order[slot]!);
    this.plan();
  }

  /**
   * A task has been moved here. If the rules that this broker knows place it elsewhere, one of the two has old
   * ones; so it stays until {@link reconsider}.
   */
  came(slot: number): void {
    this.arrived.push(this.options.state.tasks.order[slot]!);
  }

  /** Looks again at what has been moved here. */
  reconsider(): void {
    if (this.arrived.length === 0) return;
    this.waiting.push(...this.arrived);
    this.arrived = [];
    this.plan();
  }

  close(): void {
    this.closed = true;
    this.timer?.cancel();
  }

  private plan(): void {
    if (this.closed) return;
    this.timer ??= this.options.clock.after(STEP_MS, () => {
      this.timer = undefined;
      this.step();
    });
  }

  private step(): void {
    const { state } = this.options;
    let looked = 0;
    let moved = 0;
    let bytes = 0;
    if (state.outbox.size > ON_THE_WAY) return this.plan();
    while (this.done < this.waiting.length && looked < LOOKED_AT && moved < MOVED && bytes < MOVED_BYTES) {
      looked++;
      const slot = state.at(this.waiting[this.done++]!);
      const to = slot === NONE ? undefined : this.destination(slot);
      if (!to || !this.isFree(slot)) continue;
      moved++;
      bytes += state.tasks.length[slot]!;
      this.move(slot, to);
    }
    if (this.done < this.waiting.length) return this.plan();
    this.waiting = [];
    this.done = 0;
  }

  /** Nobody holds it, and nothing is decided about it. */
  private isFree(slot: number): boolean {
    const { state, holds } = this.options;
    return state.tasks.state[slot] !== State.leased && holds.decided[slot] === Decided.nothing;
  }

  /** Where the task is to be, if not here. */
  private destination(slot: number): { readonly mailbox: string; readonly shard: number } | undefined {
    const { state, atlas, shard: here, endings } = this.options;
    const { tasks, mailboxes, batches } = state;
    if (tasks.kind[slot] === Kind.broadcast) return undefined;
    const name = mailboxes.name(tasks.mailbox[slot]!);
    const isDead = name.startsWith(DEAD);
    let mailbox = isDead ? name.slice(DEAD.length) : name;
    if (mailbox.startsWith(CAPABILITY)) {
      const part = laneOf(mailbox);
      // It is a part of a split mailbox unless its publisher has named it so.
      if (part && endings.facts(slot).to === part.base) mailbox = part.base;
      if (atlas.lanes(mailbox).length > 1) {
        const hash = entryHash(batches.bytes(tasks.batch[slot]!), tasks.offset[slot]!);
        mailbox = atlas.laneOf(mailbox, hash[1]!);
      }
    }
    if (isDead) mailbox = DEAD + mailbox;
    const shard = atlas.shardOf(mailbox);
    return shard === here && mailbox === name ? undefined : { mailbox, shard };
  }

  private move(slot: number, { mailbox, shard }: { readonly mailbox: string; readonly shard: number }): void {
    const { state, endings, withdraw } = this.options;
    const { tasks, mailboxes, batches, types, deaths } = state;
    const bytes = batches.bytes(tasks.batch[slot]!);
    const offset = tasks.offset[slot]!;
    const entry = bytes.subarray(offset, offset + tasks.length[slot]!);
    const hash = entryHash(bytes, offset);
    const name = living(mailboxes.name(tasks.mailbox[slot]!));
    const from = tasks.flags[slot]! & Flag.once ? broadcastBeside(name) : name;
    if (tasks.kind[slot] === Kind.task) hash[0] = rehashed(hash[0]!, from, living(mailbox));
    const task = {
      kind: tasks.kind[slot]!,
      flags: tasks.flags[slot]!,
      priority: tasks.priority[slot]!,
      attempts: tasks.attempts[slot]!,
      deliveries: tasks.deliveries[slot]!,
      accepted: tasks.accepted[slot]!,
      notBefore: tasks.notBefore[slot]!,
      deadline: tasks.deadline[slot]!,
      death: deaths.get(slot),
    };
    withdraw(slot);
    endings.send(slot, Outcome.moved, {
      destination: shard,
      mailbox,
      type: types.text(tasks.type[slot]!),
      entry: movedEntry(task, hash, entry),
    });
  }
}

/** The mailbox whose dead letters these are; names of tasks go by that. */
function living(mailbox: string): string {
  return mailbox.startsWith(DEAD) ? mailbox.slice(DEAD.length) : mailbox;
}
