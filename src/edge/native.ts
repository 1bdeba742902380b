import type { ServerDuplexStream } from '@grpc/grpc-js';
import { create, toBinary } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import type { Found } from '../broker/tasks.ts';
import type { Owner } from '../broker/owner.ts';
import {
  cancelFound,
  findTask,
  scanTasks,
  searchTask,
  stateOf,
  viewSlot,
  viewTask,
} from '../broker/tasks.ts';
import { Ticket } from '../broker/ticket.ts';
import { checkMailbox } from '../core/shard.ts';
import { Kind } from '../core/task-table.ts';
import type { Clock } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import { asBuffer } from '../wire/bytes.ts';
import { Ranges } from '../wire/client-frame.ts';
import type { Broker as BrokerService, BrokerView, TaskState } from '../wire/gen/agenthub/v1/broker_pb.ts';
import {
  BrokerViewSchema,
  CancelTaskResponseSchema,
  DescribeClusterResponseSchema,
  GetTaskResponseSchema,
  ListTasksResponseSchema,
  LocateResponseSchema,
  PublishResponseSchema,
  TaskStateSchema,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import { AssignedIdSchema, RecipientsSchema } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { AssignedId, Recipients } from '../wire/gen/agenthub/v1/session_pb.ts';
import { Scanner } from '../wire/scanner.ts';
import type { Implementation } from '../wire/service.ts';
import { refusalOf, statusOf } from '../wire/status.ts';
import type { Door } from './calls.ts';
import { unary } from './calls.ts';
import { pageSize } from './page.ts';
import { durabilityOf } from './session.ts';
import type { SessionsDoor } from './sessions-door.ts';

/** While more bytes than this wait for the log, sessions are not read. */
const CONGESTED_BYTES = 32 * 1024 * 1024;
const CONGESTION_CHECK_MS = 5;

/** What a {@link NativeEdge} is made of. */
export interface NativeOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly door: Door;
  readonly sessions: SessionsDoor;
  /** What this broker says of itself. */
  readonly describe: () => Omit<BrokerView, '$typeName' | '$unknown'>;
}

/** The service `agenthub.v1.Broker`. */
export class NativeEdge {
  private readonly options: NativeOptions;

  constructor(options: NativeOptions) {
    this.options = options;
  }

  /** The handlers; `connect` and `publish` work on bytes. */
  implementation(): Implementation<typeof BrokerService, 'connect' | 'publish'> {
    const admit = this.options.door.admit.bind(this.options.door);
    return {
      connect: (call) => this.connect(call),
      publish: unary(admit, (request: Buffer) => this.publish(request)),
      getTask: unary(admit, async ({ taskId, mailbox, includeTask }) => {
        const { broker, clock } = this.options;
        const found = await this.find(mailbox, taskId);
        if (!found)
          throw new HubError(
            'not_found',
            `there is no task ${taskId}${mailbox === '' ? '' : ` in ${mailbox}`}`,
          );
        return create(GetTaskResponseSchema, {
          task: viewTask(broker, found, taskId, mailbox, clock.now(), includeTask),
        });
      }),
      cancelTask: unary(admit, async ({ taskId, mailbox, reason }) => {
        const found = await this.find(mailbox, taskId);
        const outcome = await new Promise<CancelOutcome>((resolve) => cancelFound(found, reason, resolve));
        return create(CancelTaskResponseSchema, { outcome });
      }),
      listTasks: unary(admit, (request) => this.list(request)),
      locate: unary(admit, ({ mailbox }) => {
        checkMailbox(mailbox, 'mailbox');
        const { broker } = this.options;
        return create(LocateResponseSchema, {
          pool: 'default',
          shard: broker.shardOf(mailbox),
          broker: broker.id,
        });
      }),
      describeCluster: unary(admit, () => {
        const { broker, describe } = this.options;
        return create(DescribeClusterResponseSchema, {
          log: broker.log.durability === 'memory' ? 'memory' : 'file',
          durability: durabilityOf(broker.log.durability),
          shards: broker.shards.count,
          brokers: [create(BrokerViewSchema, describe())],
          broker: broker.id,
        });
      }),
    };
  }

  private connect(call: ServerDuplexStream<Buffer, Buffer>): void {
    const { door, sessions, broker } = this.options;
    let leave = (): void => {};
    const fail = (error: unknown): void => {
      call.emit('error', statusOf(error));
    };
    const transport = {
      peer: call.getPeer(),
      write: (frame: Buffer) => call.write(frame),
      end: (error?: HubError) => (error ? fail(error) : call.end()),
    };
    try {
      door.admit(call);
      leave = door.enter(transport.peer);
    } catch (error) {
      return fail(error);
    }
    const connection = sessions.enter(transport);
    call.on('data', (frame: Buffer) => {
      try {
        connection.receive(frame);
        if (broker.ingress.waitingBytes > CONGESTED_BYTES) this.wait(call);
      } catch (error) {
        fail(error);
      }
    });
    call.on('drain', () => connection.drained());
    call.on('end', () => {
      connection.gone();
      call.end();
    });
    const gone = (): void => {
      leave();
      connection.gone();
    };
    call.on('cancelled', gone);
    call.on('close', gone);
    call.on('error', gone);
  }

  /** Does not read the session while the log has much to do. */
  private wait(call: ServerDuplexStream<Buffer, Buffer>): void {
    const { clock, broker } = this.options;
    call.pause();
    const check = (): void => {
      if (broker.ingress.waitingBytes > CONGESTED_BYTES / 2) clock.after(CONGESTION_CHECK_MS, check);
      else call.resume();
    };
    clock.after(CONGESTION_CHECK_MS, check);
  }

  private publish(request: Buffer): Promise<Buffer> {
    const { broker } = this.options;
    const { tasks, durability } = readPublish(request);
    const level = durabilityOf(broker.log.durability);
    if (durability > level) {
      throw new HubError('precondition', `this broker keeps tasks "${broker.log.durability}" at best`, {
        field: 'durability',
      });
    }
    return new Promise((resolve) => {
      const assigned: AssignedId[] = [];
      const recipients: Recipients[] = [];
      const ticket = new Ticket(tasks.count, ({ refused }) => {
        const refusals = refused.map(({ index, error }) => refusalOf(index, error));
        const ack = { durability: level, refused: refusals, assigned, recipients };
        resolve(asBuffer(toBinary(PublishResponseSchema, create(PublishResponseSchema, { ack }))));
      });
      broker.ingress.publish(request, tasks, {
        origin: '',
        ticket,
        assigned: (index, id) => assigned.push(create(AssignedIdSchema, { index, id })),
        recipients: (index, count) => recipients.push(create(RecipientsSchema, { index, count })),
      });
    });
  }

  private find(mailbox: string, id: string): Promise<Found | undefined> {
    const { broker, clock } = this.options;
    return new Promise((resolve, reject) => {
      try {
        if (mailbox === '') searchTask(broker, clock, id, resolve);
        else resolve(findTask(broker, mailbox, id));
      } catch (error) {
        reject(toHubError(error));
      }
    });
  }

  private async list(request: {
    mailbox: string;
    states: TaskState[];
    type: string;
    requester: string;
    pageSize: number;
    pageToken: string;
    includeTask: boolean;
  }): Promise<ReturnType<typeof create<typeof ListTasksResponseSchema>>> {
    const { broker, clock } = this.options;
    const size = pageSize(request.pageSize);
    const after = parseToken(request.pageToken);
    const now = clock.now();
    const states = new Set(request.states);
    for (const state of states) {
      if (TaskStateSchema.value[state]) continue;
      throw new HubError('invalid', `states has the unknown state ${state}`, { field: 'states' });
    }
    const found: { shard: number; order: number; slot: number; tag: number }[] = [];
    const shorten = (): void => {
      found.sort((a, b) => a.shard - b.shard || a.order - b.order);
      found.length = Math.min(found.length, size + 1);
    };
    const wanted = (owner: Owner, slot: number): boolean => {
      const { tasks, mailboxes, types } = owner.state;
      const order = tasks.order[slot]!;
      if (tasks.kind[slot] === Kind.broadcast) return false;
      if (owner.shard < after.shard || (owner.shard === after.shard && order <= after.order)) return false;
      if (request.mailbox !== '' && mailboxes.name(tasks.mailbox[slot]!) !== request.mailbox) return false;
      if (request.type !== '' && types.text(tasks.type[slot]!) !== request.type) return false;
      if (states.size > 0 && !states.has(stateOf(owner, slot, now))) return false;
      return request.requester === '' || owner.endings.facts(slot).requester === request.requester;
    };
    await new Promise<void>((resolve) => {
      const visit = (owner: Owner, slot: number): boolean => {
        if (!wanted(owner, slot)) return true;
        const { tasks } = owner.state;
        found.push({ shard: owner.shard, order: tasks.order[slot]!, slot, tag: tasks.tag[slot]! });
        if (found.length > 4 * (size + 1)) shorten();
        return true;
      };
      scanTasks(broker, clock, visit, resolve);
    });
    shorten();
    const page = found.slice(0, size);
    const last = found.length > size ? page.at(-1) : undefined;
    const live = page.filter(
      ({ shard, order, slot, tag }) => broker.shards.owner(shard)?.state.find(order, tag) === slot,
    );
    return create(ListTasksResponseSchema, {
      tasks: live.map(({ shard, slot }) =>
        viewSlot(broker, broker.shards.owner(shard)!, slot, now, request.includeTask),
      ),
      nextPageToken: last ? `${last.shard}.${last.order}` : '',
    });
  }
}

function parseToken(token: string): { shard: number; order: number } {
  if (token === '') return { shard: -1, order: 0 };
  const match = /^(\d{1,4})\.(\d{1,16})$/.exec(token);
  if (!match) throw new HubError('invalid', 'page_token is not one of this broker', { field: 'page_token' });
  return { shard: Number(match[1]), order: Number(match[2]) };
}

function readPublish(request: Buffer): { tasks: Ranges; durability: number } {
  const scanner = new Scanner();
  const tasks = new Ranges();
  let durability = 0;
  scanner.open(request, 0, request.length);
  while (scanner.next()) {
    if (scanner.field === 1) {
      scanner.expectBytes('tasks');
      tasks.add(scanner.start, scanner.stop);
    } else if (scanner.field === 2) durability = scanner.value;
  }
  if (tasks.count === 0) throw new HubError('invalid', 'tasks must not be empty', { field: 'tasks' });
  return { tasks, durability };
}
