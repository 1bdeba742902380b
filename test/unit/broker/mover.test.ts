import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Ingress } from '../../../src/broker/ingress.ts';
import { Owner } from '../../../src/broker/owner.ts';
import { Ticket } from '../../../src/broker/ticket.ts';
import { Atlas } from '../../../src/core/atlas.ts';
import type { PlacementRule } from '../../../src/core/placement.ts';
import type { Pools } from '../../../src/core/pools.ts';
import { State } from '../../../src/core/task-table.ts';
import { MemoryLog } from '../../../src/log/memory.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import { silent } from '../../../src/std/logger.ts';
import type { TaskFields } from '../../../src/wire/task.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';
import { batchOf, taskBytes } from '../../support/tasks.ts';

const POOLS: Pools = [
  { name: 'default', first: 0, shards: 2 },
  { name: 'other', first: 2, shards: 3 },
];
const SHARDS = 5;

/** A task where it is. */
interface Found {
  readonly id: string;
  readonly mailbox: string;
  readonly shard: number;
  readonly dead: boolean;
  readonly attempts: number;
}

/** All shards of two pools, each with an owner, and a way in. */
class Town {
  readonly clock = new VirtualClock();
  readonly log = new MemoryLog({ clock: this.clock, shards: SHARDS });
  readonly metrics = new Metrics({ clock: this.clock, taskTypes: 10 });
  /** What the edge goes by, and what the owners do: one may hear of a change before the other. */
  readonly edge = this.atlas();
  readonly owned = this.atlas();
  readonly ingress: Ingress;
  readonly owners: Owner[] = [];
  private version = 0;

  constructor() {
    const { clock, log, metrics } = this;
    this.ingress = new Ingress({
      log,
      atlas: this.edge,
      clock,
      random: new SeededRandom(1),
      metrics,
      taskBytes: 1000,
      batchTasks: 100,
      fullness: {
        crammed: () => undefined,
        full: () => undefined,
        known: (_shard, hashes, answer) =>
          answer(
            undefined,
            Array.from(hashes, () => false),
          ),
        closed: () => undefined,
        recipients: () => 0,
        serves: () => true,
      },
    });
    for (let shard = 0; shard < SHARDS; shard++) this.start(shard);
  }

  private atlas(): Atlas {
    return new Atlas({ pools: POOLS, rules: { version: 0, defaultPool: 'default', rules: [] } });
  }

  /** An owner begins with what the log holds. */
  start(shard: number): void {
    const { clock, log, metrics, ingress } = this;
    this.owners[shard]?.stop();
    const owner = new Owner({
      shard,
      log,
      atlas: this.owned,
      clock,
      random: new SeededRandom(shard),
      logger: silent,
      metrics,
      balance: 'round-robin',
      delivery: { maxAttempts: 3, backoffInitialMs: 10, backoffMaxMs: 100 },
      tickMs: 1,
      known: new TextCache(64),
      knownIds: undefined,
      graceMs: 1000,
      strangersUntil: () => 0,
      forward: (destination, source, parcels, done) => ingress.forward(destination, source, parcels, done),
      isAlive: () => false,
      starved: () => false,
      lost: (error) => {
        throw error;
      },
    });
    this.owners[shard] = owner;
    owner.follow(() => owner.begin(0, () => owner.deliver()));
    clock.advance(20);
  }

  publish(...tasks: readonly Partial<TaskFields>[]): void {
    const { bytes, ranges } = batchOf(...tasks.map(taskBytes));
    const ticket = new Ticket(tasks.length, () => {});
    this.ingress.publish(bytes, ranges, { origin: '', ticket, assigned() {}, recipients() {} });
    this.clock.advance(5);
  }

  /** Rules change, first for the edge or first for the owners. */
  place(rules: readonly PlacementRule[], edgeFirst: boolean, between: () => void = () => {}): void {
    const layout = { pools: POOLS, rules: { version: ++this.version, defaultPool: 'default', rules } };
    const changes = [
      () => this.edge.change(layout),
      () => {
        this.owned.change(layout);
        for (const owner of this.owners) owner.mover.review();
      },
    ];
    for (const change of edgeFirst ? changes : changes.reverse()) {
      change();
      between();
    }
  }

  /** A task dies of old age. */
  kill(id: string): void {
    for (const owner of this.owners) {
      const { tasks } = owner.state;
      for (const slot of [...tasks.slots()])
        if (owner.endings.facts(slot).id === id) owner.expire(slot, 'retention', 'nobody took it');
    }
    this.clock.advance(5);
  }

  settle(): void {
    for (let turn = 0; turn < 4; turn++) {
      for (const owner of this.owners) owner.mover.reconsider();
      this.clock.advance(1000);
    }
  }

  get tasks(): Found[] {
    return this.owners.flatMap((owner) => {
      const { tasks, mailboxes } = owner.state;
      const slots = [...tasks.slots()].sort((a, b) => tasks.order[a]! - tasks.order[b]!);
      return slots.map((slot) => ({
        id: owner.endings.facts(slot).id,
        mailbox: mailboxes.name(tasks.mailbox[slot]!),
        shard: owner.shard,
        dead: tasks.state[slot] === State.dead,
        attempts: tasks.attempts[slot]!,
      }));
    });
  }
}

const RULES: readonly (readonly PlacementRule[])[] = [
  [],
  [{ pool: 'other', agents: 'planner' }],
  [{ pool: 'other', agents: '*' }],
  [{ pool: 'other', taskTypes: 'ocr', spread: 3 }],
  [{ pool: 'default', taskTypes: 'ocr', spread: 2 }],
];

describe('what the rules place elsewhere', () => {
  test('moves with its order, its dead letters and its deadline, and is known at both ends', () => {
    const town = new Town();
    const ids = Array.from({ length: 50 }, (_, index) => `t${index}`);
    town.publish(...ids.map((id) => ({ to: 'planner', id })));
    town.publish({ to: 'planner', id: 'urgent', deadlineMs: 60_000 + town.clock.now() });
    town.kill('t7');
    town.place([{ pool: 'other', agents: 'planner' }], true);
    town.settle();
    const moved = town.tasks;
    expect(new Set(moved.map(({ shard }) => shard)).size).toBe(1);
    expect(moved[0]!.shard).toBeGreaterThanOrEqual(2);
    expect(moved.filter(({ dead }) => !dead).map(({ id }) => id)).toEqual([
      ...ids.filter((id) => id !== 't7'),
      'urgent',
    ]);
    expect(moved.filter(({ dead }) => dead)).toMatchObject([{ id: 't7', mailbox: 'dead:planner' }]);
    // An edge that has not heard of it still sends to where they were.
    town.edge.change({ pools: POOLS, rules: { version: 0, defaultPool: 'default', rules: [] } });
    town.publish(...ids.map((id) => ({ to: 'planner', id })));
    town.settle();
    town.place([{ pool: 'other', agents: 'planner' }], true);
    town.publish(...ids.map((id) => ({ to: 'planner', id })));
    town.settle();
    expect(town.tasks).toHaveLength(51);
    town.clock.advance(60_000);
    expect(town.tasks.find(({ id }) => id === 'urgent')).toMatchObject({ dead: true });
  });

  test('ends up there once, whatever is published, dies, changes and restarts in between', () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ publish: fc.constantFrom('planner', 'coder', 'type:ocr') }) },
      { weight: 1, arbitrary: fc.record({ kill: fc.nat(20) }) },
      { weight: 2, arbitrary: fc.record({ rules: fc.nat(RULES.length - 1), edgeFirst: fc.boolean() }) },
      { weight: 1, arbitrary: fc.record({ restart: fc.nat(SHARDS - 1) }) },
      { weight: 1, arbitrary: fc.record({ advance: fc.nat(30) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const town = new Town();
        const published: string[] = [];
        const publish = (to: string): void => {
          const id = `t${published.length}`;
          published.push(id);
          town.publish({ to, id }, { to, id });
        };
        for (const one of steps) {
          if ('publish' in one) publish(one.publish);
          else if ('kill' in one) town.kill(`t${one.kill}`);
          else if ('rules' in one) town.place(RULES[one.rules]!, one.edgeFirst, () => publish('type:ocr'));
          else if ('restart' in one) town.start(one.restart);
          else town.clock.advance(one.advance);
        }
        town.settle();
        const found = town.tasks;
        expect(found.map(({ id }) => id).sort()).toEqual([...published].sort());
        for (const { mailbox, shard } of found) {
          expect(town.owned.shardOf(mailbox)).toBe(shard);
          const living = mailbox.replace('dead:', '').replace(/~\d$/, '');
          const lanes = town.owned.lanes(living);
          expect(lanes.concat(lanes.map((lane) => `dead:${lane}`))).toContain(mailbox);
        }
        for (const { state } of town.owners) expect(state.outbox.size).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});
