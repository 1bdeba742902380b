import type { ClusterListener, Vitals } from '../../src/cluster/cluster.ts';
import type { MembershipOptions } from '../../src/cluster/membership.ts';
import { Membership } from '../../src/cluster/membership.ts';
import type { HubError } from '../../src/std/errors.ts';
import { silent } from '../../src/std/logger.ts';
import { readAssignment } from '../../src/wire/cluster-documents.ts';
import { VirtualClock } from './clock.ts';
import { SeededRandom } from './random.ts';
import { Life } from './sim/life.ts';
import type { SimBusEnd } from './sim-bus.ts';
import { SimBus } from './sim-bus.ts';
import type { SimStoreEnd } from './sim-store.ts';
import { SimStore } from './sim-store.ts';

/** Shards by broker. */
type Counts = Partial<Record<'a' | 'b' | 'c' | 'd', number>>;

const IDLE: Vitals = { loadScore: 0, agents: 0, sessions: 0, tasksPerSecond: 0, full: [], recipients: [] };

/** Memberships of many brokers on one virtual clock. */
export class SimCluster {
  readonly random: SeededRandom;
  readonly clock: VirtualClock;
  readonly bus: SimBus;
  readonly store: SimStore;
  readonly shards: number;
  readonly members = new Map<string, SimMember>();

  constructor({ seed = 1, shards = 8 } = {}) {
    this.random = new SeededRandom(seed);
    this.clock = new VirtualClock({ random: () => this.random.float() });
    this.bus = new SimBus(this.random);
    this.store = new SimStore(this.clock, this.random);
    this.shards = shards;
  }

  /** Starts a broker; it joins while time passes. */
  start(id: string, options: Partial<MembershipOptions['member']> = {}): SimMember {
    const member = new SimMember(this, id, options);
    this.members.set(id, member);
    return member;
  }

  /** Starts brokers, each when the one before has joined, and lets the assignment settle. */
  join(...ids: string[]): SimMember[] {
    const joined = ids.map((id) => {
      const member = this.start(id);
      this.until(() => member.joined);
      return member;
    });
    this.clock.advance(100);
    return joined;
  }

  /** The owners by shard, as the store has them; none if it has no assignment that can be read. */
  get owners(): readonly string[] {
    try {
      return readAssignment(this.store.entries.get('assignment')?.value ?? '').owners;
    } catch {
      return [];
    }
  }

  /** How many shards each broker is to own. */
  get counts(): Counts {
    const counts: Counts = {};
    for (const owner of this.owners as (keyof Counts)[]) counts[owner] = (counts[owner] ?? 0) + 1;
    return counts;
  }

  /** Lets time pass until `holds`, and answers how much. */
  until(holds: () => boolean, withinMs = 60_000): number {
    const from = this.clock.now();
    this.clock.run(() => holds() || this.clock.now() - from > withinMs);
    if (!holds()) throw new Error(`it does not hold within ${withinMs} ms: ${String(holds)}`);
    return this.clock.now() - from;
  }
}

/** One of them. */
export class SimMember implements ClusterListener {
  readonly id: string;
  readonly life: Life;
  readonly bus: SimBusEnd;
  readonly store: SimStoreEnd;
  readonly cluster: Membership;
  joined = false;
  left = false;
  error: HubError | undefined;
  /** What it was told, in order. */
  readonly told: string[] = [];
  /** Called by what it is told, if set. */
  react: Partial<ClusterListener> = {};
  vitals = IDLE;

  constructor(world: SimCluster, id: string, options: Partial<MembershipOptions['member']>) {
    this.id = id;
    this.life = new Life(world.clock);
    this.bus = world.bus.end(id, this.life);
    this.store = world.store.end(this.life);
    this.cluster = new Membership({
      bus: this.bus,
      store: this.store,
      clock: this.life,
      random: world.random,
      logger: silent,
      member: { id, address: `${id}:50051`, version: '1.0.0', level: 1, ...options },
      shards: world.shards,
      vitals: () => this.vitals,
    });
    this.cluster.start(this, (error) => {
      this.error = error;
      this.joined = error === undefined;
    });
  }

  assignmentChanged(): void {
    this.told.push('assignment');
    this.react.assignmentChanged?.();
  }

  layoutChanged(): void {
    this.told.push('layout');
    this.react.layoutChanged?.();
  }

  claimChanged(shard: number): void {
    this.told.push(`claim ${shard}`);
    this.react.claimChanged?.(shard);
  }

  membersChanged(): void {
    this.told.push('members');
    this.react.membersChanged?.();
  }

  wanted(shard: number, by: string): void {
    this.told.push(`wanted ${shard} by ${by}`);
    this.react.wanted?.(shard, by);
  }

  /** The ids of the brokers it knows to live. */
  get sees(): string[] {
    return this.cluster.members().map(({ id }) => id);
  }

  /** It dies without a word. */
  kill(): void {
    this.life.end();
    this.bus.connect(false);
    this.store.connect(false);
  }

  /** It can talk to nobody, or can again. */
  connect(connected: boolean): void {
    this.bus.connect(connected);
    this.store.connect(connected);
  }

  /** It leaves in good order. */
  stop(): void {
    this.cluster.stop(() => {
      this.left = true;
    });
  }
}
