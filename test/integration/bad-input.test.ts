import { request as httpRequest } from 'node:http';
import { connect as tcpConnect } from 'node:net';
import type { Socket } from 'node:net';
import type { DescMethod } from '@bufbuild/protobuf';
import { create, fromBinary, ScalarType, toBinary } from '@bufbuild/protobuf';
import { describe, expect, test } from '@jest/globals';
import { Admin } from '../../src/wire/gen/agenthub/v1/admin_pb.ts';
import { Broker, PublishResponseSchema } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import type { Refusal } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { ClientFrameSchema } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { TaskSchema } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { EventBus, PublishTaskRequestSchema } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import { identityMethod, pathOf } from '../../src/wire/service.ts';
import { Agent } from '../support/agent.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers, sharedBroker } from '../support/broker.ts';
import { until } from '../support/inbox.ts';
import { count, MALFORMED, NO_TEXT, part, varint } from '../support/proto.ts';
import { SeededRandom } from '../support/random.ts';

const hub = brokers();

/** The broker still does its work: a task comes in, is delivered, and ends. */
async function lives(broker: TestBroker): Promise<void> {
  const agent = await Agent.connect(broker);
  await agent.attach(1, 'proof');
  const { refused } = await agent.publish([{ to: 'proof' }]);
  expect(refused).toEqual([]);
  const { lease } = await agent.delivery();
  agent.complete(lease);
  expect((await agent.settled()).refused).toEqual([]);
  agent.send({ goodbye: true });
  await agent.status;
}

/** Every method that takes one request. */
const METHODS: readonly DescMethod[] = [Broker, Admin, EventBus]
  .flatMap((service): readonly DescMethod[] => service.methods)
  .filter(({ methodKind }) => methodKind === 'unary' || methodKind === 'server_streaming');

const named = (methods: readonly DescMethod[]) => methods.map((method) => [method.name, method] as const);

describe('every rpc', () => {
  const common = sharedBroker();

  test.each(named(METHODS))('%s answers INVALID_ARGUMENT to what is no message', async (_, method) => {
    const { broker } = common;
    for (const [what, bytes] of MALFORMED) {
      const { code, details } = await broker.callRaw(method, bytes);
      expect({ what, code }).toEqual({ what, code: 3 });
      expect(details).toMatch(/malformed message|cannot be nil/);
    }
    await lives(broker);
  });

  const withText = METHODS.filter(({ input }) =>
    input.fields.some((field) => field.scalar === ScalarType.STRING),
  );
  test.each(named(withText))('%s answers INVALID_ARGUMENT to text that is not UTF-8', async (_, method) => {
    const { broker } = common;
    for (const field of method.input.fields.filter(({ scalar }) => scalar === ScalarType.STRING)) {
      const { code } = await broker.callRaw(method, part(field.number, NO_TEXT));
      expect({ field: field.name, code }).toEqual({ field: field.name, code: 3 });
    }
    await lives(broker);
  });

  test.each(named(METHODS))(
    '%s answers RESOURCE_EXHAUSTED to a message that is too large',
    async (_, method) => {
      const broker = await hub.start({ grpc: { maxMessageBytes: '128KiB' }, limits: { taskBytes: '32KiB' } });
      expect((await broker.callRaw(method, part(999, Buffer.alloc(200_000)))).code).toBe(8);
      await lives(broker);
    },
  );

  test.each([
    ['GetTask', Broker.method.getTask, 'task_id'],
    ['CancelTask', Broker.method.cancelTask, 'task_id'],
    ['Publish', Broker.method.publish, 'tasks'],
    ['Locate', Broker.method.locate, 'mailbox'],
    ['ReplayDeadLetters', Admin.method.replayDeadLetters, 'mailbox'],
    ['PurgeMailbox', Admin.method.purgeMailbox, 'mailbox'],
  ] as const)('%s names the field that is missing', async (_, method, field) => {
    const { broker } = common;
    const { code, details } = await broker.callRaw(method, Buffer.alloc(0));
    expect(code).toBe(3);
    expect(details).toContain(field);
  });

  test('ListTasks refuses a state it does not know', async () => {
    const { broker } = common;
    const { code, details } = await broker.callRaw(Broker.method.listTasks, count(2, 99));
    expect({ code, details }).toEqual({ code: 3, details: 'states has the unknown state 99' });
  });

  test('GetTask and CancelTask refuse ids that can not be', async () => {
    const { broker } = common;
    for (const method of [Broker.method.getTask, Broker.method.cancelTask]) {
      expect((await broker.callRaw(method, part(1, 'x'.repeat(257)))).code).toBe(3);
      expect((await broker.callRaw(method, Buffer.concat([part(1, 'x'), part(2, 'a\nb')]))).code).toBe(3);
      expect((await broker.callRaw(method, Buffer.concat([part(1, 'x'), part(2, 'type:')]))).code).toBe(3);
    }
  });

  test('takes any bytes at all without harm', async () => {
    const { broker } = common;
    const random = new SeededRandom(7);
    const valid = toBinary(
      PublishTaskRequestSchema,
      create(PublishTaskRequestSchema, {
        task: { taskId: 'a', taskType: 'b', requesterAgentId: 'c', parameters: { d: [1, { e: 'f' }] } },
      }),
    );
    const calls: Promise<unknown>[] = [];
    for (let round = 0; round < 40; round++) {
      for (const method of METHODS) {
        // A drain would end the test, and a subscription does not end.
        if (method.name === 'Drain' || method.methodKind === 'server_streaming') continue;
        const bytes = Buffer.from(
          random.float() < 0.5 ? valid : Buffer.from(random.token(1 + (round % 30)), 'hex'),
        );
        for (let flips = round % 5; flips > 0; flips--)
          bytes[random.uint32() % bytes.length] = random.uint32();
        calls.push(broker.callRaw(method, bytes));
      }
    }
    await Promise.all(calls);
    await lives(broker);
  });
});

describe('a task', () => {
  const common = sharedBroker();

  /** Publishes a serialized task and answers with its refusal. */
  async function publish(broker: TestBroker, ...task: Buffer[]): Promise<Refusal | undefined> {
    const { path, requestSerialize, responseDeserialize } = identityMethod(pathOf(Broker.method.publish), {
      requestStream: false,
      responseStream: false,
    });
    const answer = await new Promise<Buffer>((resolve, reject) => {
      const request = part(1, Buffer.concat(task));
      broker.client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        (error, response) => (error ? reject(error) : resolve(response ?? Buffer.alloc(0))),
      );
    });
    return fromBinary(PublishResponseSchema, answer).ack?.refused[0];
  }

  const TO = part(2, 'worker');

  test.each([
    ['no mailbox', 'task.to', []],
    ['an empty mailbox', 'task.to', [part(2, '')]],
    ['a capability without a name', 'task.to', [part(2, 'type:')]],
    ['a reserved mailbox', 'task.to', [part(2, 'reply:me')]],
    ['a mailbox of dead letters', 'task.to', [part(2, 'dead:worker')]],
    ['a mailbox that is too long', 'task.to', [part(2, 'x'.repeat(257))]],
    ['a mailbox with a control character', 'task.to', [part(2, 'a\u0000b')]],
    ['a mailbox with the mark of lanes', 'task.to', [part(2, 'a#b')]],
    ['an id that is too long', 'task.id', [TO, part(1, 'x'.repeat(257))]],
    ['a type that is too long', 'task.type', [TO, part(3, 'é'.repeat(129))]],
    ['a requester that is no agent', 'task.requester', [TO, part(4, 'type:x')]],
    ['an unknown priority', 'task.priority', [TO, count(5, 6)]],
    ['a negative priority', 'task.priority', [TO, count(5, -1)]],
    ['a negative deadline', 'task.deadline_ms', [TO, count(6, -1)]],
    ['a time that no clock knows', 'task.not_before_ms', [TO, count(7, 2n ** 60n)]],
    ['too many attempts', 'task.max_attempts', [TO, count(8, 256)]],
    ...(
      [
        [1, 'task.id'],
        [2, 'task.to'],
        [3, 'task.type'],
        [4, 'task.requester'],
        [11, 'task.content_type'],
        [13, 'task.context_id'],
      ] as const
    ).map(([field, name]) => [`no UTF-8 in ${name}`, name, [TO, part(field, NO_TEXT)]] as const),
    ['no UTF-8 in the name of a header', 'task.headers', [TO, part(12, part(1, NO_TEXT))]],
    ['no UTF-8 in the value of a header', 'task.headers', [TO, part(12, part(2, NO_TEXT))]],
    ['a header that is none', 'task.headers', [TO, part(12, count(1, 5))]],
    ...(
      [
        [1, 'task.id'],
        [2, 'task.to'],
        [3, 'task.type'],
        [4, 'task.requester'],
        [11, 'task.content_type'],
        [12, 'task.headers'],
        [13, 'task.context_id'],
        [14, 'task.payload'],
      ] as const
    ).map(([field, name]) => [`a number for ${name}`, name, [TO, count(field, 1)]] as const),
    ...(
      [
        [5, 'task.priority'],
        [6, 'task.deadline_ms'],
        [7, 'task.not_before_ms'],
        [8, 'task.max_attempts'],
        [9, 'task.backoff_ms'],
        [10, 'task.max_run_ms'],
      ] as const
    ).map(([field, name]) => [`text for ${name}`, name, [TO, part(field, 'x')]] as const),
  ] as const)('with %s is refused, and %s is named', async (_, field, task) => {
    const { broker } = common;
    expect(await publish(broker, ...task)).toMatchObject({ index: 0, code: 3, field, retryAfterMs: 0 });
  });

  test.each(MALFORMED)('with %s is refused', async (_, bytes) => {
    const { broker } = common;
    expect(await publish(broker, TO, bytes)).toMatchObject({ code: 3 });
    await lives(broker);
  });

  test('with unknown fields is delivered with them', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker');
    expect(await publish(broker, TO, part(999, 'later'))).toBeUndefined();
    const { task } = await agent.delivery();
    expect(Buffer.from(toBinary(TaskSchema, task!)).includes('later')).toBe(true);
  });

  test('that is refused leaves the others of its batch alone', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker');
    const { refused } = await agent.publish([
      { id: 'a', to: 'worker' },
      { id: 'b', to: '' },
      { id: 'c', to: 'worker' },
    ]);
    expect(refused).toMatchObject([{ index: 1, code: 3, field: 'task.to' }]);
    expect(await agent.ids(2)).toEqual(['a', 'c']);
  });
});

describe('a legacy task', () => {
  const common = sharedBroker();

  const { publishTask } = EventBus.method;
  const GOOD = [part(1, 'id'), part(2, 'type'), part(4, 'asker')];
  const publish = (broker: TestBroker, ...more: Buffer[]) =>
    broker.callRaw(publishTask, part(1, Buffer.concat([...GOOD, ...more])));

  test.each([
    ['an unknown priority', count(7, 5)],
    ['a negative priority', count(7, -1)],
    ['a deadline beyond all time', part(6, count(1, 2n ** 62n))],
    ['a deadline with too many nanoseconds', part(6, Buffer.concat([count(1, 1), count(2, 1_000_000_000)]))],
    ['a responder that can not be', part(5, 'dead:x')],
    ['a broken Struct', part(3, part(1, Buffer.of(0x0a, 0x09)))],
    ['a Struct with a key that is not UTF-8', part(3, part(1, part(1, NO_TEXT)))],
    ['a Struct with a text that is not UTF-8', part(3, part(1, part(2, part(3, NO_TEXT))))],
    ['a Struct with a number of the wrong kind', part(3, part(1, part(2, count(2, 1))))],
    ['a Struct without end', part(3, nested(400))],
    ['broken metadata', part(8, Buffer.of(0x0a, 0x09))],
    ['a time that is none', part(9, part(1, 'x'))],
  ])('with %s is refused', async (_, field) => {
    const { broker } = common;
    expect((await publish(broker, field)).code).toBe(3);
    await lives(broker);
  });

  test('in two parts is one, as protobuf says', async () => {
    const broker = await hub.start();
    const [id, ...rest] = GOOD;
    const request = Buffer.concat([part(1, id!), part(1, Buffer.concat([...rest, part(5, 'worker')]))]);
    expect((await broker.callRaw(publishTask, request)).code).toBe(0);
    const stream = broker.subscribe(EventBus.method.subscribeToTasks, { agentId: 'worker' });
    expect(await stream.next()).toMatchObject({ taskId: 'id', taskType: 'type', requesterAgentId: 'asker' });
  });

  test.each([
    ['PublishTaskResult', EventBus.method.publishTaskResult],
    ['PublishTaskProgress', EventBus.method.publishTaskProgress],
  ] as const)('%s refuses an unknown status and a broken Struct', async (_, method) => {
    const { broker } = common;
    const send = (...fields: Buffer[]) =>
      broker.callRaw(method, part(1, Buffer.concat([part(1, 'id'), ...fields])));
    expect(await send(count(2, 6))).toEqual({ code: 3, details: 'status is not a known status; use 0 to 5' });
    expect((await send(count(2, -1))).code).toBe(3);
    for (const field of method === EventBus.method.publishTaskResult ? [3, 7] : [5]) {
      expect((await send(part(field, part(1, part(1, NO_TEXT))))).code).toBe(3);
    }
    expect((await send(count(2, 2))).code).toBe(0);
    await lives(broker);
  });

  test.each([
    ['agent_id', EventBus.method.subscribeToTasks],
    ['requester_agent_id', EventBus.method.subscribeToTaskResults],
    ['requester_agent_id', EventBus.method.subscribeToTaskProgress],
  ] as const)('is not brought to an %s that can not be', async (field, method) => {
    const { broker } = common;
    for (const id of ['*', 'reply:a', 'dead:a', 'a#b', 'a\nb', 'x'.repeat(257)]) {
      const { code, details } = await broker.callRaw(method, part(1, id));
      expect({ id, code }).toEqual({ id, code: 3 });
      expect(details).toMatch(new RegExp(`^${field}`));
    }
    expect(broker.broker.sessions.size).toBe(0);
  });
});

describe('a session', () => {
  test.each([
    ['says something else than hello', { heartbeat: { inFlight: 0 } }, 3],
    ['names a session that can not be', { hello: { sessionId: 'x' } }, 3],
  ])('whose first frame %s is refused', async (_, frame, code) => {
    const broker = await hub.start();
    const agent = Agent.open(broker);
    agent.send(frame);
    expect((await agent.status).code).toBe(code);
    expect(broker.broker.sessions.size).toBe(0);
  });

  test('that greets twice is closed', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    agent.send({ hello: {} });
    expect(await agent.status).toMatchObject({ code: 3, details: expect.stringContaining('hello') });
    await lives(broker);
  });

  test('that was never there begins anew', async () => {
    const broker = await hub.start({ session: { graceMs: '0' } });
    const agent = await Agent.connect(broker, { sessionId: '0123456789abcdef', incarnation: 5 });
    expect(agent.welcome).toMatchObject({ resumed: false });
    expect(agent.sessionId).not.toBe('0123456789abcdef');
  });

  test.each(MALFORMED)('that sends %s is closed with INVALID_ARGUMENT, first or later', async (_, bytes) => {
    const broker = await hub.start();
    const first = new RawSession(broker);
    first.send(bytes);
    expect((await first.status).code).toBe(3);
    const later = new RawSession(broker);
    later.send(Buffer.from(toBinary(ClientFrameSchema, create(ClientFrameSchema, { hello: {} }))));
    later.send(bytes);
    expect((await later.status).code).toBe(3);
    await lives(broker);
  });

  test.each([
    ['attach', 2, part(2, NO_TEXT)],
    ['extend', 6, count(1, 1)],
    ['progress', 7, part(3, NO_TEXT)],
    ['cancel', 8, part(2, NO_TEXT)],
    ['hello', 1, part(3, NO_TEXT)],
    ['publish', 4, count(2, 1)],
    ['settle', 5, count(2, 1)],
  ])('that sends a broken %s is closed with INVALID_ARGUMENT', async (_, field, content) => {
    const broker = await hub.start();
    const session = new RawSession(broker);
    session.send(Buffer.from(toBinary(ClientFrameSchema, create(ClientFrameSchema, { hello: {} }))));
    session.send(part(field, content));
    expect((await session.status).code).toBe(3);
    await lives(broker);
  });

  test.each([
    ['number 0', { attachment: 0, mailbox: 'a' }, 'attachment'],
    ['no mailbox', { attachment: 1 }, 'mailbox'],
    ['all agents', { attachment: 1, mailbox: '*' }, 'mailbox'],
    ['dead letters', { attachment: 1, mailbox: 'dead:a' }, 'mailbox'],
    ['another lane of replies', { attachment: 1, mailbox: 'reply:a#0123456789abcdef' }, 'mailbox'],
    ['a name that is too long', { attachment: 1, mailbox: 'x'.repeat(257) }, 'mailbox'],
    ['an agent that can not be', { attachment: 1, mailbox: 'a', agent: 'type:x' }, 'agent'],
  ])('is not attached to %s', async (_, attach, field) => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    agent.send({ attach: [attach] });
    const { code, message } = await agent.attachments.next();
    expect(code).toBe(3);
    expect(message).toMatch(new RegExp(`^${field}`));
    await lives(broker);
  });

  test('may attach again what it has, and not something else under the same number', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    expect((await agent.attach(1, 'a')).code).toBe(0);
    expect((await agent.attach(1, 'a')).code).toBe(0);
    expect((await agent.attach(1, 'b')).code).toBe(6);
    const { agents } = await broker.call(Admin.method.listAgents, {});
    expect(agents.map(({ mailbox }) => mailbox)).toEqual(['a']);
  });

  test('is told which of its settlements can not be', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker');
    await agent.publish([{ to: 'worker' }]);
    const { lease } = await agent.delivery();
    const other = Buffer.from(lease);
    other[4]! ^= 1;
    const elsewhere = Buffer.from(lease);
    elsewhere.writeUInt16LE(999, 0);
    for (const [bad, code] of [
      [Buffer.alloc(0), 3],
      [Buffer.alloc(5), 3],
      [Buffer.alloc(20, 0xff), 3],
      [elsewhere, 3],
      [other, 9],
    ] as const) {
      agent.complete(bad);
      expect({ bad, refused: (await agent.settled()).refused }).toMatchObject({
        bad,
        refused: [{ index: 0, code }],
      });
    }
    agent.complete(lease);
    expect((await agent.settled()).refused).toEqual([]);
  });

  test('may not answer what its requester could not decode', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.attach(1, 'worker');
    await agent.attach(2, 'reply:asker');
    await agent.publish([{ id: 'a', to: 'worker', requester: 'asker' }]);
    const { lease } = await agent.delivery();
    for (const completed of [
      part(2, NO_TEXT),
      part(3, part(1, NO_TEXT)),
      part(3, count(1, 1)),
      count(1, 1),
    ]) {
      agent.sendRaw(part(5, part(2, Buffer.concat([part(1, lease), part(2, completed)]))));
      expect((await agent.settled()).refused).toMatchObject([{ code: 3 }]);
    }
    agent.complete(lease);
    expect((await agent.delivery()).result?.taskId).toBe('a');
  });

  test('may say what makes no sense: it is passed over', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    agent.send({});
    agent.send({ detach: [{ attachment: 9 }], window: [{ attachment: 9, window: 5 }] });
    agent.send({ extend: [{ lease: Buffer.alloc(3) }], progress: [{ lease: Buffer.alloc(3) }] });
    agent.send({ inFlight: { leases: [Buffer.alloc(7)] } });
    agent.send({ cancel: [{ call: 1n, mailbox: '', taskId: '' }] });
    expect(await agent.cancelAnswers.next()).toMatchObject({ call: 1n, outcome: 0 });
    agent.sendRaw(Buffer.concat([part(999, 'later'), count(998, 5)]));
    expect((await agent.publish([])).refused).toEqual([]);
    agent.send({ heartbeat: { inFlight: 0 } });
    expect(await agent.heartbeats.next()).toMatchObject({ inFlight: 0 });
    expect((await agent.abort()).lease).toHaveLength(3);
    await lives(broker);
  });

  test('that resumes with leases of nobody is told to abort them', async () => {
    const broker = await hub.start();
    const agent = await Agent.connect(broker);
    await agent.drop();
    const inFlight = [Buffer.alloc(20), Buffer.alloc(20, 0xff), Buffer.alloc(3)];
    const again = await Agent.connect(broker, { sessionId: agent.sessionId, incarnation: 1, inFlight });
    expect(again.welcome?.resumed).toBe(true);
    expect(await again.aborts.take(3)).toHaveLength(3);
    await lives(broker);
  });

  test('may send any bytes at all without harm', async () => {
    const broker = await hub.start();
    const random = new SeededRandom(11);
    const frame = toBinary(
      ClientFrameSchema,
      create(ClientFrameSchema, {
        attach: [{ attachment: 1, mailbox: 'worker', window: 5 }],
        publish: [{ batch: 1n, tasks: [{ id: 'a', to: 'worker', type: 't', headers: { a: 'b' } }] }],
        settle: [{ batch: 2n, settlements: [{ lease: Buffer.alloc(20, 1) }] }],
        heartbeat: { inFlight: 3, hash: 4 },
      }),
    );
    const hello = Buffer.from(toBinary(ClientFrameSchema, create(ClientFrameSchema, { hello: {} })));
    for (let round = 0; round < 60; round++) {
      const session = new RawSession(broker);
      session.send(hello);
      for (let frames = 0; frames < 5; frames++) {
        const bytes = Buffer.from(frame);
        for (let flips = random.uint32() % 8; flips > 0; flips--)
          bytes[random.uint32() % bytes.length] = random.uint32();
        session.send(bytes);
      }
      session.end();
      await session.status;
    }
    await lives(broker);
  });
});

describe('a port', () => {
  async function garbage(port: number, random: SeededRandom): Promise<void> {
    const socket = tcpConnect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.write(Buffer.from(random.token(1 + (random.uint32() % 500)), 'hex'));
    socket.end();
    await closed;
  }

  test('takes random bytes without harm', async () => {
    const broker = await hub.start();
    const random = new SeededRandom(3);
    for (let round = 0; round < 30; round++) {
      await garbage(broker.embedded.grpcPort, random);
      await garbage(broker.embedded.httpPort, random);
    }
    const status = await new Promise((resolve) => {
      httpRequest({ port: broker.embedded.httpPort, path: '/healthz' }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).end();
    });
    expect(status).toBe(200);
    await lives(broker);
  });

  test('takes random bytes behind the preface of HTTP/2 without harm', async () => {
    const broker = await hub.start();
    const random = new SeededRandom(5);
    for (let round = 0; round < 30; round++) {
      const socket = tcpConnect(broker.embedded.grpcPort, '127.0.0.1');
      socket.on('error', () => {});
      socket.resume();
      const closed = new Promise((resolve) => socket.on('close', resolve));
      socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
      socket.write(Buffer.from(random.token(200), 'hex'));
      socket.end();
      await closed;
    }
    await lives(broker);
  });

  test('stands connections that say nothing, and those that break in the middle', async () => {
    const broker = await hub.start();
    const sockets: Socket[] = [];
    for (let index = 0; index < 50; index++) {
      const socket = tcpConnect(broker.embedded.grpcPort, '127.0.0.1');
      socket.on('error', () => {});
      await new Promise((resolve) => socket.on('connect', resolve));
      if (index % 2 === 0) socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
      sockets.push(socket);
    }
    await lives(broker);
    for (const socket of sockets) socket.resetAndDestroy();
    await lives(broker);
  });

  test('a session on which nothing is heard any more counts as lost, and its tasks go to others', async () => {
    const broker = await hub.start({ session: { heartbeatMs: '50ms', timeoutMs: '150ms', graceMs: '50ms' } });
    const silent = await Agent.connect(broker);
    await silent.attach(1, 'worker');
    const asker = await Agent.connect(broker);
    await asker.publish([{ id: 'a', to: 'worker' }]);
    await silent.delivery();
    expect((await silent.status).code).toBe(4);
    await until(() => broker.broker.sessions.get(silent.sessionId) === undefined);
    const worker = await Agent.connect(broker);
    await worker.attach(1, 'worker');
    const beat = setInterval(() => worker.send({ heartbeat: { inFlight: 0 } }), 50);
    const { task, attempt } = await worker.delivery();
    clearInterval(beat);
    expect({ id: task?.id, attempt }).toEqual({ id: 'a', attempt: 2 });
  });
});

/** A session whose frames are bytes. */
class RawSession {
  readonly status: Promise<{ code: number; details: string }>;
  private readonly call;

  constructor(broker: TestBroker) {
    const { path, requestSerialize, responseDeserialize } = identityMethod(pathOf(Broker.method.connect), {
      requestStream: true,
      responseStream: true,
    });
    this.call = broker.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    this.call.on('data', () => {});
    this.call.on('error', () => {});
    this.status = new Promise((resolve) => {
      this.call.on('status', ({ code, details }) => resolve({ code, details }));
    });
  }

  send(frame: Buffer): void {
    this.call.write(frame);
  }

  end(): void {
    this.call.end();
  }
}

/** A Struct of lists inside of each other. */
function nested(depth: number): Buffer {
  let value: Buffer = part(3, 'deep');
  for (let level = 0; level < depth; level++) value = part(6, part(1, value));
  return part(1, Buffer.concat([part(1, 'key'), part(2, value)]));
}

test('hand-made protobuf is what an encoder makes', () => {
  const made = Buffer.concat([part(1, 'id'), count(5, 3), count(8, 200), part(14, Buffer.of(1, 2))]);
  const encoded = toBinary(
    TaskSchema,
    create(TaskSchema, { id: 'id', priority: 3, maxAttempts: 200, payload: Buffer.of(1, 2) }),
  );
  expect(made).toEqual(Buffer.from(encoded));
  expect(varint(-1)).toHaveLength(10);
});
