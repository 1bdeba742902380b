import { HubError } from '../std/errors.ts';
import type { Append } from './log.ts';

/** The largest record a log takes unless told otherwise: 8 MiB, what a managed NATS takes, too. */
export const MAX_RECORD_BYTES = 8 * 1024 * 1024;

/**
 * Why `append` can't be accepted by a shard whose last accepted owner record is `lastOwner` (0:
 * none), or undefined. It is decided when the append is made, so that a stale owner is fenced off
 * even by a record that is still on its way to the disk.
 */
export function refusal(append: Append, lastOwner: number, maxRecordBytes: number): HubError | undefined {
  const { bytes, expectedOwner, subject } = append;
  if (bytes.length > maxRecordBytes) {
    return new HubError(
      'invalid',
      `a record of ${bytes.length} bytes exceeds the log's limit of ${maxRecordBytes} bytes; split it`,
      { limit: 'maxRecordBytes' },
    );
  }
  if (expectedOwner === undefined) return undefined;
  if (subject !== 'owner') {
    return new HubError('invalid', 'only owner records can be conditional; leave out expectedOwner', {
      field: 'expectedOwner',
    });
  }
  if (expectedOwner === lastOwner) return undefined;
  return new HubError(
    'aborted',
    `the last owner record is ${lastOwner}, not ${expectedOwner}: another owner has written; let go of the shard`,
  );
}

/** The answer to an append that would go beyond the store's limit. */
export function full(message: string, limit: string): HubError {
  return new HubError('exhausted', message, { limit, retryAfterMs: 1000 });
}

/** The answer to an append after {@link Log.close}. */
export function closed(): HubError {
  return new HubError('unavailable', 'the log is closed: the broker is stopping; retry with another one', {
    retryAfterMs: 1000,
  });
}
