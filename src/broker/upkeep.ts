import { Kind, NONE, State } from '../core/task-table.ts';
import type { Extent, Log } from '../log/log.ts';
import type { Clock } from '../std/clock.ts';
import type { OwnerRecordWriter } from '../wire/owner-record.ts';
import { writeCheckpoint } from './checkpoint.ts';
import { Decided } from './holds.ts';
import type { Owner } from './owner.ts';

/** How long things are kept that nobody asks for, in milliseconds, and how many. */
export interface Retention {
  readonly taskMs: number;
  readonly resultMs: number;
  readonly deadLetterMs: number;
  readonly deadPerMailbox: number;
  readonly resultsPerMailbox: number;
}

/** When the parts of an upkeep are worth doing, and how much of them one turn does. */
export interface Thrift {
  /** Slots that one turn looks at: under a millisecond of work. */
  readonly sweep: number;
  /** Bytes that the log gains before a checkpoint is worth its writing, and the same per byte of it. */
  readonly checkpointBytes: number;
  readonly checkpointShare: number;
  /** Records that hold more dead than live bytes are copied forward once they waste this much. */
  readonly wasteBytes: number;
  /** Bytes that one turn copies. */
  readonly copyBytes: number;
}

/** Duplicates that are not dropped yet, beyond which a checkpoint of them would be too large for a record. */
const UNDROPPED = 50_000;

const USUAL: Thrift = {
  sweep: 20_000,
  checkpointBytes: 1024 * 1024,
  checkpointShare: 8,
  wasteBytes: 4 * 1024 * 1024,
  copyBytes: 128 * 1024,
};

/**
 * What an owner does about once a second: ends what has been kept too long, and keeps the log short.
 *
 * The log is cut below the oldest record that still holds something; a checkpoint first repeats what
 * the cut would forget, and old survivors are copied forward so that they don't hold it up.
 */
export class Upkeep {
  private readonly owner: Owner;
  private readonly log: Log;
  private readonly clock: Clock;
  private readonly retention: Retention;
  private readonly thrift: Thrift;
  private cursor = 0;
  private checkpointedAt = 0;
  private cutAt = 0;
  private busy = false;
  /** What stands below that is being copied forward, and then a checkpoint is due; 0: nothing is. */
  private copyBelow = 0;

  constructor(owner: Owner, log: Log, clock: Clock, retention: Retention, thrift: Partial<Thrift> = {}) {
    this.owner = owner;
    this.log = log;
    this.clock = clock;
    this.retention = retention;
    this.thrift = { ...USUAL, ...thrift };
  }

  /** One turn. */
  run(): void {
    if (!this.owner.serving) return;
    this.sweep();
    this.owner.mover.reconsider();
    this.owner.serveLanes();
    this.shorten(false);
  }

  /** The log is filling up: what it can do without goes at once, whether that pays or not. */
  makeRoom(): void {
    if (this.owner.serving) this.shorten(true);
  }

  private sweep(): void {
    const { state, holds } = this.owner;
    const { tasks } = state;
    const now = this.clock.now();
    const end = Math.min(tasks.end, this.cursor + this.thrift.sweep);
    const crowded = new Map<number, number>();
    for (let slot = this.cursor; slot < end; slot++) {
      if (tasks.state[slot] === State.free || holds.decided[slot] !== Decided.nothing) continue;
      const mailbox = tasks.mailbox[slot]!;
      if (tasks.state[slot] === State.dead) {
        const { deadLetterMs, deadPerMailbox } = this.retention;
        if (state.deaths.get(slot)!.at + deadLetterMs <= now) this.owner.purge(slot);
        else if (state.mailboxes.queued[mailbox]! > deadPerMailbox) crowded.set(mailbox, deadPerMailbox);
      } else if (tasks.state[slot] === State.queued) {
        if (tasks.kind[slot] === Kind.result) {
          const { resultMs, resultsPerMailbox } = this.retention;
          if (tasks.accepted[slot]! + resultMs <= now) this.owner.purge(slot);
          else if (state.mailboxes.queued[mailbox]! > resultsPerMailbox)
            crowded.set(mailbox, resultsPerMailbox);
        } else if (tasks.accepted[slot]! + this.retention.taskMs <= now && tasks.notBefore[slot]! <= now) {
          this.owner.expire(slot, 'retention', 'nobody took it within its retention time');
        }
      }
    }
    this.cursor = end === tasks.end ? 0 : end;
    if (crowded.size > 0) this.thin(crowded);
  }

  /** Leaves so many in each of these mailboxes; the oldest go. */
  private thin(crowded: ReadonlyMap<number, number>): void {
    const { state, holds } = this.owner;
    const { tasks, deaths } = state;
    const waiting = new Map<number, number[]>();
    for (const slot of tasks.slots()) {
      const mailbox = tasks.mailbox[slot]!;
      if (
        !crowded.has(mailbox) ||
        tasks.state[slot] === State.leased ||
        holds.decided[slot] !== Decided.nothing
      )
        continue;
      const slots = waiting.get(mailbox);
      if (slots) slots.push(slot);
      else waiting.set(mailbox, [slot]);
    }
    const age = (slot: number): number => deaths.get(slot)?.at ?? 0;
    for (const [mailbox, slots] of waiting) {
      slots.sort((a, b) => age(a) - age(b) || tasks.order[a]! - tasks.order[b]!);
      const excess = slots.length - crowded.get(mailbox)!;
      for (const slot of slots.slice(0, Math.max(0, excess))) this.owner.purge(slot);
    }
  }

  /** Cuts the log, with a checkpoint or copies first where they pay. */
  private shorten(urgent: boolean): void {
    if (this.busy) return;
    const { state, journal, shard } = this.owner;
    const { checkpointBytes, checkpointShare, wasteBytes } = this.thrift;
    const extent = this.log.extent(shard);
    const cut = state.cut();
    if (cut > extent.first && cut > this.cutAt) {
      this.cutAt = cut;
      this.log.truncate(shard, cut);
      return;
    }
    const known = state.dedup.size * 17 + state.awaiting.size * 100;
    // What the last checkpoint repeats is not wasted, and copying tasks does not make it less.
    const waste = extent.bytes - state.bytes - known;
    const worth = urgent ? extent.bytes / 4 : Math.max(wasteBytes, state.bytes);
    const oldest = state.batches.oldest();
    const copied =
      this.copyBelow > 0 && (oldest === NONE || state.batches.sequence(oldest) >= this.copyBelow);
    const gained = this.owner.appliedBytes - this.checkpointedAt;
    // Between copies it would only be one more thing to be cut.
    const share = this.copyBelow > 0 ? Math.max(checkpointShare, 4) : checkpointShare;
    const pays =
      urgent ||
      copied ||
      gained >= Math.max(checkpointBytes, known * share) ||
      this.freed(extent) >= Math.max(wasteBytes, known * 4);
    if (copied || waste < worth) this.copyBelow = 0;
    // One that does not let the log be cut further would only put off the copies that do.
    if (pays && state.heldByCheckpoint && state.undropped.size <= UNDROPPED) {
      this.busy = true;
      this.checkpointedAt = this.owner.appliedBytes;
      journal.prologue(
        (record) => record.checkpoint(writeCheckpoint(state)),
        () => (this.busy = false),
      );
      return;
    }
    if (oldest === NONE || waste < worth) return;
    if (this.copyBelow === 0) {
      if (state.batches.sequence(oldest) > cut) return;
      this.copyBelow = state.sequence + 1;
    }
    this.busy = true;
    journal.prologue(
      (record) => this.copyForward(record),
      () => (this.busy = false),
    );
  }

  /** Bytes that the log could lose if there were a checkpoint now, were all records equally long. */
  private freed({ first, last, bytes }: Extent): number {
    const { batches, outbox, ownerSequence } = this.owner.state;
    const oldest = batches.oldest();
    const lives = oldest === NONE ? Infinity : batches.sequence(oldest);
    return (bytes * (Math.min(lives, outbox.oldest(), ownerSequence) - first)) / (last - first + 1);
  }

  /** Writes the tasks of the oldest records again, as they are now. */
  private copyForward(record: OwnerRecordWriter): void {
    const { state } = this.owner;
    const oldest = state.batches.oldest();
    if (oldest === NONE) return;
    for (const slot of this.slotsOf(oldest)) {
      if (record.length > this.thrift.copyBytes) return;
      this.copy(slot, record);
    }
  }

  private *slotsOf(batch: number): Generator<number> {
    const { tasks, batches } = this.owner.state;
    const placed = batches.placed(batch);
    for (let index = 0; index < placed.length; index++) {
      const slot = placed[index]!;
      if (slot !== NONE && tasks.state[slot] !== State.free && tasks.batch[slot] === batch) yield slot;
    }
  }

  private copy(slot: number, record: OwnerRecordWriter): void {
    const { tasks, batches, mailboxes, types, sessions, deaths } = this.owner.state;
    const offset = tasks.offset[slot]!;
    const leased = tasks.state[slot] === State.leased;
    record.copy(
      {
        order: tasks.order[slot]!,
        tag: tasks.tag[slot]!,
        slot,
        mailbox: mailboxes.name(tasks.mailbox[slot]!),
        type: types.text(tasks.type[slot]!),
        accepted: tasks.accepted[slot]!,
        attempts: tasks.attempts[slot]!,
        deliveries: tasks.deliveries[slot]!,
        notBefore: tasks.notBefore[slot]!,
        deadline: tasks.deadline[slot]!,
        flags: tasks.flags[slot]!,
        session: leased ? sessions.text(tasks.session[slot]!) : '',
        death: deaths.get(slot),
      },
      batches.bytes(tasks.batch[slot]!).subarray(offset, offset + tasks.length[slot]!),
    );
  }
}
