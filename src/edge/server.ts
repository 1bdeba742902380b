import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import { widenConnections, widenStreams } from './http2-windows.ts';
import type { TlsSource } from './tls.ts';
import { ChangingCredentials } from './tls.ts';

/** How the gRPC port behaves. Times in milliseconds, sizes in bytes. */
export interface GrpcOptions {
  readonly host: string;
  readonly port: number;
  readonly maxMessageBytes: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly maxConnectionAgeMs: number;
  /** 0: running calls may take as long as they need. */
  readonly maxConnectionAgeGraceMs: number;
  readonly maxConcurrentStreams: number;
  /** Time that a client has to agree on how to encrypt. */
  readonly handshakeTimeoutMs: number;
  readonly tls?: TlsSource | undefined;
}

/** A service and its handlers. */
export interface Service {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

/** The gRPC port: services come in by constructor, connections are bounded and kept honest. */
export class GrpcEdge {
  private readonly server: Server;
  private readonly options: GrpcOptions;
  private readonly clock: Clock;

  constructor(services: readonly Service[], clock: Clock, options: GrpcOptions) {
    this.clock = clock;
    this.options = options;
    this.server = new Server({
      'grpc.max_receive_message_length': options.maxMessageBytes,
      'grpc.max_send_message_length': -1,
      'grpc.keepalive_time_ms': options.keepaliveMs,
      'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs,
      'grpc.keepalive_permit_without_calls': 1,
      'grpc.max_connection_age_ms': options.maxConnectionAgeMs,
      ...(options.maxConnectionAgeGraceMs > 0
        ? { 'grpc.max_connection_age_grace_ms': options.maxConnectionAgeGraceMs }
        : {}),
      'grpc.max_concurrent_streams': options.maxConcurrentStreams,
      // Nobody can ask for its records, and it keeps some of every call.
      'grpc.enable_channelz': 0,
    });
    widenStreams(this.server);
    for (const { definition, implementation } of services) this.server.addService(definition, implementation);
  }

  /** Listens, and answers with the port. Throws HubError `conflict` if the address is not to be had. */
  listen(): Promise<number> {
    const { host, port, tls, handshakeTimeoutMs } = this.options;
    const credentials = tls
      ? new ChangingCredentials(tls, handshakeTimeoutMs)
      : ServerCredentials.createInsecure();
    const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    return new Promise((resolve, reject) => {
      this.server.bindAsync(address, credentials, (error, bound) => {
        if (!error) {
          widenConnections(this.server);
          return resolve(bound);
        }
        reject(
          new HubError('conflict', `can't listen on ${address} (grpc.host, grpc.port): ${error.message}`, {
            field: 'grpc.port',
            cause: error,
          }),
        );
      });
    });
  }

  /** Takes no new calls; ends when the running ones have, or after `deadlineMs`. */
  close(deadlineMs: number): Promise<void> {
    return new Promise((resolve) => {
      const force = this.clock.after(deadlineMs, () => {
        this.server.forceShutdown();
        // Not when that is done: a peer that has gone without a word never ends its half of a connection.
        resolve();
      });
      this.server.tryShutdown(() => {
        force.cancel();
        resolve();
      });
    });
  }
}
