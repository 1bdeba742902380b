import type { ServerDuplexStream } from '@grpc/grpc-js';
import { create, toBinary } from '@bufbuild/protobuf';
import type { Broker } from '../broker/broker.ts';
import type { Carried } from '../broker/ingress.ts';
import { Ticket } from '../broker/ticket.ts';
import { checkQualified } from '../core/namespace.ts';
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
  Broker as BrokerService,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import {
  CancelTaskResponseSchema,
  DescribeClusterResponseSchema,
  LocateResponseSchema,
  PublishResponseSchema,
} from '../wire/gen/agenthub/v1/broker_pb.ts';
import { AssignedIdSchema, RecipientsSchema } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { AssignedId, CancelOutcome, Recipients } from '../wire/gen/agenthub/v1/session_pb.ts';
import { Scanner } from '../wire/scanner.ts';
import type { Implementation } from '../wire/service.ts';
import { refusalOf, statusOf } from '../wire/status.ts';
import type { Admission, Door } from './calls.ts';
import { promised, unary } from './calls.ts';
import type { FairShare } from './fair-share.ts';
import { MemberViews } from './members.ts';
import type { Principals } from './principals.ts';
import { durabilityOf } from './session.ts';
import type { Connection, SessionsDoor } from './sessions-door.ts';
import type { BrokerFacts } from './status.ts';
import type { TaskFinder } from './task-finder.ts';
import { TaskList } from './task-list.ts';
import type { Tenants } from './tenants.ts';

/** While more bytes than this wait for the log, sessions are not read. */
export const CONGESTED_BYTES = 32 * 1024 * 1024;
const CONGESTION_CHECK_MS = 5;

/** What a {@link NativeEdge} is made of. */
export interface NativeOptions {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly door: Door;
  readonly sessions: SessionsDoor;
  /** What each principal may have. */
  readonly principals: Principals;
  readonly finder: TaskFinder;
  readonly tenants: Tenants;
  readonly fair: FairShare;
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

  constructor(options: NativeOptions) {
    const { broker, clock, describe } = options;
    this.options = options;
    this.tasks = new TaskList(broker, clock);
    this.members = new MemberViews(broker, describe);
  }

  /** The handlers; `connect` and `publish` work on bytes. */
  implementation(): Implementation<typeof BrokerService, 'connect' | 'publish'> {
    const { door } = this.options;
    return {
      connect: (call) => this.connect(call),
      publish: unary(door, (request: Buffer, admission, { metadata }) =>
        this.publish(request, admission, metadata),
      ),
      getTask: unary(door, (request, admission) => this.get(request, admission)),
      cancelTask: unary(door, (request, admission) => this.cancel(request, admission)),
      listTasks: unary(door, (request, admission) =>
        promised((done) => this.tasks.list(request, admission, done)),
      ),
      locate: unary(door, ({ mailbox }, admission) => this.locate(mailbox, admission)),
      describeCluster: unary(door, (_request, admission) => {
        if (admission.rights.limited) admission.require({ does: 'admin', to: 'describeCluster' }, '');
        return this.describe(admission);
      }),
    };
  }

  private connect(call: ServerDuplexStream<Buffer, Buffer>): void {
    const { door, sessions } = this.options;
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
    let connection: Connection;
    door.admit(call, (refused, admission) => {
      if (refused) return fail(refused);
      if (call.cancelled) return;
      connection = sessions.enter(transport, admission);
      this.serve(call, connection, door.enter(transport.peer));
    });
  }

  /** Reads the frames of a connection until it ends. */
  private serve(call: ServerDuplexStream<Buffer, Buffer>, connection: Connection, leave: () => void): void {
    const { broker } = this.options;
    call.on('data', (frame: Buffer) => {
      try {
        connection.receive(frame);
        if (connection.behind || broker.ingress.waitingBytes > CONGESTED_BYTES) this.wait(call, connection);
      } catch (error) {
        call.emit('error', statusOf(error));
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

  /** Does not read the session while the log has much to do, or what was read waits. */
  private wait(call: ServerDuplexStream<Buffer, Buffer>, connection: Connection): void {
    const { clock, broker } = this.options;
    call.pause();
    const check = (): void => {
      if (connection.behind || broker.ingress.waitingBytes > CONGESTED_BYTES / 2)
        clock.after(CONGESTION_CHECK_MS, check);
      else call.resume();
    };
    clock.after(CONGESTION_CHECK_MS, check);
  }

  private publish(request: Buffer, admission: Admission, carried: Carried): Promise<Buffer> {
    const { broker, tenants, fair } = this.options;
    const { names } = admission;
    const { tasks, durability } = readPublish(request);
    const level = durabilityOf(broker.log.durability);
    if (durability > level) {
      throw new HubError('precondition', `this broker keeps tasks "${broker.log.durability}" at best`, {
        field: 'durability',
      });
    }
    const held = this.options.principals.hold(admission.principal, request.length);
    if (typeof held !== 'function') throw held;
    return new Promise((resolve) => {
      const assigned: AssignedId[] = [];
      const recipients: Recipients[] = [];
      const ticket = new Ticket(tasks.count, ({ refused }) => {
        held();
        const refusals = refused.map(({ index, error }) => refusalOf(index, names.error(error)));
        const ack = { durability: level, refused: refusals, assigned, recipients };
        resolve(asBuffer(toBinary(PublishResponseSchema, create(PublishResponseSchema, { ack }))));
      });
      const tenant = tenants.of(names);
      fair.run(tenant, request.length, () =>
        tenant.intake.publish(request, tasks, {
          carried,
          origin: '',
          guard: admission.guard(admission.rights),
          ticket,
          assigned: (index, id) => assigned.push(create(AssignedIdSchema, { index, id })),
          recipients: (index, count) => recipients.push(create(RecipientsSchema, { index, count })),
        }),
      );
    });
  }

  private async get(request: GetTaskRequest, admission: Admission): Promise<GetTaskResponse> {
    const { taskId, mailbox } = request;
    const response = await promised<GetTaskResponse>((done) =>
      this.options.finder.get(request, admission, done),
    );
    if (response.task) return response;
    throw new HubError('not_found', `there is no task ${taskId}${mailbox === '' ? '' : ` in ${mailbox}`}`);
  }

  private async cancel(request: CancelTaskRequest, admission: Admission): Promise<CancelTaskResponse> {
    const outcome = await promised<CancelOutcome>((done) =>
      this.options.finder.cancel(request, admission, done),
    );
    return create(CancelTaskResponseSchema, { outcome });
  }

  private locate(mailbox: string, admission: Admission): LocateResponse {
    checkQualified(mailbox, 'mailbox');
    const { rights } = admission;
    if (!rights.reaches(mailbox)) admission.require({ does: 'read', to: mailbox }, 'mailbox');
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

  private async describe({ names }: Admission): Promise<DescribeClusterResponse> {
    const { broker, log } = this.options;
    return create(DescribeClusterResponseSchema, {
      log,
      durability: durabilityOf(broker.log.durability),
      shards: broker.shards.count,
      brokers: names.isDefault ? await this.members.views() : this.members.addresses(),
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
