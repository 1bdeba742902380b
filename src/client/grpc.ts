import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { ChannelOptions, Client, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { Broker } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { serviceDefinition, unaryMethod } from '../wire/service.ts';
import { errorOf } from '../wire/status.ts';
import type { TlsOptions } from './dial.ts';
import { dial } from './dial.ts';
import type { Link, LinkEvents, Transport, UnaryMethod } from './link.ts';

/** What {@link GrpcTransport} needs. */
export interface GrpcOptions {
  readonly clock: Clock;
  readonly token: string | undefined;
  readonly tls: TlsOptions | (() => TlsOptions) | undefined;
  /** The largest frame that is received, in bytes. */
  readonly maxFrameBytes: number;
}

const { connect } = serviceDefinition(Broker, ['connect']);

/** HTTP/2 lets this many bytes of frames be on their way; with the 64 KiB of the protocol a long way is slow. */
const FLOW_CONTROL_BYTES = 1024 * 1024;

/** Connections over gRPC, each on a channel of its own, so that a new one is really new. */
export class GrpcTransport implements Transport {
  private readonly options: GrpcOptions;
  private readonly channel: ChannelOptions;
  private tls: TlsOptions | undefined;

  constructor(options: GrpcOptions) {
    this.options = options;
    this.channel = {
      'grpc.use_local_subchannel_pool': 1,
      // The session reconnects by itself, and knows what to send again.
      'grpc.enable_retries': 0,
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 10_000,
      'grpc.initial_reconnect_backoff_ms': 200,
      'grpc.max_reconnect_backoff_ms': 2_000,
      'grpc.max_receive_message_length': options.maxFrameBytes,
      'grpc.max_send_message_length': -1,
      'grpc-node.flow_control_window': FLOW_CONTROL_BYTES,
    };
  }

  open(address: string, events: LinkEvents): Link {
    const { clock, token, tls } = this.options;
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    const client = dial(address, typeof tls === 'function' ? this.renewed(tls) : tls, this.channel);
    return new GrpcLink(client, metadata, clock, events);
  }

  /** What `ask` gives; if it fails, as when files are being replaced, what it gave last. */
  private renewed(ask: () => TlsOptions): TlsOptions {
    try {
      return (this.tls = ask());
    } catch (error) {
      if (this.tls === undefined) throw error;
      return this.tls;
    }
  }
}

class GrpcLink implements Link {
  private readonly client: Client;
  private readonly metadata: Metadata;
  private readonly clock: Clock;
  private readonly stream: ClientDuplexStream<Buffer, Buffer>;
  private open = true;

  constructor(client: Client, metadata: Metadata, clock: Clock, events: LinkEvents) {
    this.client = client;
    this.metadata = metadata;
    this.clock = clock;
    const { path, requestSerialize, responseDeserialize } = connect;
    this.stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata);
    const closed = (error: HubError): void => {
      if (!this.open) return;
      this.destroy();
      events.closed(error);
    };
    this.stream.on('data', (frame: Buffer) => {
      if (this.open) events.frame(frame);
    });
    this.stream.on('drain', () => {
      if (this.open) events.drained();
    });
    this.stream.on('error', (error: ServiceError) => closed(errorOf(error)));
    this.stream.on('end', () => closed(new HubError('unavailable', 'the broker has ended the connection')));
  }

  write(frame: Buffer): boolean {
    return this.stream.write(frame);
  }

  end(): void {
    this.stream.end();
  }

  destroy(): void {
    if (!this.open) return;
    this.open = false;
    this.stream.cancel();
    this.client.close();
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
  ): Promise<MessageShape<O>> {
    const { path, requestSerialize, responseDeserialize } = unaryMethod(method);
    const deadline = this.clock.now() + timeoutMs;
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        this.metadata,
        { deadline },
        (error, response) => {
          if (error) reject(errorOf(error));
          else resolve(response!);
        },
      );
    });
  }
}
