import { fnv1aText } from './fnv1a.ts';
import { lane, laneOf, PlacementTable } from './placement.ts';
import type { Layout, Pool } from './pools.ts';
import { plainLayout, poolOf } from './pools.ts';
import { capabilityMailbox, home, shardOf, shardOfBytes } from './shard.ts';

/** Places that are remembered. */
const REMEMBERED = 100_000;
const CAPABILITY = capabilityMailbox('');

/** Where a mailbox lives. */
export interface Place {
  readonly pool: string;
  readonly shard: number;
  /** The mailboxes that take its tasks in its stead, see {@link lane}, if it is split. */
  readonly lanes: readonly string[];
}

/**
 * Where every mailbox lives: a function of its id and the layout alone. While no rule says otherwise, that is
 * the hash of the id modulo the shards of the default pool, and nothing else is looked at.
 */
export class Atlas {
  private current: Layout;
  private table: PlacementTable;
  private readonly pools = new Map<string, Pool>();
  /** Shards of the default pool, if everything lives in there; else 0. */
  private plainShards = 0;
  private readonly known = new Map<string, Place>();

  constructor(layout: Layout) {
    this.current = layout;
    this.table = new PlacementTable(layout.rules);
    this.change(layout);
  }

  /** With nothing but a default pool of so many shards. */
  static plain(shards: number): Atlas {
    return new Atlas(plainLayout(shards));
  }

  get layout(): Layout {
    return this.current;
  }

  /** Whether everything lives in the default pool, and in one mailbox each. */
  get isPlain(): boolean {
    return this.plainShards > 0;
  }

  /** Whether nobody has ever made rules, so that everything is where it always was. */
  get isUntouched(): boolean {
    return this.current.rules.version === 0;
  }

  /** From now on mailboxes live as that layout says. */
  change(layout: Layout): void {
    this.current = layout;
    this.table = new PlacementTable(layout.rules);
    this.pools.clear();
    for (const pool of layout.pools) this.pools.set(pool.name, pool);
    const { rules, defaultPool } = layout.rules;
    const first = layout.pools[0]!;
    this.plainShards = rules.length === 0 && defaultPool === first.name ? first.shards : 0;
    this.known.clear();
  }

  /** The shard that holds the mailbox. */
  shardOf(mailbox: string): number {
    return this.plainShards > 0 ? shardOf(mailbox, this.plainShards) : this.place(mailbox).shard;
  }

  /** {@link shardOf} of an agent or a capability, whose hash is known. */
  shardOfHash(mailbox: string, hash: number): number {
    return this.plainShards > 0 ? hash % this.plainShards : this.place(mailbox).shard;
  }

  /** {@link shardOf} of a mailbox that stands in `bytes`, too. */
  shardOfBytes(bytes: Uint8Array, mailbox: string): number {
    return this.plainShards > 0
      ? shardOfBytes(bytes, 0, bytes.length, this.plainShards)
      : this.place(mailbox).shard;
  }

  /** Where the mailbox lives. */
  place(mailbox: string): Place {
    const known = this.known.get(mailbox);
    if (known) return known;
    if (this.known.size === REMEMBERED) this.known.clear();
    const place = this.find(mailbox);
    this.known.set(mailbox, place);
    return place;
  }

  /** How many shards share the mailboxes of the pool that the shard belongs to. */
  peers(shard: number): number {
    return poolOf(this.current.pools, shard)?.shards ?? 1;
  }

  /** The mailboxes that take the tasks for this one: itself, or those that it is split into. */
  lanes(mailbox: string): readonly string[] {
    if (this.plainShards > 0) return [mailbox];
    const { lanes } = this.place(mailbox);
    return lanes.length > 0 ? lanes : [mailbox];
  }

  /** That of its {@link lanes} which takes the task with that word in the hash of its id. */
  laneOf(mailbox: string, word: number): string {
    if (this.plainShards > 0) return mailbox;
    const { lanes } = this.place(mailbox);
    return lanes.length > 0 ? lanes[word % lanes.length]! : mailbox;
  }

  private find(mailbox: string): Place {
    const { rules, pools } = this.current;
    const { pool: wanted, spread } = this.table.place(mailbox);
    // Rules may name a pool of which this broker has not heard yet.
    const pool = this.pools.get(wanted) ?? this.pools.get(rules.defaultPool) ?? pools[0]!;
    const of = home(mailbox);
    const part = spread > 1 && of.startsWith(CAPABILITY) ? laneOf(of) : undefined;
    // Its lanes stand side by side, so that they are in as many shards as there can be.
    const number = part ? fnv1aText(part.base) + part.number : fnv1aText(of);
    const splits = spread > 1 && !part && mailbox.startsWith(CAPABILITY);
    const lanes = Array.from({ length: splits ? spread : 0 }, (_, index) => lane(mailbox, spread, index));
    return { pool: pool.name, shard: pool.first + (number % pool.shards), lanes };
  }
}
