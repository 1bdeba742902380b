import { afterEach, expect, test } from '@jest/globals';
import { BusPeers } from '../../src/cluster/bus-peers.ts';
import type { Link, LinkListener } from '../../src/cluster/link.ts';
import { Links } from '../../src/cluster/links.ts';
import { NatsBus } from '../../src/cluster/nats.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../src/std/system.ts';
import { ByteReader } from '../../src/wire/bytes.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';
import type { Proxy } from '../support/proxy.ts';
import { startProxy } from '../support/proxy.ts';

const MIB = 1024 * 1024;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Says rising numbers with padding as long as its link is ready, and keeps those that it hears, by link. */
class Talker implements LinkListener {
  readonly heard: { next: number; bytes: number; inOrder: boolean }[] = [];
  private readonly padding: number;
  link: Link | undefined;
  private said = 0;
  private stopped = false;

  constructor(padding: number) {
    this.padding = padding;
    ends.push(() => (this.stopped = true));
  }

  opened(link: Link): void {
    this.link = link;
    this.said = 0;
    this.heard.push({ next: 1, bytes: 0, inOrder: true });
    this.talk(link);
  }

  received(_link: Link, bytes: Buffer, start: number, end: number): void {
    const life = this.heard.at(-1)!;
    const reader = new ByteReader(bytes.subarray(start, end));
    while (!reader.done) {
      if (reader.u32() !== life.next++) life.inOrder = false;
      reader.take(reader.u32());
    }
    life.bytes += end - start;
  }

  drained(link: Link): void {
    this.talk(link);
  }

  closed(): void {
    this.link = undefined;
  }

  /** A hundred operations in each turn, or as many as fit. */
  private talk(link: Link): void {
    if (this.link !== link || !link.ready || this.stopped) return;
    for (let count = 0; count < 100 && link.ready; count++) {
      link.writer.u32(++this.said);
      link.writer.u32(this.padding);
      link.writer.claim(this.padding);
      link.touch();
    }
    systemClock.soon(() => this.talk(link));
  }
}

async function openBus(url: string): Promise<NatsBus> {
  const bus = await NatsBus.open({ servers: [url], prefix: 't', name: 'test', logger: silent });
  ends.push(() => bus.close());
  return bus;
}

async function pair(
  padding: number,
): Promise<{ proxy: Proxy; server: NatsServer; edge: Talker; owner: Talker }> {
  const server = await NatsServer.start({ jetstream: false });
  ends.push(() => server.remove());
  const proxy = await startProxy(Number(server.url.split(':')[1]));
  ends.push(() => proxy.close());
  const edge = new Talker(padding);
  const owner = new Talker(padding);
  const parts = { clock: systemClock, random: systemRandom, logger: silent };
  const nobody = new Talker(0);
  const near = new Links(
    { self: 'near', bus: await openBus(proxy.address), ...parts },
    { edge, owner: nobody },
  );
  ends.push(() => near.stop());
  const far = new Links({ self: 'far', bus: await openBus(server.url), ...parts }, { edge: nobody, owner });
  ends.push(() => far.stop());
  near.want('far');
  return { proxy, server, edge, owner };
}

/** Waits until much more than the credit has come through both ways, on a link after the first `lives`. */
async function flow(edge: Talker, owner: Talker, lives: number): Promise<void> {
  const both = [edge, owner];
  await until(() => both.every(({ heard }) => heard.slice(lives).some(({ bytes }) => bytes > 20 * MIB)));
  expect(both.flatMap(({ heard }) => heard).filter(({ inOrder }) => !inOrder)).toEqual([]);
}

test('a link over NATS carries all that its credit lets through, in order, and loses nothing', async () => {
  const { edge, owner } = await pair(200);
  await flow(edge, owner, 0);
  expect([edge.heard.length, owner.heard.length]).toEqual([1, 1]);
});

test('operations of 4 MiB fit into the messages of NATS', async () => {
  const { edge, owner } = await pair(4 * MIB);
  await flow(edge, owner, 0);
  expect([edge.heard.length, owner.heard.length]).toEqual([1, 1]);
});

test('a connection that breaks loses what was under way, and both begin anew on another link', async () => {
  const { proxy, edge, owner } = await pair(200);
  await flow(edge, owner, 0);
  proxy.cut();
  await flow(edge, owner, 1);
});

test('a connection that stalls is given up by both, and they begin anew when it is back', async () => {
  const { proxy, edge, owner } = await pair(200);
  await flow(edge, owner, 0);
  proxy.stall(true);
  await until(() => edge.link === undefined && owner.link === undefined);
  proxy.cut();
  await flow(edge, owner, 1);
});

test('NATS may be killed and started again', async () => {
  const { server, edge, owner } = await pair(200);
  await flow(edge, owner, 0);
  await server.kill();
  await server.start();
  await flow(edge, owner, 1);
});

test('a question over NATS is answered', async () => {
  const server = await NatsServer.start({ jetstream: false });
  ends.push(() => server.remove());
  const parts = { clock: systemClock, random: systemRandom, logger: silent };
  const near = new BusPeers({ self: 'near', bus: await openBus(server.url), ...parts });
  ends.push(() => near.stop());
  const far = new BusPeers({ self: 'far', bus: await openBus(server.url), ...parts });
  ends.push(() => far.stop());
  far.answer('double', (request, answer) => answer(undefined, Buffer.concat([request, request])));
  const half = systemRandom.token(MIB);
  const doubled = await new Promise<string>((resolve, reject) => {
    near.ask('far', 'double', Buffer.from(half), 10_000, (error, response) =>
      error ? reject(error) : resolve(response.toString()),
    );
  });
  expect(doubled).toBe(half + half);
});
