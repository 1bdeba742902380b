import type { ShardState } from '../../src/core/shard-state.ts';
import { Kind, orderOf } from '../../src/core/task-table.ts';

/** What a test says of a task; the rest does not matter to it. */
export interface Sketch {
  readonly mailbox?: string;
  readonly type?: string;
  readonly kind?: number;
  readonly priority?: number;
  readonly flags?: number;
  readonly notBefore?: number;
  readonly deadline?: number;
  /** Tasks of the same number have the same id. */
  readonly id?: number;
  readonly length?: number;
}

/** Puts tasks into a state as a log would that has them in records one after the other. */
export class Feeder {
  readonly state: ShardState;
  private sequence = 0;
  private ids = 1_000_000;

  constructor(state: ShardState) {
    this.state = state;
  }

  /** The slots of tasks that come in one record; `NONE` for those whose ids were known. */
  record(...sketches: readonly Sketch[]): number[] {
    const { state } = this;
    const sequence = ++this.sequence;
    state.sequence = sequence;
    const batch = state.batches.open(sequence, new Uint8Array(100), sketches.length);
    const slots = sketches.map((sketch, index) => this.enqueue(sketch, orderOf(sequence, index), batch));
    state.batches.release(batch);
    return slots;
  }

  /** The slot of a task in a record of its own. */
  task(sketch: Sketch = {}): number {
    return this.record(sketch)[0]!;
  }

  private enqueue(sketch: Sketch, order: number, batch: number): number {
    const { mailboxes, types } = this.state;
    const mailbox = mailboxes.acquire(sketch.mailbox ?? 'planner');
    const type = types.acquire(sketch.type ?? '');
    const id = sketch.id ?? this.ids++;
    const slot = this.state.enqueue({
      order,
      tag: 7,
      mailbox,
      type,
      kind: sketch.kind ?? Kind.task,
      priority: sketch.priority ?? 1,
      flags: sketch.flags ?? 0,
      a: id,
      b: 0,
      c: 0,
      d: 1,
      accepted: 1000,
      notBefore: sketch.notBefore ?? 0,
      deadline: sketch.deadline ?? 0,
      batch,
      offset: 24,
      length: sketch.length ?? 10,
    });
    mailboxes.release(mailbox);
    types.release(type);
    return slot;
  }
}
