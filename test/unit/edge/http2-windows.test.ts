import { connect } from 'node:http2';
import { afterEach, expect, test } from '@jest/globals';
import { GrpcEdge } from '../../../src/edge/server.ts';
import { silent } from '../../../src/std/logger.ts';
import { systemClock } from '../../../src/std/system.ts';

const PROTOCOL_WINDOW = 65_535;

const counts = { limit() {}, broken() {} };

const edge = new GrpcEdge(
  [],
  { clock: systemClock, logger: silent, counts },
  {
    host: '127.0.0.1',
    port: 0,
    maxMessageBytes: 1024,
    keepaliveMs: 60_000,
    keepaliveTimeoutMs: 60_000,
    maxConnectionAgeMs: 60_000,
    maxConnectionAgeGraceMs: 0,
    maxConcurrentStreams: 7,
    handshakeTimeoutMs: 60_000,
    idleTimeoutMs: 60_000,
    requestTimeoutMs: 60_000,
    maxConnections: 10,
    maxConnectionBytes: 2 ** 20,
    maxBufferBytes: 2 ** 20,
    maxResetsPerSecond: 100,
    maxPingsPerSecond: 100,
  },
);

afterEach(() => edge.close(0));

test('clients may have more on the way than the protocol lets them by itself', async () => {
  const client = connect(`http://127.0.0.1:${await edge.listen()}`);
  const { promise: settings, resolve } = Promise.withResolvers<object>();
  client.once('remoteSettings', resolve);
  expect(await settings).toMatchObject({
    initialWindowSize: 4 * (PROTOCOL_WINDOW + 1),
    maxConcurrentStreams: 7,
  });
  // The answer to a ping comes after the update of the window, which was sent before.
  await new Promise((resolve) => client.ping(resolve));
  expect(client.state.remoteWindowSize).toBeGreaterThan(PROTOCOL_WINDOW);
  client.destroy();
});
