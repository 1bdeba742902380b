import { afterEach, describe, expect, test } from '@jest/globals';
import type { Bus } from '../../../src/cluster/bus.ts';
import type { Link, LinkListener } from '../../../src/cluster/link.ts';
import { Links } from '../../../src/cluster/links.ts';
import { silent } from '../../../src/std/logger.ts';
import { ByteReader } from '../../../src/wire/bytes.ts';
import { LinkHead, LinkKind } from '../../../src/wire/link-frame.ts';
import { VirtualClock } from '../../support/clock.ts';
import { SeededRandom } from '../../support/random.ts';

/** What the network does to a message: how many times it arrives. */
type Fate = (head: LinkHead, message: Buffer) => number;

/** Messages take a millisecond, and arrive in order, as often as their fate says. */
class Network {
  fate: Fate = () => 1;
  readonly sent: { readonly kind: LinkKind; readonly role: string; readonly bytes: number }[] = [];
  private readonly clock: VirtualClock;
  private readonly listeners = new Map<string, Set<(message: Buffer) => void>>();
  private readonly dead = new Set<string>();
  private readonly watchers = new Set<(connected: boolean) => void>();

  constructor(clock: VirtualClock) {
    this.clock = clock;
  }

  /** The bus as a process sees it, until that dies. */
  bus(process: string): Bus {
    const isDead = (): boolean => this.dead.has(process);
    return {
      connected: true,
      publish: (subject, bytes) => {
        if (isDead()) return;
        const message = Buffer.from(bytes);
        const head = new LinkHead();
        head.read(message);
        const { kind, role } = head;
        this.sent.push({ kind, role, bytes: message.length });
        for (let times = this.fate(head, message); times > 0; times--)
          this.clock.after(1, () => {
            for (const heard of [...(this.listeners.get(subject) ?? [])]) heard(Buffer.from(message));
          });
      },
      subscribe: (subject, heard) => {
        const all = this.listeners.get(subject) ?? new Set();
        const living = (message: Buffer): void => {
          if (!isDead()) heard(message);
        };
        this.listeners.set(subject, all.add(living));
        return { stop: () => all.delete(living) };
      },
      watch: (watcher) => this.watchers.add(watcher),
    };
  }

  /** The process hears nothing any more, and says nothing. */
  kill(process: string): void {
    this.dead.add(process);
  }

  reconnect(): void {
    for (const watcher of this.watchers) watcher(true);
  }

  count(kind: LinkKind, role?: string): number {
    return this.sent.filter((one) => one.kind === kind && (role === undefined || one.role === role)).length;
  }
}

/** One end as its user sees it: each operation is a number, followed by as much padding as it says. */
class End implements LinkListener {
  link: Link | undefined;
  /** What was received on each link, one after the other. */
  readonly lives: number[][] = [];
  closes = 0;
  drains = 0;
  troubled = false;

  opened(link: Link): void {
    this.link = link;
    this.lives.push([]);
  }

  received(_link: Link, bytes: Buffer, start: number, end: number): void {
    if (this.troubled) throw new Error('what is this?');
    const reader = new ByteReader(bytes.subarray(start, end));
    while (!reader.done) {
      this.got.push(reader.u32());
      reader.take(reader.u32());
    }
  }

  drained(): void {
    this.drains++;
  }

  closed(link: Link): void {
    expect(link).toBe(this.link);
    this.link = undefined;
    this.closes++;
  }

  /** Received on the present link, or on the last one. */
  get got(): number[] {
    return this.lives.at(-1)!;
  }

  say(value: number, padding = 0): void {
    const { writer } = this.link!;
    writer.u32(value);
    writer.u32(padding);
    writer.claim(padding);
    this.link!.touch();
  }
}

interface Node {
  readonly edge: End;
  readonly owner: End;
  readonly links: Links;
}

const running: Links[] = [];
afterEach(() => {
  for (const links of running.splice(0)) links.stop();
});

function world(creditBytes?: number): {
  clock: VirtualClock;
  network: Network;
  node: (self: string, seed?: number) => Node;
} {
  const clock = new VirtualClock();
  const network = new Network(clock);
  const node = (self: string, seed = 1): Node => {
    const edge = new End();
    const owner = new End();
    const links = new Links(
      {
        self,
        bus: network.bus(`${self} ${seed}`),
        clock,
        random: new SeededRandom(seed),
        logger: silent,
        ...(creditBytes === undefined ? {} : { creditBytes }),
      },
      { edge, owner },
    );
    running.push(links);
    return { edge, owner, links };
  };
  return { clock, network, node };
}

/** Two brokers; `near` has opened a link to `far`. */
function pair(creditBytes?: number): {
  clock: VirtualClock;
  network: Network;
  near: Node;
  far: Node;
  node: (self: string, seed?: number) => Node;
} {
  const { clock, network, node } = world(creditBytes);
  const near = node('near', 1);
  const far = node('far', 2);
  near.links.want('far');
  clock.advance(5);
  return { clock, network, near, far, node };
}

const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

describe('a link', () => {
  test('carries what both ends say, in order, a message for each turn', () => {
    const { clock, network, near, far } = pair();
    for (let value = 1; value <= 100; value++) near.edge.say(value);
    for (let value = 1; value <= 50; value++) far.owner.say(-value >>> 0);
    clock.advance(5);
    expect(far.owner.got).toEqual(numbers(1, 100));
    expect(near.edge.got).toEqual(numbers(1, 50).map((value) => -value >>> 0));
    expect(network.count(LinkKind.data, 'edge')).toBe(1);
    expect(network.count(LinkKind.data, 'owner')).toBe(1);
  });

  test('sends at once what is too much for one message', () => {
    const { network, near, far, clock } = pair();
    for (let value = 1; value <= 10; value++) near.edge.say(value, 100_000);
    expect(network.count(LinkKind.data)).toBe(3);
    near.edge.say(11, 4 * 1024 * 1024);
    clock.advance(5);
    expect(far.owner.got).toEqual(numbers(1, 11));
    expect(Math.max(...network.sent.map(({ bytes }) => bytes))).toBeLessThan(4.5 * 1024 * 1024);
  });

  test('is another in each direction', () => {
    const { clock, near, far } = pair();
    far.links.want('near');
    clock.advance(5);
    far.edge.say(7);
    near.edge.say(8);
    clock.advance(5);
    expect(near.owner.got).toEqual([7]);
    expect(far.owner.got).toEqual([8]);
    expect(near.links.get('far', 'edge')).toBe(near.edge.link);
    expect(near.links.get('far', 'owner')).toBe(near.owner.link);
  });

  test('works within one broker', () => {
    const { clock, node } = world();
    const self = node('self');
    self.links.want('self');
    clock.advance(5);
    self.edge.say(1);
    self.owner.say(2);
    clock.advance(5);
    expect([self.owner.got, self.edge.got]).toEqual([[1], [2]]);
  });

  test('that has nothing to say says so once a second, and an ack has nothing to add', () => {
    const { clock, network, near, far } = pair();
    near.edge.say(1);
    clock.advance(60_000);
    expect(near.edge.link).toBeDefined();
    expect(far.owner.link).toBeDefined();
    expect(network.count(LinkKind.ping)).toBeLessThanOrEqual(60);
    expect(network.count(LinkKind.ack)).toBeLessThanOrEqual(61);
    expect(near.edge.closes + far.owner.closes).toBe(0);
  });

  test('acknowledges with what it has to say anyway', () => {
    const { clock, network, near, far } = pair();
    for (let value = 1; value <= 100; value++) {
      near.edge.say(value);
      far.owner.say(value);
      clock.advance(2);
    }
    expect(network.count(LinkKind.ack)).toBeLessThanOrEqual(2);
  });

  test('takes a message that comes twice once', () => {
    const { clock, network, near, far } = pair();
    network.fate = () => 2;
    for (let value = 1; value <= 20; value++) {
      near.edge.say(value);
      far.owner.say(value);
      clock.advance(3);
    }
    expect(far.owner.lives).toEqual([numbers(1, 20)]);
    expect(near.edge.lives).toEqual([numbers(1, 20)]);
  });

  test('is one even if all is said twice from the beginning', () => {
    const { clock, network, node } = world();
    const near = node('near', 1);
    const far = node('far', 2);
    network.fate = () => 2;
    near.links.want('far');
    clock.advance(5);
    near.edge.say(1);
    clock.advance(5);
    expect(near.edge.lives).toEqual([[]]);
    expect(far.owner.lives).toEqual([[1]]);
  });

  test('takes nothing that was said on a former one', () => {
    const { clock, network, near, far } = pair();
    const former: Buffer[] = [];
    network.fate = ({ kind }, message) => {
      if (kind === LinkKind.data) former.push(message);
      return 1;
    };
    near.edge.say(1);
    far.owner.say(1);
    clock.advance(5);
    near.edge.link!.close();
    clock.advance(200);
    expect(former).toHaveLength(2);
    network.bus('anybody').publish('link.far', former[0]!);
    network.bus('anybody').publish('link.near', former[1]!);
    clock.advance(5);
    near.edge.say(2);
    far.owner.say(2);
    clock.advance(5);
    expect(far.owner.lives).toEqual([[1], [2]]);
    expect(near.edge.lives).toEqual([[1], [2]]);
  });

  test('says nothing any more once it is closed', () => {
    const { clock, network, far } = pair();
    const former = far.owner.link!;
    far.owner.say(1);
    former.close();
    const said = network.count(LinkKind.data);
    former.writer.u32(2);
    former.touch();
    former.close();
    clock.advance(5);
    expect(former.ready).toBe(false);
    expect(said).toBe(1);
    expect(network.count(LinkKind.data)).toBe(1);
    expect(network.count(LinkKind.close)).toBe(1);
  });

  test('does not ask for what is acknowledged in time', () => {
    const { clock, network, near } = pair();
    for (let times = 0; times < 500; times++) {
      near.edge.say(times);
      clock.advance(701);
    }
    expect(network.count(LinkKind.ping)).toBe(0);
  });
});

describe('a link of which something was lost', () => {
  test('closes at both ends before anything that comes after is received, and another is opened', () => {
    const { clock, network, near, far } = pair();
    near.edge.say(1);
    clock.advance(5);
    network.fate = () => 0;
    near.edge.say(2);
    clock.advance(5);
    network.fate = () => 1;
    near.edge.say(3);
    clock.advance(200);
    expect([near.edge.closes, far.owner.closes]).toEqual([1, 1]);
    expect(far.owner.lives).toEqual([[1], []]);
    near.edge.say(4);
    clock.advance(5);
    expect(far.owner.lives).toEqual([[1], [4]]);
  });

  test('finds out within a second also if it was the last', () => {
    const { clock, network, near, far } = pair();
    network.fate = ({ kind }) => (kind === LinkKind.data ? 0 : 1);
    near.edge.say(1);
    clock.advance(1000);
    expect([near.edge.closes, far.owner.closes]).toEqual([1, 1]);
    expect(near.edge.lives).toHaveLength(2);
  });

  test('finds out at once when the connection is back', () => {
    const { clock, network, near, far } = pair();
    network.fate = () => 0;
    near.edge.say(1);
    clock.advance(10);
    network.fate = () => 1;
    network.reconnect();
    clock.advance(5);
    expect([near.edge.closes, far.owner.closes]).toEqual([1, 1]);
  });

  test('closes when only one direction is left', () => {
    const { clock, network, near, far } = pair();
    network.fate = ({ role }) => (role === 'edge' ? 0 : 1);
    for (let waited = 0; waited < 4000; waited += 20) {
      if (far.owner.link) far.owner.say(waited);
      if (near.edge.link) near.edge.say(waited);
      clock.advance(20);
    }
    expect([near.edge.closes, far.owner.closes]).toEqual([1, 1]);
  });

  test('closes within seconds when nothing comes through, and is opened when it does again', () => {
    const { clock, network, near, far } = pair();
    network.fate = () => 0;
    clock.advance(3_000);
    expect(near.edge.closes).toBe(1);
    clock.advance(3_000);
    expect(far.owner.closes).toBe(1);
    clock.advance(60_000);
    network.fate = () => 1;
    clock.advance(600);
    near.edge.say(1);
    clock.advance(5);
    expect(far.owner.lives).toEqual([[], [1]]);
  });

  test('is open at both ends or at none, once messages come through', () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new SeededRandom(seed);
      const { clock, network, near, far } = pair();
      network.fate = () => (random.chance(0.02) ? 0 : random.chance(0.02) ? 2 : 1);
      for (let value = 1; value <= 1500; value++) {
        if (near.edge.link && random.chance(0.5)) near.edge.say(value, random.below(20));
        if (far.owner.link && random.chance(0.5)) far.owner.say(value);
        clock.advance(random.below(10));
      }
      network.fate = () => 1;
      clock.advance(10_000);
      expect(near.links.get('far', 'edge')).toBeDefined();
      expect(far.links.get('near', 'owner')).toBeDefined();
      expect(near.edge.closes).toBeGreaterThan(0);
      for (let value = 1; value <= 3; value++) {
        near.edge.say(value * 10_000);
        far.owner.say(value * 10_000);
        clock.advance(5);
      }
      expect(far.owner.got.slice(-3)).toEqual([10_000, 20_000, 30_000]);
      expect(near.edge.got.slice(-3)).toEqual([10_000, 20_000, 30_000]);
    }
  });

  test('was received from its beginning without a gap, as far as it was', () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new SeededRandom(seed);
      const { clock, network, near, far } = pair();
      let life = near.edge.link;
      let next = 0;
      network.fate = () => (random.chance(0.01) ? 0 : random.chance(0.05) ? 2 : 1);
      for (let step = 0; step < 2000; step++) {
        if (near.edge.link !== life) {
          life = near.edge.link;
          next = 0;
        }
        if (life && random.chance(0.7)) near.edge.say(++next);
        clock.advance(random.below(4));
      }
      for (const life of far.owner.lives) expect(life).toEqual(numbers(1, life.length));
      expect(far.owner.lives.length).toBeGreaterThan(3);
    }
  });
});

describe('credit', () => {
  const CREDIT = 1024 * 1024;

  test('stops who sends more than is acknowledged, and lets them go on at the half', () => {
    const { clock, near, far } = pair(CREDIT);
    let sent = 0;
    while (near.edge.link!.ready) near.edge.say(++sent, 100_000);
    expect(sent).toBeLessThanOrEqual(15);
    clock.advance(1);
    expect(near.edge.link!.ready).toBe(false);
    clock.advance(25);
    expect(near.edge.link!.ready).toBe(true);
    expect(near.edge.drains).toBe(1);
    expect(far.owner.got).toEqual(numbers(1, sent));
  });

  test('is given back before the acknowledgement would come by itself', () => {
    const { clock, near } = pair(2 * CREDIT);
    let sent = 0;
    while (near.edge.link!.ready) near.edge.say(++sent, 100_000);
    clock.advance(3);
    expect(near.edge.link!.ready).toBe(true);
  });

  test('is whole again on another link', () => {
    const { clock, network, near } = pair(CREDIT);
    network.fate = ({ kind }) => (kind === LinkKind.data ? 0 : 1);
    while (near.edge.link!.ready) near.edge.say(1, 100_000);
    clock.advance(2_000);
    expect(near.edge.link!.ready).toBe(true);
    expect(near.edge.drains).toBe(0);
  });
});

describe('a broker', () => {
  test('that was restarted is noticed by its next word, or at the next ping', () => {
    const { clock, network, near, node } = pair();
    near.edge.say(1);
    clock.advance(5);
    network.kill('far 2');
    const again = node('far', 3);
    near.edge.say(2);
    clock.advance(200);
    expect(near.edge.closes).toBe(1);
    near.edge.say(3);
    clock.advance(5);
    expect(again.owner.lives).toEqual([[3]]);
  });

  test('that was restarted as an edge is served on its new link only', () => {
    const { clock, network, far, node } = pair();
    network.kill('near 1');
    const again = node('near', 3);
    again.links.want('far');
    clock.advance(5);
    expect(far.owner.closes).toBe(1);
    again.edge.say(1);
    far.owner.say(2);
    clock.advance(5);
    expect(far.owner.lives).toEqual([[], [1]]);
    expect(again.edge.got).toEqual([2]);
  });

  test('that wants no link any more says so, and hears no more of it', () => {
    const { clock, near, far } = pair();
    near.edge.say(1);
    near.links.unwant('far');
    clock.advance(10_000);
    expect(far.owner.lives).toEqual([[1]]);
    expect([near.edge.closes, far.owner.closes]).toEqual([1, 1]);
    expect(near.links.get('far', 'edge')).toBeUndefined();
  });

  test('that stops closes its links, and does nothing any more', () => {
    const { clock, near, far } = pair();
    far.links.stop();
    clock.advance(5);
    near.links.stop();
    clock.advance(100);
    expect(clock.pending).toBe(0);
    expect([near.edge.closes, far.owner.closes]).toEqual([1, 0]);
  });

  test('that closes a link gets another', () => {
    const { clock, near, far } = pair();
    far.owner.link!.close();
    expect(far.owner.closes).toBe(0);
    clock.advance(200);
    expect([near.edge.closes, far.owner.closes]).toEqual([1, 1]);
    expect(near.edge.lives).toHaveLength(2);
  });

  test('that can do nothing with what it hears gets another link, less and less often', () => {
    const { clock, network, near, far } = pair();
    far.owner.troubled = true;
    for (let waited = 0; waited < 60_000; waited += 10) {
      if (near.edge.link) near.edge.say(1);
      clock.advance(10);
    }
    expect(far.owner.closes).toBe(near.edge.closes);
    expect(far.owner.closes).toBeGreaterThan(10);
    expect(network.count(LinkKind.open)).toBeLessThan(100);
  });

  test('ignores what is no message of a link', () => {
    const { clock, network, near, far } = pair();
    network.fate = (_head, message) => {
      message.fill(0xff, 0, 8);
      return 1;
    };
    near.edge.say(1);
    clock.advance(10);
    network.fate = () => 1;
    clock.advance(1_000);
    near.edge.say(2);
    clock.advance(5);
    expect(far.owner.lives).toEqual([[], [2]]);
  });
});
