import type { Applied } from '../../../src/broker/apply.ts';
import { Applier } from '../../../src/broker/apply.ts';
import { idKey } from '../../../src/core/id-hash.ts';
import { ShardState } from '../../../src/core/shard-state.ts';
import { NONE } from '../../../src/core/task-table.ts';
import type { Append, Extent, Fill, Log, LogReader, Reading, Subject } from '../../../src/log/log.ts';
import { HubError } from '../../../src/std/errors.ts';
import type { LeaseName } from '../../../src/wire/lease.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { Broken } from './ledger.ts';
import type { Life } from './life.ts';
import { difference, snapshot } from './snapshot.ts';

/** Nothing in a world goes by the names of ids but the broker. */
const KEY = idKey('');

const NOTHING: Applied = {
  arrived() {},
  came() {},
  queued() {},
  broadcast() {},
  leased() {},
  died() {},
  ending() {},
  duplicate() {},
  posted() {},
  epochBegan() {},
};

interface Stored {
  readonly subject: Subject;
  readonly bytes: Uint8Array;
}

/**
 * One shard as it would be if its broker had never died and its log never been cut: it gets every
 * record once, and goes on for ever.
 */
class Shadow {
  readonly state: ShardState;
  readonly records = new Map<number, Stored>();
  private readonly shard: number;
  private readonly applier: Applier;

  constructor(shard: number, shards: number, knownIds: number, texts: TextCache) {
    this.shard = shard;
    this.state = new ShardState(shards, knownIds);
    this.applier = new Applier(this.state, texts, KEY);
    this.applier.live(NOTHING);
  }

  /** A reader of the log has got that record. */
  record(sequence: number, subject: Subject, bytes: Uint8Array): void {
    const last = this.state.sequence;
    if (sequence > last + 1)
      throw new Broken(`shard ${this.shard} has lost the records ${last + 1} to ${sequence - 1}`);
    if (sequence <= last) {
      const known = this.records.get(sequence);
      const same = !known || (known.subject === subject && Buffer.compare(known.bytes, bytes) === 0);
      if (!same) throw new Broken(`record ${sequence} of shard ${this.shard} has changed`);
      return;
    }
    this.records.set(sequence, { subject, bytes });
    this.applier.apply(sequence, subject, bytes);
  }
}

/** Proves that a broker's state is what its log says, at any time and wherever the log begins. */
export class Shadows {
  private readonly shadows: readonly Shadow[];
  private readonly shards: number;
  private readonly knownIds: number;
  private readonly texts = new TextCache(1024);

  constructor(shards: number, knownIds: number) {
    this.shards = shards;
    this.knownIds = knownIds;
    this.shadows = Array.from(
      { length: shards },
      (_, shard) => new Shadow(shard, shards, knownIds, this.texts),
    );
  }

  record(shard: number, sequence: number, subject: Subject, bytes: Uint8Array): void {
    this.shadows[shard]!.record(sequence, subject, bytes);
  }

  /** How often the task was delivered as far as the log says; `undefined`: it has ended. */
  deliveries(shard: number, { order, tag }: LeaseName): number | undefined {
    const { state } = this.shadows[shard]!;
    const slot = state.find(order, tag);
    return slot === NONE ? undefined : state.tasks.deliveries[slot]!;
  }

  /** The state of a broker is the same as if it had seen everything. */
  checkLive(shard: number, state: ShardState): void {
    const shadow = this.shadows[shard]!;
    if (state.sequence !== shadow.state.sequence) return;
    const difference_ = difference(snapshot(shadow.state), snapshot(state));
    if (difference_ !== undefined) {
      throw new Broken(
        `shard ${shard} at ${state.sequence}: - what its log says, + what the broker has\n${difference_}`,
      );
    }
  }

  /** Whoever reads the log from `first` on comes to the same state: that of a broker, or the last one. */
  checkReplay(shard: number, first: number, live?: ShardState): void {
    const { records, state: last } = this.shadows[shard]!;
    const state = live ?? last;
    if (first > state.sequence + 1) return;
    const replayed = new ShardState(this.shards, this.knownIds);
    const applier = new Applier(replayed, this.texts, KEY);
    for (let sequence = first; sequence <= state.sequence; sequence++) {
      const record = records.get(sequence);
      if (!record) throw new Broken(`record ${sequence} of shard ${shard} should be there`);
      applier.apply(sequence, record.subject, record.bytes);
    }
    if (replayed.sequence !== state.sequence) return;
    const difference_ = difference(snapshot(state), snapshot(replayed));
    if (difference_ !== undefined) {
      throw new Broken(
        `shard ${shard} from ${first} to ${state.sequence}: - before the cut, + after a replay\n${difference_}`,
      );
    }
  }
}

/** Sees what a broker reads of its log. */
export interface Tap {
  /** Before the broker gets it. */
  record(shard: number, sequence: number, subject: Subject, bytes: Uint8Array): void;
  /** The broker has it. */
  applied(shard: number): void;
  /** The broker has all that was there when it began. */
  caughtUp(shard: number): void;
  /** How long the way to the log takes an append, in milliseconds, and whether it is lost on it. */
  way(): { readonly ms: number; readonly lost: boolean };
}

/** The log as one process sees it, which dies, while the log lives on. */
export class TappedLog implements Log {
  readonly generation: string;
  readonly durability: Log['durability'];
  readonly shards: number;
  private readonly log: Log;
  private readonly life: Life;
  private readonly tap: Tap;

  constructor(log: Log, life: Life, tap: Tap) {
    this.log = log;
    this.life = life;
    this.tap = tap;
    this.durability = log.durability;
    this.shards = log.shards;
    this.generation = log.generation;
  }

  append(shard: number, append: Append, done: (error: HubError | undefined, sequence: number) => void): void {
    const { log, life } = this;
    if (life.over) return;
    const { ms, lost } = this.tap.way();
    const go = (): void => {
      if (lost) return done(new HubError('unavailable', 'the append was lost on its way'), 0);
      log.append(shard, append, (error, sequence) => {
        if (!life.over) done(error, sequence);
      });
    };
    if (ms > 0 || lost) life.after(ms, go);
    else go();
  }

  read(shard: number, from: number, reader: LogReader): Reading {
    const { life, tap } = this;
    return this.log.read(shard, from, {
      record(sequence, subject, bytes) {
        if (life.over) return;
        tap.record(shard, sequence, subject, bytes);
        reader.record(sequence, subject, bytes);
        tap.applied(shard);
      },
      caughtUp() {
        if (life.over) return;
        tap.caughtUp(shard);
        reader.caughtUp();
      },
      failed(error) {
        if (!life.over) reader.failed(error);
      },
    });
  }

  truncate(shard: number, before: number): void {
    if (!this.life.over) this.log.truncate(shard, before);
  }

  extent(shard: number): Extent {
    return this.log.extent(shard);
  }

  room(): number {
    return this.log.room();
  }

  fill(shard: number): Fill {
    return this.log.fill(shard);
  }

  get shared(): boolean {
    return this.log.shared;
  }

  close(): Promise<void> {
    return this.log.close();
  }
}
