import { HubError } from '../std/errors.ts';
import type { ErrorCode } from '../std/errors.ts';
import type { TaskOutcome, TaskResult } from './messages.ts';

/** Thrown by a handler: the task will never succeed. It becomes a dead letter at once. */
export class PermanentError extends Error {
  override readonly name = 'PermanentError';
}

/** Thrown by a handler: try again, not before `ms` milliseconds have passed. It counts as an attempt. */
export class RetryLater extends Error {
  override readonly name = 'RetryLater';
  readonly ms: number;

  constructor(ms: number, message = `try again in ${ms} ms`, options?: ErrorOptions) {
    super(message, options);
    this.ms = ms;
  }
}

const CODES: Record<TaskOutcome, ErrorCode> = {
  unknown: 'internal',
  succeeded: 'internal',
  delivered: 'internal',
  failed: 'aborted',
  cancelled: 'cancelled',
  expired: 'deadline',
};

/**
 * A requested task ended, but not well. `result` says how; `code` is `aborted` if it failed,
 * `cancelled`, or `deadline` if it expired.
 */
export class TaskFailedError extends HubError {
  readonly result: TaskResult;

  constructor(result: TaskResult) {
    const why = result.error === '' ? '' : `: ${result.error}`;
    super(
      CODES[result.outcome],
      `task ${result.taskId} for ${result.mailbox} has ${verb(result.outcome)}${why}`,
    );
    this.result = result;
  }
}

function verb(outcome: TaskOutcome): string {
  return outcome === 'cancelled' ? 'been cancelled' : outcome;
}
