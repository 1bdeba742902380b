import type { Socket } from 'node:net';
import type {
  Http2SecureServer,
  Http2Server,
  IncomingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2';
import { constants } from 'node:http2';
import type { Clock, Timer } from '../std/clock.ts';
import { limit } from '../broker/ingress.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { statusOf } from '../wire/status.ts';
import { MessageWalk } from './message-walk.ts';

/** What clients may take of a gRPC port. Times in milliseconds, sizes in bytes. */
export interface GuardLimits {
  readonly maxConnections: number;
  readonly handshakeTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly maxMessageBytes: number;
  readonly maxConnectionBytes: number;
  readonly maxBufferBytes: number;
  readonly maxResetsPerSecond: number;
  readonly maxPingsPerSecond: number;
}

/** What a {@link Http2Guard} is made of. */
export interface GuardOptions {
  readonly limits: GuardLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  /** By path; a message of a stream is taken as soon as it is there. */
  readonly methods: ReadonlyMap<
    string,
    { readonly requestStream: boolean; readonly responseStream: boolean }
  >;
  readonly counts: GuardCounts;
}

/** Who hears what the guard does. */
export interface GuardCounts {
  /** Somebody has met that limit, by its configuration key. */
  limit(key: string): void;
  /** A connection has ended because of what its client did. */
  broken(reason: 'protocol' | 'tls'): void;
}

/** Connections and calls cost so much memory even if they say nothing; measured with grpc-js 1.14. */
const CONNECTION_BYTES = 32 * 1024;
const CALL_BYTES = 24 * 1024;
/** A compressed message becomes at most so many times larger (https://zlib.net/zlib_tech.html). */
const INFLATION = 1032;
/** Who has less than that is not what fills the memory. */
const LARGE_BYTES = 2 ** 20;
/** Rates may be exceeded for so many seconds at once. */
const BURST_SECONDS = 10;
const SWEEP_MS = 1000;
const LOG_EVERY_MS = 10_000;
/** When to try again what was refused because memory was short. */
const RETRY_MS = 1000;

/**
 * Bounds what clients of a gRPC port take of the broker without being asked for it: connections that say nothing,
 * requests that never end, answers that nobody reads, messages that inflate, floods of frames that cost their sender
 * nothing. What HTTP/2 itself lets a server refuse, nghttp2 and Node refuse; here is what they leave open.
 *
 * Each limit has a key of the configuration (`grpc.…`), which is counted, logged and, where an answer is possible,
 * named in it.
 */
export class Http2Guard {
  private readonly options: GuardOptions;
  private readonly connections = new Map<ServerHttp2Session, Connection>();
  /** What all connections hold, in bytes. */
  private held = 0;
  private readonly logged = new Map<string, { at: number; since: number }>();
  private sweeping: Timer | undefined;

  constructor(options: GuardOptions) {
    this.options = options;
  }

  /** Guards a server from now on; before it has connections. */
  attach(server: Http2Server | Http2SecureServer): void {
    const { maxConnections } = this.options.limits;
    server.maxConnections = maxConnections;
    server.on('drop', (dropped?: { remoteAddress?: string }) => {
      this.met('grpc.maxConnections', dropped?.remoteAddress, 'a connection was refused');
    });
    server.on('session', (session: ServerHttp2Session) => this.enter(session));
    // What is refused, grpc-js must not even see: it would answer, too.
    const begins = server.listeners('stream') as ((...args: readonly unknown[]) => void)[];
    server.removeAllListeners('stream');
    server.on(
      'stream',
      (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: readonly unknown[]) => {
        if (this.begin(stream, headers))
          for (const begin of begins) begin.call(server, stream, headers, ...rest);
      },
    );
    server.on('sessionError', (error: NodeJS.ErrnoException, session: ServerHttp2Session) => {
      if (this.connections.get(session)?.ended === false && isViolation(error))
        this.options.counts.broken('protocol');
    });
    server.on('tlsClientError', () => this.options.counts.broken('tls'));
    server.on('unknownProtocol', (socket: Socket) => {
      this.options.counts.broken('protocol');
      socket.destroy();
    });
    if (this.sweeping === undefined) this.sweepLater();
  }

  /** Guards nothing any more. */
  stop(): void {
    this.sweeping?.cancel();
  }

  private enter(session: ServerHttp2Session): void {
    const { clock, limits } = this.options;
    const now = clock.now();
    const connection = new Connection(session, now, limits);
    this.connections.set(session, connection);
    this.hold(connection, CONNECTION_BYTES);
    const control = (): void => {
      connection.greeted = true;
      if (connection.pings.take(clock.now())) return;
      this.end(connection, 'grpc.maxPingsPerSecond', 'it sends too many pings or settings');
    };
    session.on('ping', control);
    session.on('remoteSettings', control);
    session.once('close', () => {
      this.connections.delete(session);
      this.held -= connection.held + connection.inflating;
      connection.calls.clear();
    });
  }

  /** Whether the call may begin. */
  private begin(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean {
    const { session } = stream;
    const connection = session && this.connections.get(session as ServerHttp2Session);
    if (connection === undefined) return false;
    const { clock, limits, methods } = this.options;
    const encoding = headers['grpc-encoding'];
    const method = methods.get(headers[':path'] ?? '');
    const call: Call = {
      stream,
      begun: clock.now(),
      streaming: method?.requestStream === true,
      answersOnce: method?.responseStream === false,
      inflates: encoding !== undefined && encoding !== 'identity',
      walk: new MessageWalk(),
      seen: false,
      held: 0,
      inflating: 0,
      waiting: 0,
      stuckSince: undefined,
    };
    connection.calls.add(call);
    // Nobody else may listen yet, and an error that nobody hears would end the process.
    stream.on('error', () => {});
    stream.once('close', () => this.finished(connection, call));
    if (!this.holdFor(connection, call, CALL_BYTES)) return false;
    if (call.streaming && call.inflates) {
      const message = 'this stream takes no compressed messages; send them with grpc-encoding: identity';
      refuse(call, new HubError('unimplemented', message, { field: 'grpc-encoding' }));
      return false;
    }
    call.seen = true;
    if (!stream.endAfterHeaders) {
      stream.on('data', (chunk: Buffer) => this.received(connection, call, chunk, limits));
    }
    return true;
  }

  private received(
    connection: Connection,
    call: Call,
    chunk: Buffer,
    { maxMessageBytes }: GuardLimits,
  ): void {
    const { walk, streaming } = call;
    const { taken, compressed } = walk.pass(chunk);
    // The messages of a stream are handed on at once, those of other calls when all is there.
    if (!this.holdFor(connection, call, streaming ? chunk.length - taken : chunk.length)) return;
    if (compressed === 0 || !call.inflates) return;
    // Its parts, and then the whole. What is inflated meanwhile can't be seen from here, so the worst is assumed.
    const inflated = 2 * Math.min(compressed * INFLATION, maxMessageBytes);
    const { maxBufferBytes } = this.options.limits;
    if (this.held + inflated > maxBufferBytes || connection.inflating + inflated > maxBufferBytes / 4) {
      const why = 'what has come of compressed requests might become too large; try again';
      this.exhausted(connection, call, 'grpc.maxBufferBytes', why);
      return;
    }
    call.inflating += inflated;
    connection.inflating += inflated;
    this.held += inflated;
  }

  private finished(connection: Connection, call: Call): void {
    if (!connection.calls.delete(call)) return;
    this.hold(connection, -call.held - call.waiting);
    connection.inflating -= call.inflating;
    this.held -= call.inflating;
    // Whoever has it reset: a client that makes the server do it gains the same.
    if (call.stream.rstCode === constants.NGHTTP2_NO_ERROR) return;
    if (connection.resets.take(this.options.clock.now())) return;
    this.end(connection, 'grpc.maxResetsPerSecond', 'it resets too many calls');
  }

  /** Holds more for a call; false: that was too much, and the call or its connection has been ended. */
  private holdFor(connection: Connection, call: Call, bytes: number): boolean {
    const { maxConnectionBytes, maxBufferBytes } = this.options.limits;
    call.held += bytes;
    this.hold(connection, bytes);
    if (bytes <= 0) return true;
    if (connection.held > maxConnectionBytes) {
      this.end(connection, 'grpc.maxConnectionBytes', 'it has sent too much that is not complete');
      return false;
    }
    if (this.held <= maxBufferBytes) return true;
    const largest = this.largest();
    if (largest.held > LARGE_BYTES) {
      this.end(largest, 'grpc.maxBufferBytes', 'it holds most of the memory that connections may have');
      return largest !== connection;
    }
    this.exhausted(
      connection,
      call,
      'grpc.maxBufferBytes',
      'connections and calls have all the memory they may',
    );
    return false;
  }

  private hold(connection: Connection, bytes: number): void {
    if (!this.connections.has(connection.session)) return;
    connection.held += bytes;
    this.held += bytes;
  }

  private largest(): Connection {
    let largest: Connection | undefined;
    for (const each of this.connections.values()) {
      if (largest === undefined || each.held > largest.held) largest = each;
    }
    return largest!;
  }

  private sweepLater(): void {
    const { clock, limits } = this.options;
    const period = Math.min(
      SWEEP_MS,
      Math.max(20, Math.min(limits.handshakeTimeoutMs, limits.requestTimeoutMs) / 4),
    );
    this.sweeping = clock.after(period, () => {
      this.sweep();
      this.sweepLater();
    });
  }

  private sweep(): void {
    const { clock, limits } = this.options;
    const now = clock.now();
    // The map is in the order in which they came.
    let spare = this.connections.size - Math.floor(limits.maxConnections * 0.9);
    for (const connection of this.connections.values()) {
      if (!connection.greeted && now - connection.begun > limits.handshakeTimeoutMs) {
        this.end(connection, 'grpc.handshakeTimeoutMs', 'it did not begin to speak HTTP/2 in time');
        continue;
      }
      if (spare > 0 && connection.calls.size === 0 && now - connection.begun > SWEEP_MS) {
        spare--;
        this.end(connection, 'grpc.maxConnections', 'it has no calls, and others need its place');
        continue;
      }
      for (const call of connection.calls) this.look(connection, call, now);
    }
  }

  /** Counts what a call has not been rid of, and ends what takes too long. */
  private look(connection: Connection, call: Call, now: number): void {
    const { stream } = call;
    const { requestTimeoutMs, maxConnectionBytes } = this.options.limits;
    const waiting = stream.writableLength;
    if (waiting === 0 || waiting !== call.waiting) call.stuckSince = undefined;
    else call.stuckSince ??= now;
    this.hold(connection, waiting - call.waiting);
    call.waiting = waiting;
    if (connection.held > maxConnectionBytes) {
      this.end(connection, 'grpc.maxConnectionBytes', 'it does not read what it has asked for');
      return;
    }
    if (now - call.begun <= requestTimeoutMs) return;
    const begun = call.streaming ? call.walk.messages > 0 : stream.endAfterHeaders || stream.readableEnded;
    if (!begun) {
      this.exhausted(connection, call, 'grpc.requestTimeoutMs', 'the request did not arrive in time');
      return;
    }
    if (!call.answersOnce || now - (call.stuckSince ?? now) <= requestTimeoutMs) return;
    this.met('grpc.requestTimeoutMs', addressOf(connection), 'a call was ended: its answer was not taken');
    stream.close(constants.NGHTTP2_CANCEL);
  }

  private exhausted(connection: Connection, call: Call, key: string, why: string): void {
    this.met(key, addressOf(connection), `a call was refused: ${why}`);
    refuse(call, limit(key, why, RETRY_MS));
  }

  private end(connection: Connection, key: string, why: string): void {
    const { session } = connection;
    if (connection.ended || session.destroyed) return;
    connection.ended = true;
    this.met(key, addressOf(connection), `a connection was ended: ${why}`);
    session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    session.destroy();
  }

  /** Counts it always, and logs it now and then: an attack must not fill the logs. */
  private met(key: string, address: string | undefined, what: string): void {
    const { clock, logger, counts } = this.options;
    counts.limit(key);
    const now = clock.now();
    const last = this.logged.get(key);
    if (last !== undefined && now - last.at < LOG_EVERY_MS) {
      last.since++;
      return;
    }
    this.logged.set(key, { at: now, since: 0 });
    logger.warn(
      { limit: key, address, ...(last?.since ? { unlogged: last.since } : {}) },
      `${what} (${key})`,
    );
  }
}

/** A call, and what it holds. */
interface Call {
  readonly stream: ServerHttp2Stream;
  readonly begun: number;
  /** Whether its request is a stream. */
  readonly streaming: boolean;
  /** Whether it is answered with one message. Who gets many may take its time between them. */
  readonly answersOnce: boolean;
  /** Whether its messages may be compressed. */
  readonly inflates: boolean;
  readonly walk: MessageWalk;
  /** Whether grpc-js has it, and will answer. */
  seen: boolean;
  /** Bytes of its request, and of itself. */
  held: number;
  /** Bytes that its compressed messages may become. */
  inflating: number;
  /** Bytes of its answer that were not taken when it was looked at. */
  waiting: number;
  /** Since when nothing of that was taken. */
  stuckSince: number | undefined;
}

class Connection {
  readonly session: ServerHttp2Session;
  readonly begun: number;
  readonly calls = new Set<Call>();
  readonly resets: Bucket;
  readonly pings: Bucket;
  held = 0;
  inflating = 0;
  /** Whether the client has said what every client of HTTP/2 says first. */
  greeted = false;
  /** Whether it was the guard that has ended it. */
  ended = false;

  constructor(session: ServerHttp2Session, now: number, limits: GuardLimits) {
    this.session = session;
    this.begun = now;
    this.resets = new Bucket(limits.maxResetsPerSecond, now);
    this.pings = new Bucket(limits.maxPingsPerSecond, now);
  }
}

/** Lets so many a second pass, and those of some seconds at once. */
class Bucket {
  private readonly rate: number;
  private tokens: number;
  private at: number;

  constructor(rate: number, now: number) {
    this.rate = rate;
    this.tokens = rate * BURST_SECONDS;
    this.at = now;
  }

  take(now: number): boolean {
    const passed = Math.max(0, now - this.at) / 1000;
    this.tokens = Math.min(this.rate * BURST_SECONDS, this.tokens + passed * this.rate) - 1;
    this.at = now;
    return this.tokens >= 0;
  }
}

/** Answers a call that did not begin; ends one that did. */
function refuse({ stream, seen }: Call, error: HubError): void {
  if (stream.destroyed || stream.closed) return;
  if (seen) {
    // Clients of gRPC take it for RESOURCE_EXHAUSTED.
    stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    return;
  }
  const { code, details, metadata } = statusOf(error);
  const headers = { ':status': 200, 'content-type': 'application/grpc+proto' };
  const status = { 'grpc-status': code, 'grpc-message': encodeURI(details) };
  stream.respond({ ...headers, ...status, ...metadata.toHttp2Headers() }, { endStream: true });
  stream.resume();
}

/** Whether the client broke the rules, and has not just gone. */
function isViolation({ code = '' }: NodeJS.ErrnoException): boolean {
  return code.startsWith('ERR_HTTP2') && code !== 'ERR_HTTP2_SESSION_ERROR';
}

function addressOf({ session }: Connection): string | undefined {
  return session.destroyed ? undefined : session.socket?.remoteAddress;
}
