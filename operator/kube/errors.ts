import type { ErrorCode } from '../../src/std/errors.ts';
import { HubError } from '../../src/std/errors.ts';

/** One field at fault, as the API server names it. */
export interface Cause {
  readonly reason?: string;
  readonly message?: string;
  /** `spec.replicas` */
  readonly field?: string;
}

/** The `Status` object in which the API server says what went wrong. */
export interface Status {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: {
    readonly causes?: readonly Cause[];
    readonly retryAfterSeconds?: number;
  };
}

/** What was asked for, to be named in errors. */
export interface Asked {
  /** `get`, `list`, `watch`, `apply`, … */
  readonly verb: string;
  /** `statefulsets.apps`, `pods/eviction`, or a path. */
  readonly resource: string;
  /** `namespace/name`, or `''`. */
  readonly key: string;
}

/** A refusal or failure of the API server. */
export class KubeError extends HubError {
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  /** The API server's word for it: `Conflict`, `AlreadyExists`, `Expired`, `Invalid`; `''` if it gave none. */
  readonly reason: string;
  readonly causes: readonly Cause[];

  constructor(
    code: ErrorCode,
    message: string,
    details: {
      readonly status?: number;
      readonly reason?: string;
      readonly causes?: readonly Cause[];
      readonly retryAfterMs?: number | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    const field = details.causes?.find((cause) => cause.field !== undefined)?.field;
    super(code, message, {
      ...(field === undefined ? {} : { field }),
      ...(details.retryAfterMs === undefined ? {} : { retryAfterMs: details.retryAfterMs }),
      ...(details.cause === undefined ? {} : { cause: details.cause }),
    });
    this.status = details.status ?? 0;
    this.reason = details.reason ?? '';
    this.causes = details.causes ?? [];
  }
}

/** The version asked for is no longer kept: list anew. */
export function isExpired(error: unknown): boolean {
  return error instanceof KubeError && error.status === 410;
}

/** There is no such object (or no such kind). */
export function isNotFound(error: unknown): boolean {
  return error instanceof KubeError && error.code === 'not_found';
}

/** Somebody else changed or made the object first, or owns a field that was not to be forced. */
export function isConflict(error: unknown): boolean {
  return error instanceof KubeError && error.code === 'conflict';
}

/** What an answer with an HTTP status of 400 or above means; `retryAfter` is that header, if any. */
export function refusal(asked: Asked, http: number, status: Status, retryAfter?: string): KubeError {
  const seconds = Number(retryAfter ?? status.details?.retryAfterSeconds ?? Number.NaN);
  const causes = status.details?.causes ?? [];
  const what = asked.key === '' ? asked.resource : `${asked.resource} ${asked.key}`;
  const said = status.message ?? `HTTP ${http}`;
  const details = {
    status: http,
    reason: status.reason ?? '',
    causes,
    retryAfterMs: Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined,
  };
  const fail = (code: ErrorCode, message: string): KubeError => new KubeError(code, message, details);
  switch (http) {
    case 400:
    case 413:
    case 415:
      return fail('invalid', `the API server refused to ${asked.verb} ${what}: ${said}`);
    case 401:
      return fail(
        'unauthenticated',
        `the API server does not know who asks (${asked.verb} ${what}): check the service account token or kubeconfig`,
      );
    case 403:
      return fail(
        'permission',
        `not allowed to ${asked.verb} ${what}: ${said}. Grant the verb in the operator's Role or ClusterRole, unless a quota or admission policy refused it`,
      );
    case 404:
      return fail('not_found', `${what} does not exist: ${said}`);
    case 405:
    case 406:
    case 501:
      return fail('unimplemented', `the API server can't ${asked.verb} ${what}: ${said}`);
    case 409:
      return fail('conflict', `can't ${asked.verb} ${what}: ${said}`);
    case 410:
      return fail('aborted', `the version of ${what} is no longer kept, list anew: ${said}`);
    case 422:
      return fail('invalid', `the API server refused to ${asked.verb} ${what}: ${said}`);
    case 504:
      return fail('deadline', `the API server took too long to ${asked.verb} ${what}: ${said}`);
    case 429:
      return fail('unavailable', `the API server won't ${asked.verb} ${what} now: ${said}`);
    default:
      return http < 500
        ? fail('precondition', `the API server refused to ${asked.verb} ${what}: ${said}`)
        : fail('unavailable', `the API server failed to ${asked.verb} ${what}: ${said}`);
  }
}
