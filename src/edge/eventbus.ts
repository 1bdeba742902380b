import type { sendUnaryData, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { create, toBinary } from '@bufbuild/protobuf';
import { requesterOf, whoAsked } from '../broker/answers.ts';
import type { Broker } from '../broker/broker.ts';
import { limit } from '../broker/ingress.ts';
import { Ticket } from '../broker/ticket.ts';
import { Outcome } from '../core/shard-state.ts';
import { checkAgentId, checkMailbox, replyMailbox } from '../core/shard.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Clock, Random } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { asBuffer } from '../wire/bytes.ts';
import { Ranges } from '../wire/client-frame.ts';
import { decode } from '../wire/decode.ts';
import {
  answerOf,
  nativeProgress,
  nativeResult,
  outcomeOf,
  readProgress,
  readResult,
  TaskMessageReader,
  taskMessageOf,
  taskProgressOf,
  taskResultOf,
} from '../wire/eventbus.ts';
import type { EventBus } from '../wire/gen/eventbus/eventbus_pb.ts';
import {
  PublishResponseSchema,
  SubscribeToTaskResultsRequestSchema,
  SubscribeToTasksRequestSchema,
} from '../wire/gen/eventbus/eventbus_pb.ts';
import type { Implementation } from '../wire/service.ts';
import { statusOf } from '../wire/status.ts';
import type { Door } from './calls.ts';
import { unary } from './calls.ts';
import { Subscriber } from './subscriber.ts';

/** The local names of the methods, all of which work on bytes. */
export const EVENT_BUS_METHODS = [
  'publishTask',
  'publishTaskResult',
  'publishTaskProgress',
  'subscribeToTasks',
  'subscribeToTaskResults',
  'subscribeToTaskProgress',
] as const;

type Stream = ServerWritableStream<Buffer, Buffer>;

/** A subscriber to results, and which. */
interface ResultStream {
  readonly subscriber: Subscriber;
  readonly taskIds: ReadonlySet<string>;
}

/** How the native names of fields are called here. */
const FIELDS: Readonly<Record<string, string>> = {
  'task.id': 'task_id',
  'task.to': 'responder_agent_id',
  'task.type': 'task_type',
  'task.requester': 'requester_agent_id',
};

/** `PublishResponse{success: true}`, serialized. */
const SUCCESS = Buffer.of(0x08, 0x01);
const MAX_FILTERS = 10_000;

/** What an {@link EventBusEdge} is made of. */
export interface EventBusOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly door: Door;
  readonly taskBytes: number;
  readonly maxSessions: number;
}

/**
 * The service `eventbus.EventBus`. Its streams are listeners: each gets a copy of everything that is
 * for its agent. Answers name their task and executor, not a lease, see `broker/answers.ts`.
 */
export class EventBusEdge {
  private readonly options: EventBusOptions;
  private readonly reader = new TaskMessageReader();
  private readonly ranges = new Ranges();
  private readonly resultStreams = new Set<ResultStream>();

  constructor(options: EventBusOptions) {
    this.options = options;
  }

  /** The handlers; all of them work on bytes. */
  implementation(): Implementation<typeof EventBus, (typeof EVENT_BUS_METHODS)[number]> {
    const admit = this.options.door.admit.bind(this.options.door);
    return {
      publishTask: (call, callback) => this.publishTask(call, callback),
      publishTaskResult: unary(admit, (request: Buffer) => this.publishResult(request)),
      publishTaskProgress: unary(admit, (request: Buffer) => this.publishProgress(request)),
      subscribeToTasks: (call) => this.subscribe(call, () => this.subscribeToTasks(call)),
      subscribeToTaskResults: (call) => this.subscribe(call, () => this.subscribeToResults(call)),
      subscribeToTaskProgress: (call) => this.subscribe(call, () => this.subscribeToProgress(call)),
    };
  }

  /** The hot one: no promises, no decoding. */
  private publishTask(call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void {
    const { door, broker } = this.options;
    try {
      door.admit(call);
      const task = this.reader.read(call.request);
      this.ranges.clear();
      this.ranges.add(0, task.length);
      const ticket = new Ticket(1, ({ refused: [refused] }) => {
        if (refused) callback(statusOf(inTheirWords(refused.error)));
        else callback(null, SUCCESS);
      });
      broker.ingress.publish(task, this.ranges, { origin: '', ticket, assigned: ignore, recipients: ignore });
    } catch (error) {
      callback(statusOf(error));
    }
  }

  private async publishResult(request: Buffer): Promise<Buffer> {
    const { broker, clock } = this.options;
    const report = readResult(request);
    this.checkSize(report.bytes, 'result');
    const { taskId, executorAgentId: executor, status, errorMessage } = report.message;
    const asked = whoAsked(broker, executor, taskId);
    if (!asked) return this.resultForAll(taskId, report.bytes);
    const outcome = outcomeOf(status);
    if (asked.state === 'ended') return ended(asked.outcome, outcome);
    const { owner } = asked;
    const { origin, requester, ...task } = requesterOf(asked)!;
    const awaited = {
      mailbox: task.to,
      type: task.type,
      requester: origin === '' ? requester : `${requester}#${origin}`,
    };
    let inTime = true;
    await new Promise<void>((durable) => {
      if (asked.state === 'awaited' || outcome === 0) {
        const result = nativeResult(report, { ...task, requester, now: clock.now() });
        if (requester === '') durable();
        else owner.resolve(taskId, awaited, outcome, result, durable);
      } else if (outcome === Outcome.cancelled) inTime = owner.cancel(asked.slot, errorMessage, durable);
      else {
        const by = { executor, payload: answerOf(report.bytes) };
        inTime = owner.answer(asked.slot, outcome === Outcome.succeeded, errorMessage, by, durable);
      }
      if (!inTime) durable();
    });
    return inTime ? SUCCESS : ended(0, outcome);
  }

  /** Nobody here knows the task: whoever reads results may be waiting for it. */
  private resultForAll(taskId: string, result: Buffer): Buffer {
    for (const { subscriber, taskIds } of this.resultStreams) {
      if (!wants(taskIds, taskId)) continue;
      if (subscriber.takesMore) subscriber.send(result);
      else this.options.metrics.copiesDropped.add();
    }
    return SUCCESS;
  }

  private publishProgress(request: Buffer): Buffer {
    const { broker, clock } = this.options;
    const report = readProgress(request);
    this.checkSize(report.bytes, 'progress');
    const { taskId, executorAgentId: executor } = report.message;
    const now = clock.now();
    const asked = whoAsked(broker, executor, taskId);
    if (!asked) broker.progress.passToAll(nativeProgress(report, { to: executor, requester: '', now }));
    const by = asked && requesterOf(asked);
    if (by) broker.progress.pass(nativeProgress(report, { ...by, now }), by.origin);
    return SUCCESS;
  }

  private checkSize(report: Buffer, name: string): void {
    const { taskBytes } = this.options;
    if (report.length <= taskBytes) return;
    throw limit(
      'limits.taskBytes',
      `the ${name} has ${report.length} bytes; at most ${taskBytes} are accepted`,
    );
  }

  private subscribe(call: Stream, begin: () => void): void {
    const { door, broker, maxSessions } = this.options;
    try {
      door.admit(call);
      if (broker.phase !== 'ready') {
        throw new HubError(
          'unavailable',
          `this broker is ${broker.phase}; subscribe to another one, or later`,
          {
            retryAfterMs: 500,
          },
        );
      }
      if (broker.sessions.size >= maxSessions) {
        throw limit(
          'limits.sessions',
          `this broker has ${maxSessions} sessions already; subscribe to another one`,
          5000,
        );
      }
      begin();
    } catch (error) {
      call.emit('error', statusOf(error));
    }
  }

  private subscribeToTasks(call: Stream): void {
    const { agentId, taskTypes } = decode(SubscribeToTasksRequestSchema, call.request);
    if (agentId === '') throw invalid('agent_id', 'cannot be empty');
    checkMailbox(agentId, 'agent_id');
    if (agentId === '*' || agentId.startsWith('dead:') || agentId.startsWith('reply:')) {
      throw invalid('agent_id', `must be an agent or type:…, not ${agentId}`);
    }
    const types = filter('task_types', taskTypes);
    const wanted = { agent: agentId, types, taskIds: new Set<string>() };
    this.open(call, 'tasks', ignore).attach(agentId, wanted, taskMessageOf);
  }

  private subscribeToResults(call: Stream): void {
    const { agent, taskIds } = this.requester(call);
    const subscriber = this.open(call, 'results', () => this.resultStreams.delete(stream));
    const stream = { subscriber, taskIds };
    this.resultStreams.add(stream);
    const mailbox = replyMailbox(agent);
    const wanted = { agent, types: new Set<string>(), taskIds };
    subscriber.attach(mailbox, wanted, taskResultOf);
  }

  private subscribeToProgress(call: Stream): void {
    const { agent, taskIds } = this.requester(call);
    const subscriber = this.open(call, 'progress', () => unlisten());
    const unlisten = this.options.broker.progress.listen(agent, (progress) => {
      if (wants(taskIds, progress.taskId ?? '') && subscriber.takesMore)
        subscriber.send(taskProgressOf(progress));
    });
  }

  private requester(call: Stream): { agent: string; taskIds: ReadonlySet<string> } {
    const { requesterAgentId, taskIds } = decode(SubscribeToTaskResultsRequestSchema, call.request);
    if (requesterAgentId === '') throw invalid('requester_agent_id', 'cannot be empty');
    checkAgentId(requesterAgentId, 'requester_agent_id');
    return { agent: requesterAgentId, taskIds: filter('task_ids', taskIds) };
  }

  private open(call: Stream, what: 'tasks' | 'results' | 'progress', ended: () => void): Subscriber {
    const { broker, clock, random, door, logger } = this.options;
    const id = random.token(8);
    const leave = door.enter(call.getPeer());
    const subscriber = new Subscriber({
      id,
      client: `eventbus ${what}`,
      broker,
      call,
      clock,
      logger,
      works: what === 'tasks',
      ended: () => {
        leave();
        ended();
        broker.sessions.end(id);
      },
    });
    broker.sessions.connect(subscriber);
    return subscriber;
  }
}

/** The answer to a result that comes after the task's end: the same end again is none the worse. */
function ended(was: number, reported: number): Buffer {
  if (was === reported && was !== 0) return SUCCESS;
  const error = 'the task has ended before; this result was not kept';
  return asBuffer(toBinary(PublishResponseSchema, create(PublishResponseSchema, { success: false, error })));
}

function inTheirWords(error: HubError): HubError {
  const { code, message, field = '', cause } = error;
  const name = FIELDS[field];
  return name === undefined
    ? error
    : new HubError(code, message.replaceAll(field, name), { field: name, cause });
}

function filter(field: string, values: readonly string[]): ReadonlySet<string> {
  if (values.length > MAX_FILTERS) throw invalid(field, `must have at most ${MAX_FILTERS} entries`);
  return new Set(values);
}

function wants(taskIds: ReadonlySet<string>, id: string): boolean {
  return taskIds.size === 0 || taskIds.has(id);
}

function invalid(field: string, what: string): HubError {
  return new HubError('invalid', `${field} ${what}`, { field });
}

function ignore(): void {}
