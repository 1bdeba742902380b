import http from 'node:http';
import https from 'node:https';
import type { PlacementRules } from '../src/core/placement.ts';
import type { ErrorCode } from '../src/std/errors.ts';
import { HubError, toHubError } from '../src/std/errors.ts';
import { readCapacity } from '../src/wire/capacity.ts';
import type { Capacity } from '../src/wire/capacity.ts';
import { readPlacementDocument } from '../src/wire/placement-document.ts';
import type { PlacementDocument } from '../src/wire/placement-document.ts';
import type { DrainAnswer } from './plan/pods.ts';

/** Where a broker is and how it is asked. */
export interface PodAddress {
  readonly ip: string;
  readonly port: number;
  /** Bearer token of an administrator. */
  readonly token: string | undefined;
  /** Present: by HTTPS. */
  readonly tls?: { readonly ca: string | undefined; readonly serverName: string } | undefined;
}

/** Calls of the brokers themselves. Every failure is a HubError. */
export interface Pods {
  capacity(pod: PodAddress, signal: AbortSignal): Promise<Capacity>;
  /** How far the drain is. */
  drainStatus(pod: PodAddress, signal: AbortSignal): Promise<DrainAnswer>;
  /** Begins a drain; one that has begun goes on. */
  drain(pod: PodAddress, signal: AbortSignal): Promise<DrainAnswer>;
  /** Takes a drain back; without one nothing changes. */
  undrain(pod: PodAddress, signal: AbortSignal): Promise<DrainAnswer>;
  /** What its cluster knows of pools and placement. */
  placement(pod: PodAddress, signal: AbortSignal): Promise<PlacementDocument>;
  /** Other rules, in place of those of their version; `aborted` if there are later ones, `invalid` if they are refused. */
  place(pod: PodAddress, rules: PlacementRules, signal: AbortSignal): Promise<PlacementDocument>;
}

const TIMEOUT_MS = 3000;
const MAX_BODY_BYTES = 4 * 2 ** 20;

/** {@link Pods} over HTTP. */
export class HttpPods implements Pods {
  readonly #timeoutMs: number;

  constructor({ timeoutMs = TIMEOUT_MS }: { readonly timeoutMs?: number } = {}) {
    this.#timeoutMs = timeoutMs;
  }

  async capacity(pod: PodAddress, signal: AbortSignal): Promise<Capacity> {
    return readCapacity(await this.#call('GET', '/capacity', pod, signal));
  }

  async drainStatus(pod: PodAddress, signal: AbortSignal): Promise<DrainAnswer> {
    return readDrain(await this.#call('GET', '/drain', pod, signal));
  }

  async drain(pod: PodAddress, signal: AbortSignal): Promise<DrainAnswer> {
    return readDrain(await this.#call('POST', '/drain', pod, signal));
  }

  async undrain(pod: PodAddress, signal: AbortSignal): Promise<DrainAnswer> {
    return readDrain(await this.#call('DELETE', '/drain', pod, signal));
  }

  async placement(pod: PodAddress, signal: AbortSignal): Promise<PlacementDocument> {
    return readPlacementDocument(await this.#call('GET', '/placement', pod, signal));
  }

  async place(pod: PodAddress, rules: PlacementRules, signal: AbortSignal): Promise<PlacementDocument> {
    return readPlacementDocument(await this.#call('PUT', '/placement', pod, signal, JSON.stringify(rules)));
  }

  #call(
    method: string,
    path: string,
    { ip, port, token, tls }: PodAddress,
    signal: AbortSignal,
    body?: string,
  ): Promise<string> {
    const what = `${method} ${path}`;
    const options = {
      method,
      host: ip,
      port,
      path,
      // Brokers are asked every few seconds at most: a connection each is cheaper than keeping them.
      agent: false as const,
      signal: AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs)]),
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    };
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => reject(unanswered(what, error, this.#timeoutMs));
      const receive = (response: http.IncomingMessage): void => {
        let text = '';
        response.setEncoding('utf8');
        response.on('error', fail);
        response.on('data', (part: string) => {
          text += part;
          if (text.length > MAX_BODY_BYTES) response.destroy(new Error('the answer is too large'));
        });
        response.on('end', () => {
          const { statusCode = 0 } = response;
          if (statusCode >= 200 && statusCode < 300) resolve(text);
          else reject(refused(what, statusCode, text));
        });
      };
      const request =
        tls === undefined
          ? http.request(options, receive)
          : https.request(
              {
                ...options,
                servername: tls.serverName,
                ...(tls.ca === undefined ? {} : { ca: tls.ca }),
                // The pod is known by its address; that the certificate is that of the Secret is enough.
                checkServerIdentity: () => undefined,
              },
              receive,
            );
      request.on('error', fail);
      request.end(body);
    });
  }
}

const CODES: Readonly<Partial<Record<number, ErrorCode>>> = {
  400: 'invalid',
  401: 'unauthenticated',
  403: 'permission',
  409: 'aborted',
  413: 'invalid',
};

function unanswered(what: string, error: unknown, timeoutMs: number): HubError {
  const { message } = toHubError(error);
  const timedOut = error instanceof Error && (error.name === 'TimeoutError' || message.includes('timeout'));
  const said = timedOut ? `no answer within ${timeoutMs / 1000} s` : message;
  return new HubError('unavailable', `${what}: ${said}`, { cause: error });
}

function refused(what: string, status: number, text: string): HubError {
  let said = text.slice(0, 200);
  try {
    said = (JSON.parse(text) as { error?: { message?: string } }).error?.message ?? said;
  } catch {
    // Not from a broker.
  }
  return new HubError(CODES[status] ?? 'unavailable', `${what}: HTTP ${status}: ${said}`);
}

function readDrain(text: string): DrainAnswer {
  const value = JSON.parse(text) as Partial<DrainAnswer>;
  const { state, sessions, activeTasks } = value;
  if (state !== 'serving' && state !== 'draining' && state !== 'drained') {
    throw new HubError('invalid', 'GET /drain: the answer has no state that is known');
  }
  return { state, sessions: Number(sessions ?? 0), activeTasks: Number(activeTasks ?? 0) };
}
