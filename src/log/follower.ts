import type { HubError } from '../std/errors.ts';
import type { LogReader, Reading, Subject } from './log.ts';

/** How far one reader of one shard has come. The log that made it moves it on. */
export class Follower implements Reading {
  /** The sequence of the next record to give. */
  next: number;
  /** Nothing is lacking: records are given as they are committed. */
  live = false;
  stopped = false;
  readonly #reader: LogReader;
  readonly #target: number;
  readonly #onStop: (follower: Follower) => void;
  #caughtUp = false;

  /** `target` is the sequence after the last record that was durable when reading began. */
  constructor(reader: LogReader, from: number, target: number, onStop: (follower: Follower) => void) {
    this.next = Math.max(1, from);
    this.#reader = reader;
    this.#target = target;
    this.#onStop = onStop;
  }

  give(sequence: number, subject: Subject, bytes: Uint8Array): void {
    this.next = sequence + 1;
    this.#reader.record(sequence, subject, bytes);
  }

  /** Tells the reader, once, that it has everything that was there when it began. */
  settle(): void {
    if (this.#caughtUp || this.stopped || this.next < this.#target) return;
    this.#caughtUp = true;
    this.#reader.caughtUp();
  }

  fail(error: HubError): void {
    if (this.stopped) return;
    this.stop();
    this.#reader.failed(error);
  }

  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.live = false;
    this.#onStop(this);
  }
}
