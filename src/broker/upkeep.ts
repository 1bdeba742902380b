import { Kind, NONE, State } from '../core/task-table.ts';
import type { Extent, Log } from '../log/log.ts';
import type { Clock } from '../std/clock.ts';
import type { OwnerRecordWriter } from '../wire/owner-record.ts';
import { checkpointBytes as sizeOfCheckpoint, writeCheckpoint } from './checkpoint.ts';
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

/** Of a log that is about to be full, copies are worth their writing when they save this part: 1/16. */
const URGENT_SHARE = 16;
/** What an owner's record has beside its operations, about. */
const HEAD_BYTES = 64;
/** Copies are made of this part of what lives at a time: 1/4. */
const ROUNDS = 4;

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
  /** All rounds of copies together reach so far; 0: there are none. */
  private copyUntil = 0;
  /** Bytes that these rounds have written beside the tasks themselves. */
  private overhead = 0;
  /** Bytes that neither live nor become less by copies: the overhead of the last ones. */
  private residue = 0;

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

  /** Bytes that the log will lose without any task being delivered: results, and what has ended. */
  passing(): number {
    const { state, shard } = this.owner;
    const { bytes } = this.log.extent(shard);
    const stays = state.bytes - state.resultBytes + sizeOfCheckpoint(state);
    return Math.max(0, bytes - stays - this.residue - bytes / URGENT_SHARE);
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

  /**
   * One step of making the log short: a cut, or a checkpoint or copies that let it be cut further, where they pay.
   *
   * Survivors are copied in rounds: those of the oldest records, then a checkpoint that lets go of these, then the
   * next. So it takes no more room at a time than a part of what lives, and ends when the rest is not worth it.
   */
  private shorten(urgent: boolean): void {
    if (this.busy || !this.owner.serving) return;
    const { state, shard } = this.owner;
    const { checkpointBytes, checkpointShare, wasteBytes } = this.thrift;
    const cut = state.cut();
    if (cut > this.log.extent(shard).first && cut > this.cutAt) {
      this.cutAt = cut;
      this.log.truncate(shard, cut);
    }
    const extent = this.log.extent(shard);
    const known = sizeOfCheckpoint(state);
    // What the last checkpoint repeats is not wasted, and copying tasks does not make it less.
    const waste = extent.bytes - state.bytes - known;
    const least = urgent ? extent.bytes / URGENT_SHARE : Math.max(wasteBytes, state.bytes);
    this.residue = Math.min(this.residue, Math.max(0, waste));
    const isWorth = waste - this.residue >= least;
    const oldest = state.batches.oldest();
    const lives = oldest === NONE ? Infinity : state.batches.sequence(oldest);
    const copied = this.copyBelow > 0 && lives >= this.copyBelow;
    const gained = this.owner.appliedBytes - this.checkpointedAt;
    // Between copies it would only be one more thing to be cut.
    const share = this.copyBelow > 0 ? Math.max(checkpointShare, 4) : checkpointShare;
    const pays =
      copied ||
      gained >= Math.max(checkpointBytes, known * share) ||
      this.freed(extent) >= Math.max(wasteBytes, known * 4) ||
      (this.copyBelow === 0 && isWorth && waste >= known * 2) ||
      (urgent && isWorth);
    if (copied || !isWorth) this.copyBelow = 0;
    // One that does not let the log be cut further would only put off the copies that do.
    if (pays && state.heldByCheckpoint && state.undropped.size <= UNDROPPED) {
      this.checkpointedAt = this.owner.appliedBytes;
      this.overhead += known + HEAD_BYTES;
      return this.write(urgent, (record) => record.checkpoint(writeCheckpoint(state)));
    }
    if (this.copyUntil > 0 && (!isWorth || (lives >= this.copyUntil && cut >= lives))) {
      // All that lived when the rounds began was copied, or enough of it.
      this.copyUntil = 0;
      this.residue = Math.min(waste, this.overhead);
      return;
    }
    if (oldest === NONE || !isWorth) return;
    if (this.copyBelow === 0) {
      if (lives > cut) return;
      if (this.copyUntil === 0) {
        this.copyUntil = state.sequence + 1;
        this.overhead = 0;
      }
      this.copyBelow = this.nextRound(Math.max(state.bytes / ROUNDS, known * 2));
    }
    this.write(urgent, (record) => this.copyForward(record));
  }

  /** Writes before all else, and goes on once that is applied if there is no time to lose. */
  private write(urgent: boolean, write: (record: OwnerRecordWriter) => void): void {
    this.busy = true;
    this.owner.journal.prologue(write, () => {
      this.busy = false;
      // Those who follow the log get the record right after this.
      if (urgent) this.clock.soon(() => this.shorten(true));
    });
  }

  /** Below which record the oldest survivors have that many bytes together. */
  private nextRound(budget: number): number {
    const { batches, tasks } = this.owner.state;
    let bytes = 0;
    for (const batch of batches.inOrder()) {
      const sequence = batches.sequence(batch);
      if (bytes >= budget || sequence >= this.copyUntil) return sequence;
      for (const slot of this.slotsOf(batch)) bytes += tasks.length[slot]!;
    }
    return this.copyUntil;
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
    this.overhead += HEAD_BYTES;
    for (const slot of this.slotsOf(oldest)) {
      if (record.length > this.thrift.copyBytes) return;
      const before = record.length;
      this.copy(slot, record);
      this.overhead += record.length - before - state.tasks.length[slot]!;
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
