import { create } from '@bufbuild/protobuf';
import { Metadata } from '@grpc/grpc-js';
import type { StatusObject } from '@grpc/grpc-js';
import { ERRORS, HubError, toHubError } from '../std/errors.ts';
import type { ErrorCode, ErrorDetails } from '../std/errors.ts';
import type { Refusal } from './gen/agenthub/v1/session_pb.ts';
import { RefusalSchema } from './gen/agenthub/v1/session_pb.ts';

/** The trailers that carry what {@link HubError} says beside its code and message. */
const Trailer = {
  field: 'agenthub-field',
  limit: 'agenthub-limit',
  retryAfter: 'agenthub-retry-after-ms',
  /** Tells gRPC's own retries when to try again (https://github.com/grpc/proposal/blob/master/A6-client-retries.md). */
  pushback: 'grpc-retry-pushback-ms',
} as const;

/** Messages travel in a header, and peers refuse long ones. */
const MAX_MESSAGE = 1024;

const BY_STATUS = new Map<number, ErrorCode>(
  Object.entries(ERRORS).map(([code, { grpc }]) => [grpc, code as ErrorCode]),
);
// The statuses that AgentHub never answers with, but proxies and gRPC itself do.
BY_STATUS.set(11, 'invalid');

/** The gRPC status that tells a client of `error`; for callbacks and `call.emit('error', …)`. */
export function statusOf(error: unknown): StatusObject {
  const { code, message, field, limit, retryAfterMs } = toHubError(error);
  const metadata = new Metadata();
  if (field !== undefined) metadata.set(Trailer.field, encodeURI(field.toWellFormed()));
  if (limit !== undefined) metadata.set(Trailer.limit, encodeURI(limit.toWellFormed()));
  if (retryAfterMs !== undefined) {
    const wait = String(Math.ceil(retryAfterMs));
    metadata.set(Trailer.retryAfter, wait);
    metadata.set(Trailer.pushback, wait);
  }
  return { code: ERRORS[code].grpc, details: headerText(message), metadata };
}

/** The error that a server's status tells of: the inverse of {@link statusOf}. */
export function errorOf(
  status: Pick<StatusObject, 'code' | 'details'> & { readonly metadata?: Metadata },
): HubError {
  const { metadata } = status;
  return new HubError(codeOf(status.code), status.details, {
    ...details(
      text(metadata, Trailer.field),
      text(metadata, Trailer.limit),
      Number(text(metadata, Trailer.retryAfter)),
    ),
    cause: status,
  });
}

/** The answer that item `index` of a batch was refused. */
export function refusalOf(index: number, error: HubError): Refusal {
  return create(RefusalSchema, {
    index,
    code: ERRORS[error.code].grpc,
    message: error.message.toWellFormed(),
    field: error.field ?? '',
    limit: error.limit ?? '',
    retryAfterMs: Math.ceil(error.retryAfterMs ?? 0),
  });
}

/** The error that a refusal tells of: the inverse of {@link refusalOf}. */
export function errorOfRefusal(refusal: Refusal): HubError {
  const { code, message, field, limit, retryAfterMs } = refusal;
  return new HubError(codeOf(code), message, details(field, limit, retryAfterMs));
}

/** The code of {@link HubError} for a gRPC status code; `internal` if it is an unknown one. */
export function codeOf(status: number): ErrorCode {
  return BY_STATUS.get(status) ?? 'internal';
}

function details(field: string, limit: string, retryAfterMs: number): ErrorDetails {
  return {
    ...(field === '' ? {} : { field }),
    ...(limit === '' ? {} : { limit }),
    ...(retryAfterMs > 0 ? { retryAfterMs } : {}),
  };
}

function text(metadata: Metadata | undefined, key: string): string {
  const value = metadata?.get(key)[0];
  if (typeof value !== 'string') return '';
  try {
    return decodeURI(value);
  } catch {
    return value;
  }
}

function headerText(message: string): string {
  const whole = message.toWellFormed();
  return whole.length <= MAX_MESSAGE ? whole : `${whole.slice(0, MAX_MESSAGE - 1).toWellFormed()}…`;
}
