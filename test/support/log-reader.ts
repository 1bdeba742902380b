import type { Append, Log, LogReader, Subject } from '../../src/log/log.ts';
import type { HubError } from '../../src/std/errors.ts';

/** A record as a reader got it. */
export interface Seen {
  readonly sequence: number;
  readonly subject: Subject;
  readonly text: string;
}

/** The outcome of an append: its sequence, or the code of the error. */
export type Outcome = number | HubError['code'];

/** Keeps everything it is given, and checks what every reader may rely on. */
export class Recorder implements LogReader {
  readonly seen: Seen[] = [];
  error: HubError | undefined;
  /** How many records it had when it was told that it has caught up. */
  caughtUpAt: number | undefined;
  onRecord: (sequence: number) => void = () => {};
  #waiting: { until: () => boolean; resolve: () => void }[] = [];

  record(sequence: number, subject: Subject, bytes: Uint8Array): void {
    const last = this.seen.at(-1)?.sequence ?? 0;
    if (sequence <= last) throw new Error(`record ${sequence} after ${last}`);
    if (this.error !== undefined) throw new Error('a record after the end');
    this.seen.push({ sequence, subject, text: Buffer.from(bytes).toString('latin1') });
    this.onRecord(sequence);
    this.#check();
  }

  caughtUp(): void {
    if (this.caughtUpAt !== undefined) throw new Error('caught up twice');
    this.caughtUpAt = this.seen.length;
    this.#check();
  }

  failed(error: HubError): void {
    if (this.error !== undefined) throw new Error('failed twice');
    this.error = error;
    this.#check();
  }

  get sequences(): number[] {
    return this.seen.map(({ sequence }) => sequence);
  }

  /** Waits until `condition` holds, or throws the error that ended the reading. */
  async until(condition: () => boolean): Promise<void> {
    if (!condition() && this.error === undefined) {
      await new Promise<void>((resolve) => {
        this.#waiting.push({ until: condition, resolve });
      });
    }
    if (!condition() && this.error !== undefined) throw this.error;
  }

  isCaughtUp(): Promise<void> {
    return this.until(() => this.caughtUpAt !== undefined);
  }

  has(sequence: number): Promise<void> {
    return this.until(() => (this.seen.at(-1)?.sequence ?? 0) >= sequence);
  }

  #check(): void {
    const ready = this.#waiting.filter(({ until }) => this.error !== undefined || until());
    this.#waiting = this.#waiting.filter((waiting) => !ready.includes(waiting));
    for (const { resolve } of ready) resolve();
  }
}

let appends = 0;

/** An append of `text`. */
export function tasks(text: string): Append {
  return { subject: 'tasks', bytes: Buffer.from(text, 'latin1'), id: `append-${++appends}` };
}

/** An owner record, conditional if `expectedOwner` is given. */
export function owner(text: string, expectedOwner?: number): Append {
  const append: Append = { subject: 'owner', bytes: Buffer.from(text, 'latin1'), id: `append-${++appends}` };
  return expectedOwner === undefined ? append : { ...append, expectedOwner };
}

/** Appends and waits for the answer. */
export function append(log: Log, shard: number, append: Append): Promise<Outcome> {
  return new Promise((resolve) => {
    log.append(shard, append, (error, sequence) => resolve(error?.code ?? sequence));
  });
}

/** Everything that `shard` retains from sequence `from` on. */
export async function readAll(log: Log, shard: number, from = 1): Promise<Seen[]> {
  const recorder = new Recorder();
  const reading = log.read(shard, from, recorder);
  await recorder.isCaughtUp();
  reading.stop();
  return recorder.seen;
}
