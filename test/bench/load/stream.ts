import type { ClientDuplexStream } from '@grpc/grpc-js';
import { Client, credentials } from '@grpc/grpc-js';
import { encodeFrame } from '../../../src/wire/client-frame.ts';
import type { ServerFrame } from '../../../src/wire/gen/agenthub/v1/session_pb.ts';
import { Broker } from '../../../src/wire/gen/agenthub/v1/broker_pb.ts';
import type { DeliveryScan } from '../../../src/wire/server-frame.ts';
import { ServerFrameReader } from '../../../src/wire/server-frame.ts';
import { serviceDefinition } from '../../../src/wire/service.ts';

const CONNECT = serviceDefinition(Broker, ['connect']).connect;
const CHANNEL = {
  'grpc.use_local_subchannel_pool': 1,
  'grpc.max_receive_message_length': -1,
  // As the SDK does.
  'grpc-node.flow_control_window': 1024 * 1024,
};

type Move = typeof CONNECT;

/** A bidirectional stream of bytes on a connection of its own. */
export class ByteStream {
  private readonly client: Client;
  private readonly call: ClientDuplexStream<Buffer, Buffer>;
  private open = true;

  constructor(port: number, method: Move, received: (frame: Buffer) => void) {
    this.client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), CHANNEL);
    this.call = this.client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
    );
    this.call.on('data', received);
    this.call.on('error', (error) => {
      if (this.open) throw error;
    });
  }

  write(frame: Buffer): boolean {
    return this.call.write(frame);
  }

  close(): void {
    this.open = false;
    this.call.cancel();
    this.client.close();
  }
}

/** What a {@link FrameSession} tells. */
export interface SessionEvents {
  /** The batch is as durable as the broker promises. */
  published?(batch: number): void;
  settled?(batch: number): void;
  /** The object is filled again for the next one. */
  delivery?(delivery: DeliveryScan): void;
  /** All of a frame was told. */
  after?(): void;
}

/** A session at the level of frames: nothing is encoded or decoded that need not be. */
export class FrameSession {
  private readonly stream: ByteStream;
  private readonly waiting: (() => void)[] = [];
  private heart: NodeJS.Timeout | undefined;
  private attached = 0;
  private greeted = false;

  constructor(port: number, events: SessionEvents) {
    const reader = new ServerFrameReader();
    const visitor = {
      published: ({ batch, refused }: { batch: bigint; refused: readonly { message: string }[] }) => {
        if (refused.length > 0) throw new Error(`publish refused: ${refused[0]!.message}`);
        events.published?.(Number(batch));
      },
      settled: ({ batch, refused }: { batch: bigint; refused: readonly { message: string }[] }) => {
        if (refused.length > 0) throw new Error(`settlement refused: ${refused[0]!.message}`);
        events.settled?.(Number(batch));
      },
      delivery: (delivery: DeliveryScan) => events.delivery?.(delivery),
      control: (frame: ServerFrame) => this.control(frame),
    };
    this.stream = new ByteStream(port, CONNECT, (frame) => {
      reader.read(frame, visitor);
      events.after?.();
    });
  }

  /** Opens the session and attaches; resolves when all that is done. */
  async open(mailboxes: readonly string[], window = 4096): Promise<void> {
    this.stream.write(encodeFrame({ hello: { client: 'bench' } }));
    await this.until(() => this.greeted);
    this.heart = setInterval(() => this.write(encodeFrame({ heartbeat: {} })), 2000);
    for (let first = 0; first < mailboxes.length; first += 1000) {
      const attach = mailboxes
        .slice(first, first + 1000)
        .map((mailbox, index) => ({ attachment: first + index + 1, mailbox, window }));
      this.stream.write(encodeFrame({ attach }));
    }
    await this.until(() => this.attached >= mailboxes.length);
  }

  write(frame: Buffer): void {
    this.stream.write(frame);
  }

  close(): void {
    clearInterval(this.heart);
    this.stream.close();
  }

  private control(frame: ServerFrame): void {
    if (frame.welcome) this.greeted = true;
    for (const { refusal } of frame.attached) {
      if (refusal) throw new Error(`attach refused: ${refusal.message}`);
      this.attached++;
    }
    for (const resume of this.waiting.splice(0)) resume();
  }

  private async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }
}
