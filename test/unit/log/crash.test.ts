import { describe, test } from '@jest/globals';
import { FileLog, type FileLogOptions } from '../../../src/log/file.ts';
import type { Subject } from '../../../src/log/log.ts';
import { silent } from '../../../src/std/logger.ts';
import { VirtualClock } from '../../support/clock.ts';
import { Recorder, type Seen } from '../../support/log-reader.ts';
import { SeededRandom } from '../../support/random.ts';
import { SimStorage } from '../../support/sim-storage.ts';

const SEEDS = Number(process.env['SEEDS'] ?? 600);
const SHARDS = 3;
const STEPS = 120;
const SYNCS = ['always', 'interval', 'none'] as const;

interface Sent {
  readonly subject: Subject;
  readonly text: string;
  readonly expectedOwner: number | undefined;
}

/** What a shard may and must hold. */
class ShardModel {
  /** Acknowledged records by sequence. */
  acked = new Map<number, Sent>();
  /** Sent, and not answered. */
  open = new Set<Sent>();
  /** The highest truncation that was asked for. */
  before = 1;
  recorder = new Recorder();
}

/** One life after the other of a log, on a disk that outlives them. */
class World {
  readonly random: SeededRandom;
  readonly clock: VirtualClock;
  readonly disk: SimStorage;
  readonly options: FileLogOptions;
  readonly shards = Array.from({ length: SHARDS }, () => new ShardModel());
  log: FileLog;
  #texts = 0;

  constructor(seed: number) {
    const random = new SeededRandom(seed);
    this.random = random;
    this.clock = new VirtualClock({ random: () => random.float() });
    const slow = random.below(4);
    this.disk = new SimStorage(this.clock, random, { delayMs: () => (slow === 0 ? 0 : random.below(slow)) });
    this.options = {
      storage: this.disk,
      clock: this.clock,
      logger: silent,
      shards: SHARDS,
      generation: random.token(16),
      sync: SYNCS[random.below(SYNCS.length)] as FileLogOptions['sync'],
      syncIntervalMs: 7,
      segmentBytes: 1024 << random.below(5),
    };
    this.log = this.#open();
  }

  run(): void {
    for (let step = 0; step < STEPS; step++) this.#step();
    this.#restart('kill');
    const closed = this.log.close();
    void closed;
    this.clock.run();
    this.log = this.#open();
    this.#check('kept');
  }

  #step(): void {
    const { random } = this;
    const shard = random.below(SHARDS);
    const choice = random.float();
    if (choice < 0.55)
      for (let count = random.below(8); count >= 0; count--) this.#append(random.below(SHARDS));
    else if (choice < 0.75) this.#truncate(shard);
    else if (choice < 0.93) this.clock.advance(random.below(12));
    else if (choice < 0.95) this.disk.failNext(random.chance(0.7) ? 'write' : 'create', 'ENOSPC');
    else if (choice < 0.96) this.disk.failNext(random.chance(0.5) ? 'write' : 'sync', 'EIO');
    else this.#restart(random.chance(0.5) ? 'kill' : 'crash');
    for (let calls = random.below(30); calls > 0; calls--) this.clock.tick();
    this.#matches();
  }

  #append(shard: number): void {
    const { random, log } = this;
    const model = this.shards[shard] as ShardModel;
    if (random.chance(0.02)) this.#readAgain(model, shard);
    const subject = random.chance(0.3) ? 'owner' : 'tasks';
    const owners = model.recorder.seen.filter((seen) => seen.subject === 'owner');
    const expectedOwner =
      subject === 'owner' && random.chance(0.6) ? (owners.at(-1)?.sequence ?? random.below(3)) : undefined;
    const certain =
      expectedOwner !== undefined &&
      expectedOwner === owners.at(-1)?.sequence &&
      ![...model.open].some((open) => open.subject === 'owner');
    const size = random.chance(0.05) ? random.below(6000) : random.below(200);
    const sent: Sent = { subject, text: `${++this.#texts}:${'x'.repeat(size)}`, expectedOwner };
    const append = { subject, bytes: Buffer.from(sent.text), id: `${this.#texts}` } as const;
    model.open.add(sent);
    const conditional = expectedOwner === undefined ? append : { ...append, expectedOwner };
    log.append(shard, conditional, (error, sequence) => {
      if (log !== this.log) throw new Error('the dead answered');
      if (error?.code === 'unavailable') return;
      if (!model.open.delete(sent)) throw new Error('answered twice');
      if (error === undefined) model.acked.set(sequence, sent);
      else if (error.code === 'aborted') must(!certain, 'the only owner goes on');
      else must(error.code === 'exhausted', 'no other reason to refuse');
    });
  }

  /** A second reader of what the first one has. */
  #readAgain(model: ShardModel, shard: number): void {
    const { log } = this;
    const { recorder } = model;
    const second = new Recorder();
    second.onRecord = (sequence) => {
      const first = recorder.seen.find((seen) => seen.sequence === sequence);
      must(first === undefined || first.text === second.seen.at(-1)?.text, 'all readers see the same');
    };
    second.failed = ({ code }) => must(code === 'unavailable', 'a log fails only as unavailable');
    log.read(shard, 1, second);
  }

  #truncate(shard: number): void {
    const model = this.shards[shard] as ShardModel;
    const { first, last } = this.log.extent(shard);
    const before = first + this.random.below(last - first + 2);
    this.log.truncate(shard, before);
    model.before = Math.max(model.before, before);
  }

  #restart(how: 'kill' | 'crash'): void {
    this.disk[how]();
    this.clock.clear();
    this.log = this.#open();
    const lossy = how === 'crash' && this.options.sync !== 'always';
    this.#check(lossy ? 'lost' : 'kept');
  }

  #open(): FileLog {
    let opened: FileLog | undefined;
    FileLog.recover(this.options, (error, log) => {
      if (error !== undefined) throw error;
      opened = log;
    });
    this.clock.run(() => opened !== undefined);
    const log = opened as FileLog;
    for (const [shard, model] of this.shards.entries()) {
      model.recorder = new Recorder();
      log.read(shard, 1, model.recorder);
    }
    this.clock.run(() => this.shards.every(({ recorder }) => recorder.caughtUpAt !== undefined));
    return log;
  }

  /** What is read after a restart is what was acknowledged, and perhaps what was on its way. */
  #check(promise: 'kept' | 'lost'): void {
    for (const model of this.shards) {
      const { seen } = model.recorder;
      const read = new Map(seen.map((record) => [record.sequence, record]));
      const last = seen.at(-1)?.sequence ?? 0;
      seen.forEach(({ sequence }, index) =>
        must(sequence === last - seen.length + 1 + index, 'without gaps'),
      );
      if (promise === 'kept') {
        const owner = Math.max(
          0,
          ...[...model.acked].map(([at, { subject }]) => (subject === 'owner' ? at : 0)),
        );
        for (const sequence of model.acked.keys()) {
          if (sequence >= model.before || sequence === owner)
            must(read.has(sequence), 'acknowledged is kept');
        }
      }
      for (const [sequence, { text, subject }] of read) {
        const sent = model.acked.get(sequence) ?? [...model.open].find((open) => open.text === text);
        if (sent === undefined) throw new Error('a record that nobody has sent');
        must(sent.text === text && sent.subject === subject, 'records stay as they were');
        model.acked.set(sequence, sent);
      }
      for (const sequence of model.acked.keys()) if (sequence > last) model.acked.delete(sequence);
      model.before = Math.min(model.before, last + 1);
      model.open.clear();
      checkFencing(model, seen);
    }
  }

  /** A live reader has seen what was acknowledged, in order. */
  #matches(): void {
    for (const [shard, { acked, recorder }] of this.shards.entries()) {
      if (recorder.error !== undefined) {
        must(recorder.error.code === 'unavailable', 'a log fails only as unavailable');
        this.#restart(this.random.chance(0.5) ? 'kill' : 'crash');
        return;
      }
      const { first, last } = this.log.extent(shard);
      must(last === (recorder.seen.at(-1)?.sequence ?? first - 1), 'readers are up to date');
      for (const { sequence, text } of recorder.seen.slice(-5)) {
        must(acked.get(sequence)?.text === text, 'readers see what was acknowledged');
      }
    }
  }
}

/** A cheap `expect`: it is asked a million times. */
function must(holds: boolean, promise: string): void {
  if (!holds) throw new Error(`broken: ${promise}`);
}

/** Each conditional record follows the owner record it expected. */
function checkFencing({ acked }: ShardModel, seen: readonly Seen[]): void {
  let lastOwner: number | undefined;
  for (const { sequence, subject } of seen) {
    if (subject !== 'owner') continue;
    const expected = acked.get(sequence)?.expectedOwner;
    if (expected !== undefined && lastOwner !== undefined) must(expected === lastOwner, 'fenced');
    lastOwner = sequence;
  }
}

describe('a file log, through crashes at any moment', () => {
  test(`keeps what it acknowledged and shows nothing else (${SEEDS} seeds)`, () => {
    const only = process.env['SEED'];
    const from = only === undefined ? 1 : Number(only);
    const to = only === undefined ? SEEDS : from;
    for (let seed = from; seed <= to; seed++) {
      try {
        new World(seed).run();
      } catch (error) {
        throw new Error(`seed ${seed} (run it alone with SEED=${seed})`, { cause: error });
      }
    }
  });
});
