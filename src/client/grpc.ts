import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { ChannelOptions, Client, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import { Broker } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { serviceDefinition, unaryMethod } from '../wire/service.ts';
import { errorOf } from '../wire/status.ts';
import type { TlsOptions } from './dial.ts';
import { dial } from './dial.ts';
import type { Link, LinkEvents, Transport, UnaryMethod } from './link.ts';

/** A bearer token, or how to get one. */
export type Token = string | (() => string | Promise<string>);

/** What {@link GrpcTransport} needs. */
export interface GrpcOptions {
  readonly clock: Clock;
  readonly token: Token | undefined;
  /** `undefined`: the client's own. */
  readonly namespace?: string | undefined;
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
    const { clock, token, namespace, tls } = this.options;
    const client = dial(address, typeof tls === 'function' ? this.renewed(tls) : tls, this.channel);
    return new GrpcLink(client, { token, namespace }, clock, events);
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
  private readonly metadata = new Metadata();
  private readonly clock: Clock;
  private readonly events: LinkEvents;
  /** Absent while the token is being had; what is said meanwhile waits. */
  private stream: ClientDuplexStream<Buffer, Buffer> | undefined;
  private readonly waiting: Buffer[] = [];
  private open = true;

  constructor(
    client: Client,
    { token, namespace }: Pick<GrpcOptions, 'token' | 'namespace'>,
    clock: Clock,
    events: LinkEvents,
  ) {
    this.client = client;
    this.clock = clock;
    this.events = events;
    if (namespace !== undefined) this.metadata.set('agenthub-namespace', namespace);
    if (typeof token === 'function') void this.startWith(token);
    else this.start(token);
  }

  private async startWith(ask: () => string | Promise<string>): Promise<void> {
    let token: string;
    try {
      token = await ask();
    } catch (cause) {
      const message = `the token can't be had: ${toHubError(cause).message}`;
      return this.closed(new HubError('unavailable', message, { cause }));
    }
    if (this.open) this.start(token);
  }

  private start(token: string | undefined): void {
    const { events } = this;
    if (token !== undefined) this.metadata.set('authorization', `Bearer ${token}`);
    const { path, requestSerialize, responseDeserialize } = connect;
    const stream = this.client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      this.metadata,
    );
    this.stream = stream;
    for (const frame of this.waiting.splice(0)) stream.write(frame);
    stream.on('data', (frame: Buffer) => {
      if (this.open) events.frame(frame);
    });
    stream.on('drain', () => {
      if (this.open) events.drained();
    });
    stream.on('error', (error: ServiceError) => this.closed(errorOf(error)));
    stream.on('end', () => this.closed(new HubError('unavailable', 'the broker has ended the connection')));
  }

  private closed(error: HubError): void {
    if (!this.open) return;
    this.destroy();
    this.events.closed(error);
  }

  write(frame: Buffer): boolean {
    if (this.stream) return this.stream.write(frame);
    this.waiting.push(frame);
    return true;
  }

  end(): void {
    if (this.stream) this.stream.end();
    else this.closed(new HubError('cancelled', 'the connection was given up'));
  }

  destroy(): void {
    if (!this.open) return;
    this.open = false;
    this.stream?.cancel();
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
