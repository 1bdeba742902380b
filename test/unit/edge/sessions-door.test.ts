import { expect, test } from '@jest/globals';
import { SimBrokers } from '../../support/sim-brokers.ts';

test.each(['at the owner', 'at another broker'])(
  'a session that comes back with smaller windows gets no more than fits them, %s',
  (where) => {
    const world = new SimBrokers(4);
    world.start('a', 'b');
    const owner = world.ownerOf('clerk');
    const edge = where === 'at the owner' ? owner : world.otherThan(owner);
    const attach = [1, 2].map((attachment) => ({ attachment, mailbox: 'clerk', window: 10 }));
    const former = edge.connect({ hello: { incarnation: 1 }, attach });
    world.clock.advance(100);
    const { sessionId } = former.welcome!;
    former.cut();
    owner
      .connect({ hello: { incarnation: 1 } })
      .say({ publish: [{ batch: 1n, tasks: Array.from({ length: 30 }, () => ({ to: 'clerk' })) }] });
    world.clock.advance(100);

    const client = edge.connect({
      hello: { incarnation: 2, sessionId },
      attach: attach.map((each) => ({ ...each, window: 1 })),
    });
    world.clock.advance(100);
    expect(client.welcome).toMatchObject({ resumed: true });
    expect(client.deliveries.map(({ attachment }) => attachment).sort()).toEqual([1, 2]);
  },
);

test.each(['at the owner', 'at another broker'])(
  'what a later connection does not list goes back, and as much comes on it at once, %s',
  (where) => {
    const world = new SimBrokers(4);
    world.start('a', 'b');
    const owner = world.ownerOf('clerk');
    const edge = where === 'at the owner' ? owner : world.otherThan(owner);
    const attach = [{ attachment: 1, mailbox: 'clerk', window: 2 }];
    const former = edge.connect({ hello: { incarnation: 1 }, attach });
    world.clock.advance(100);
    former.say({ publish: [{ batch: 1n, tasks: Array.from({ length: 4 }, () => ({ to: 'clerk' })) }] });
    world.clock.advance(100);
    expect(former.deliveries).toHaveLength(2);

    const { sessionId } = former.welcome!;
    const client = edge.connect({ hello: { incarnation: 2, sessionId }, attach });
    world.clock.advance(100);
    expect(client.deliveries).toHaveLength(2);
  },
);
