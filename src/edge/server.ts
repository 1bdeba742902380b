import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { GuardCounts, GuardLimits } from './http2-guard.ts';
import { Http2Guard } from './http2-guard.ts';
import { http2ServersOf, tune, widenConnections, widenStreams } from './http2-windows.ts';
import type { TlsSource } from './tls.ts';
import { ChangingCredentials } from './tls.ts';

/** How the gRPC port behaves. Times in milliseconds, sizes in bytes. */
export interface GrpcOptions extends GuardLimits {
  readonly host: string;
  readonly port: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly maxConnectionAgeMs: number;
  /** 0: running calls may take as long as they need. */
  readonly maxConnectionAgeGraceMs: number;
  readonly maxConcurrentStreams: number;
  /** Time after which a connection without calls ends. */
  readonly idleTimeoutMs: number;
  readonly tls?: TlsSource | undefined;
}

/** A service and its handlers. */
export interface Service {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

/** What the gRPC port is made of, beside services. */
export interface GrpcParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly counts: GuardCounts;
}

/** The gRPC port: services come in by constructor, connections are bounded and kept honest. */
export class GrpcEdge {
  private readonly server: Server;
  private readonly options: GrpcOptions;
  private readonly clock: Clock;
  private readonly guard: Http2Guard;

  constructor(services: readonly Service[], parts: GrpcParts, options: GrpcOptions) {
    const { clock, logger, counts } = parts;
    this.clock = clock;
    this.options = options;
    const definitions = services.flatMap(({ definition }) => Object.values(definition));
    const methods = new Map(definitions.map((method) => [method.path, method]));
    this.guard = new Http2Guard({ limits: options, clock, logger, counts, methods });
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
      'grpc.max_connection_idle_ms': options.idleTimeoutMs,
      'grpc.max_concurrent_streams': options.maxConcurrentStreams,
      // Nobody can ask for its records, and it keeps some of every call.
      'grpc.enable_channelz': 0,
    });
    widenStreams(this.server);
    tune(this.server, {
      // The guard is to be first, since it counts and says what it does.
      streamResetRate: 2 * options.maxResetsPerSecond,
      streamResetBurst: 40 * options.maxResetsPerSecond,
    });
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
          for (const each of http2ServersOf(this.server)) this.guard.attach(each);
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
    this.guard.stop();
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
