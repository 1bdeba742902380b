import type { Clock } from '../../../src/std/clock.ts';
import type { TaskFields } from '../../../src/wire/task.ts';
import type { SeededRandom } from '../random.ts';
import type { Composed, Subscription, Temper } from './client.ts';
import type { Ledger, Story } from './ledger.ts';

const AGENTS = ['ann', 'bob', 'cid', 'dee'];
/** Its workers take some types only, so its tasks overtake each other. */
const PICKY = 'dee';
const TYPES = ['ocr', 'sum'];
const REQUESTERS = ['eve', 'fay'];

export const REPLIES: readonly string[] = REQUESTERS.map((agent) => `reply:${agent}`);
export const MAILBOXES: readonly string[] = [...AGENTS, ...TYPES.map((type) => `type:${type}`)];

/** What a {@link Traffic} is drawn from. */
export interface TrafficOptions {
  readonly clock: Clock;
  readonly random: SeededRandom;
  readonly ledger: Ledger;
  /** By how much everything takes longer than in the smallest of worlds. */
  readonly pace: number;
  /** Tasks are large, and nobody works on them. */
  readonly heaps?: boolean;
}

/** What clients are like, and what they publish. */
export class Traffic {
  private readonly options: TrafficOptions;
  private tasks = 0;

  constructor(options: TrafficOptions) {
    this.options = options;
    options.ledger.unordered.add(PICKY);
  }

  /** A new task, or one that was published before. */
  compose(): Composed {
    const { random, clock, pace } = this.options;
    const nonce = `n${++this.tasks}`;
    const now = clock.now();
    const large = random.chance(this.options.heaps ? 0.7 : 0.1);
    const padding = large ? random.below(2000) : random.below(60);
    const payload = `${nonce} ${'.'.repeat(padding)}`;
    const known = random.chance(0.1) ? this.pick() : undefined;
    if (known && !known.copy) return { fields: { ...known.fields, payload }, nonce };
    const everybody = random.chance(0.04);
    const named = everybody || random.chance(0.95);
    const fields: TaskFields = {
      id: named ? `t${this.tasks}` : '',
      to: everybody ? '*' : this.one(MAILBOXES),
      type: random.chance(0.2) ? '' : this.one(TYPES),
      requester: named && random.chance(0.6) ? this.one(REQUESTERS) : '',
      priority: random.chance(0.7) ? 0 : 1 + random.below(5),
      deadlineMs: random.chance(0.1) ? Math.ceil(now + random.below(300 * pace)) : 0,
      notBeforeMs: random.chance(0.08) ? Math.ceil(now + random.below(150 * pace)) : 0,
      maxAttempts: random.chance(0.3) ? 1 + random.below(3) : 0,
      backoffMs: random.chance(0.3) ? 1 + random.below(40) : 0,
      maxRunMs: random.chance(0.1) ? (5 + random.below(60)) * pace : 0,
      contentType: '',
      headers: undefined,
      contextId: '',
      payload,
    };
    return { fields, nonce };
  }

  /** A task that is worth asking about. */
  pick(): Story | undefined {
    const { stories } = this.options.ledger;
    let skip = this.options.random.below(Math.min(stories.size, 40));
    for (const story of [...stories.values()].slice(-40)) {
      if (skip-- === 0) return story.id === '' ? undefined : story;
    }
    return undefined;
  }

  temper(): Temper {
    const { random, pace, heaps } = this.options;
    const subscriptions: Subscription[] = [];
    for (const mailbox of heaps ? [] : [...MAILBOXES, ...REPLIES]) {
      if (random.chance(0.5)) subscriptions.push(this.subscription(mailbox));
    }
    return {
      subscriptions,
      actMs: random.chance(0.8) ? (2 + random.below(30)) * pace : Infinity,
      workMs: [1, 10, 50, 150][random.below(4)]! * pace,
      fails: random.chance(0.5) ? random.float() * 0.5 : 0.05,
      rejects: random.float() * 0.05,
      releases: random.float() * 0.1,
      stalls: random.chance(0.3) ? 0.2 : 0.01,
    };
  }

  private subscription(mailbox: string): Subscription {
    const { random } = this.options;
    return {
      mailbox,
      window: random.chance(0.2) ? 0 : 1 + random.below(6),
      types: mailbox === PICKY && random.chance(0.7) ? [this.one(TYPES)] : [],
      listener: random.chance(0.1),
    };
  }

  private one<T>(list: readonly T[]): T {
    return list[this.options.random.below(list.length)]!;
  }
}
