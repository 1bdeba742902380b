import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import { asBuffer } from '../../../src/wire/bytes.ts';
import {
  EventBus,
  PublishTaskRequestSchema,
  SubscribeToTasksRequestSchema,
  TaskMessageSchema,
} from '../../../src/wire/gen/eventbus/eventbus_pb.ts';
import { serviceDefinition } from '../../../src/wire/service.ts';
import { CALL } from '../bare/method.ts';
import type { Done, Span } from './meter.ts';
import { Meter } from './meter.ts';

const { publishTask, subscribeToTasks } = serviceDefinition(EventBus, ['publishTask', 'subscribeToTasks']);
const DIGITS = 12;
const PLACE = '#'.repeat(DIGITS);
const RESPONDER = 'responder';
/** How long deliveries may take after the last publish, in milliseconds. */
const DRAIN_MS = 10_000;

/** Unary publishes, each answered before its caller makes the next one. */
export interface BusLoad extends Span {
  readonly port: number;
  /** Calls in progress. */
  readonly concurrency: number;
  /** Connections that they are shared out to. */
  readonly connections: number;
}

/** What was done, and what became of all that was ever accepted. */
export interface BusDone extends Done {
  readonly accepted: number;
  readonly delivered: number;
  /** Accepted and never delivered. */
  readonly lost: number;
}

/** Publishes to the event bus while a subscriber, in the same process, gets the tasks. */
export async function busLoad(load: BusLoad): Promise<BusDone> {
  const client = channel(load.port);
  const seen = new Set<number>();
  const request = toBinary(
    SubscribeToTasksRequestSchema,
    create(SubscribeToTasksRequestSchema, { agentId: RESPONDER }),
  );
  const { path, requestSerialize, responseDeserialize } = subscribeToTasks;
  const stream = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    asBuffer(request),
  );
  stream.on('data', (message: Buffer) => seen.add(Number(message.toString('latin1', 2, 2 + DIGITS))));
  stream.on('error', () => {});
  // The broker says nothing when a subscription is there.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { done, accepted } = await calls(load, publishTask);
  const lost = (): number => accepted.filter((number) => !seen.has(number)).length;
  for (let waited = 0; waited < DRAIN_MS && lost() > 0; waited += 100) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  stream.cancel();
  client.close();
  return { ...done, accepted: accepted.length, delivered: seen.size, lost: lost() };
}

/** The same calls to the bare peer. */
export async function bareCallLoad(load: BusLoad): Promise<Done> {
  return (await calls(load, CALL)).done;
}

async function calls(
  load: BusLoad,
  { path, requestSerialize, responseDeserialize }: typeof CALL,
): Promise<{ done: Done; accepted: number[] }> {
  const meter = new Meter(load);
  const template = requestTemplate();
  const place = template.indexOf(PLACE);
  const accepted: number[] = [];
  const clients = Array.from({ length: load.connections }, () => channel(load.port));
  let made = 0;
  const caller = async (client: Client): Promise<void> => {
    while (!meter.over) {
      const number = ++made;
      const request = Buffer.from(template);
      request.write(String(number).padStart(DIGITS, '0'), place, 'latin1');
      await new Promise<void>((resolve, reject) => {
        client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error) => {
          if (error) return reject(error);
          accepted.push(number);
          meter.add(1);
          resolve();
        });
      });
    }
  };
  meter.start();
  const callers = Array.from({ length: load.concurrency }, (_, index) =>
    caller(clients[index % clients.length]!),
  );
  const done = await meter.done;
  await Promise.all(callers);
  for (const client of clients) client.close();
  return { done, accepted };
}

function channel(port: number): Client {
  return new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
}

/** A publish of a task as agents of the event bus write it. */
function requestTemplate(): Buffer {
  const task = create(TaskMessageSchema, {
    taskId: PLACE,
    taskType: 'summarize',
    requesterAgentId: 'requester',
    responderAgentId: RESPONDER,
    parameters: { text: 'the quick brown fox jumps over the lazy dog', sentences: 3 },
    createdAt: { seconds: 1_800_000_000n, nanos: 0 },
  });
  const bytes = toBinary(PublishTaskRequestSchema, create(PublishTaskRequestSchema, { task }));
  if (fromBinary(PublishTaskRequestSchema, bytes).task?.taskId !== PLACE)
    throw new Error('the template is wrong');
  return asBuffer(bytes);
}
