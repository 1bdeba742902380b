import type { Clock } from '../std/clock.ts';
import type { Codec, Done } from './question.ts';
import type { Router, ShardQuestion } from './router.ts';

/** Words of the hash of a task's id. */
const WORDS = 4;

/** Whether an owner knows tasks of those names. */
export interface Knowing {
  knows(hash: Uint32Array): boolean;
}

interface Asked {
  readonly hashes: Uint32Array;
  readonly answer: Done<readonly boolean[]>;
}

/**
 * Asks owners whether they know tasks, wherever they are: those that are asked about in one turn, together. Only
 * for tasks that are about to be refused.
 */
export class KnownTasks {
  private readonly clock: Clock;
  private readonly owner: (shard: number) => Knowing | undefined;
  private readonly question: ShardQuestion<Uint32Array, readonly boolean[]>;
  private readonly asked = new Map<number, Asked[]>();

  constructor(router: Router, owner: (shard: number) => Knowing | undefined) {
    this.clock = router.options.clock;
    this.owner = owner;
    this.question = router.aboutShards(
      { name: 'KnownTasks', request: words, response: flags },
      true,
      (hashes, [shard], done) => done(undefined, known(owner(shard!)!, hashes)),
    );
  }

  /** The answers, in the order of the names; at once if the shard is served here. */
  ask(shard: number, hashes: Uint32Array, answer: Done<readonly boolean[]>): void {
    const owner = this.owner(shard);
    if (owner) return answer(undefined, known(owner, hashes));
    const waiting = this.asked.get(shard);
    if (waiting) {
      waiting.push({ hashes, answer });
      return;
    }
    const asked = [{ hashes, answer }];
    this.asked.set(shard, asked);
    this.clock.soon(() => {
      this.asked.delete(shard);
      this.askOwner(shard, asked);
    });
  }

  private askOwner(shard: number, asked: readonly Asked[]): void {
    const all = new Uint32Array(asked.reduce((sum, { hashes }) => sum + hashes.length, 0));
    let at = 0;
    for (const { hashes } of asked) {
      all.set(hashes, at);
      at += hashes.length;
    }
    this.question.ofShard(shard, all, (error, answers) => {
      let from = 0;
      for (const { hashes, answer } of asked) {
        const to = from + hashes.length / WORDS;
        if (error) answer(error, undefined);
        else answer(undefined, answers.slice(from, to));
        from = to;
      }
    });
  }
}

function known(owner: Knowing, hashes: Uint32Array): boolean[] {
  const answers: boolean[] = [];
  for (let at = 0; at < hashes.length; at += WORDS)
    answers.push(owner.knows(hashes.subarray(at, at + WORDS)));
  return answers;
}

/** Little-endian. */
const words: Codec<Uint32Array> = {
  write(hashes) {
    const bytes = Buffer.alloc(hashes.length * 4);
    for (const [index, word] of hashes.entries()) bytes.writeUInt32LE(word, index * 4);
    return bytes;
  },
  read: (bytes) =>
    Uint32Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(index * 4)),
};
const flags: Codec<readonly boolean[]> = {
  write: (values) => Buffer.from(values.map((value) => (value ? 1 : 0))),
  read: (bytes) => [...bytes].map((byte) => byte === 1),
};
