import { describe, expect, test } from '@jest/globals';
import { readPulse } from '../../../src/wire/cluster-documents.ts';
import { SimCluster, type SimMember } from '../../support/sim-cluster.ts';

/** Owns what it is assigned as a broker does: acquires, serves, and lets go when it is wanted elsewhere. */
class Owner {
  readonly serving = new Map<number, number>();
  private readonly member: SimMember;
  private readonly acquiring = new Map<number, { cancel(): void }>();

  constructor(member: SimMember) {
    this.member = member;
    member.react = {
      assignmentChanged: () => this.look(),
      wanted: (shard) => this.letGo(shard),
      // The log would refuse it anything more.
      claimChanged: (shard) => {
        if (member.cluster.claim(shard)?.broker !== member.id) this.letGo(shard);
      },
    };
  }

  private letGo(shard: number): void {
    if (this.serving.delete(shard)) this.member.cluster.release(shard);
    this.look();
  }

  private look(): void {
    const { cluster, id } = this.member;
    for (let shard = 0; cluster.assigned(shard); shard++) {
      const mine = cluster.assigned(shard)?.broker === id;
      if (!mine) {
        this.acquiring.get(shard)?.cancel();
        this.acquiring.delete(shard);
      } else if (!this.serving.has(shard) && !this.acquiring.has(shard)) {
        this.acquiring.set(
          shard,
          cluster.acquire(shard, (revision) => {
            this.acquiring.delete(shard);
            this.serving.set(shard, revision);
            cluster.serve(shard, { revision, counter: 1 });
          }),
        );
      }
    }
  }
}

function own(world: SimCluster, id: string): { member: SimMember; owner: Owner } {
  const member = world.start(id);
  const owner = new Owner(member);
  world.until(() => member.joined);
  world.clock.advance(50);
  return { member, owner };
}

/** Which brokers serve each shard. */
function servers(world: SimCluster, owners: readonly { member: SimMember; owner: Owner }[]): string[] {
  return Array.from({ length: world.shards }, (_, shard) =>
    owners
      .filter(({ member, owner }) => !member.life.over && owner.serving.has(shard))
      .map(({ member }) => member.id)
      .join(),
  );
}

describe('acquiring a shard', () => {
  test('that nobody serves is granted with the revision of the assignment', () => {
    const world = new SimCluster({ shards: 2 });
    const [a] = world.join('a');
    let revision = 0;
    a!.cluster.acquire(1, (granted) => (revision = granted));
    expect(revision).toBe(0);
    world.clock.advance(10);
    expect(revision).toBe(a!.cluster.assigned(1)!.revision);
    expect(a!.told.filter((what) => what.startsWith('wanted'))).toEqual([]);
  });

  test('that another broker serves is granted when that one has let go, and not before', () => {
    const world = new SimCluster({ shards: 2 });
    const [a] = world.join('a');
    a!.cluster.serve(1, { revision: 1, counter: 1 });
    const [b] = world.join('b');
    expect(b!.cluster.assigned(1)?.broker).toBe('b');
    let granted = false;
    b!.cluster.acquire(1, () => (granted = true));
    world.clock.advance(3000);
    expect(granted).toBe(false);
    expect(a!.told.filter((what) => what === 'wanted 1 by b')).toHaveLength(1);
    a!.cluster.release(1);
    world.clock.advance(10);
    expect(granted).toBe(true);
  });

  test('that a broker serves of which nothing was heard yet waits until it is heard', () => {
    const world = new SimCluster({ shards: 2 });
    const [a] = world.join('a');
    a!.cluster.serve(1, { revision: 1, counter: 1 });
    world.bus.cut('a', 'b', { back: false });
    const [b] = world.join('b');
    let granted = false;
    b!.cluster.acquire(1, () => (granted = true));
    world.clock.advance(600);
    expect(granted).toBe(false);
    world.bus.heal();
    world.clock.advance(600);
    expect(a!.told).toContain('wanted 1 by b');
    expect(granted).toBe(false);
  });

  test('that a dead broker served is granted when it is missed', () => {
    const world = new SimCluster({ shards: 2 });
    const [a, b] = world.join('a', 'b');
    b!.cluster.serve(1, { revision: 1, counter: 1 });
    world.clock.advance(10);
    b!.kill();
    let granted = false;
    world.until(() => a!.cluster.assigned(1)?.broker === 'a');
    a!.cluster.acquire(1, () => (granted = true));
    world.until(() => granted, 10);
  });

  test('waits silently while the assignment names another, and stops when it is cancelled', () => {
    const world = new SimCluster({ shards: 2 });
    const [a, b] = world.join('a', 'b');
    a!.cluster.serve(0, { revision: 1, counter: 1 });
    world.clock.advance(10);
    let granted = 0;
    const first = b!.cluster.acquire(0, () => granted++);
    const second = b!.cluster.acquire(0, () => granted++);
    world.clock.advance(3000);
    expect(a!.told).not.toContain('wanted 0 by b');
    first.cancel();
    let error: unknown;
    b!.cluster.move(0, 'b', (moved) => (error = moved));
    world.clock.advance(50);
    expect(error).toBeUndefined();
    expect(a!.told).toContain('wanted 0 by b');
    a!.cluster.release(0);
    world.clock.advance(50);
    expect(granted).toBe(1);
    second.cancel();
  });

  test('asks again until it is heard, and is told again what was lost', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const world = new SimCluster({ seed, shards: 8 });
      world.bus.loss = 0.4;
      world.store.lostCalls = 0.1;
      const owners = [own(world, 'a'), own(world, 'b')];
      world.until(() => servers(world, owners).join('') === world.owners.join(''), 60_000);
    }
  });

  test('is refused to who was named once, but is not any more', () => {
    const world = new SimCluster({ shards: 2 });
    const [a, b] = world.join('a', 'b');
    a!.cluster.serve(1, { revision: 1, counter: 1 });
    world.clock.advance(10);
    // b has not heard yet that the shard is a's again.
    world.store.watchDelayMs = () => 5000;
    a!.cluster.move(1, 'a', () => {});
    world.clock.advance(20);
    let granted = false;
    b!.cluster.acquire(1, () => (granted = true));
    world.clock.advance(1000);
    expect(a!.told).not.toContain('wanted 1 by b');
    a!.cluster.release(1);
    world.clock.advance(1000);
    expect(granted).toBe(false);
    expect(b!.cluster.assigned(1)?.broker).toBe('a');
  });

  test('is granted soon if it was not heard that the other has let go', () => {
    const world = new SimCluster({ shards: 2 });
    const [a] = world.join('a');
    a!.cluster.serve(1, { revision: 1, counter: 1 });
    const [b] = world.join('b');
    let granted = false;
    b!.cluster.acquire(1, () => (granted = true));
    let pulses = 0;
    b!.bus.subscribe('pulse', (bytes) => (pulses += Number(readPulse(bytes).id === 'a')));
    world.until(() => pulses === 1);
    world.bus.cut('a', 'b');
    a!.cluster.release(1);
    world.clock.advance(5);
    world.bus.heal();
    world.until(() => granted, 300);
  });

  test('is told again when the broker is named anew', () => {
    const world = new SimCluster({ shards: 2 });
    const [a, b] = world.join('a', 'b');
    a!.cluster.serve(1, { revision: 1, counter: 1 });
    b!.cluster.acquire(1, () => {});
    world.clock.advance(1000);
    a!.cluster.move(1, 'a', () => {});
    world.clock.advance(1000);
    a!.cluster.move(1, 'b', () => {});
    world.clock.advance(1000);
    expect(a!.told.filter((what) => what === 'wanted 1 by b')).toHaveLength(2);
  });

  test('is believed by who knows only an older assignment', () => {
    const world = new SimCluster({ shards: 2 });
    const [a] = world.join('a');
    a!.cluster.serve(1, { revision: 1, counter: 1 });
    const [b] = world.join('b');
    world.store.watchDelayMs = () => 5000;
    b!.cluster.move(0, 'b', () => {});
    world.until(() => b!.cluster.assigned(0)?.broker === 'b');
    a!.cluster.serve(0, { revision: 1, counter: 1 });
    world.clock.advance(10);
    b!.cluster.acquire(0, () => {});
    world.clock.advance(50);
    expect(a!.told).toContain('wanted 0 by b');
  });
});

describe('brokers that own what they are assigned', () => {
  test('hand shards over when one joins, drains or dies, and never serve one twice while all are heard', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const world = new SimCluster({ seed, shards: 8 });
      const owners = [own(world, 'a')];
      const settle = (withinMs: number): void => {
        world.until(() => {
          const now = servers(world, owners);
          expect(now.filter((ids) => ids.includes(','))).toEqual([]);
          return now.join() === world.owners.join();
        }, withinMs);
      };
      settle(100);
      owners.push(own(world, 'b'), own(world, 'c'));
      settle(1000);
      owners[0]!.member.cluster.drain(true);
      world.clock.advance(10);
      settle(1000);
      expect(owners[0]!.owner.serving.size).toBe(0);
      owners[1]!.member.kill();
      world.until(() => world.counts.b === undefined, 3000);
      settle(1000);
      expect(world.counts).toEqual({ c: 8 });
    }
  });
});

describe('brokers in trouble of every kind', () => {
  test('agree in the end on who there is, who is to own what, and do', () => {
    for (const seed of [12, 33, 101, 102]) {
      const world = new SimCluster({ seed, shards: 10 });
      const { random, bus, store } = world;
      const owners: { member: SimMember; owner: Owner }[] = [];
      const start = (): void => {
        const member = world.start(`b${owners.length}`);
        owners.push({ member, owner: new Owner(member) });
      };
      const someone = (): SimMember | undefined => {
        const living = owners.filter(({ member }) => !member.life.over && !member.left);
        return living[random.below(living.length)]?.member;
      };
      const troubles: ((member: SimMember) => void)[] = [
        start,
        start,
        (member) => member.kill(),
        (member) => member.stop(),
        (member) => member.life.pause(),
        (member) => member.life.resume(),
        (member) => member.connect(false),
        (member) => member.connect(true),
        (member) => member.bus.connect(random.chance(0.5)),
        (member) => member.store.connect(random.chance(0.5)),
        (member) => bus.isolate(member.id),
        (member) => bus.cut(member.id, someone()!.id, { back: random.chance(0.5) }),
        () => bus.heal(),
        (member) => member.cluster.drain(random.chance(0.5)),
        (member) => member.cluster.move(random.below(10), someone()!.id, () => {}),
        (member) => store.write(`member.${member.id}`, undefined),
        () => (store.watchDelayMs = () => random.float() * 2000),
        () => (store.lostAnswers = store.lostCalls = store.rivals = random.float() * 0.3),
        () => (bus.loss = random.float() * 0.3),
      ];
      for (let n = 0; n < 3; n++) start();
      for (let n = 0; n < 60; n++) {
        world.clock.advance(random.float() * 2000);
        const member = someone();
        if (member) troubles[random.below(troubles.length)]!(member);
        else start();
      }

      bus.heal();
      bus.loss = store.lostCalls = store.lostAnswers = store.rivals = 0;
      store.watchDelayMs = store.delayMs;
      start();
      const living = owners.filter(({ member }) => !member.life.over && !member.left);
      for (const { member } of living) {
        member.life.resume();
        member.connect(true);
        member.cluster.drain(false);
      }
      // Who was thrown out again and again comes back after half a minute at the latest.
      world.clock.advance(60_000);
      const staying = living.filter(({ member }) => !member.left);
      const ids = staying.map(({ member }) => member.id).sort();
      for (const { member } of staying) {
        expect({ seed, id: member.id, sees: member.sees }).toEqual({ seed, id: member.id, sees: ids });
        const assigned = world.owners.map((_, shard) => member.cluster.assigned(shard)?.broker);
        expect(assigned).toEqual(world.owners);
        const claims = world.owners.map((_, shard) => member.cluster.claim(shard)?.broker);
        expect(claims).toEqual(world.owners);
      }
      const members = [...store.entries.keys()].filter((key) => key.startsWith('member.'));
      expect(members.sort()).toEqual(ids.map((id) => `member.${id}`));
      expect({ seed, servers: servers(world, staying) }).toEqual({ seed, servers: world.owners });
    }
  });
});
