import type { ServerDuplexStream } from '@grpc/grpc-js';
import { create, toBinary } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import type { Done } from '../broker/question.ts';
import { questionOf } from '../broker/question.ts';
import type { ShardQuestion } from '../broker/router.ts';
import type { Found } from '../broker/tasks.ts';
import { waitOf } from '../broker/waits.ts';
import { checkTaskId, findTaskIn, searchTask, viewTask } from '../broker/tasks.ts';
import type { Carried } from '../broker/ingress.ts';
import { Ticket } from '../broker/ticket.ts';
import { checkMailbox } from '../core/shard.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { asBuffer } from '../wire/bytes.ts';
import { Ranges } from '../wire/client-frame.ts';
import type {
  CancelTaskRequest,
  CancelTaskResponse,
  DescribeClusterResponse,
  GetTaskRequest,
  GetTaskResponse,
  LocateResponse,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import {
  Broker as BrokerService,
  CancelTaskResponseSchema,
  DescribeClusterResponseSchema,
  GetTaskRequestSchema,
  GetTaskResponseSchema,
  LocateResponseSchema,
  PublishResponseSchema,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import { AssignedIdSchema, CancelOutcome, RecipientsSchema } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { AssignedId, Recipients } from '../wire/gen/agenthub/v1/session_pb.ts';
import { Scanner } from '../wire/scanner.ts';
import type { Implementation } from '../wire/service.ts';
import { refusalOf, statusOf } from '../wire/status.ts';
import type { Door } from './calls.ts';
import { promised, unary } from './calls.ts';
import { MemberViews } from './members.ts';
import { durabilityOf } from './session.ts';
import type { SessionsDoor } from './sessions-door.ts';
import type { BrokerFacts } from './status.ts';
import { TaskList } from './task-list.ts';

/** While more bytes than this wait for the log, sessions are not read. */
const CONGESTED_BYTES = 32 * 1024 * 1024;
const CONGESTION_CHECK_MS = 5;

/** What a {@link NativeEdge} is made of. */
export interface NativeOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly door: Door;
  readonly sessions: SessionsDoor;
  /** Where the log is kept: `memory`, `file` or `jetstream`. */
  readonly log: string;
  /** What this broker says of itself. */
  readonly describe: () => BrokerFacts;
}

/** The service `agenthub.v1.Broker`. */
export class NativeEdge {
  private readonly options: NativeOptions;
  private readonly tasks: TaskList;
  private readonly members: MemberViews;
  private readonly question: ShardQuestion<GetTaskRequest, GetTaskResponse>;

  constructor(options: NativeOptions) {
    const { broker, clock, describe } = options;
    this.options = options;
    this.tasks = new TaskList(broker, clock);
    this.members = new MemberViews(broker, describe);
    this.question = broker.router.aboutShards(
      questionOf(BrokerService.method.getTask),
      true,
      (request, shards, done) => this.findHere(request, shards, done),
    );
  }

  /** The handlers; `connect` and `publish` work on bytes. */
  implementation(): Implementation<typeof BrokerService, 'connect' | 'publish'> {
    const admit = this.options.door.admit.bind(this.options.door);
    return {
      connect: (call) => this.connect(call),
      publish: unary(admit, (request: Buffer, { metadata }) => this.publish(request, metadata)),
      getTask: unary(admit, (request) => this.get(request)),
      cancelTask: unary(admit, (request) => this.cancel(request)),
      listTasks: unary(admit, (request) => promised((done) => this.tasks.list(request, done))),
      locate: unary(admit, ({ mailbox }) => this.locate(mailbox)),
      describeCluster: unary(admit, () => this.describe()),
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
      get busy() {
        return call.writableLength > 0;
      },
      write: (frame: Buffer): boolean => {
        // gRPC copies a frame when it takes it, which is at once if none is on its way.
        const bytes = call.writableLength === 0 ? frame : Buffer.from(frame);
        return call.write(bytes, () => connection.drained());
      },
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

  private publish(request: Buffer, carried: Carried): Promise<Buffer> {
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
      broker.intake.publish(request, tasks, {
        carried,
        origin: '',
        ticket,
        assigned: (index, id) => assigned.push(create(AssignedIdSchema, { index, id })),
        recipients: (index, count) => recipients.push(create(RecipientsSchema, { index, count })),
      });
    });
  }

  private async get(request: GetTaskRequest): Promise<GetTaskResponse> {
    const { taskId, mailbox } = request;
    const response = await this.find(request);
    if (response.task) return response;
    throw new HubError('not_found', `there is no task ${taskId}${mailbox === '' ? '' : ` in ${mailbox}`}`);
  }

  private async cancel({ taskId, mailbox, reason }: CancelTaskRequest): Promise<CancelTaskResponse> {
    const { broker } = this.options;
    let at = mailbox;
    if (at === '') {
      const { task } = await this.find(create(GetTaskRequestSchema, { taskId }));
      if (!task) return create(CancelTaskResponseSchema, { outcome: CancelOutcome.NOT_FOUND });
      at = task.mailbox;
    }
    const outcome = await promised<CancelOutcome>((done) => broker.cancel(at, taskId, reason, done));
    return create(CancelTaskResponseSchema, { outcome });
  }

  /** Without a task: nobody knows it. */
  private find(request: GetTaskRequest): Promise<GetTaskResponse> {
    const { taskId, mailbox } = request;
    checkTaskId(taskId);
    if (mailbox !== '') return this.findIn(mailbox, request);
    return this.findAnywhere(request);
  }

  private async findIn(mailbox: string, request: GetTaskRequest): Promise<GetTaskResponse> {
    const { broker } = this.options;
    checkMailbox(mailbox, 'mailbox');
    const at = broker.mailboxOf(mailbox, request.taskId);
    const asked = create(GetTaskRequestSchema, { ...request, mailbox: at });
    const response = await promised<GetTaskResponse>((done) =>
      this.question.ofShard(broker.shardOf(at), asked, done),
    );
    // It may not have come yet to where its mailbox lives now.
    return response.task || broker.atlas.isUntouched ? response : this.findAnywhere(asked);
  }

  private findAnywhere(request: GetTaskRequest): Promise<GetTaskResponse> {
    const found = ({ task }: GetTaskResponse): boolean => task !== undefined;
    return promised((done) =>
      this.question.ofAll(
        request,
        (error, responses) => {
          if (error) done(error, undefined);
          else done(undefined, responses.find(found) ?? create(GetTaskResponseSchema));
        },
        found,
      ),
    );
  }

  private findHere(request: GetTaskRequest, shards: readonly number[], done: Done<GetTaskResponse>): void {
    const { broker, clock } = this.options;
    const { taskId, mailbox, includeTask, explain } = request;
    const answer = (found: Found | undefined): void => {
      const now = clock.now();
      const task = found && viewTask(broker, found, taskId, mailbox, now, includeTask);
      const wait = explain && found && 'slot' in found ? waitOf(found.owner, found.slot, now) : undefined;
      if (wait) wait.broker = broker.id;
      done(
        undefined,
        create(GetTaskResponseSchema, { ...(task ? { task } : {}), ...(wait ? { wait } : {}) }),
      );
    };
    const owners = shards.map((shard) => broker.shards.owner(shard)!);
    if (mailbox !== '') return answer(findTaskIn(owners, mailbox, taskId));
    searchTask({ owners }, clock, taskId, answer);
  }

  private locate(mailbox: string): LocateResponse {
    checkMailbox(mailbox, 'mailbox');
    const { broker } = this.options;
    const { cluster } = broker;
    const shard = broker.shardOf(mailbox);
    const owner = broker.shards.owner(shard) ? broker.id : cluster.claim(shard)?.broker;
    if (owner === undefined) {
      throw new HubError('unavailable', `shard ${shard} is not served by any broker just now; try again`, {
        retryAfterMs: 500,
      });
    }
    const address = cluster.members().find(({ id }) => id === owner)?.address ?? '';
    return create(LocateResponseSchema, {
      pool: broker.atlas.place(mailbox).pool,
      shard,
      broker: owner,
      address,
    });
  }

  private async describe(): Promise<DescribeClusterResponse> {
    const { broker, log } = this.options;
    return create(DescribeClusterResponseSchema, {
      log,
      durability: durabilityOf(broker.log.durability),
      shards: broker.shards.count,
      brokers: await this.members.views(),
      broker: broker.id,
    });
  }
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
