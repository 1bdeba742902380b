import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { pathOf } from '../../src/wire/service.ts';
import type { Hub, PublishOutcome } from '../../src/client/index.ts';
import { connect } from '../../src/client/index.ts';
import { HonestClients } from '../support/honest.ts';
import {
  ACK,
  callHeaders,
  END_HEADERS,
  END_STREAM,
  frame,
  Frame,
  grpcMessage,
  headerBlock,
  PREFACE,
  RawConnection,
  settings,
  uint32,
} from '../support/http2.ts';
import { until } from '../support/inbox.ts';
import { part } from '../support/proto.ts';
import { ServeProcess } from '../support/serve.ts';

const BUFFER_MIB = 32;
/** What a broker that is attacked may take beside what it needs anyway; without limits it takes gigabytes. */
const SPARE_MIB = 256;
const MIB = 2 ** 20;

const [CONNECT, PUBLISH, LIST, GET] = [
  Broker.method.connect,
  Broker.method.publish,
  Broker.method.listTasks,
  Broker.method.getTask,
].map(pathOf) as [string, string, string, string];

const dir = mkdtempSync(join(tmpdir(), 'agenthub-attacks-'));
const SETTINGS = {
  'data-log': 'memory',
  shards: '4',
  'limits-mailboxes': '2000',
  'grpc-max-connections': '200',
  'grpc-max-connection-bytes': '16MiB',
  'grpc-max-buffer-bytes': `${BUFFER_MIB}MiB`,
  'grpc-max-resets-per-second': '20',
  'grpc-max-pings-per-second': '100',
  'grpc-handshake-timeout-ms': '300ms',
  'grpc-request-timeout-ms': '1s',
  'grpc-idle-timeout-ms': '1s',
  'grpc-keepalive-ms': '1s',
  'grpc-keepalive-timeout-ms': '500ms',
  'http-request-timeout-ms': '300ms',
  'http-max-connections': '50',
};

let broker: ServeProcess;
let port: number;
let honest: HonestClients;
let before: number;
const raw: RawConnection[] = [];
const sockets: Socket[] = [];

beforeAll(async () => {
  broker = await ServeProcess.start(
    dir,
    Object.entries(SETTINGS).flatMap(([name, value]) => [`--${name}`, value]),
  );
  port = Number(broker.grpc.split(':').at(-1));
});

afterAll(async () => {
  await broker.end('SIGTERM');
  rmSync(dir, { recursive: true, force: true });
});

beforeEach(async () => {
  honest = await HonestClients.start(broker.grpc);
  await honest.progress();
  before = await memoryMiB();
});

/** After every attack: the broker lives, honest clients have lost nothing, and memory is what it may be. */
afterEach(async () => {
  await honest.progress();
  expect(await honest.finish()).toEqual({ published: expect.any(Number), lost: [] });
  expect((await memoryMiB()) - before).toBeLessThan(SPARE_MIB);
  for (const connection of raw.splice(0)) connection.destroy();
  for (const socket of sockets.splice(0)) socket.destroy();
  expect(broker.running).toBe(true);
});

async function attacker(options = {}): Promise<RawConnection> {
  const connection = await RawConnection.open(port, options);
  raw.push(connection);
  return connection;
}

function tcp(to: number): Promise<Socket> {
  const socket = connectTcp({ host: '127.0.0.1', port: to });
  sockets.push(socket);
  socket.on('error', () => {});
  socket.resume();
  return new Promise((resolve) => socket.once('connect', () => resolve(socket)));
}

async function metric(series: string): Promise<number> {
  const text = await (await fetch(`http://${broker.http}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? 0 : Number(line.slice(series.length + 1));
}

const memoryMiB = async (): Promise<number> => (await metric('process_resident_memory_bytes')) / MIB;
const met = (limit: string): Promise<number> => metric(`agenthub_limits_hit_total{limit="${limit}"}`);
const broken = (): Promise<number> => metric('agenthub_connections_broken_total{reason="protocol"}');

/** Does something to the broker that counts as having met that limit. */
async function meets(limit: string, attack: () => Promise<unknown>): Promise<void> {
  const was = await met(limit);
  await attack();
  await until(async () => (await met(limit)) > was);
}

describe('who says nothing, or says it slowly,', () => {
  test('is not waited for: connections that never begin', async () => {
    await meets('grpc.handshakeTimeoutMs', async () => {
      const silent = await Promise.all(
        Array.from({ length: 60 }, async (_, index) => {
          const connection = await attacker({ greet: false });
          // Some begin, and go on with a byte now and then.
          if (index % 2 === 0) await connection.write(PREFACE.subarray(0, 1 + (index % PREFACE.length)));
          return connection;
        }),
      );
      await Promise.all(silent.map(({ closed }) => closed));
    });
  });

  test('headers that come by and by, and never end', async () => {
    const connections = await Promise.all(Array.from({ length: 20 }, () => attacker()));
    const slow = connections.map(async (connection) => {
      const block = headerBlock(callHeaders(PUBLISH));
      await connection.write(frame(Frame.headers, 0, 1, block.subarray(0, 20)));
      for (let at = 20; at < block.length && !connection.isClosed; at++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        await connection.write(frame(Frame.continuation, 0, 1, block.subarray(at, at + 1)));
      }
      await connection.closed;
    });
    await Promise.all(slow);
  });

  test('requests that never come, or never completely', async () => {
    await meets('grpc.requestTimeoutMs', async () => {
      const connection = await attacker();
      await connection.call(1, PUBLISH);
      await connection.call(3, CONNECT);
      await connection.call(5, PUBLISH);
      await connection.write(frame(Frame.data, 0, 5, grpcMessage(Buffer.alloc(10), { length: 1000 })));
      await until(() => connection.frames.get(Frame.reset) === 3);
    });
  });

  test('connections without calls', async () => {
    const connections = await Promise.all(Array.from({ length: 20 }, () => attacker()));
    await Promise.all(connections.map(({ closed }) => closed));
  });

  test('HTTP requests that never end', async () => {
    const to = Number(broker.http.split(':').at(-1));
    const ended = Array.from({ length: 20 }, async (_, index) => {
      const socket = await tcp(to);
      if (index % 2 === 0) socket.write('GET /healthz HTTP/1.1\r\nHost: ');
      await new Promise((resolve) => socket.once('close', resolve));
    });
    await Promise.all(ended);
  });
});

describe('floods of frames', () => {
  /** Sends bytes again and again until the broker has had enough. */
  async function flood(make: (round: number) => Buffer): Promise<void> {
    const connection = await attacker();
    for (let round = 0; !connection.isClosed; round++) await connection.write(make(round));
  }

  const many = (count: number, make: (index: number) => Buffer): Buffer =>
    Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));

  test('of calls that are reset at once (CVE-2023-44487)', async () => {
    const block = headerBlock(callHeaders(CONNECT));
    await meets('grpc.maxResetsPerSecond', () =>
      flood((round) =>
        many(100, (index) => {
          const stream = 2 * (round * 100 + index) + 1;
          return Buffer.concat([
            frame(Frame.headers, END_HEADERS, stream, block),
            frame(Frame.reset, 0, stream, uint32(8)),
          ]);
        }),
      ),
    );
  });

  test('of calls that the broker is made to reset (CVE-2025-8671)', async () => {
    const block = headerBlock(callHeaders(CONNECT));
    const was = await broken();
    await flood((round) =>
      many(100, (index) => {
        const stream = 2 * (round * 100 + index) + 1;
        return Buffer.concat([
          frame(Frame.headers, END_HEADERS, stream, block),
          frame(Frame.window, 0, stream, uint32(0)),
        ]);
      }),
    );
    await until(async () => (await broken()) > was);
  });

  test('of pings, whose answers are read', async () => {
    await meets('grpc.maxPingsPerSecond', async () => {
      const connection = await attacker();
      // Below what nghttp2 itself refuses: a thousand answers that were not sent yet.
      for (let sent = 500; !connection.isClosed; sent += 500) {
        await connection.write(many(500, () => frame(Frame.ping, 0, 0, Buffer.alloc(8))));
        await until(() => connection.isClosed || connection.frames.get(Frame.ping)! >= sent);
      }
    });
  });

  test.each<[string, (round: number) => Buffer]>([
    [
      'of pings, faster than can be answered',
      () => many(10_000, () => frame(Frame.ping, 0, 0, Buffer.alloc(8))),
    ],
    ['of settings', () => many(10_000, (index) => frame(Frame.settings, 0, 0, settings([[4, index]])))],
    [
      'of headers that never end (CVE-2024-27983)',
      (round) =>
        round === 0
          ? frame(Frame.headers, 0, 1, headerBlock(callHeaders(PUBLISH)))
          : many(100, () => frame(Frame.continuation, 0, 1, headerBlock([['x-more', 'y'.repeat(100)]]))),
    ],
    [
      'of empty data (CVE-2019-9518)',
      (round) =>
        round === 0
          ? frame(Frame.headers, END_HEADERS, 1, headerBlock(callHeaders(CONNECT)))
          : many(1000, () => frame(Frame.data, 0, 1)),
    ],
    ['of answers to no question', () => many(1000, () => frame(Frame.ping, ACK, 0, Buffer.alloc(8)))],
  ])('%s', async (_, make) => {
    const was = await broken();
    await flood(make);
    await until(async () => (await broken()) > was);
  });

  test('of calls that are left open', async () => {
    const block = headerBlock(callHeaders(CONNECT));
    await meets('grpc.maxConnectionBytes', () =>
      flood((round) =>
        many(100, (index) => frame(Frame.headers, END_HEADERS, 2 * (round * 100 + index) + 1, block)),
      ),
    );
  });

  test('of windows and priorities cost a connection no memory', async () => {
    const connection = await attacker();
    await connection.call(1, CONNECT);
    for (let round = 0; round < 50; round++) {
      await connection.write(many(1000, (index) => frame(Frame.priority, 0, 2 * index + 3, Buffer.alloc(5))));
      await connection.write(many(1000, () => frame(Frame.window, 0, 1, uint32(1))));
    }
  });
});

describe('bombs', () => {
  /** The status that the only call of a connection is answered with; 99: it is reset, or the connection ends. */
  async function answered(connection: RawConnection): Promise<boolean> {
    await until(
      () => connection.isClosed || connection.frames.has(Frame.headers) || connection.frames.has(Frame.reset),
    );
    return connection.frames.has(Frame.headers);
  }

  test('of headers are refused', async () => {
    for (const fields of [
      [['x-large', 'y'.repeat(100_000)] as const],
      Array.from({ length: 1000 }, (_, index) => [`x-${index}`, 'y'] as const),
    ]) {
      const connection = await attacker();
      const block = headerBlock(callHeaders(PUBLISH, fields));
      // As large as frames may be.
      const parts = Array.from({ length: Math.ceil(block.length / 16_384) }, (_, index) =>
        block.subarray(index * 16_384, (index + 1) * 16_384),
      );
      for (const [index, each] of parts.entries()) {
        const flags = index === parts.length - 1 ? END_HEADERS : 0;
        await connection.write(frame(index === 0 ? Frame.headers : Frame.continuation, flags, 1, each));
      }
      await answered(connection);
    }
  });

  test('of headers that are remembered and named again and again are refused', async () => {
    const connection = await attacker();
    const large = Buffer.concat([Buffer.of(0x40), headerBlock([['x-large', 'y'.repeat(3000)]]).subarray(1)]);
    // The first entry of the table that grows has the index 62 (https://www.rfc-editor.org/rfc/rfc7541#section-2.3.3).
    const block = Buffer.concat([headerBlock(callHeaders(PUBLISH)), large, Buffer.alloc(12_000, 0x80 | 62)]);
    await connection.write(frame(Frame.headers, END_HEADERS, 1, block));
    await answered(connection);
  });

  test('that announce more than may come are answered', async () => {
    for (const length of [9 * MIB, 0xffffffff]) {
      const connection = await attacker();
      await connection.call(1, PUBLISH);
      await connection.write(frame(Frame.data, 0, 1, grpcMessage(Buffer.alloc(1000), { length })));
      expect(await answered(connection)).toBe(true);
    }
  });

  test('that inflate are answered, and many of them together are bounded', async () => {
    // What a message may be, and far above.
    const [bomb, larger] = [2 * MIB, 64 * MIB].map((size) =>
      grpcMessage(gzipSync(Buffer.alloc(size)), { compressed: true }),
    ) as [Buffer, Buffer];
    const gzip = [['grpc-encoding', 'gzip']] as const;
    await meets('grpc.maxBufferBytes', async () => {
      const connections = await Promise.all(Array.from({ length: 20 }, () => attacker()));
      for (const connection of connections) {
        for (let stream = 1; stream < 20; stream += 2) {
          await connection.call(stream, PUBLISH, gzip);
          for (let at = 0; at < bomb.length; at += 16_384)
            await connection.write(frame(Frame.data, 0, stream, bomb.subarray(at, at + 16_384)));
        }
      }
    });
    const alone = await attacker();
    await alone.call(1, PUBLISH, gzip);
    for (let at = 0; at < larger.length; at += 16_384)
      await alone.write(frame(Frame.data, 0, 1, larger.subarray(at, at + 16_384)));
    await answered(alone);
    // A session is told not to.
    const connection = await attacker();
    await connection.call(1, CONNECT, gzip);
    expect(await answered(connection)).toBe(true);
  });
});

describe('who takes memory', () => {
  /** Begins many large messages and ends none. */
  async function hoard(connection: RawConnection, calls: number): Promise<void> {
    const chunk = Buffer.alloc(16_384);
    for (let call = 0; call < calls && !connection.isClosed; call++) {
      const stream = 2 * call + 1;
      await connection.call(stream, PUBLISH);
      await connection.write(
        frame(Frame.data, 0, stream, grpcMessage(chunk.subarray(5), { length: 4 * MIB })),
      );
    }
    // More than a window of HTTP/2 holds; what the broker doesn't let in stays here.
    for (let round = 0; round < 100 && !connection.isClosed; round++) {
      for (let call = 0; call < calls; call++)
        await connection.write(frame(Frame.data, 0, 2 * call + 1, chunk));
    }
  }

  test('with one connection loses it', async () => {
    await meets('grpc.maxConnectionBytes', async () => {
      const connection = await attacker();
      void hoard(connection, 40);
      await connection.closed;
    });
  });

  test('with many connections loses the largest of them', async () => {
    await meets('grpc.maxBufferBytes', async () => {
      const connections = await Promise.all(Array.from({ length: 60 }, () => attacker()));
      for (const connection of connections) void hoard(connection, 3);
      await Promise.race(connections.map(({ closed }) => closed));
    });
  });

  test('by asking, and not reading the answers, loses the calls', async () => {
    const hub: Hub = await connect({ address: broker.grpc });
    const payload = Buffer.alloc(100_000);
    await Promise.all(
      Array.from({ length: 10 }, (_, index) => hub.publish({ to: 'big', id: `big-${index}`, payload })),
    );
    await hub.close();
    await meets('grpc.requestTimeoutMs', async () => {
      const connection = await RawConnection.open(port, { greet: false });
      raw.push(connection);
      // No window: nothing of an answer may be sent.
      await connection.write(PREFACE, frame(Frame.settings, 0, 0, settings([[4, 0]])));
      for (let call = 0; call < 200; call++) {
        const stream = 2 * call + 1;
        await connection.call(stream, call % 2 === 0 ? LIST : GET);
        const request = call % 2 === 0 ? Buffer.alloc(0) : part(1, 'big-1');
        await connection.write(frame(Frame.data, END_STREAM, stream, grpcMessage(request)));
      }
    });
  });

  test('by opening connections finds the door shut, and leaves room for others', async () => {
    await meets('grpc.maxConnections', async () => {
      await Promise.all(Array.from({ length: 400 }, () => attacker()));
    });
  });
});

describe('names that are made up', () => {
  let hub: Hub;
  beforeEach(async () => {
    hub = await connect({ address: broker.grpc });
  });
  afterEach(() => hub.close());

  test('millions of mailboxes are refused above the limit, by name', async () => {
    let last: readonly PublishOutcome[] = [];
    // What is on its way is not counted yet, so a batch may pass the limit.
    for (let batch = 0; batch < 20; batch++) {
      const tasks = Array.from({ length: 500 }, (_, index) => ({ to: `nobody-${batch * 500 + index}` }));
      ({ outcomes: last } = await hub.publishBatch(tasks));
    }
    expect(last.map(({ error }) => error?.limit)).toEqual(last.map(() => 'limits.mailboxes'));
    expect(await met('limits.mailboxes')).toBeGreaterThan(5_000);
    expect(await metric('agenthub_mailboxes')).toBeLessThan(5_000);
  });

  test('one id for many tasks is one task in each mailbox, and nobody else is in it', async () => {
    const tasks = Array.from({ length: 500 }, (_, index) => ({ to: `honest-${index % 5}`, id: 'the-same' }));
    const { outcomes } = await hub.publishBatch(tasks);
    expect(outcomes).toHaveLength(500);
    // Ids that others might have.
    const guesses = Array.from({ length: 200 }, (_, index) =>
      hub.cancel({ id: `task-${index}` }).catch(() => {}),
    );
    await Promise.all(guesses);
  });
});
