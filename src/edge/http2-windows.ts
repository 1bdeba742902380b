import type { Http2SecureServer, Http2Server, ServerHttp2Session, ServerOptions } from 'node:http2';
import type { Server } from '@grpc/grpc-js';

/**
 * HTTP/2 lets a client send this many bytes that were not read yet. With the 64 KiB of the protocol a busy client
 * and a busy broker wait for each other half of the time: 178,000 tasks/s instead of 225,000, on two cores with the
 * log in memory. More than this was measured to bring nothing, and a broker that does not read holds that much
 * for every stream.
 */
const WINDOW_BYTES = 256 * 1024;

/** What grpc-js (1.14) keeps to itself, and has an option for on the side of the client only. */
interface Insides {
  readonly commonServerOptions?: { settings?: { initialWindowSize?: number } };
  readonly http2Servers?: ReadonlyMap<Http2Server | Http2SecureServer, unknown>;
}

/** Has the server that is not bound yet announce larger windows for its streams. */
export function widenStreams(server: Server): void {
  const { commonServerOptions } = server as unknown as Insides;
  if (commonServerOptions === undefined) return;
  commonServerOptions.settings = { ...commonServerOptions.settings, initialWindowSize: WINDOW_BYTES };
}

/** The HTTP/2 servers of a server that is bound. */
export function http2ServersOf(server: Server): readonly (Http2Server | Http2SecureServer)[] {
  return [...((server as unknown as Insides).http2Servers?.keys() ?? [])];
}

/** Has the server that is not bound yet take what it is given for every HTTP/2 server it makes. */
export function tune(server: Server, options: ServerOptions): void {
  const { commonServerOptions } = server as unknown as Insides;
  if (commonServerOptions !== undefined) Object.assign(commonServerOptions, options);
}

/** Widens the window that all streams of a connection share, for connections to come; the server is bound. */
export function widenConnections(server: Server): void {
  for (const http2Server of http2ServersOf(server)) {
    http2Server.on('session', (session: ServerHttp2Session) => session.setLocalWindowSize(WINDOW_BYTES));
  }
}
