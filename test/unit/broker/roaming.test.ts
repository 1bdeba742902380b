import { describe, expect, test } from '@jest/globals';
import { leaseHash, Lease } from '../../../src/wire/lease.ts';
import type { SimClient } from '../../support/sim-brokers.ts';
import { SimBrokers } from '../../support/sim-brokers.ts';

/** Three brokers; a session at one of them holds a task of a mailbox that another one serves. */
function scene({ shards = 6 } = {}) {
  const world = new SimBrokers(shards);
  world.start('a', 'b', 'c');
  const owner = world.ownerOf('clerk');
  const edge = world.otherThan(owner);
  const third = world.otherThan(owner, edge);
  const former = edge.connect({
    hello: { incarnation: 1 },
    attach: [{ attachment: 1, mailbox: 'clerk', window: 10 }],
  });
  world.clock.advance(100);
  former.say({ publish: [{ batch: 1n, tasks: [{ id: 't', to: 'clerk' }] }] });
  world.clock.advance(100);
  const { lease } = former.deliveries[0]!;
  const sessionId = former.welcome!.sessionId;
  const resumed = { hello: { incarnation: 2, sessionId, inFlight: [lease] } };
  const attached = { ...resumed, attach: [{ attachment: 1, mailbox: 'clerk', window: 10 }] };
  return { world, owner, edge, third, former, lease, resumed, attached };
}

/** Says what it holds as heartbeats do, more often than a broker takes for chance. */
function beat(world: SimBrokers, client: SimClient, ...leases: Uint8Array[]): void {
  let hash = 0;
  for (const bytes of leases) {
    const lease = new Lease();
    lease.read(bytes, 0, bytes.length);
    hash ^= leaseHash(lease.shard, lease.order, lease.tag, lease.delivery);
  }
  for (let times = 0; times < 4; times++) {
    client.say({ heartbeat: { inFlight: leases.length, hash: hash >>> 0 } });
    world.clock.advance(1000);
  }
}

describe('a session that goes on', () => {
  test.each(['owner', 'third', 'edge'] as const)(
    'at the %s keeps its leases, and both sides count the same',
    (where) => {
      const scenery = scene();
      const { world, former, lease, attached } = scenery;
      former.cut();
      const client = scenery[where].connect(attached);
      world.clock.advance(500);
      expect(client.welcome).toMatchObject({ resumed: true, sessionId: attached.hello.sessionId });
      beat(world, client, lease);
      expect(client.counted?.inFlight).toBe(1);
      expect(client.told.some(({ listInFlight }) => listInFlight)).toBe(false);
      client.say({ settle: [{ batch: 1n, settlements: [{ lease }] }] });
      world.clock.advance(500);
      expect(client.settleAcks).toMatchObject([{ batch: 1n, refused: [] }]);
      beat(world, client);
      expect(client.counted?.inFlight).toBe(0);
      expect(client.aborted).toEqual([]);
      expect(client.deliveries).toEqual([]);
    },
  );

  test.each(['owner', 'third', 'edge'] as const)(
    'at the %s keeps leases of mailboxes that it is not attached to any more',
    (where) => {
      const scenery = scene();
      const { world, former, lease, resumed } = scenery;
      former.say({ detach: [{ attachment: 1 }] });
      world.clock.advance(100);
      former.cut();
      const client = scenery[where].connect(resumed);
      world.clock.advance(500);
      beat(world, client, lease);
      expect(client.counted?.inFlight).toBe(1);
      client.say({ settle: [{ batch: 1n, settlements: [{ lease }] }] });
      world.clock.advance(500);
      expect(client.settleAcks).toMatchObject([{ batch: 1n, refused: [] }]);
      beat(world, client);
      expect(client.counted?.inFlight).toBe(0);
      expect(client.told.some(({ listInFlight }) => listInFlight)).toBe(false);
      expect(client.aborted).toEqual([]);
    },
  );

  test('while its mailbox comes to its broker, and goes again, holds what it held', () => {
    const { world, owner, edge, third, former, lease } = scene();
    const shard = owner.broker.shardOf('clerk');
    for (const next of [edge, third]) {
      edge.broker.cluster.move(shard, next.broker.id, () => {});
      world.until(() => next.broker.ownerOf('clerk') !== undefined);
      world.clock.advance(1000);
      beat(world, former, lease);
      expect(former.counted?.inFlight).toBe(1);
    }
    former.say({ settle: [{ batch: 1n, settlements: [{ lease }] }] });
    world.clock.advance(500);
    expect(former.settleAcks).toMatchObject([{ batch: 1n, refused: [] }]);
    beat(world, former);
    expect(former.counted?.inFlight).toBe(0);
    expect(former.told.some(({ listInFlight }) => listInFlight)).toBe(false);
    expect(former.deliveries).toHaveLength(1);
  });
});
