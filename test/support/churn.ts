import type { Assignable, Assignment } from '../../src/core/assignment.ts';
import { assign, UNASSIGNED } from '../../src/core/assignment.ts';
import { SeededRandom } from './random.ts';

/** What a change of the brokers did to the shards. */
export interface Step {
  /** Shards that got another owner. */
  readonly moved: number;
  /** The fewest that had to: those without a broker that may keep them, and what makes the numbers even. */
  readonly least: number;
  /** Most shards of a broker less fewest. */
  readonly uneven: number;
  /** The most that one broker got at once. */
  readonly got: number;
}

/** A way in which brokers come and go. */
export interface Churn {
  readonly name: string;
  readonly steps: readonly Step[];
}

/** Shards dealt to brokers that come, drain, die and are replaced, as the proposer of a cluster does it. */
class Deal {
  readonly steps: Step[] = [];
  private readonly shards: number;
  private members: Assignable[] = [];
  private now: Assignment = UNASSIGNED;

  constructor(shards: number) {
    this.shards = shards;
  }

  get ids(): readonly string[] {
    return this.members.map(({ id }) => id);
  }

  /** Brokers that come at the same time. */
  join(ids: readonly string[], version = '1.0.0'): void {
    this.become([...this.members, ...ids.map((id) => ({ id, version, draining: false }))]);
  }

  /** Brokers that are gone at the same time. */
  lose(ids: readonly string[]): void {
    this.become(this.members.filter(({ id }) => !ids.includes(id)));
  }

  drain(gone: string): void {
    this.become(
      this.members.map((member) => ({ ...member, draining: member.draining || member.id === gone })),
    );
  }

  /** What was done so far is how it begins. */
  begin(): void {
    this.steps.length = 0;
  }

  private become(members: readonly Assignable[]): void {
    const before = this.now;
    const after = assign(before, members, { shards: this.shards });
    const changed = after.owners.filter((owner, shard) => owner !== before.owners[shard]);
    const open = members.filter(({ draining }) => !draining).map(({ id }) => id);
    const counts = open.map((id) => after.owners.filter((owner) => owner === id).length);
    this.steps.push({
      moved: changed.length,
      least: this.least(before, open),
      uneven: Math.max(...counts) - Math.min(...counts),
      got: Math.max(...open.map((id) => changed.filter((owner) => owner === id).length)),
    });
    this.members = [...members];
    this.now = after;
  }

  private least({ owners }: Assignment, open: readonly string[]): number {
    const held = open.map((id) => owners.filter((owner) => owner === id).length);
    const low = Math.floor(this.shards / open.length);
    const kept = held.reduce((sum, each) => sum + Math.min(each, low), 0);
    return this.shards - kept - Math.min(this.shards % open.length, held.filter((each) => each > low).length);
  }
}

const named = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => `broker-${String(from + index).padStart(3, '0')}`);

/** What can happen to a cluster of `brokers` with so many shards; the same every time. */
export function churns(brokers: number, shards: number): readonly Churn[] {
  const ways: Record<string, (deal: Deal) => void> = {
    'grows from one broker, one at a time': (deal) => {
      deal.join(named(0, 1));
      deal.begin();
      for (let count = 1; count < brokers; count++) deal.join(named(count, count + 1));
    },
    'all come at once': (deal) => {
      deal.join(named(0, 1));
      deal.begin();
      deal.join(named(1, brokers));
    },
    'shrinks to half, each drained first': (deal) => {
      deal.join(named(0, brokers));
      deal.begin();
      for (const id of named(brokers / 2, brokers).toReversed()) {
        deal.drain(id);
        deal.lose([id]);
      }
    },
    'a third dies at once (a zone), and comes back': (deal) => {
      deal.join(named(0, brokers));
      deal.begin();
      const zone = named(0, brokers).filter((_, index) => index % 3 === 0);
      deal.lose(zone);
      deal.join(zone);
    },
    'one dies and comes back, ten times': (deal) => {
      deal.join(named(0, brokers));
      deal.begin();
      for (let time = 0; time < 10; time++) {
        deal.lose(named(7, 8));
        deal.join(named(7, 8));
      }
    },
    'a rolling update: each is drained, goes, and comes back newer': (deal) => {
      deal.join(named(0, brokers));
      deal.begin();
      for (const id of named(0, brokers).toReversed()) {
        deal.drain(id);
        deal.lose([id]);
        deal.join([`${id}-new`], '1.1.0');
      }
    },
    '1,000 changes by chance': (deal) => {
      deal.join(named(0, brokers));
      deal.begin();
      const random = new SeededRandom(1);
      let next = brokers;
      for (let change = 0; change < 1000; change++) {
        const { ids } = deal;
        const any = ids[random.below(ids.length)]!;
        if (ids.length < brokers * 0.8 || (random.below(2) === 0 && ids.length < brokers * 1.2))
          deal.join(named(next, ++next));
        else deal.lose([any]);
      }
    },
  };
  return Object.entries(ways).map(([name, go]) => {
    const deal = new Deal(shards);
    go(deal);
    return { name, steps: deal.steps };
  });
}
