import type { Append, Extent, Fill, Log, Reading } from '../../src/log/log.ts';
import { HubError } from '../../src/std/errors.ts';
import { type Posting, readOwner } from '../../src/wire/owner-record.ts';
import { TextCache } from '../../src/wire/text-cache.ts';

type Done = Parameters<Log['append']>[2];

/** An append that waits for the test's answer. */
export interface Held {
  readonly shard: number;
  readonly append: Append;
  readonly done: Done;
}

/** A log that answers when the test says so. */
export class HeldLog implements Log {
  readonly durability = 'memory';
  readonly generation = 'held';
  readonly shards: number;
  /** Everything that was appended, answered or not. */
  readonly appends: Held[] = [];
  private answered = 0;
  private sequence = 0;

  constructor(shards = 2) {
    this.shards = shards;
  }

  /** How many appends wait for an answer. */
  get waiting(): number {
    return this.appends.length - this.answered;
  }

  append(shard: number, append: Append, done: Done): void {
    this.appends.push({ shard, append, done });
  }

  /** Stores what has waited longest; its sequence. */
  store(): number {
    this.next().done(undefined, ++this.sequence);
    return this.sequence;
  }

  /** Refuses what has waited longest. */
  refuse(code: HubError['code']): void {
    this.next().done(new HubError(code, `the log says ${code}`), 0);
  }

  read(): Reading {
    return { stop() {} };
  }

  truncate(): void {}

  extent(): Extent {
    return { first: 1, last: this.sequence, bytes: 0 };
  }

  room(): number {
    return Infinity;
  }

  fill(): Fill {
    return { taken: 0, limit: Infinity };
  }

  get shared(): boolean {
    return false;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  private next(): Held {
    const held = this.appends[this.answered];
    if (!held) throw new Error('nothing waits for an answer');
    this.answered++;
    return held;
  }
}

/** The operations of an owner's record, by name, with their numbers and texts. */
export function operations(record: Uint8Array): string[] {
  return read(record).said;
}

/** What an owner's record posts. */
export function postings(record: Uint8Array): Posting[] {
  return read(record).posted;
}

function read(record: Uint8Array): { said: string[]; posted: Posting[] } {
  const said: string[] = [];
  const posted: Posting[] = [];
  const note =
    (name: string) =>
    (...details: readonly unknown[]): void => {
      const plain = details.filter((one) => typeof one === 'number' || typeof one === 'string');
      said.push([name, ...plain].join(' '));
    };
  readOwner(record, new TextCache(16), {
    lease: note('lease'),
    finish: note('finish'),
    drop: note('drop'),
    release: note('release'),
    kill: note('kill'),
    revive: note('revive'),
    fanout: note('fanout'),
    copy: note('copy'),
    post(posting) {
      said.push(`post ${posting.destination} ${posting.number} ${posting.mailbox}`);
      posted.push(posting);
    },
    forwarded: note('forwarded'),
    expect: note('expect'),
    resolved: note('resolved'),
    checkpoint: note('checkpoint'),
  });
  return { said, posted };
}
