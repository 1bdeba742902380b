import type { ErrorCode } from '../std/errors.ts';
import { HubError } from '../std/errors.ts';

/**
 * What JetStream answers, by `err_code`: text changes between versions, these don't
 * (https://github.com/nats-io/nats-server/blob/main/server/errors.json).
 */
export const API = {
  /** Compared and refused: another record was the last one. */
  wrongLastSequence: 10071,
  /** A conditional append is still on its way; nothing was compared. */
  conditionalInFlight: 10164,
  /** An append with the same id is still on its way. */
  sameIdInFlight: 10158,
  otherStream: 10060,
  noMessage: 10037,
  noStream: 10059,
  /** A stream of that name has another configuration. */
  taken: 10058,
  messageTooLarge: 10054,
  notStored: 10077,
} as const;

/** The store is full, or may not grow: of a stream, an account or a server. */
const FULL = new Set([10077, 10047, 10028, 10023, 10002, 10122]);
const NO_JETSTREAM = new Set([10039, 10076]);
const NO_REPLICAS = new Set([10074, 10005]);
const TAKEN = new Set([10065, 10058]);

const DENIED = new Set(['AUTHORIZATION_VIOLATION', 'AUTHENTICATION_EXPIRED', 'ACCOUNT_EXPIRED', 'BAD_CREDS']);

interface Fault {
  readonly code?: unknown;
  readonly message?: unknown;
  readonly api_error?: { readonly err_code?: unknown; readonly description?: unknown } | undefined;
}

/** The `err_code` of a refusal by JetStream, or 0. */
export function apiCode(error: unknown): number {
  return Number((error as Fault | undefined)?.api_error?.err_code ?? 0);
}

/** What failed against NATS `doing` something, as an error that says what to do about it. */
export function natsFault(error: unknown, doing: string): HubError {
  if (error instanceof HubError) return error;
  const { code, message, api_error: api } = error as Fault;
  const number = apiCode(error);
  const said = String(api?.description ?? message ?? code);
  const fault = (kind: ErrorCode, text: string, field?: string): HubError =>
    new HubError(kind, `${doing}: ${text}`, field === undefined ? { cause: error } : { field, cause: error });
  if (NO_JETSTREAM.has(number) || (number === 0 && code === '503')) {
    return fault(
      'precondition',
      'this NATS has no JetStream for this account; enable it (jetstream {} in the configuration of the ' +
        'server, or of the account), or wait until it has a leader',
      'nats.servers',
    );
  }
  if (NO_REPLICAS.has(number)) {
    return fault(
      'precondition',
      `this NATS can't keep so many replicas (${said}); lower nats.replicas, or add servers with JetStream`,
      'nats.replicas',
    );
  }
  if (FULL.has(number)) {
    return new HubError(
      'exhausted',
      `${doing}: NATS has no room (${said}); finish tasks, give its store more, or lower nats.maxBytesPerShard`,
      { limit: 'nats.maxBytesPerShard', retryAfterMs: 1000, cause: error },
    );
  }
  if (TAKEN.has(number)) {
    return fault(
      'conflict',
      `it belongs to somebody else (${said}); choose another prefix`,
      'nats.streamPrefix',
    );
  }
  if (code === 'PERMISSIONS_VIOLATION') {
    return fault(
      'permission',
      `NATS does not allow it (${said}); give the user of the broker that permission`,
    );
  }
  if (DENIED.has(String(code))) {
    return fault(
      'unauthenticated',
      `NATS does not let the broker in (${said}); see nats.credentialsFile, nkeyFile, token, user and password`,
      'nats.credentialsFile',
    );
  }
  if (number === 0 && /certificate|TLS|SSL/.test(said)) {
    return fault(
      'precondition',
      `no encryption with NATS (${said}); see nats.tls and nats.caFile`,
      'nats.caFile',
    );
  }
  if (number !== 0 && number !== API.noStream) return fault('precondition', `NATS refuses it (${said})`);
  return new HubError(
    'unavailable',
    `${doing}: NATS does not answer (${said}); is it running and reachable?`,
    {
      retryAfterMs: 500,
      cause: error,
    },
  );
}
