import { create } from '@bufbuild/protobuf';
import type { sendUnaryData, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import type { Broker } from '../broker/broker.ts';
import { limit } from '../broker/ingress.ts';
import { Ticket } from '../broker/ticket.ts';
import { checkAgentId, checkMailbox, replyMailbox } from '../core/shard.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Clock, Random } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { Ranges } from '../wire/client-frame.ts';
import { decode } from '../wire/decode.ts';
import {
  readResult,
  TaskMessageReader,
  taskMessageOf,
  taskProgressOf,
  taskResultOf,
} from '../wire/eventbus.ts';
import { ProgressSchema } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { EventBus } from '../wire/gen/eventbus/eventbus_pb.ts';
import {
  SubscribeToTaskResultsRequestSchema,
  SubscribeToTasksRequestSchema,
} from '../wire/gen/eventbus/eventbus_pb.ts';
import type { Implementation } from '../wire/service.ts';
import { statusOf } from '../wire/status.ts';
import type { Admission, Door } from './calls.ts';
import { unary } from './calls.ts';
import type { FairShare } from './fair-share.ts';
import type { Principals } from './principals.ts';
import { Reports, SUCCESS } from './reports.ts';
import type { Leave } from './subscriber.ts';
import { Subscriber } from './subscriber.ts';
import type { Tenants } from './tenants.ts';

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
  readonly namespace: string;
}

/** How the native names of fields are called here. */
const FIELDS: Readonly<Record<string, string>> = {
  'task.id': 'task_id',
  'task.to': 'responder_agent_id',
  'task.type': 'task_type',
  'task.requester': 'requester_agent_id',
};

const MAX_FILTERS = 10_000;

/** What an {@link EventBusEdge} is made of. */
export interface EventBusOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly door: Door;
  readonly tenants: Tenants;
  readonly fair: FairShare;
  readonly taskBytes: number;
  readonly maxSessions: number;
  /** What each principal may have. */
  readonly principals: Principals;
}

/**
 * The service `eventbus.EventBus`. Its streams are listeners: each gets a copy of everything that is
 * for its agent. Answers name their task and executor, not a lease, see {@link Reports}.
 */
export class EventBusEdge {
  private readonly options: EventBusOptions;
  private readonly reader = new TaskMessageReader();
  private readonly ranges = new Ranges();
  private readonly resultStreams = new Set<ResultStream>();
  private readonly reports: Reports;

  constructor(options: EventBusOptions) {
    const { broker, clock, taskBytes } = options;
    this.options = options;
    this.reports = new Reports({
      broker,
      clock,
      taskBytes,
      resultForAll: (namespace, result) => this.resultForAll(namespace, result),
    });
  }

  /** The handlers; all of them work on bytes. */
  implementation(): Implementation<typeof EventBus, (typeof EVENT_BUS_METHODS)[number]> {
    const { door } = this.options;
    return {
      publishTask: (call, callback) => this.publishTask(call, callback),
      publishTaskResult: unary(door, (request: Buffer, admission) => this.reports.result(request, admission)),
      publishTaskProgress: unary(door, (request: Buffer, admission) =>
        this.reports.progress(request, admission),
      ),
      subscribeToTasks: (call) => this.subscribe(call, (admission) => this.subscribeToTasks(call, admission)),
      subscribeToTaskResults: (call) =>
        this.subscribe(call, (admission) => this.subscribeToResults(call, admission)),
      subscribeToTaskProgress: (call) =>
        this.subscribe(call, (admission) => this.subscribeToProgress(call, admission)),
    };
  }

  /** The hot one: no promises, no decoding. */
  private publishTask(call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void {
    this.options.door.admit(call, (refused, admission) => {
      if (refused) return callback(statusOf(refused));
      const { tenants, fair } = this.options;
      fair.run(tenants.of(admission.names), call.request.length, () =>
        this.publishFor(admission, call, callback),
      );
    });
  }

  private publishFor(
    admission: Admission,
    call: ServerUnaryCall<Buffer, Buffer>,
    callback: sendUnaryData<Buffer>,
  ): void {
    const { names } = admission;
    try {
      const task = this.reader.read(call.request);
      this.ranges.clear();
      this.ranges.add(0, task.length);
      const held = this.options.principals.hold(admission.principal, task.length);
      if (typeof held !== 'function') throw held;
      const ticket = new Ticket(1, ({ refused: [refused] }) => {
        held();
        if (refused) callback(statusOf(inTheirWords(names.error(refused.error))));
        else callback(null, SUCCESS);
      });
      this.options.tenants.of(names).intake.publish(task, this.ranges, {
        carried: call.metadata,
        origin: '',
        guard: admission.guard(admission.rights),
        ticket,
        assigned: ignore,
        recipients: ignore,
      });
    } catch (error) {
      callback(statusOf(error));
    }
  }

  /** Nobody knows the task: whoever reads results may be waiting for it. */
  private resultForAll(namespace: string, result: Buffer): void {
    const {
      bytes,
      message: { taskId },
    } = readResult(result);
    for (const { subscriber, taskIds, namespace: theirs } of this.resultStreams) {
      if (theirs !== namespace || !wants(taskIds, taskId)) continue;
      if (subscriber.takesMore) subscriber.send(bytes);
      else this.options.metrics.copiesDropped.add();
    }
  }

  private subscribe(call: Stream, begin: (admission: Admission) => void): void {
    this.options.door.admit(call, (refused, admission) => {
      if (refused) call.emit('error', statusOf(refused));
      else if (!call.cancelled) this.subscribeFor(call, admission, () => begin(admission));
    });
  }

  private subscribeFor(call: Stream, { names }: Admission, begin: () => void): void {
    const { broker, maxSessions } = this.options;
    try {
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
      call.emit('error', statusOf(names.error(toHubError(error))));
    }
  }

  private subscribeToTasks(call: Stream, admission: Admission): void {
    const { agentId: given, taskTypes } = decode(SubscribeToTasksRequestSchema, call.request);
    if (given === '') throw invalid('agent_id', 'cannot be empty');
    checkMailbox(given, 'agent_id');
    if (given === '*' || given.startsWith('dead:') || given.startsWith('reply:')) {
      throw invalid('agent_id', `must be an agent or type:…, not ${given}`);
    }
    const agentId = admission.names.enter(given, 'agent_id');
    const types = filter('task_types', taskTypes);
    const wanted = { agent: agentId, types, taskIds: new Set<string>() };
    const needs = { does: 'read', to: agentId, field: 'agent_id' } as const;
    this.open(call, 'tasks', { admission, needs }, ignore).attach(agentId, wanted, taskMessageOf);
  }

  private subscribeToResults(call: Stream, admission: Admission): void {
    const { agent, taskIds } = this.requester(call, admission);
    const needs = { does: 'be', to: agent, field: 'requester_agent_id' } as const;
    const subscriber = this.open(call, 'results', { admission, needs }, () =>
      this.resultStreams.delete(stream),
    );
    const stream = { subscriber, taskIds, namespace: admission.names.namespace };
    this.resultStreams.add(stream);
    const mailbox = replyMailbox(agent);
    const wanted = { agent, types: new Set<string>(), taskIds };
    subscriber.attach(mailbox, wanted, taskResultOf);
  }

  private subscribeToProgress(call: Stream, admission: Admission): void {
    const { agent, taskIds } = this.requester(call, admission);
    const needs = { does: 'be', to: agent, field: 'requester_agent_id' } as const;
    const subscriber = this.open(call, 'progress', { admission, needs }, () => unlisten());
    const { names } = admission;
    const unlisten = this.options.broker.progress.listen(agent, (progress) => {
      if (wants(taskIds, progress.taskId ?? '') && subscriber.takesMore)
        subscriber.send(
          taskProgressOf(names.isDefault ? progress : names.leaving(create(ProgressSchema, progress))),
        );
    });
  }

  private requester(call: Stream, { names }: Admission): { agent: string; taskIds: ReadonlySet<string> } {
    const { requesterAgentId, taskIds } = decode(SubscribeToTaskResultsRequestSchema, call.request);
    if (requesterAgentId === '') throw invalid('requester_agent_id', 'cannot be empty');
    checkAgentId(requesterAgentId, 'requester_agent_id');
    const agent = names.enter(requesterAgentId, 'requester_agent_id');
    return { agent, taskIds: filter('task_ids', taskIds) };
  }

  private open(
    call: Stream,
    what: 'tasks' | 'results' | 'progress',
    leave: Leave,
    ended: () => void,
  ): Subscriber {
    const { admission, needs } = leave;
    admission.require(needs, needs.field);
    const { broker, clock, random, door, logger, tenants, principals } = this.options;
    const tenant = tenants.of(admission.names);
    tenant.enter();
    if (what === 'tasks') tenant.host();
    principals.enter(admission.principal);
    if (what === 'tasks') principals.host(admission.principal);
    const id = random.token(8);
    const left = door.enter(call.getPeer());
    const subscriber = new Subscriber({
      id,
      client: `eventbus ${what}`,
      tenant,
      broker,
      call,
      clock,
      logger,
      works: what === 'tasks',
      leave,
      ended: () => {
        left();
        ended();
        broker.sessions.end(id);
      },
    });
    broker.sessions.connect(subscriber);
    return subscriber;
  }
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
