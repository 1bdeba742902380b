import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Hub, ReceivedTask } from '../../src/client/index.ts';
import { Broker, connect } from '../../src/client/index.ts';
import { EventBus } from '../../src/wire/gen/eventbus/eventbus_pb.ts';
import type { TestBroker } from '../support/broker.ts';
import { brokers } from '../support/broker.ts';
import { clusters } from '../support/cluster.ts';
import { until } from '../support/inbox.ts';
import { NatsServer } from '../support/nats-server.ts';
import type { SentSpan } from '../support/otlp.ts';
import { OtlpReceiver } from '../support/otlp.ts';

const { start } = brokers();
const { start: startCluster } = clusters();
const hubs: Hub[] = [];
const providers: BasicTracerProvider[] = [];
let receiver: OtlpReceiver;

beforeEach(async () => {
  receiver = await OtlpReceiver.start();
});

afterEach(async () => {
  await Promise.all(hubs.splice(0).map((hub) => hub.close({ graceMs: 0 })));
  await Promise.all(providers.splice(0).map((provider) => provider.shutdown()));
  await receiver.close();
});

/** A program of its own, as far as traces go. */
function program(name: string): BasicTracerProvider {
  const exporter = new OTLPTraceExporter({ url: `http://${receiver.address}/v1/traces` });
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': name }),
    spanProcessors: [new BatchSpanProcessor(exporter, { scheduledDelayMillis: 50 })],
  });
  providers.push(provider);
  return provider;
}

async function hubOf({ embedded }: TestBroker, traced?: string): Promise<Hub> {
  const tracer = traced === undefined ? {} : { tracer: program(traced).getTracer('test') };
  const hub = await connect({
    address: `127.0.0.1:${embedded.grpcPort}`,
    agent: traced ?? 'nobody',
    ...tracer,
  });
  hubs.push(hub);
  return hub;
}

function one(spans: readonly SentSpan[], name: string): SentSpan {
  const found = spans.filter((span) => span.name === name);
  expect(found.map((span) => span.name)).toEqual([name]);
  return found[0]!;
}

describe('a request through two brokers', () => {
  let server: NatsServer;

  beforeAll(async () => {
    server = await NatsServer.start();
  });

  afterAll(() => server.remove());

  test('is one trace: from who asks, over both of them, to who works, and back', async () => {
    const cluster = await startCluster(server, 2, { shards: 4, tracing: { endpoint: receiver.address } });
    await until(() => cluster.served.join() === '2,2');
    const owner = cluster.ownerOf('clerk')!;
    const other = cluster.brokers.find((broker) => broker !== owner)!;
    const clerk = await hubOf(other, 'clerk');
    await clerk.work('clerk', (task) => `${task.text()} is done`);
    const asker = await hubOf(other, 'asker');
    const result = await asker.request({ to: 'clerk', type: 'file', payload: 'it' });
    expect(result.text()).toBe('it is done');

    const spans = await receiver.whenSent(5);
    expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1);
    const request = one(spans, 'request task:file');
    const publish = one(spans, 'publish task:file');
    const accept = one(spans, 'accept task:file');
    const deliver = one(spans, 'deliver task:file');
    const process = one(spans, 'process task:file');
    expect([request.from, publish.from, process.from]).toEqual(['asker', 'asker', 'clerk']);
    expect([accept.from, deliver.from]).toEqual([other.broker.id, owner.broker.id]);
    expect(request.parent).toBe('');
    expect(publish.parent).toBe(request.spanId);
    expect([accept.parent, deliver.parent, process.parent]).toEqual(Array(3).fill(publish.spanId));
    expect(process.links).toEqual([publish.spanId]);
    expect(request.links).toEqual([process.spanId]);
    expect(process.attributes).toMatchObject({
      'messaging.system': 'agenthub',
      'messaging.operation.type': 'process',
      'messaging.destination.name': 'clerk',
      'messaging.message.id': result.taskId,
    });
  });
});

describe('a broker that is told where traces go', () => {
  const CALLER = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' };
  const metadata = { traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01`, tracestate: 'vendor=1' };

  async function workOn(broker: TestBroker): Promise<ReceivedTask[]> {
    const got: ReceivedTask[] = [];
    const worker = await hubOf(broker);
    await worker.work('clerk', (task) => void got.push(task));
    return got;
  }

  test('goes on with the trace of a call, and has the task carry it to the worker', async () => {
    const broker = await start({ tracing: { endpoint: receiver.address } });
    const got = await workOn(broker);
    const tasks = [{ to: 'clerk', type: 'file', headers: { tenant: 'a' } }];
    await broker.call(Broker.method.publish, { tasks }, metadata);
    const spans = await receiver.whenSent(2);
    const publish = one(spans, 'publish task:file');
    const deliver = one(spans, 'deliver task:file');
    expect([publish.traceId, publish.parent]).toEqual([CALLER.traceId, CALLER.spanId]);
    expect([deliver.traceId, deliver.parent]).toEqual([CALLER.traceId, publish.spanId]);
    expect(got[0]!.headers).toEqual({
      tenant: 'a',
      traceparent: `00-${CALLER.traceId}-${publish.spanId}-01`,
      tracestate: 'vendor=1',
    });
  });

  test('does so for calls of the event bus, whose tasks have no headers of their own', async () => {
    const broker = await start({ tracing: { endpoint: receiver.address } });
    const got = await workOn(broker);
    const task = {
      taskId: 't1',
      taskType: 'file',
      requesterAgentId: 'asker',
      responderAgentId: 'clerk',
    };
    await broker.call(EventBus.method.publishTask, { task }, metadata);
    const publish = one(await receiver.whenSent(2), 'publish task:file');
    expect(publish).toMatchObject({ traceId: CALLER.traceId, parent: CALLER.spanId });
    expect(got[0]!.headers).toMatchObject({ traceparent: `00-${CALLER.traceId}-${publish.spanId}-01` });
  });

  test('leaves a task that names its span as it is', async () => {
    const broker = await start({ tracing: { endpoint: receiver.address } });
    const got = await workOn(broker);
    const headers = { traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01` };
    await broker.call(Broker.method.publish, { tasks: [{ to: 'clerk', headers }] });
    const accept = one(await receiver.whenSent(2), 'accept task');
    expect(accept).toMatchObject({ traceId: CALLER.traceId, parent: CALLER.spanId });
    expect(got[0]!.headers).toEqual(headers);
  });

  test('says what was refused, and why', async () => {
    const broker = await start({ tracing: { endpoint: receiver.address } });
    const tasks = [
      { to: 'clerk', type: 'file' },
      { to: 'reply:clerk', type: 'file' },
    ];
    const { ack } = await broker.call(Broker.method.publish, { tasks });
    expect(ack!.refused.map(({ index }) => index)).toEqual([1]);
    const spans = await receiver.whenSent(2);
    expect(spans.map(({ name, status }) => [name, status])).toEqual([
      ['publish task:file', 2],
      ['publish task:file', 0],
    ]);
  });

  test('keeps no trace that its caller does not keep, and no more than its share of others', async () => {
    const broker = await start({ tracing: { endpoint: receiver.address, ratio: 0 } });
    const got = await workOn(broker);
    const dropped = { traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-00` };
    const kept = { traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01` };
    await broker.call(Broker.method.publish, { tasks: [{ to: 'clerk', type: 'a' }] });
    await broker.call(Broker.method.publish, { tasks: [{ to: 'clerk', type: 'b' }] }, dropped);
    await broker.call(Broker.method.publish, { tasks: [{ to: 'clerk', type: 'c' }] }, kept);
    const spans = await receiver.whenSent(2);
    expect(spans.map(({ name }) => name)).toEqual(['publish task:c', 'deliver task:c']);
    // Also who works on the others is told that nobody keeps their traces.
    expect(got.map(({ headers }) => headers['traceparent']!.slice(-2))).toEqual(['00', '00', '01']);
  });
});

describe('a client', () => {
  test('traces with the provider that its program has registered', async () => {
    const broker = await start();
    trace.setGlobalTracerProvider(program('asker'));
    try {
      const hub = await hubOf(broker);
      await hub.publish({ to: 'clerk', type: 'file' });
      await hub.publishBatch([
        { to: 'clerk', type: 'file' },
        { to: 'clerk', type: 'print' },
      ]);
      const spans = await receiver.whenSent(2);
      expect(
        spans.map(({ name, attributes }) => [name, attributes['messaging.batch.message_count']]),
      ).toEqual([
        ['publish task:file', undefined],
        ['publish task', 2],
      ]);
    } finally {
      trace.disable();
    }
  });

  test('whose program has registered none adds nothing to its tasks', async () => {
    const broker = await start();
    const hub = await hubOf(broker);
    const { id } = await hub.publish({ to: 'clerk' });
    const task = await hub.getTask({ mailbox: 'clerk', id, includeTask: true });
    expect(task!.task!.headers).toEqual({});
  });

  test('says of a task that failed why it did', async () => {
    const broker = await start();
    const hub = await hubOf(broker, 'clerk');
    await hub.work('clerk', () => {
      throw new Error('no paper');
    });
    await hub.publish({ to: 'clerk', type: 'print', maxAttempts: 1 });
    const spans = await receiver.whenSent(2);
    expect(one(spans, 'process task:print').status).toBe(2);
  });
});
