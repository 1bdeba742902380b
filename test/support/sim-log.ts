import { FileLog, type FileLogOptions } from '../../src/log/file.ts';
import type { Append, Log } from '../../src/log/log.ts';
import type { HubError } from '../../src/std/errors.ts';
import { silent } from '../../src/std/logger.ts';
import { VirtualClock } from './clock.ts';
import { type Outcome, Recorder, type Seen } from './log-reader.ts';
import { SeededRandom } from './random.ts';
import { SimStorage, type SimStorageOptions } from './sim-storage.ts';

/** A simulated disk and the logs on it, driven step by step in virtual time. */
export class SimLogs {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly disk: SimStorage;

  constructor(options: SimStorageOptions & { seed?: number } = {}) {
    this.random = new SeededRandom(options.seed ?? 1);
    this.disk = new SimStorage(this.clock, this.random, options);
  }

  /** Opens the log on the disk, or throws why it can't be. */
  open(options: Partial<FileLogOptions> = {}): FileLog {
    let outcome: FileLog | HubError | undefined;
    FileLog.recover(
      {
        storage: this.disk,
        clock: this.clock,
        logger: silent,
        shards: 2,
        generation: '0123456789abcdef0123456789abcdef',
        sync: 'always',
        segmentBytes: 16 * 1024,
        ...options,
      },
      (error, log) => {
        outcome = log ?? error;
      },
    );
    this.clock.run(() => outcome !== undefined);
    if (outcome instanceof FileLog) return outcome;
    throw outcome ?? new Error('the log did not open');
  }

  /** The process dies, and another one opens the log. */
  reopen(how: 'kill' | 'crash', options: Partial<FileLogOptions> = {}): FileLog {
    this.disk[how]();
    this.clock.clear();
    return this.open(options);
  }

  /** Appends all of these at once, and lets time pass until they are answered. */
  append(log: Log, shard: number, ...appends: Append[]): Outcome[] {
    const outcomes: Outcome[] = [];
    appends.forEach((append, index) => {
      log.append(shard, append, (error, sequence) => {
        outcomes[index] = error?.code ?? sequence;
      });
    });
    this.clock.run(() => Object.keys(outcomes).length === appends.length);
    return outcomes;
  }

  /** Everything that `shard` retains, or throws why it can't be read. */
  read(log: Log, shard: number): Seen[] {
    const recorder = new Recorder();
    const reading = log.read(shard, 1, recorder);
    this.clock.run(() => recorder.caughtUpAt !== undefined || recorder.error !== undefined);
    reading.stop();
    if (recorder.error !== undefined) throw recorder.error;
    return recorder.seen;
  }

  /** Closes `log`, and lets time pass until it is. */
  async close(log: Log): Promise<void> {
    const closed = log.close();
    for (let turn = 0; turn < 20; turn++) {
      this.clock.run();
      await Promise.resolve();
    }
    await closed;
  }
}
