import type { StreamInfo } from 'nats';
import { Catalog } from './catalog.ts';
import type { StreamReader } from './jetstream-reader.ts';
import { ownerSubject, streamName, tasksSubject } from './jetstream-streams.ts';
import type { Log, Subject } from './log.ts';

type AppendDone = Parameters<Log['append']>[2];

/** About what a stream stores with each record: its frame, subject and headers. */
export const OVERHEAD_BYTES = 160;

/** What this process knows of the stream of one shard. */
export class Stream {
  readonly name: string;
  readonly subjects: Readonly<Record<Subject, string>>;
  /** Lengths of the records that were appended or read here. */
  readonly catalog: Catalog;
  /** Bytes that it takes in the store of NATS, about. */
  stored: number;
  readonly readers = new Set<StreamReader>();
  /** Bytes added to `stored` by appends, ever. */
  private added = 0;
  /** Owner records that are stored, and that some reader has not been given yet. */
  private unread: { readonly sequence: number; readonly done: AppendDone }[] = [];

  constructor(prefix: string, shard: number, { state }: StreamInfo) {
    this.name = streamName(prefix, shard);
    this.subjects = { tasks: tasksSubject(prefix, shard), owner: ownerSubject(prefix, shard) };
    // A stream that has never held anything says that it begins at 0.
    this.catalog = new Catalog(Math.max(1, state.first_seq));
    this.catalog.next = Math.max(this.catalog.first, state.last_seq + 1);
    this.stored = state.bytes;
  }

  /** There is such a record. */
  note(sequence: number, subject: Subject, length: number): void {
    const { catalog } = this;
    if (sequence < catalog.first) return;
    catalog.put(sequence, 1, 0, length);
    if (subject === 'owner' && sequence > catalog.owner) catalog.owner = sequence;
  }

  /** A record was appended here. An owner's is answered when those who follow the stream have been given it. */
  appended(sequence: number, subject: Subject, length: number, done: AppendDone): void {
    this.note(sequence, subject, length);
    this.stored += length + OVERHEAD_BYTES;
    this.added += length + OVERHEAD_BYTES;
    if (subject === 'owner' && !this.isRead(sequence)) this.unread.push({ sequence, done });
    else done(undefined, sequence);
  }

  /** Readers have moved on: answers what waited for them. */
  release(): void {
    while (this.unread.length > 0 && this.isRead(this.unread[0]!.sequence)) {
      const { done, sequence } = this.unread.shift()!;
      done(undefined, sequence);
    }
  }

  /** Asks what it holds now, since other processes append and truncate too. */
  async refresh(ask: (name: string) => Promise<StreamInfo>): Promise<void> {
    const { added } = this;
    const { state } = await ask(this.name);
    this.stored = state.bytes + this.added - added;
    if (state.first_seq > this.catalog.first) this.catalog.drop(state.first_seq);
  }

  private isRead(sequence: number): boolean {
    for (const reader of this.readers) if (reader.caughtUp && reader.next <= sequence) return false;
    return true;
  }
}
