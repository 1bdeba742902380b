import { describe, expect, test } from '@jest/globals';
import { UNASSIGNED } from '../../../src/core/assignment.ts';
import { Membership } from '../../../src/cluster/membership.ts';
import { HubError } from '../../../src/std/errors.ts';
import { readMember, readPulse, writeAssignment } from '../../../src/wire/cluster-documents.ts';
import { SimCluster } from '../../support/sim-cluster.ts';

/** The longest that a death may go unnoticed: silence, then up to two pulses' time. */
const NOTICED_MS = 1750 + 500;

describe('being heard', () => {
  test('goes on while pulses come back in time, and begins anew after a sleep, whatever comes back late', () => {
    const world = new SimCluster({ shards: 4 });
    const [a] = world.join('a', 'b');
    const since = a!.cluster.heardSince();
    expect(since).toBeLessThan(world.clock.now());
    world.clock.advance(20_000);
    expect(a!.cluster.heardSince()).toBe(since);

    // What it said is under way for longer than it may be.
    const { delayMs } = world.bus;
    world.bus.delayMs = () => 3000;
    world.clock.advance(2500);
    expect(a!.cluster.heardSince()).toBe(Infinity);
    world.clock.advance(10_000);
    expect(a!.cluster.heardSince()).toBe(Infinity);
    world.bus.delayMs = delayMs;
    world.clock.advance(10_000);
    expect(a!.cluster.heardSince()).toBeGreaterThan(since);
    expect(a!.cluster.heardSince()).toBeLessThan(world.clock.now());
  });

  test('ends with the connection', () => {
    const world = new SimCluster({ shards: 4 });
    const [a] = world.join('a', 'b');
    a!.bus.connect(false);
    world.clock.advance(10);
    a!.bus.connect(true);
    world.clock.advance(1000);
    expect(a!.cluster.heardSince()).toBeGreaterThan(world.clock.now() - 1010);
  });
});

describe('joining', () => {
  test('of the first broker gives it every shard, which it knows when it has joined', () => {
    const world = new SimCluster({ shards: 4 });
    const a = world.start('a');
    world.until(() => a.joined);
    expect(a.told).toEqual([]);
    expect([0, 1, 2, 3].map((shard) => a.cluster.assigned(shard)?.broker)).toEqual(['a', 'a', 'a', 'a']);
    expect(a.sees).toEqual(['a']);
    world.clock.advance(1);
    expect(a.told).toEqual(['members', 'assignment']);
  });

  test('of three, one after the other, ends with equal parts that all agree on', () => {
    const world = new SimCluster({ shards: 8 });
    const all = world.join('a', 'b', 'c');
    expect(Object.values(world.counts).sort()).toEqual([2, 3, 3]);
    for (const { cluster, sees } of all) {
      expect(sees).toEqual(['a', 'b', 'c']);
      expect(world.owners.map((_, shard) => cluster.assigned(shard)?.broker)).toEqual(world.owners);
      expect(cluster.vitals('b')).toEqual(expect.objectContaining({ loadScore: 0 }));
    }
  });

  test('of many at once ends the same, whatever is late', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const world = new SimCluster({ seed, shards: 12 });
      world.store.delayMs = () => world.random.float() * 300;
      world.store.watchDelayMs = () => world.random.float() * 800;
      world.bus.delayMs = () => world.random.float() * 100;
      for (const id of ['a', 'b', 'c', 'd']) world.start(id);
      world.until(() => [...world.members.values()].every(({ joined }) => joined));
      world.clock.advance(5000);
      expect(world.counts).toEqual({ a: 3, b: 3, c: 3, d: 3 });
    }
  });

  test('waits for a store and a bus that are not there yet', () => {
    const world = new SimCluster();
    const a = world.start('a');
    a.connect(false);
    world.clock.advance(20_000);
    expect(a.joined).toBe(false);
    a.store.connect(true);
    world.clock.advance(20_000);
    expect(a.joined).toBe(false);
    a.bus.connect(true);
    world.until(() => a.joined, 6000);
  });

  test('is refused once the cluster has been raised above what the broker speaks, and not before', () => {
    const world = new SimCluster();
    const b = world.start('b', { level: 1 });
    world.until(() => b.joined);
    const a = world.start('a', { level: 2 });
    world.until(() => a.joined);
    world.clock.advance(2000);
    expect(world.store.entries.get('level')?.value).toBe('1');
    b.stop();
    world.until(() => world.store.entries.get('level')?.value === '2');
    const old = world.start('c', { level: 1 });
    world.until(() => old.error !== undefined);
    expect(old.error).toMatchObject({ code: 'precondition', message: expect.stringContaining('level 2') });
    expect(old.joined).toBe(false);
  });

  test('says that the store refuses it', () => {
    const world = new SimCluster();
    const a = world.start('a');
    a.store.refusal = new HubError('permission', 'not you');
    world.clock.advance(1000);
    expect(a.error?.code).toBe('permission');
    expect(a.joined).toBe(false);
  });

  test('survives lost calls, lost answers, and a rival who rewrites what is to be changed', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const world = new SimCluster({ seed });
      world.store.lostCalls = 0.2;
      world.store.lostAnswers = 0.2;
      world.store.rivals = 0.2;
      world.bus.loss = 0.1;
      for (const id of ['a', 'b']) world.start(id);
      world.until(() => [...world.members.values()].every(({ joined }) => joined), 300_000);
      world.until(() => world.counts.a === 4 && world.counts.b === 4, 300_000);
    }
  });

  test('needs an id that can be part of a subject', () => {
    const world = new SimCluster();
    expect(() => world.start('a b')).toThrow("the broker's id a b may have letters");
    expect(() => world.start('a.*')).toThrow(HubError);
    expect(world.start('agenthub-0_x7.k').cluster).toBeInstanceOf(Membership);
  });
});

describe('a broker that dies', () => {
  test('loses its claims and its place, and its shards go to the others', () => {
    const world = new SimCluster({ shards: 6 });
    const [a, b, c] = world.join('a', 'b', 'c');
    const shard = world.owners.indexOf('c');
    c!.cluster.serve(shard, { revision: 1, counter: 1 });
    world.clock.advance(10);
    expect(a!.cluster.claim(shard)).toEqual({ broker: 'c', epoch: { revision: 1, counter: 1 } });

    c!.kill();
    a!.told.length = 0;
    const noticed = world.until(() => !a!.sees.includes('c'));
    expect(noticed).toBeGreaterThan(1750 - 500);
    expect(noticed).toBeLessThanOrEqual(NOTICED_MS);
    expect(a!.cluster.claim(shard)).toBeUndefined();
    expect(a!.cluster.isLive('c')).toBe(false);
    world.clock.advance(1000);
    expect(a!.told).toEqual(expect.arrayContaining(['members', `claim ${shard}`, 'assignment']));
    expect(world.counts).toEqual({ a: 3, b: 3 });
    expect(world.store.entries.has('member.c')).toBe(false);
    expect(b!.sees).toEqual(['a', 'b']);
  });

  test('is replaced as proposer by the one that has lived longest then', () => {
    const world = new SimCluster({ shards: 6 });
    const [a, b, c] = world.join('a', 'b', 'c');
    a!.kill();
    world.until(() => world.counts.b === 3 && world.counts.c === 3, NOTICED_MS + 100);
    b!.kill();
    world.until(() => world.counts.c === 6, NOTICED_MS + 100);
    expect(c!.sees).toEqual(['c']);
  });

  test('together with all others leaves documents that the next ones clear away', () => {
    const world = new SimCluster({ shards: 4 });
    for (const member of world.join('a', 'b')) member.kill();
    const next = world.start('c');
    world.until(() => world.counts.c === 4, NOTICED_MS + 200);
    expect(next.sees).toEqual(['c']);
    world.clock.advance(100);
    expect([...world.store.entries.keys()].sort()).toEqual(['assignment', 'level', 'member.c']);
  });

  test('and says farewell is not waited for', () => {
    const world = new SimCluster({ shards: 4 });
    const [a, b] = world.join('a', 'b');
    b!.cluster.serve(3, { revision: 1, counter: 1 });
    world.clock.advance(10);
    b!.stop();
    world.until(() => b!.left && world.counts.a === 4, 50);
    expect(a!.cluster.isLive('b')).toBe(false);
    expect(a!.sees).toEqual(['a']);
    expect(a!.cluster.claim(3)).toBeUndefined();
    world.clock.advance(5000);
    expect(a!.sees).toEqual(['a']);
  });

  test('leaves in bounded time if the store does not answer, and is removed by others', () => {
    const world = new SimCluster({ shards: 4 });
    const [, b] = world.join('a', 'b');
    b!.store.connect(false);
    b!.stop();
    world.until(() => b!.left, 1600);
    world.until(() => !world.store.entries.has('member.b') && world.counts.a === 4, 1000);
  });

  test('that stops before it has joined says so', () => {
    const world = new SimCluster();
    const a = world.start('a');
    a.stop();
    world.clock.advance(5000);
    expect(a.error?.code).toBe('cancelled');
    expect(a.left).toBe(true);
    expect([...world.store.entries.keys()]).not.toContain('member.a');
  });
});

describe('a broker that sleeps', () => {
  test('is given up by the others, judges nobody when it wakes up, and comes back', () => {
    const world = new SimCluster({ shards: 6 });
    const [a, b, c] = world.join('a', 'b', 'c');
    a!.life.pause();
    world.until(() => world.counts.b === 3 && world.counts.c === 3, NOTICED_MS + 100);
    world.clock.advance(10_000);
    expect(world.store.entries.has('member.a')).toBe(false);
    const assignments = b!.told.filter((what) => what === 'assignment').length;

    a!.life.resume();
    world.clock.advance(20);
    expect(a!.sees).toEqual(['a', 'b', 'c']);
    world.until(() => world.counts.a === 2 && world.counts.b === 2, 1000);
    world.clock.advance(10_000);
    // It went back to work once: nobody was thrown out meanwhile.
    expect(b!.told.filter((what) => what === 'assignment').length).toBe(assignments + 1);
    expect(c!.sees).toEqual(['a', 'b', 'c']);
    expect(readMember(world.store.entries.get('member.a')!.value).id).toBe('a');
  });

  test('for less than a second is not missed, and misses nobody', () => {
    const world = new SimCluster();
    const all = world.join('a', 'b', 'c');
    for (const member of all) {
      member.told.length = 0;
      member.life.pause();
      world.clock.advance(1000);
      member.life.resume();
      world.clock.advance(3000);
    }
    expect(all.map(({ told }) => told)).toEqual([[], [], []]);
  });
});

describe('a broker that is cut off', () => {
  test('from everything judges nobody, and allows everybody a full time again', () => {
    const world = new SimCluster({ shards: 6 });
    const [a, b] = world.join('a', 'b', 'c');
    a!.connect(false);
    world.clock.advance(20_000);
    expect(a!.sees).toEqual(['a', 'b', 'c']);
    expect(b!.sees).toEqual(['b', 'c']);
    // It hears itself, and nobody else is heard for a while.
    world.bus.isolate('a');
    a!.connect(true);
    world.clock.advance(1500);
    expect(a!.sees).toEqual(expect.arrayContaining(['a', 'b', 'c']));
    world.bus.heal();
    world.clock.advance(3000);
    expect(a!.sees).toEqual(['a', 'b', 'c']);
    expect(world.counts).toEqual({ a: 2, b: 2, c: 2 });
  });

  test('from the bus only keeps its shards until the others take them', () => {
    const world = new SimCluster({ shards: 4 });
    const [a, b] = world.join('a', 'b');
    b!.bus.connect(false);
    world.until(() => world.counts.a === 4, NOTICED_MS + 200);
    expect(b!.cluster.assigned(0)?.broker).toBe('a');
    expect(b!.sees).toEqual(['a', 'b']);
    expect(a!.sees).toEqual(['a']);
    b!.bus.connect(true);
    world.until(() => world.counts.b === 2, 60_000);
  });

  test('from the others, but not from the store, is left out, and does not keep the store busy', () => {
    const world = new SimCluster({ shards: 4 });
    const [a, b, c] = world.join('a', 'b', 'c');
    c!.stop();
    world.bus.isolate('b');
    world.clock.advance(10_000);
    const before = world.store.writes;
    let seen = false;
    a!.react = { membersChanged: () => (seen ||= a!.cluster.isLive('b')) };
    world.clock.advance(60_000);
    expect(seen).toBe(false);
    expect(world.store.writes - before).toBeLessThan(40);
    world.bus.heal();
    world.until(() => world.counts.a === 2 && world.counts.b === 2, 60_000);
    world.clock.advance(1000);
    expect(b!.sees).toEqual(['a', 'b']);
  });
});

describe('the document of a broker', () => {
  test('comes back if somebody removes it', () => {
    const world = new SimCluster({ shards: 4 });
    const [a, b] = world.join('a', 'b');
    world.store.write('member.b', undefined);
    world.until(() => world.store.entries.has('member.b'), 200);
    world.clock.advance(100);
    expect([a!.sees, b!.sees]).toEqual([
      ['a', 'b'],
      ['a', 'b'],
    ]);
  });

  test('comes back if somebody removes it before the broker has seen it', () => {
    const world = new SimCluster({ shards: 4 });
    world.join('a');
    world.store.watchDelayMs = () => 1000;
    const b = world.start('b');
    world.until(() => world.store.entries.has('member.b'));
    world.clock.advance(100);
    b.store.connect(false);
    world.store.write('member.b', undefined);
    b.store.connect(true);
    world.until(() => world.store.entries.has('member.b'), 6000);
    world.until(() => b.joined, 2000);
  });
});

describe('a pulse', () => {
  test('that is older than the last one heard is ignored', () => {
    const world = new SimCluster({ shards: 2 });
    const [a, b] = world.join('a', 'b');
    const heard: Buffer[] = [];
    const tap = world.bus.end('tap', world.clock);
    tap.subscribe('pulse', (bytes) => heard.push(bytes));
    b!.cluster.serve(1, { revision: 1, counter: 1 });
    world.clock.advance(10);
    b!.cluster.release(1);
    world.clock.advance(10);
    const old = heard.find((bytes) => readPulse(bytes).claims.length > 0);
    tap.publish('pulse', old!);
    world.clock.advance(5);
    expect(a!.cluster.claim(1)).toBeUndefined();
  });

  test('that is none is ignored', () => {
    const world = new SimCluster({ shards: 2 });
    const [a] = world.join('a');
    for (const text of ['', 'null', '{}', '{"id":"b"}', '{"id":"b","n":1,"claims":[[0]]}']) {
      a!.bus.publish('pulse', Buffer.from(text));
      a!.bus.publish('want.a', Buffer.from(text));
    }
    world.clock.advance(1000);
    expect(a!.sees).toEqual(['a']);
    expect(a!.cluster.isLive('b')).toBe(false);
  });

  test('goes out at once when claims change, once for all that change in a turn', () => {
    const world = new SimCluster({ shards: 8 });
    const [a, b] = world.join('a', 'b');
    let pulses = 0;
    world.bus.end('tap', world.clock).subscribe('pulse', () => pulses++);
    world.bus.delayMs = () => 1;
    world.clock.advance(1);
    pulses = 0;
    for (let shard = 0; shard < 8; shard++) b!.cluster.serve(shard, { revision: 1, counter: 1 });
    world.clock.advance(2);
    expect(pulses).toBeLessThanOrEqual(2);
    for (let shard = 0; shard < 8; shard++) expect(a!.cluster.claim(shard)?.broker).toBe('b');
  });

  test('of the highest epoch counts where two brokers serve a shard', () => {
    const world = new SimCluster({ shards: 2 });
    const [a, b] = world.join('a', 'b');
    a!.cluster.serve(0, { revision: 5, counter: 1 });
    b!.cluster.serve(0, { revision: 4, counter: 9 });
    world.clock.advance(10);
    expect([a, b].map((each) => each!.cluster.claim(0)?.broker)).toEqual(['a', 'a']);
    a!.cluster.release(0);
    world.clock.advance(10);
    expect([a, b].map((each) => each!.cluster.claim(0)?.broker)).toEqual(['b', 'b']);
  });
});

describe('two brokers that both propose', () => {
  test('end with one assignment', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const world = new SimCluster({ seed, shards: 9 });
      world.join('a', 'b', 'c');
      // a does not hear c, which does not hear a: both think that c, or a, is dead.
      world.bus.cut('a', 'c');
      world.store.delayMs = () => world.random.float() * 50;
      world.clock.advance(20_000);
      world.bus.heal();
      world.until(() => new Set(Object.values(world.counts)).size === 1, 60_000);
      const { owners } = world;
      world.clock.advance(10_000);
      expect(world.owners).toEqual(owners);
      for (const { cluster } of world.members.values()) {
        expect(owners.map((_, shard) => cluster.assigned(shard)?.broker)).toEqual(owners);
      }
    }
  });
});

describe('the assignment', () => {
  test('is made anew if somebody has removed or spoilt it', () => {
    const world = new SimCluster({ shards: 4 });
    const [a] = world.join('a', 'b');
    for (const spoilt of [undefined, 'rubbish', '{"owners":7}', writeAssignment(UNASSIGNED)]) {
      world.store.write('assignment', spoilt);
      world.until(() => world.owners.length === 4, 1000);
      expect(world.counts).toEqual({ a: 2, b: 2 });
    }
    world.clock.advance(100);
    expect(a!.cluster.assigned(0)?.revision).toBe(world.store.entries.get('assignment')!.revision);
  });

  test('of a store that has lost its end is taken for what it is', () => {
    const world = new SimCluster({ shards: 4 });
    const [a] = world.join('a');
    const kept = world.store.keep();
    const [b] = world.join('b');
    expect(a!.cluster.assigned(3)?.broker).toBe('b');
    b!.kill();
    a!.store.connect(false);
    world.store.restore(kept);
    a!.store.connect(true);
    world.clock.advance(100);
    expect(a!.cluster.assigned(3)?.broker).toBe('a');
    expect(a!.cluster.assigned(3)?.revision).toBe(world.store.entries.get('assignment')?.revision);
    world.join('c');
    expect(world.counts).toEqual({ a: 2, c: 2 });
  });

  test('does not go back to what a slow watch has not got beyond', () => {
    const world = new SimCluster({ shards: 2 });
    const [, b] = world.join('a', 'b');
    world.store.watchDelayMs = () => 1000;
    const owners: string[] = [];
    b!.react = { assignmentChanged: () => owners.push(b!.cluster.assigned(0)!.broker) };
    b!.cluster.move(0, 'b', () => b!.cluster.move(0, 'a', () => {}));
    world.clock.advance(5000);
    expect(owners).toEqual(['b', 'a']);
  });

  test('that has become older is found by who reads it', () => {
    const world = new SimCluster({ shards: 2 });
    const [a] = world.join('a');
    const kept = world.store.keep();
    a!.cluster.move(0, 'a', () => {});
    world.clock.advance(100);
    expect(a!.cluster.pinned(0)).toBe('a');
    world.store.restore(kept);
    a!.cluster.unpin(0, () => {});
    world.clock.advance(100);
    expect(a!.cluster.pinned(0)).toBeUndefined();
    a!.cluster.move(1, 'a', () => {});
    world.clock.advance(100);
    expect(a!.cluster.pinned(1)).toBe('a');
  });
});

describe('draining', () => {
  test('takes all shards from the broker, and gives some back when it ends', () => {
    const world = new SimCluster({ shards: 4 });
    const [a, b] = world.join('a', 'b');
    b!.cluster.drain(true);
    expect(b!.cluster.members().find(({ id }) => id === 'b')?.draining).toBe(true);
    world.until(() => world.counts.a === 4, 100);
    expect(a!.cluster.members().find(({ id }) => id === 'b')?.draining).toBe(true);
    b!.cluster.drain(false);
    world.until(() => world.counts.b === 2, 100);
  });

  test('of all leaves the shards where they are', () => {
    const world = new SimCluster({ shards: 4 });
    const all = world.join('a', 'b');
    for (const { cluster } of all) {
      cluster.drain(true);
      world.clock.advance(1000);
    }
    expect(world.counts).toEqual({ b: 4 });
  });

  test('before it has joined gives it nothing', () => {
    const world = new SimCluster({ shards: 4 });
    world.join('a');
    const b = world.start('b');
    b.cluster.drain(true);
    world.until(() => b.joined);
    world.clock.advance(1000);
    expect(world.counts).toEqual({ a: 4 });
  });
});
