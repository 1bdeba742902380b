import { create, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { expect, test } from '@jest/globals';
import { ClientFrameSchema } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
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

test('a client that lists its leases while their shard is handed over keeps them', () => {
  const world = new SimBrokers(1);
  world.start('a', 'b');
  const owner = world.ownerOf('clerk');
  const attach = [{ attachment: 1, mailbox: 'clerk', window: 2 }];
  const client = owner.connect({ hello: { incarnation: 1 }, attach });
  world.clock.advance(100);
  client.say({ publish: [{ batch: 1n, tasks: [{ to: 'clerk' }, { to: 'clerk' }] }] });
  world.clock.advance(100);
  const [one, two] = client.deliveries;

  // The end of the second task is the owner's last word, and takes long to write.
  const { append } = world.log;
  const held: (() => void)[] = [];
  world.log.append = (...call) => held.push(() => append.apply(world.log, call));
  client.say({ settle: [{ batch: 1n, settlements: [{ lease: two!.lease }] }] });
  owner.broker.shards.release(0);
  for (let times = 0; times < 2; times++) client.say({ heartbeat: { inFlight: 7, hash: 7 } });
  world.clock.advance(50);
  expect(client.told.some(({ listInFlight }) => listInFlight)).toBe(true);
  client.say({ inFlight: { leases: [one!.lease] } });
  world.log.append = append;
  for (const write of held) write();
  world.clock.advance(2000);
  expect(client.aborted).toEqual([]);
  client.say({ settle: [{ batch: 2n, settlements: [{ lease: one!.lease }] }] });
  world.clock.advance(100);
  expect(client.settleAcks).toMatchObject([
    { batch: 1n, refused: [] },
    { batch: 2n, refused: [] },
  ]);
});

test('what stands behind a goodbye in its frame brings no session back', () => {
  const world = new SimBrokers(1);
  world.start('a', 'b');
  const owner = world.ownerOf('clerk');
  const client = world
    .otherThan(owner)
    .connect({ hello: { incarnation: 1 }, attach: [{ attachment: 1, mailbox: 'clerk', window: 2 }] });
  world.clock.advance(100);
  client.say({ publish: [{ batch: 1n, tasks: [{ to: 'clerk' }] }] });
  world.clock.advance(100);
  const { sessionId } = client.welcome!;
  const { lease } = client.deliveries[0]!;
  const bytes = (frame: MessageInitShape<typeof ClientFrameSchema>) =>
    toBinary(ClientFrameSchema, create(ClientFrameSchema, frame));
  client.sayBytes(
    Buffer.concat([bytes({ goodbye: true }), bytes({ settle: [{ batch: 2n, settlements: [{ lease }] }] })]),
  );
  world.clock.advance(100);
  expect(owner.broker.sessions.get(sessionId)).toBeUndefined();
});
