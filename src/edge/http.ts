import { createServer } from 'node:http';
import type { IncomingMessage, OutgoingHttpHeaders, Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { PlacementRules } from '../core/placement.ts';
import { TLSSocket } from 'node:tls';
import type { Clock } from '../std/clock.ts';
import { HubError, toHubError } from '../std/errors.ts';
import type { ErrorCode } from '../std/errors.ts';
import type { Logger, LogLevel, LogThreshold } from '../std/logger.ts';
import { LOG_LEVELS } from '../std/logger.ts';
import { writeCapacity } from '../wire/capacity.ts';
import type { Capacity } from '../wire/capacity.ts';
import { readPlacement } from '../wire/cluster-documents.ts';
import { writePlacementDocument } from '../wire/placement-document.ts';
import type { PlacementDocument } from '../wire/placement-document.ts';
import type { Credentials } from './auth.ts';
import type { Admission, Door } from './calls.ts';
import { promised } from './calls.ts';
import { secureContext } from './certificates.ts';
import { healthDocument } from './health.ts';
import type { Health, HealthCheck } from './health.ts';
import type { TlsSource } from './tls.ts';

/** How far a drain has come, as `/drain` shows it. */
export interface DrainStatus {
  readonly state: 'serving' | 'draining' | 'drained';
  /** Shards that other brokers have yet to take; 0 if there is none that could. */
  readonly shards: number;
  /** Sessions that are still here and can go: streams of the event bus end with the broker. */
  readonly sessions: number;
  /** Tasks that workers of this broker still hold. */
  readonly activeTasks: number;
}

/** What the HTTP side needs of the rest of the broker. */
export interface HttpParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly health: () => Health;
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
  readonly capacity: () => Capacity;
  /** Starting or cancelling what is started or cancelled already changes nothing. */
  readonly drain: { status(): DrainStatus; start(): void; cancel(): void };
  /** `change` rejects with a HubError if the rules are not taken. */
  readonly placement: {
    read(): PlacementDocument;
    change(rules: PlacementRules): Promise<PlacementDocument>;
  };
  /** Who may come in, and what they may do. */
  readonly door: Pick<Door, 'enterWith' | 'audit'>;
  /** Lets anybody read figures. */
  readonly publicMetrics: boolean;
  /** What is logged, which can be changed here. */
  readonly threshold: LogThreshold;
  /** The id of a request that brings none. */
  readonly newId: () => string;
}

/** Where and how to listen. */
export interface HttpOptions {
  /** `http.port` or `http.privatePort`: how the configuration calls the port. */
  readonly key?: 'http.port' | 'http.privatePort';
  /** Answers questions after health only: the rest is for another port. */
  readonly publicOnly?: boolean;
  readonly host: string;
  readonly port: number;
  readonly maxConnections: number;
  readonly maxBodyBytes: number;
  /** Time that a request may take to arrive, and an answer to be taken in part. */
  readonly requestTimeoutMs: number;
  /** Time that a connection may be silent between two requests. */
  readonly idleTimeoutMs: number;
  /** Without it the server speaks plain HTTP. */
  readonly tls?: TlsSource | undefined;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers?: OutgoingHttpHeaders;
}

/** What a resource needs: nothing, or leave for what it is called. */
type Scope = 'public' | 'metrics' | 'drain' | 'getPlacement' | 'setPlacement' | 'logLevel';

interface Resource {
  readonly scope: Scope;
  /** If it is another one for methods that change something. */
  readonly changes?: Scope;
  readonly methods: Readonly<Record<string, (body: string) => Answer | Promise<Answer>>>;
}

const MAX_HEADER_BYTES = 16 * 1024;
/** What callers may choose as the id of a request: it is written to the log. */
const REQUEST_ID = /^[\w.:-]{1,64}$/;
/** Time that answers under way have left when the server closes. */
const CLOSE_MS = 1000;

/** The HTTP status of each error that a request here can meet; any other is 500. */
const STATUS: Readonly<Partial<Record<ErrorCode, number>>> = {
  invalid: 400,
  unauthenticated: 401,
  permission: 403,
  not_found: 404,
  conflict: 409,
  cancelled: 499,
  precondition: 409,
  aborted: 409,
  exhausted: 429,
  unavailable: 503,
};

/**
 * The HTTP side of a broker: health, metrics, capacity, drain, placement.
 *
 * Errors are JSON, `{"error": {"code", "message"}}`. Of a request only method and path count, and for placement its
 * body.
 */
export class HttpEdge {
  readonly #parts: HttpParts;
  readonly #options: HttpOptions;
  readonly #resources: ReadonlyMap<string, Resource>;
  readonly #server: Server;
  #closing = false;

  constructor(parts: HttpParts, options: HttpOptions) {
    this.#parts = parts;
    this.#options = options;
    const all = resources(parts);
    this.#resources = options.publicOnly
      ? new Map([...all].filter(([, { scope }]) => scope === 'public'))
      : all;
    this.#server = newServer(options, (request, response) => void this.#serve(request, response));
  }

  /**
   * Listens, and answers with the port: a free one if 0 was asked for.
   *
   * @throws HubError `conflict` if the address can't be had.
   */
  listen(): Promise<number> {
    const { host, port, key = 'http.port' } = this.#options;
    return new Promise((resolve, reject) => {
      // It stays: an error of a server that nobody hears would end the process.
      this.#server.on('error', (error) => {
        const message = `can't listen on ${host}:${port} (${error.message}); choose another ${key}, or another host`;
        reject(new HubError('conflict', message, { field: key, cause: error }));
      });
      this.#server.listen(port, host, () => {
        const address = this.#server.address();
        resolve(typeof address === 'object' ? (address?.port ?? port) : port);
      });
    });
  }

  /** Takes no more requests, gives answers under way a second, and ends every connection. */
  close(): Promise<void> {
    this.#closing = true;
    const late = this.#parts.clock.after(CLOSE_MS, () => this.#server.closeAllConnections());
    return new Promise((resolve) => {
      this.#server.close(() => {
        late.cancel();
        resolve();
      });
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { clock, logger, newId } = this.#parts;
    const began = clock.now();
    const { method, headers } = request;
    const shown = headers['x-request-id'];
    const id = typeof shown === 'string' && REQUEST_ID.test(shown) ? shown : newId();
    const about = logger.child({ request: id, method, path: request.url?.split('?', 1)[0] });
    let answer: Answer;
    try {
      answer = await this.#answer(request);
    } catch (error) {
      answer = failure(about, error);
    }
    about.debug({ status: answer.status, ms: Math.round(clock.now() - began) }, 'an HTTP request');
    response.writeHead(answer.status, {
      'content-type': 'application/json; charset=utf-8',
      'content-length': Buffer.byteLength(answer.body),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-request-id': id,
      ...(this.#closing ? { connection: 'close' } : {}),
      ...answer.headers,
    });
    response.end(answer.body);
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const path = request.url?.split('?', 1)[0] ?? '';
    const resource = this.#resources.get(path);
    if (resource === undefined) {
      return refusal(
        404,
        'not_found',
        `there is no such resource; try ${[...this.#resources.keys()].join(', ')}`,
      );
    }
    const { scope, changes = scope, methods } = resource;
    const method = request.method === 'HEAD' ? 'GET' : request.method;
    const handle = method !== undefined && Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (handle === undefined) {
      const allow = Object.keys(methods).flatMap((each) => (each === 'GET' ? ['GET', 'HEAD'] : [each]));
      return refusal(405, 'unimplemented', `use ${allow.join(', ')}`, { allow: allow.join(', ') });
    }
    const needed = method === 'GET' ? scope : changes;
    const admission = await this.#admit(request, needed, `${method} ${path}`);
    const body = await bodyWithin(request, this.#options.maxBodyBytes);
    if (body === undefined) {
      return refusal(413, 'exhausted', 'the body is larger than http.maxBodyBytes', { connection: 'close' });
    }
    if (!admission || method === 'GET') return handle(body);
    const { principal, peer } = admission;
    const actor = { who: principal.name, peer };
    return this.#parts.door.audit.during(actor, needed, `${method} ${path}`, () => handle(body));
  }

  /** Who asks, and may; `undefined`: it matters for nothing. */
  async #admit(request: IncomingMessage, scope: Scope, action: string): Promise<Admission | undefined> {
    const { door, publicMetrics } = this.#parts;
    if (scope === 'public' || (scope === 'metrics' && publicMetrics)) return undefined;
    const { remoteAddress = '', remotePort = 0 } = request.socket;
    const shown = credentials(request);
    const admission = await promised<Admission>((done) =>
      door.enterWith(shown, `${remoteAddress}:${remotePort}`, action, done),
    );
    admission.require({ does: 'admin', to: scope }, '');
    return admission;
  }
}

function failure(logger: Logger, error: unknown): Answer {
  const { code, message } = toHubError(error);
  const status = STATUS[code] ?? 500;
  if (status === 500) logger.error({ error }, 'an HTTP request failed');
  return refusal(status, code, message, status === 401 ? { 'www-authenticate': 'Bearer' } : {});
}

function resources({
  health,
  metrics,
  capacity,
  drain,
  placement,
  logger,
  threshold,
}: HttpParts): ReadonlyMap<string, Resource> {
  const check = (verdict: HealthCheck['concerns']): Resource => ({
    scope: 'public',
    methods: {
      GET: () => {
        const document = healthDocument(health(), verdict);
        return json(document.status === 'healthy' ? 200 : 503, document);
      },
    },
  });
  return new Map<string, Resource>([
    ['/healthz', check('life')],
    ['/readyz', check('readiness')],
    ['/health', check('life')],
    ['/ready', check('readiness')],
    [
      '/metrics',
      {
        scope: 'metrics',
        methods: {
          GET: async () => {
            const body = await metrics.text();
            return { status: 200, body, headers: { 'content-type': metrics.contentType } };
          },
        },
      },
    ],
    [
      '/capacity',
      { scope: 'metrics', methods: { GET: () => ({ status: 200, body: writeCapacity(capacity()) }) } },
    ],
    [
      '/drain',
      {
        scope: 'drain',
        methods: {
          GET: () => json(200, drain.status()),
          POST: () => {
            drain.start();
            return json(202, drain.status());
          },
          DELETE: () => {
            drain.cancel();
            return json(200, drain.status());
          },
        },
      },
    ],
    [
      '/placement',
      {
        scope: 'getPlacement',
        changes: 'setPlacement',
        methods: {
          GET: () => ({ status: 200, body: writePlacementDocument(placement.read()) }),
          PUT: async (body) => {
            const changed = await placement.change(readPlacement(body));
            return { status: 200, body: writePlacementDocument(changed) };
          },
        },
      },
    ],
    [
      '/log-level',
      {
        scope: 'logLevel',
        methods: {
          GET: () => json(200, { level: threshold.level }),
          PUT: (body) => {
            const from = threshold.level;
            threshold.level = readLevel(body);
            logger.warn({ from, to: threshold.level }, 'what is logged was changed');
            return json(200, { level: threshold.level });
          },
        },
      },
    ],
  ]);
}

/** `{"level":"debug"}` */
function readLevel(body: string): LogLevel {
  let level: unknown;
  try {
    ({ level } = JSON.parse(body) as { readonly level?: unknown });
  } catch {
    // As if it said none.
  }
  const known = LOG_LEVELS.find((each) => each === level);
  if (known !== undefined) return known;
  throw new HubError('invalid', `say {"level": "…"}, with one of ${LOG_LEVELS.join(', ')}`, {
    field: 'level',
  });
}

function newServer(
  options: HttpOptions,
  serve: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const { requestTimeoutMs, idleTimeoutMs, tls } = options;
  const settings = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: requestTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: idleTimeoutMs,
    // How often the server looks for connections that exceed these; its own 30 s would be the real timeout.
    connectionsCheckingInterval: Math.max(50, Math.min(requestTimeoutMs, idleTimeoutMs) / 2),
  };
  const server = tls === undefined ? createServer(settings, serve) : newTlsServer(tls, settings, serve);
  server.maxConnections = options.maxConnections;
  server.timeout = requestTimeoutMs;
  return server;
}

function newTlsServer(
  tls: TlsSource,
  settings: Readonly<{ requestTimeout: number }>,
  serve: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const server = createTlsServer(
    {
      ...settings,
      ...secureContext(tls.current),
      // Nobody has to show one here: those who ask for the health of a broker have none.
      requestCert: tls.current.clientCa !== null,
      rejectUnauthorized: false,
      handshakeTimeout: settings.requestTimeout,
    },
    serve,
  );
  tls.watch((material) => server.setSecureContext(secureContext(material)));
  return server;
}

/**
 * Who asks. The trust in this machine does not extend to whoever speaks through it: the callers behind a
 * proxy here, and the web pages in a browser here, which say so in `Origin` and `Sec-Fetch-Site`.
 */
function credentials({ headers, socket }: IncomingMessage): Credentials {
  const site = headers['sec-fetch-site'] ?? 'none';
  const direct =
    site === 'none' &&
    headers.origin === undefined &&
    headers.forwarded === undefined &&
    headers['x-forwarded-for'] === undefined;
  return {
    authorization: headers.authorization,
    address: direct ? socket.remoteAddress : undefined,
    certificate: () => {
      const verified = socket instanceof TLSSocket && socket.authorized;
      const certificate = verified ? socket.getPeerCertificate() : undefined;
      return certificate?.raw ? certificate : undefined;
    },
  };
}

/** The body as text; `undefined` as soon as it exceeds `limit` bytes. */
function bodyWithin(request: IncomingMessage, limit: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) resolve(undefined);
      else chunks.push(chunk);
    });
    request.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    request.on('error', (cause) => reject(new HubError('cancelled', 'the client went away', { cause })));
  });
}

function json(status: number, value: object): Answer {
  return { status, body: JSON.stringify(value) };
}

function refusal(
  status: number,
  code: ErrorCode,
  message: string,
  headers: OutgoingHttpHeaders = {},
): Answer {
  return { ...json(status, { error: { code, message } }), headers };
}
