import { isIP } from 'node:net';
import type { PeerCertificate } from 'node:tls';
import { checkServerIdentity } from 'node:tls';
import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import type { ChannelCredentials, ChannelOptions, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { Broker } from '../wire/gen/agenthub/v1/broker_pb.ts';
import { serviceDefinition, unaryMethod } from '../wire/service.ts';
import { errorOf } from '../wire/status.ts';
import type { Link, LinkEvents, Transport, UnaryMethod } from './link.ts';

/** Certificates, in PEM. */
export interface TlsOptions {
  /** The authorities that the broker's certificate may come from. Default: those that Node trusts. */
  readonly ca?: Uint8Array | string;
  /** The client's own certificate and key, if the broker asks for one. */
  readonly cert?: Uint8Array | string;
  readonly key?: Uint8Array | string;
  /** The name that the broker's certificate must have, if it isn't the one that was dialled. */
  readonly serverName?: string;
}

/** What {@link GrpcTransport} needs. */
export interface GrpcOptions {
  readonly clock: Clock;
  readonly token: string | undefined;
  readonly tls: TlsOptions | undefined;
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
      ...(options.tls?.serverName === undefined
        ? {}
        : { 'grpc.ssl_target_name_override': options.tls.serverName }),
    };
  }

  open(address: string, events: LinkEvents): Link {
    const { clock, token, tls } = this.options;
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    const channel = { ...this.channel, ...nameOption(address, tls) };
    return new GrpcLink(new Client(address, credentialsOf(address, tls), channel), metadata, clock, events);
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

function credentialsOf(address: string, tls: TlsOptions | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const ip = ipOf(address);
  const verify =
    ip === undefined || tls.serverName !== undefined
      ? {}
      : {
          checkServerIdentity: (_name: string, certificate: PeerCertificate) =>
            checkServerIdentity(ip, certificate),
        };
  return credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert), verify);
}

/**
 * The name to ask the broker for in TLS. That may not be an address
 * (https://www.rfc-editor.org/rfc/rfc6066#section-3), which grpc-js does not know: an address then asks
 * for localhost, and the certificate is checked for the address.
 */
function nameOption(address: string, tls: TlsOptions | undefined): ChannelOptions {
  if (tls === undefined) return {};
  const name = tls.serverName ?? (ipOf(address) === undefined ? undefined : 'localhost');
  return name === undefined ? {} : { 'grpc.ssl_target_name_override': name };
}

/** The IP address in `1.2.3.4:50051` or `[::1]:50051`, if there is one. */
function ipOf(address: string): string | undefined {
  const host = address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return isIP(host) === 0 ? undefined : host;
}

function pem(text: Uint8Array | string | undefined): Buffer | null {
  return text === undefined ? null : Buffer.from(text);
}
