import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import type { Client, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import { Broker } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import type {
  Abort,
  AttachSchema,
  CancelAnswer,
  ClientFrame,
  CompletedSchema,
  Delivery,
  Durability,
  FailedSchema,
  GoAway,
  Heartbeat,
  HelloSchema,
  PublishAck,
  ServerFrame,
  SettleAck,
  Welcome,
} from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { ClientFrameSchema } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import type { Progress } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { TaskSchema } from '../../src/wire/gen/agenthub/v1/task_pb.ts';
import { serviceDefinition } from '../../src/wire/service.ts';
import type { TestBroker } from './broker.ts';
import { Inbox } from './inbox.ts';

type FrameInit = MessageInitShape<typeof ClientFrameSchema>;
type TaskInit = MessageInitShape<typeof TaskSchema>;

/**
 * A session of a client that knows nothing but frames: it says what a test has it say, and keeps no
 * promise by itself.
 */
export class Agent {
  readonly welcomes = new Inbox<Welcome>();
  readonly attachments = new Inbox<{ attachment: number; limit: string; code: number; message: string }>();
  readonly deliveries = new Inbox<Delivery>();
  readonly aborts = new Inbox<Abort>();
  readonly publishAcks = new Inbox<PublishAck>();
  readonly settleAcks = new Inbox<SettleAck>();
  readonly progresses = new Inbox<Progress>();
  readonly cancelAnswers = new Inbox<CancelAnswer>();
  readonly heartbeats = new Inbox<Heartbeat>();
  readonly listRequests = new Inbox<true>();
  readonly goAways = new Inbox<GoAway>();
  /** How the connection ended. */
  readonly status: Promise<{ code: number; details: string }>;
  private readonly call: ClientDuplexStream<ClientFrame | Buffer, ServerFrame>;
  private readonly client: Client;
  private batch = 0;

  private constructor(client: Client, token?: string, more: Readonly<Record<string, string>> = {}) {
    const { path, requestSerialize, responseDeserialize } = serviceDefinition(Broker).connect;
    const serialize = (frame: ClientFrame | Buffer): Buffer =>
      Buffer.isBuffer(frame) ? frame : requestSerialize(frame);
    this.client = client;
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    for (const [name, value] of Object.entries(more)) metadata.set(name, value);
    this.call = client.makeBidiStreamRequest(path, serialize, responseDeserialize, metadata);
    this.status = new Promise((resolve) => {
      this.call.on('status', ({ code, details }) => {
        this.client.close();
        resolve({ code, details });
      });
    });
    this.call.on('data', (frame: ServerFrame) => this.receive(frame));
    this.call.on('error', (error: ServiceError) => this.end(error));
    this.call.on('end', () => this.end());
  }

  /** Opens a connection and says nothing. */
  static open(broker: TestBroker, token?: string, more?: Readonly<Record<string, string>>): Agent {
    return new Agent(broker.connect(), token, more);
  }

  /** Opens a connection, says hello, and waits for the welcome. */
  static async connect(
    broker: TestBroker,
    hello: MessageInitShape<typeof HelloSchema> = {},
    token?: string,
  ): Promise<Agent> {
    const agent = Agent.open(broker, token);
    agent.send({ hello });
    agent.welcome = await agent.welcomes.next();
    return agent;
  }

  welcome: Welcome | undefined;

  get sessionId(): string {
    return this.welcome?.sessionId ?? '';
  }

  send(frame: FrameInit): void {
    this.call.write(create(ClientFrameSchema, frame));
  }

  /** Sends a serialized frame, or what shall pass for one. */
  sendRaw(frame: Buffer): void {
    this.call.write(frame);
  }

  async attach(
    attachment: number,
    mailbox: string,
    more: MessageInitShape<typeof AttachSchema> = {},
  ): Promise<{ limit: string; code: number; message: string }> {
    this.send({ attach: [{ attachment, mailbox, window: 100, ...more }] });
    return this.attachments.next((answer) => answer.attachment === attachment);
  }

  async publish(tasks: readonly TaskInit[], durability: Durability = 0): Promise<PublishAck> {
    const batch = BigInt(++this.batch);
    this.send({ publish: [{ batch, tasks: tasks.map((task) => create(TaskSchema, task)), durability }] });
    return this.publishAcks.next((ack) => ack.batch === batch);
  }

  delivery(): Promise<Delivery> {
    return this.deliveries.next();
  }

  /** The ids of the next tasks that are delivered. */
  async ids(count: number): Promise<string[]> {
    return (await this.deliveries.take(count)).map(({ task, result }) => task?.id ?? result?.taskId ?? '');
  }

  abort(): Promise<Abort> {
    return this.aborts.next();
  }

  settled(): Promise<SettleAck> {
    return this.settleAcks.next();
  }

  complete(lease: Uint8Array, completed: MessageInitShape<typeof CompletedSchema> = {}): void {
    this.settle(lease, { case: 'completed', value: completed });
  }

  fail(lease: Uint8Array, failed: MessageInitShape<typeof FailedSchema>): void {
    this.settle(lease, { case: 'failed', value: failed });
  }

  release(lease: Uint8Array): void {
    this.settle(lease, { case: 'released', value: {} });
  }

  /** The client ends its side of the stream. */
  hangUp(): void {
    this.call.end();
  }

  /** The connection breaks. */
  async drop(): Promise<void> {
    this.call.cancel();
    await this.status;
  }

  private settle(
    lease: Uint8Array,
    verdict:
      | { case: 'completed'; value: MessageInitShape<typeof CompletedSchema> }
      | { case: 'failed'; value: MessageInitShape<typeof FailedSchema> }
      | { case: 'released'; value: object },
  ): void {
    this.send({ settle: [{ batch: BigInt(++this.batch), settlements: [{ lease, verdict }] }] });
  }

  private receive(frame: ServerFrame): void {
    if (frame.welcome) this.welcomes.push(frame.welcome);
    for (const { attachment, refusal } of frame.attached) {
      const { limit = '', code = 0, message = '' } = refusal ?? {};
      this.attachments.push({ attachment, limit, code, message });
    }
    for (const ack of frame.publishAck) this.publishAcks.push(ack);
    for (const ack of frame.settleAck) this.settleAcks.push(ack);
    for (const abort of frame.abort) this.aborts.push(abort);
    for (const delivery of frame.delivery) this.deliveries.push(delivery);
    for (const progress of frame.progress) this.progresses.push(progress);
    for (const answer of frame.cancel) this.cancelAnswers.push(answer);
    if (frame.heartbeat) this.heartbeats.push(frame.heartbeat);
    if (frame.listInFlight) this.listRequests.push(true);
    if (frame.goAway) this.goAways.push(frame.goAway);
  }

  private end(error?: Error): void {
    for (const inbox of [
      this.welcomes,
      this.attachments,
      this.deliveries,
      this.aborts,
      this.publishAcks,
      this.settleAcks,
      this.progresses,
      this.cancelAnswers,
      this.heartbeats,
      this.listRequests,
      this.goAways,
    ]) {
      inbox.end(error);
    }
  }
}
