import { describe, expect, test } from '@jest/globals';
import type { EdgeSession } from '../../../src/broker/sessions.ts';
import { Relay } from '../../../src/broker/relay.ts';
import type { Claim, Cluster } from '../../../src/cluster/cluster.ts';
import type { Link } from '../../../src/cluster/link.ts';
import { HubError } from '../../../src/std/errors.ts';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import type { EdgeVisitor } from '../../../src/wire/edge-ops.ts';
import { EdgeOpsReader } from '../../../src/wire/edge-ops.ts';
import { OwnerOps } from '../../../src/wire/owner-ops.ts';
import { VirtualClock } from '../../support/clock.ts';

const SESSION = {
  session: '0123456789abcdef',
  incarnation: 1,
  client: 'test',
  seats: () => [],
} as unknown as EdgeSession;
const UNAVAILABLE = new HubError('unavailable', 'it is being taken over');
const TOO_LATE = new HubError('precondition', 'the lease has ended');

/** An owner at the other end of a link, which notes what settlements it is asked to take. */
class FakeOwner {
  readonly link: Link;
  /** Calls of settlements that it was told. */
  readonly asked: number[] = [];
  private readonly relay: Relay;
  private readonly written = new ByteWriter(1024);
  private readonly reader = new EdgeOpsReader();

  constructor(peer: string, relay: Relay) {
    this.relay = relay;
    this.link = { peer, role: 'edge', writer: this.written, ready: true, touch() {}, close() {} };
    relay.opened(this.link);
  }

  /** Reads what it was told since. */
  hear(): readonly number[] {
    const settle: EdgeVisitor['settle'] = (_ref, call) => this.asked.push(call);
    const visitor = new Proxy({}, { get: (_, name) => (name === 'settle' ? settle : () => {}) });
    const bytes = this.written.take();
    this.reader.read(bytes, 0, bytes.length, visitor as EdgeVisitor);
    return this.asked;
  }

  say(what: (ops: OwnerOps) => void): void {
    const writer = new ByteWriter(1024);
    what(new OwnerOps(writer));
    const bytes = writer.take();
    this.relay.received(this.link, bytes, 0, bytes.length);
  }
}

/** A relay that has to settle one lease, and the answers to that. */
class Bench {
  readonly clock = new VirtualClock();
  readonly relay: Relay;
  readonly answers: (string | undefined)[] = [];
  private claim: Claim | undefined;
  private counter = 0;

  constructor() {
    this.relay = new Relay({
      cluster: { claim: () => this.claim } as unknown as Cluster,
      clock: this.clock,
      shards: () => 1,
      replaced: () => {},
    });
  }

  /** The shard is served by that broker now. */
  serves(broker: string, { told = true } = {}): void {
    this.claim = { broker, epoch: { revision: 1, counter: ++this.counter } };
    if (told) this.relay.claimChanged(0);
  }

  settle(): void {
    const bytes = Buffer.from('settlement');
    this.relay.settle(SESSION, 0, bytes, 0, bytes.length, (error) => this.answers.push(error?.code));
  }
}

describe('a settlement of a shard that is served elsewhere', () => {
  test('is said to its next owner once, also if the former one has said that it can not take it', () => {
    const bench = new Bench();
    const [former, next] = ['b', 'c'].map((peer) => new FakeOwner(peer, bench.relay)) as [
      FakeOwner,
      FakeOwner,
    ];
    bench.serves('b');
    bench.settle();
    const [call] = former.hear() as [number];
    former.say((ops) => ops.refused(call, UNAVAILABLE));
    bench.serves('c');
    bench.clock.advance(1000);
    expect(next.hear()).toEqual([call]);
    expect(bench.answers).toEqual([]);
    next.say((ops) => ops.settled(call, 1));
    expect(bench.answers).toEqual([undefined]);
  });

  test('is refused by its next owner alone', () => {
    const bench = new Bench();
    const [former, next] = ['b', 'c'].map((peer) => new FakeOwner(peer, bench.relay)) as [
      FakeOwner,
      FakeOwner,
    ];
    bench.serves('b');
    bench.settle();
    const [call] = former.hear() as [number];
    bench.serves('c');
    former.say((ops) => ops.refused(call, TOO_LATE));
    expect(bench.answers).toEqual([]);
    next.say((ops) => ops.refused(call, TOO_LATE));
    expect(bench.answers).toEqual(['precondition']);
  });

  test('waits until the owner has been told of the shard in this epoch, and is not said twice', () => {
    const bench = new Bench();
    const owner = new FakeOwner('b', bench.relay);
    bench.serves('b');
    bench.serves('b', { told: false });
    bench.settle();
    expect(owner.hear()).toEqual([]);
    bench.relay.claimChanged(0);
    bench.relay.claimChanged(0);
    bench.relay.left(0);
    expect(owner.hear()).toHaveLength(1);
  });

  test('is tried again at the same owner until that takes it', () => {
    const bench = new Bench();
    const owner = new FakeOwner('b', bench.relay);
    bench.serves('b');
    bench.settle();
    const [call] = owner.hear() as [number];
    owner.say((ops) => ops.refused(call, UNAVAILABLE));
    expect(owner.hear()).toHaveLength(1);
    bench.clock.advance(200);
    expect(owner.hear()).toEqual([call, call]);
  });
});
