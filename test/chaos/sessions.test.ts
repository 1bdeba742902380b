import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Client, credentials } from '@grpc/grpc-js';
import { encodeFrame } from '../../src/wire/client-frame.ts';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { ServerFrameSchema } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { serviceDefinition } from '../../src/wire/service.ts';
import { until } from '../support/inbox.ts';

const SESSIONS = 10_000;
/** As many are open at a time, on so many connections. */
const CROWD = 1_000;
const CONNECTIONS = 10;

interface Memory {
  readonly rss: number;
  readonly heap: number;
}

const { connect } = serviceDefinition(Broker, ['connect']);

let child: ChildProcess;
let address: string;
let tasks = 0;

beforeAll(async () => {
  const config = {
    grpc: { port: 0 },
    http: { port: 0 },
    data: { log: 'memory' },
    // The log of a shard is cut when it has grown by a megabyte: with one shard, several times in a wave.
    shards: 1,
    session: { graceMs: '100ms' },
    // Tasks whose session is gone end there, too.
    delivery: { maxAttempts: 1 },
    retention: { deadPerMailbox: 0 },
  };
  child = fork(`${import.meta.dirname}/broker/main.ts`, [JSON.stringify(config)], {
    execArgv: ['--expose-gc'],
  });
  const [{ grpcPort }] = (await once(child, 'message')) as [{ grpcPort: number }];
  address = `127.0.0.1:${grpcPort}`;
});

afterAll(async () => {
  const gone = once(child, 'exit');
  child.disconnect();
  await gone;
});

async function ask<T>(question: 'sessions' | 'memory'): Promise<T> {
  const answer = once(child, 'message');
  child.send(question);
  const [said] = (await answer) as [T];
  return said;
}

/** Opens a session that works on a mailbox and publishes to it; resolves when it holds the task. */
function open(client: Client, mailbox: string): Promise<() => void> {
  const call = client.makeBidiStreamRequest(
    connect.path,
    connect.requestSerialize,
    connect.responseDeserialize,
  );
  call.on('error', () => {});
  const task = { id: `task-${tasks++}`, to: mailbox, type: 'greeting', payload: Buffer.alloc(100) };
  call.write(
    encodeFrame({
      hello: { incarnation: 1 },
      attach: [{ attachment: 1, mailbox, window: 1 }],
      publish: [{ batch: 1n, tasks: [task] }],
    }),
  );
  return new Promise((resolve) => {
    call.on('data', (frame: Buffer) => {
      if (fromBinary(ServerFrameSchema, frame).delivery.length > 0) resolve(() => call.cancel());
    });
  });
}

/** Lets so many sessions come, and cuts their connections in the middle of a task. */
async function wave(): Promise<Memory> {
  for (let done = 0; done < SESSIONS; done += CROWD) {
    const clients = Array.from(
      { length: CONNECTIONS },
      () => new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 }),
    );
    const opened = Array.from({ length: CROWD }, (_, index) =>
      open(clients[index % CONNECTIONS]!, `agent-${index}`),
    );
    for (const drop of await Promise.all(opened)) drop();
    for (const client of clients) client.close();
    await until(async () => (await ask<{ sessions: number }>('sessions')).sessions === 0);
  }
  return ask('memory');
}

test(`${SESSIONS} sessions that were opened and dropped leave the memory where it was`, async () => {
  // The first wave warms up: code is compiled, tables have grown to what a crowd needs.
  const first = await wave();
  const second = await wave();
  // A kilobyte left of each session would be 10 MB.
  expect(second.heap / first.heap).toBeLessThan(1.1);
  expect(second.rss / first.rss).toBeLessThan(1.5);
}, 180_000);
