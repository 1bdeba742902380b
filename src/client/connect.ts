import type { Tracer } from '@opentelemetry/api';
import type { Clock, Random } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { silent } from '../std/logger.ts';
import { systemClock, systemRandom } from '../std/system.ts';
import type { TlsOptions } from './dial.ts';
import type { Token } from './grpc.ts';
import { GrpcTransport } from './grpc.ts';
import { Hub } from './hub.ts';
import type { SessionState } from './session.ts';
import { clientTraces } from './traces.ts';

/** How to reach AgentHub. Times are in milliseconds. */
export interface ConnectOptions {
  /** Host and port, or any other gRPC target. Default: `localhost:50051`. */
  readonly address?: string;
  /** Who you are: asks for tasks and works on them if nothing else is said. */
  readonly agent?: string;
  /**
   * The bearer token, if the broker asks for one. A function is asked before each connection, so that tokens which
   * expire are renewed: the broker says when, and the session goes on.
   */
  readonly token?: Token;
  /**
   * Set for TLS; `{}` trusts what Node trusts. A function is asked before each connection, so that certificates which
   * are renewed are used.
   */
  readonly tls?: TlsOptions | (() => TlsOptions);
  /** The namespace it is about, for who may name another than their own: administrators. */
  readonly namespace?: string;
  /** For people: name and version of your program. */
  readonly client?: string;
  /** The largest frame that is received, in bytes. Default 64 MiB. */
  readonly maxFrameBytes?: number;
  /** Bytes of published but not acknowledged tasks above which `publish` waits. Default 16 MiB. */
  readonly maxUnacknowledgedBytes?: number;
  /** How long to try to connect the first time. Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** How long a task may take to be acknowledged. Default 30 s. */
  readonly publishTimeoutMs?: number;
  /** Default: says nothing. */
  readonly logger?: Logger;
  /**
   * Traces the tasks: a tracer of OpenTelemetry, or false for none. Default: that of the `TracerProvider` which is
   * registered when `connect` is called, if there is one.
   */
  readonly tracer?: Tracer | false;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Hears when the connection breaks, and when it is back; `why` says what happened. */
  readonly onStateChange?: (state: SessionState, why: HubError | undefined) => void;
}

const DEFAULT_ADDRESS = 'localhost:50051';
const DIAL_MS = 5_000;
const CALL_MS = 30_000;
const MIB = 1024 * 1024;

/**
 * Connects to AgentHub. From then on the connection heals itself.
 *
 * @throws HubError `unavailable` if no broker answers in time; `unauthenticated` or `permission` if it
 *   does not want us.
 */
export async function connect(options: ConnectOptions = {}): Promise<Hub> {
  const { clock = systemClock, random = systemRandom, logger = silent } = options;
  const { address = DEFAULT_ADDRESS, token, namespace, tls, maxFrameBytes = 64 * MIB } = options;
  const transport = new GrpcTransport({ clock, token, namespace, tls, maxFrameBytes });
  const hub = new Hub(transport, {
    address,
    agent: options.agent ?? '',
    client: options.client ?? 'agenthub-js',
    dialMs: DIAL_MS,
    connectMs: options.connectTimeoutMs ?? 10_000,
    callMs: CALL_MS,
    publisher: {
      unacknowledgedBytes: options.maxUnacknowledgedBytes ?? 16 * MIB,
      timeoutMs: options.publishTimeoutMs ?? 30_000,
    },
    clock,
    random,
    logger,
    traces: await clientTraces(options.tracer),
    onStateChange: options.onStateChange ?? (() => {}),
  });
  await hub.open();
  return hub;
}

/**
 * The address that the environment names: `AGENTHUB_BROKER_ADDR` (a host, or host and port) and
 * `AGENTHUB_BROKER_PORT`; by default `localhost:50051`.
 *
 * @throws HubError `invalid` if the port is none.
 */
export function addressFromEnv(env: Readonly<Record<string, string | undefined>>): string {
  const host = env['AGENTHUB_BROKER_ADDR'] || 'localhost';
  const port = env['AGENTHUB_BROKER_PORT'];
  // Not an IPv6 address, but a name that has its port already.
  if (!port && /^(\[.*\]|[^:]*):\d+$/.test(host)) return host;
  if (port && !/^\d{1,5}$/.test(port)) {
    throw new HubError('invalid', `AGENTHUB_BROKER_PORT must be a port number, not "${port}"`, {
      field: 'AGENTHUB_BROKER_PORT',
    });
  }
  const name = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
  return `${name}:${port || '50051'}`;
}
