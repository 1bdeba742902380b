import type { IncomingMessage } from 'node:http';
import http from 'node:http';
import https from 'node:https';
import type { Clock } from '../../src/std/clock.ts';
import type { Credentials } from './credentials.ts';
import type { Asked, Status } from './errors.ts';
import { KubeError, refusal } from './errors.ts';

/** How long TCP may be silent before it probes; below the idle timeouts of load balancers (60 s and up). */
const KEEP_ALIVE_MS = 30_000;
/** Answers above this are refused: no list page of the operator is near it. */
const MAX_BODY_BYTES = 256 * 2 ** 20;

/** One HTTP exchange, named for errors. */
export interface Exchange {
  readonly asked: Asked;
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string | undefined>>;
  readonly body?: string | undefined;
  readonly contentType?: string | undefined;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** Told of every exchange that has got its answer: `code` is the HTTP status, or `none` if there was no answer. */
export type Observed = (verb: string, code: string, tookMs: number) => void;

/** HTTP to the API server: kept connections, time limits, and what failures mean. */
export class Transport {
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  readonly #userAgent: string;
  readonly #warned: (warning: string) => void;
  readonly #observed: Observed;
  #agent: { readonly material: string; readonly agent: http.Agent } | undefined;

  /** `warned` gets what the API server warns of: deprecated kinds, fields that it doesn't know. */
  constructor(
    credentials: Credentials,
    clock: Clock,
    userAgent: string,
    warned: (warning: string) => void = () => {},
    observed: Observed = () => {},
  ) {
    this.#credentials = credentials;
    this.#clock = clock;
    this.#userAgent = userAgent;
    this.#warned = warned;
    this.#observed = observed;
  }

  /** Ends connections that are not in use. */
  close(): void {
    this.#agent?.agent.destroy();
    this.#agent = undefined;
  }

  /**
   * Sends a request and waits for the whole answer, a success.
   *
   * @throws KubeError
   */
  async exchange(exchange: Exchange): Promise<unknown> {
    const { response, settle } = await this.open(exchange);
    let text: string;
    try {
      text = await bodyOf(response, exchange.asked);
    } catch (error) {
      throw settle(error);
    }
    settle();
    if (text === '') return undefined;
    return parse(text, exchange.asked);
  }

  /**
   * Sends a request and waits for the head of a successful answer. Until `settle` is called the time limit
   * and the signal hold, and end the response; `settle(error)` answers what that error means.
   *
   * @throws KubeError
   */
  async open(exchange: Exchange): Promise<{
    readonly response: IncomingMessage;
    readonly settle: (error?: unknown) => KubeError;
  }> {
    const { asked, timeoutMs, signal } = exchange;
    const began = this.#clock.now();
    const observe = (code: string): void => this.#observed(asked.verb, code, this.#clock.now() - began);
    let verdict: KubeError | undefined;
    let request: http.ClientRequest | undefined;
    let giveUp: (error: KubeError) => void = () => {};
    const givenUp = new Promise<never>((_, reject) => (giveUp = reject));
    givenUp.catch(() => {});
    const end = (error: KubeError): void => {
      verdict ??= error;
      request?.destroy(error);
      giveUp(error);
    };
    const timer = this.#clock.after(timeoutMs, () =>
      end(
        new KubeError(
          'deadline',
          `no answer from the API server within ${timeoutMs} ms (${asked.verb} ${asked.resource} ${asked.key})`,
        ),
      ),
    );
    const abort = (): void =>
      end(new KubeError('cancelled', `${asked.verb} ${asked.resource} ${asked.key} was given up`));
    if (signal?.aborted === true) abort();
    signal?.addEventListener('abort', abort);
    const settle = (error?: unknown): KubeError => {
      timer.cancel();
      signal?.removeEventListener('abort', abort);
      return verdict ?? networkError(error, asked);
    };
    const attempt = async (): Promise<IncomingMessage> => {
      const options = await this.#options(exchange);
      if (verdict !== undefined) throw verdict;
      return await new Promise<IncomingMessage>((resolve, reject) => {
        const { url } = options;
        request = (url.protocol === 'http:' ? http : https).request(url, options.request);
        request.once('response', resolve);
        request.once('error', reject);
        request.end(exchange.body);
      });
    };
    try {
      let response: IncomingMessage;
      try {
        response = await Promise.race([attempt(), givenUp]);
      } catch (error) {
        // The server may close a kept connection just when it is used again; reading anew does no harm.
        if (exchange.method !== 'GET' || request?.reusedSocket !== true || verdict !== undefined) {
          observe('none');
          throw error;
        }
        response = await Promise.race([attempt(), givenUp]);
      }
      const status = response.statusCode ?? 0;
      observe(String(status));
      for (const warning of response.headersDistinct['warning'] ?? []) this.#warned(warning);
      if (status >= 200 && status < 300) return { response, settle };
      throw refusal(asked, status, statusOf(await bodyOf(response, asked)), response.headers['retry-after']);
    } catch (error) {
      throw settle(error);
    }
  }

  async #options(exchange: Exchange): Promise<{ readonly url: URL; readonly request: https.RequestOptions }> {
    const url = new URL(this.#credentials.server);
    url.pathname = url.pathname.replace(/\/$/, '') + exchange.path;
    for (const [key, value] of Object.entries(exchange.query)) {
      if (value !== undefined && value !== '') url.searchParams.set(key, value);
    }
    const request: https.RequestOptions = {
      method: exchange.method,
      headers: { accept: 'application/json', 'user-agent': this.#userAgent },
    };
    try {
      await this.#credentials.addTo(request);
    } catch (error) {
      throw new KubeError(
        'unauthenticated',
        `can't get credentials for the API server: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
    if (!this.#credentials.proxied) request.agent = this.#agentFor(url, request);
    if (exchange.body !== undefined) {
      request.headers = {
        ...(request.headers as http.OutgoingHttpHeaders),
        'content-type': exchange.contentType ?? 'application/json',
        'content-length': Buffer.byteLength(exchange.body),
      };
    }
    return { url, request };
  }

  /**
   * KubeConfig's own agent makes a connection for every request and keeps the certificates it was first
   * made with; this one keeps connections, until a file with certificates has changed.
   */
  #agentFor(url: URL, { ca, cert, key, rejectUnauthorized, servername }: https.RequestOptions): http.Agent {
    const material = [ca, cert, key]
      .map((part) => (part as Buffer | undefined)?.toString('base64') ?? '')
      .join(' ');
    if (this.#agent?.material === material) return this.#agent.agent;
    this.#agent?.agent.destroy();
    const options: https.AgentOptions = {
      keepAlive: true,
      keepAliveMsecs: KEEP_ALIVE_MS,
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
      ...(servername === undefined ? {} : { servername }),
    };
    const agent = url.protocol === 'http:' ? new http.Agent(options) : new https.Agent(options);
    this.#agent = { material, agent };
    return agent;
  }
}

/** The body as text. */
export async function bodyOf(response: IncomingMessage, asked: Asked): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) {
      throw new KubeError(
        'exhausted',
        `the answer to ${asked.verb} ${asked.resource} is above ${MAX_BODY_BYTES} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The JSON of an answer. */
export function parse(text: string, asked: Asked): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new KubeError(
      'unavailable',
      `the answer to ${asked.verb} ${asked.resource} is not JSON: ${text.slice(0, 200)}`,
      {
        cause: error,
      },
    );
  }
}

/** What failed below HTTP: nobody knows whether the server did what was asked. */
export function networkError(error: unknown, asked: Asked): KubeError {
  if (error instanceof KubeError) return error;
  return new KubeError(
    'unavailable',
    `the connection to the API server failed (${asked.verb} ${asked.resource} ${asked.key}): ${messageOf(error)}`,
    { cause: error },
  );
}

function statusOf(text: string): Status {
  try {
    const value = JSON.parse(text) as unknown;
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // A proxy or load balancer in between answers what it likes.
  }
  return { message: text.trim().slice(0, 500) || 'no further word' };
}

function messageOf(error: unknown): string {
  return error instanceof Error
    ? error.message || String((error as NodeJS.ErrnoException).code)
    : String(error);
}
