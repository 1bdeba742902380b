/**
 * Every way in which AgentHub refuses or fails, in one table.
 *
 * `grpc` is the status code of the answer (https://grpc.io/docs/guides/status-codes/), `exit` the
 * exit code of the command line, `retry` whether the same call may succeed later unchanged.
 */
export const ERRORS = {
  invalid: { grpc: 3, exit: 2, retry: false },
  not_found: { grpc: 5, exit: 4, retry: false },
  conflict: { grpc: 6, exit: 5, retry: false },
  precondition: { grpc: 9, exit: 5, retry: false },
  unauthenticated: { grpc: 16, exit: 6, retry: false },
  permission: { grpc: 7, exit: 6, retry: false },
  exhausted: { grpc: 8, exit: 7, retry: true },
  unavailable: { grpc: 14, exit: 7, retry: true },
  aborted: { grpc: 10, exit: 7, retry: true },
  deadline: { grpc: 4, exit: 8, retry: true },
  cancelled: { grpc: 1, exit: 8, retry: false },
  unimplemented: { grpc: 12, exit: 1, retry: false },
  corrupt: { grpc: 15, exit: 9, retry: false },
  internal: { grpc: 13, exit: 1, retry: false },
} as const;

/** The name of a row of {@link ERRORS}. */
export type ErrorCode = keyof typeof ERRORS;

/** What a caller can use to act on an error. */
export interface ErrorDetails {
  /** The input field at fault, as the caller spelled it: `task.id`, `--data-dir`. */
  readonly field?: string;
  /** The limit that was met, by its configuration name: `limits.mailboxDepth`. */
  readonly limit?: string;
  /** Milliseconds after which a retry makes sense. */
  readonly retryAfterMs?: number;
  /** The error that led to this one. */
  readonly cause?: unknown;
}

/** The one error class of AgentHub. Its message says what happened and what to do about it. */
export class HubError extends Error {
  override readonly name = 'HubError';
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly limit: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.field = details.field;
    this.limit = details.limit;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** Whether the same call may succeed later, unchanged. */
export function retryable(error: unknown): boolean {
  return error instanceof HubError && ERRORS[error.code].retry;
}

/** `error` itself if it is a {@link HubError}, else an `internal` one that wraps it. */
export function toHubError(error: unknown): HubError {
  if (error instanceof HubError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new HubError('internal', message, { cause: error });
}
