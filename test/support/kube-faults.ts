import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { CERTIFICATE } from './certificate.ts';
import { SeededRandom } from './random.ts';

/** What may happen to a request. */
export type Fault =
  /** The API server is never asked; this is the answer. */
  | { readonly kind: 'refuse'; readonly status: number; readonly retryAfter?: number }
  /** The connection is cut, before or after the API server has done what was asked. */
  | { readonly kind: 'reset'; readonly done: boolean }
  | { readonly kind: 'delay'; readonly ms: number }
  /** A read gets the oldest answer that is remembered for it. */
  | { readonly kind: 'stale' }
  /** A watch is cut after so many lines. */
  | { readonly kind: 'cut'; readonly after: number }
  /** A watch says nothing any more after so many lines, and stays open. */
  | { readonly kind: 'silence'; readonly after: number }
  /** A watch is told that its version is no longer kept, after so many lines. */
  | { readonly kind: 'expire'; readonly after: number };

/** A request as the proxy sees it. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly watch: boolean;
  /** Whether it changes something. */
  readonly write: boolean;
}

/** Decides what happens to a request. */
export type Plan = (request: Seen) => Fault | undefined;

const REASONS: Readonly<Record<number, string>> = {
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  410: 'Expired',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
};
const REMEMBERED = 8;
const NEWLINE = 0x0a;

/** An HTTP proxy in front of an API server, in which everything goes wrong that can. */
export class KubeFaults {
  /** Plain HTTP. */
  readonly url: string;
  /** What was asked, in order, also of what was refused. */
  readonly seen: Seen[] = [];
  /** Faults that have happened. */
  readonly done: Fault[] = [];
  plan: Plan = () => undefined;
  readonly #target: URL;
  readonly #agent = new https.Agent({ keepAlive: true, ca: CERTIFICATE });
  readonly #server;
  readonly #answers = new Map<string, Buffer[]>();
  readonly #watches = new Set<ServerResponse>();

  static async start(target: string): Promise<KubeFaults> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new KubeFaults(new URL(target), server);
  }

  private constructor(target: URL, server: ReturnType<typeof createServer>) {
    this.#target = target;
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('request', (request, response) => void this.#handle(request, response));
  }

  /** Lets `fault` happen to the next request that matches, once; before anything of {@link plan}. */
  next(matches: (request: Seen) => boolean, fault: Fault): void {
    const { plan } = this;
    this.plan = (request) => {
      if (!matches(request)) return plan(request);
      this.plan = plan;
      return fault;
    };
  }

  /** Cuts all watches. */
  cutWatches(): void {
    for (const response of this.#watches) response.destroy();
  }

  /** Requests so far that change something. */
  get writes(): number {
    return this.seen.filter(({ write }) => write).length;
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    this.#agent.destroy();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    const url = new URL(request.url ?? '/', this.#target);
    const method = request.method ?? 'GET';
    const watch = url.searchParams.get('watch') === 'true';
    const seen = { method, path: url.pathname, query: url.searchParams, watch, write: method !== 'GET' };
    this.seen.push(seen);
    const body: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) body.push(chunk);
    const fault = this.plan(seen);
    if (fault !== undefined) this.done.push(fault);
    if (fault?.kind === 'refuse') return refuse(response, fault.status, fault.retryAfter);
    if (fault?.kind === 'reset' && !fault.done) return cut(response);
    if (fault?.kind === 'delay') await new Promise((resolve) => setTimeout(resolve, fault.ms));
    if (fault?.kind === 'stale') {
      const oldest = this.#answers.get(url.href)?.[0];
      if (oldest !== undefined) {
        response.writeHead(200, { 'content-type': 'application/json' }).end(oldest);
        return;
      }
    }
    const { host: _, ...headers } = request.headers;
    const onward = https.request(url, { method, headers, agent: this.#agent }, (answer) => {
      if (fault?.kind === 'reset') {
        answer.resume();
        answer.on('end', () => cut(response));
      } else if (watch && answer.statusCode === 200) this.#relayWatch(answer, response, fault);
      else this.#relay(url.href, method, answer, response);
    });
    onward.on('error', () => cut(response));
    response.on('close', () => onward.destroy());
    onward.end(Buffer.concat(body));
  }

  #relay(href: string, method: string, answer: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => chunks.push(chunk));
    answer.on('error', () => cut(response));
    answer.on('end', () => {
      const body = Buffer.concat(chunks);
      if (method === 'GET' && answer.statusCode === 200) {
        const answers = this.#answers.get(href) ?? [];
        answers.push(body);
        if (answers.length > REMEMBERED) answers.shift();
        this.#answers.set(href, answers);
      }
      const { 'transfer-encoding': _, ...headers } = answer.headers;
      response.writeHead(answer.statusCode ?? 500, headers).end(body);
    });
  }

  #relayWatch(answer: IncomingMessage, response: ServerResponse, fault: Fault | undefined): void {
    this.#watches.add(response);
    response.on('close', () => this.#watches.delete(response));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    answer.on('error', () => cut(response));
    answer.on('end', () => response.end());
    const limit = fault !== undefined && 'after' in fault ? fault.after : Infinity;
    let lines = 0;
    const strike = (): void => {
      answer.destroy();
      if (fault?.kind === 'cut') cut(response);
      if (fault?.kind === 'expire') {
        const status = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
        response.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
      }
    };
    if (limit === 0) return strike();
    answer.on('data', (chunk: Buffer) => {
      let from = 0;
      for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, from)) {
        response.write(chunk.subarray(from, at + 1));
        from = at + 1;
        if (++lines >= limit) return strike();
      }
      response.write(chunk.subarray(from));
    });
  }
}

/** Chances, per request, of what may happen; the rest goes well. */
export interface Rates {
  /** Any of 409 (writes only), 429, 500, 503. */
  readonly refuse?: number;
  readonly reset?: number;
  readonly delay?: number;
  readonly stale?: number;
  /** Of watches: cut, silence or expire. */
  readonly watch?: number;
}

/** Faults drawn from a seed. */
export function seededPlan(seed: number, rates: Rates): Plan {
  const random = new SeededRandom(seed);
  return ({ watch, write }) => {
    if (watch) {
      if (!random.chance(rates.watch ?? 0)) return undefined;
      const kind = (['cut', 'cut', 'expire', 'silence'] as const)[random.below(4)] ?? 'cut';
      return { kind, after: random.below(6) };
    }
    if (random.chance(rates.refuse ?? 0)) {
      const statuses = write ? [409, 429, 500, 503] : [410, 429, 500, 503];
      const status = statuses[random.below(4)] ?? 500;
      return { kind: 'refuse', status, ...(status === 429 ? { retryAfter: 0 } : {}) };
    }
    if (random.chance(rates.reset ?? 0)) return { kind: 'reset', done: random.chance(0.5) };
    if (random.chance(rates.delay ?? 0)) return { kind: 'delay', ms: random.below(50) };
    if (!write && random.chance(rates.stale ?? 0)) return { kind: 'stale' };
    return undefined;
  };
}

function refuse(response: ServerResponse, code: number, retryAfter: number | undefined): void {
  const reason = REASONS[code] ?? 'Unknown';
  response.writeHead(code, {
    'content-type': 'application/json',
    ...(retryAfter === undefined ? {} : { 'retry-after': `${retryAfter}` }),
  });
  response.end(
    JSON.stringify({ kind: 'Status', status: 'Failure', code, reason, message: `planned: ${reason}` }),
  );
}

function cut(response: ServerResponse): void {
  response.socket?.resetAndDestroy();
  response.destroy();
}
