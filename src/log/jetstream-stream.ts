import type { StreamInfo } from 'nats';
import { Catalog } from './catalog.ts';
import type { StreamReader } from './jetstream-reader.ts';
import { ownerSubject, streamName, tasksSubject } from './jetstream-streams.ts';
import type { Log, Replication, Subject } from './log.ts';

type AppendDone = Parameters<Log['append']>[2];

/** About what a stream stores with each record: its frame, subject and headers. */
export const OVERHEAD_BYTES = 160;

/** What this process knows of the stream of one shard. */
export class Stream {
  readonly name: string;
  readonly subjects: Readonly<Record<Subject, string>>;
  /** Lengths of the records that were appended or read here. */
  readonly catalog: Catalog;
  /** Bytes that it took in the store of NATS when that was asked, and what was appended here since. */
  stored: number;
  readonly readers = new Set<StreamReader>();
  replication: Replication = { available: true, behind: 0, lag: 0 };
  /** The last one that its leader spoke of. */
  private lastSequence = 0;
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

  /** Bytes that it takes in the store of NATS, about: who follows it has seen all of them. */
  get taken(): number {
    const { first, next, bytes } = this.catalog;
    for (const reader of this.readers) if (reader.caughtUp) return bytes + (next - first) * OVERHEAD_BYTES;
    return this.stored;
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
  async refresh(ask: (name: string) => Promise<StreamInfo>): Promise<StreamInfo> {
    const { added } = this;
    const info = await ask(this.name).catch((error: unknown) => {
      this.replication = { ...this.replication, available: false };
      throw error;
    });
    const { state, cluster } = info;
    this.replication = replicationOf(cluster);
    this.lastSequence = Math.max(this.lastSequence, state.last_seq);
    this.stored = state.bytes + this.added - added;
    if (state.first_seq > this.catalog.first) this.catalog.drop(state.first_seq);
    return info;
  }

  /** Records that it is known to hold and that the slowest reader here has not been given yet. */
  get lag(): number {
    const last = Math.max(this.lastSequence, this.catalog.next - 1);
    let most = 0;
    for (const { next } of this.readers) most = Math.max(most, last + 1 - next);
    return most;
  }

  private isRead(sequence: number): boolean {
    for (const reader of this.readers) if (reader.caughtUp && reader.next <= sequence) return false;
    return true;
  }
}

/** Servers that keep one copy of everything say nothing of others. */
function replicationOf(cluster: StreamInfo['cluster']): Replication {
  const replicas = cluster?.replicas ?? [];
  return {
    available: cluster === undefined || (cluster.leader ?? '') !== '',
    behind: replicas.filter(({ current, offline }) => !current || offline === true).length,
    lag: replicas.reduce((most, { lag = 0 }) => Math.max(most, lag), 0),
  };
}
