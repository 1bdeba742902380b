import { capabilityMailbox } from '../core/shard.ts';
import type { Clock } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Answer } from '../wire/client-batch.ts';
import { CancelOutcome } from '../wire/gen/agenthub/v1/session_pb.ts';
import type { Progress, Result } from '../wire/gen/agenthub/v1/task_pb.ts';
import { Outcome } from '../wire/gen/agenthub/v1/task_pb.ts';
import type { ReadTaskFields, TaskFields } from '../wire/task.ts';

/** A mailbox hands out higher priorities first. */
export const PRIORITIES = ['low', 'medium', 'high', 'critical', 'urgent'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** What an acknowledged task survives: nothing, the process, a lost machine, a lost power supply. */
export const DURABILITIES = ['memory', 'stored', 'replicated', 'synced'] as const;
export type Durability = (typeof DURABILITIES)[number];

/** Bytes as they are, text as UTF-8, nothing, or anything else that JSON can say. */
export type Payload = Uint8Array | string | object | number | boolean | null | undefined;

/** A task to publish. Either `to` or `capability` names its mailbox. */
export interface TaskInput {
  /** An agent's id, a mailbox such as `type:summarize`, or `*` for every attached agent. */
  readonly to?: string;
  /** The capability whose workers compete for it: short for `to: 'type:<capability>'`. */
  readonly capability?: string;
  /** What kind of work this is. Default: the capability. */
  readonly type?: string;
  readonly payload?: Payload;
  /** Names the task in its mailbox; publishing it again has no effect. Default: a new one. */
  readonly id?: string;
  /** The agent that gets the result. Default: the agent of the connection. Empty: no result is kept. */
  readonly requester?: string;
  /** Default `medium`. */
  readonly priority?: Priority;
  /** A Date or Unix milliseconds after which it must not be delivered any more. */
  readonly deadline?: Date | number;
  /** Milliseconds from now before which it must not be delivered. */
  readonly delay?: number;
  /** Deliveries that may fail before it is a dead letter, at most 255. Default: the broker's. */
  readonly maxAttempts?: number;
  /** Pause before the second attempt, in milliseconds; it doubles with each further one. Default: the broker's. */
  readonly backoffMs?: number;
  /** Longest time of one attempt, in milliseconds. Default: as long as the worker lives. */
  readonly maxRunMs?: number;
  /** Media type of the payload. Default: by the kind of the payload. */
  readonly contentType?: string;
  /** Small facts beside the payload. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The conversation it belongs to. */
  readonly contextId?: string;
}

/** What a task, a result or a progress carries. */
export class Body {
  /** The bytes; a view of the frame they came in, which lives as long as the view. */
  readonly payload: Uint8Array;
  readonly contentType: string;

  constructor(payload: Uint8Array, contentType: string) {
    this.payload = payload;
    this.contentType = contentType;
  }

  /** The payload as UTF-8 text. */
  text(): string {
    const { buffer, byteOffset, byteLength } = this.payload;
    return Buffer.from(buffer, byteOffset, byteLength).toString();
  }

  /** The payload as JSON; undefined if it is empty. @throws SyntaxError if it is something else. */
  json<T = unknown>(): T | undefined {
    return this.payload.length === 0 ? undefined : (JSON.parse(this.text()) as T);
  }
}

/** A task as its worker gets it. */
export class ReceivedTask extends Body {
  readonly id: string;
  /** The mailbox it was sent to. */
  readonly mailbox: string;
  readonly type: string;
  /** The agent that asked; empty if none wants the result. */
  readonly requester: string;
  readonly priority: Priority;
  /** Unix milliseconds; undefined: none. */
  readonly deadlineMs: number | undefined;
  readonly maxAttempts: number | undefined;
  readonly maxRunMs: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly contextId: string;

  constructor(fields: ReadTaskFields) {
    super(fields.payload, fields.contentType);
    this.id = fields.id;
    this.mailbox = fields.to;
    this.type = fields.type;
    this.requester = fields.requester;
    this.priority = PRIORITIES[fields.priority - 1] ?? 'medium';
    this.deadlineMs = fields.deadlineMs || undefined;
    this.maxAttempts = fields.maxAttempts || undefined;
    this.maxRunMs = fields.maxRunMs || undefined;
    this.headers = fields.headers;
    this.contextId = fields.contextId;
  }
}

/** How a task ended. `delivered`: to somebody whose protocol knows no answer. */
export type TaskOutcome = 'succeeded' | 'failed' | 'cancelled' | 'expired' | 'delivered' | 'unknown';

const OUTCOMES: Record<number, TaskOutcome> = {
  [Outcome.SUCCEEDED]: 'succeeded',
  [Outcome.FAILED]: 'failed',
  [Outcome.CANCELLED]: 'cancelled',
  [Outcome.EXPIRED]: 'expired',
  [Outcome.DELIVERED]: 'delivered',
};

/** The end of a task. */
export class TaskResult extends Body {
  readonly taskId: string;
  /** The mailbox that the task was sent to. */
  readonly mailbox: string;
  readonly type: string;
  readonly requester: string;
  readonly outcome: TaskOutcome;
  /** The agent that did it; empty if the broker ended it. */
  readonly executor: string;
  /** Why it did not succeed. */
  readonly error: string;
  /** How often it was delivered. */
  readonly attempts: number;
  /** Unix milliseconds. */
  readonly finishedAtMs: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly contextId: string;

  constructor(result: Result) {
    super(result.payload, result.contentType);
    this.taskId = result.taskId;
    this.mailbox = result.to;
    this.type = result.type;
    this.requester = result.requester;
    this.outcome = OUTCOMES[result.outcome] ?? 'unknown';
    this.executor = result.executor;
    this.error = result.error;
    this.attempts = result.attempts;
    this.finishedAtMs = Number(result.finishedAtMs);
    this.headers = result.headers;
    this.contextId = result.contextId;
  }
}

/** How far a task is. */
export class TaskProgress extends Body {
  readonly taskId: string;
  readonly mailbox: string;
  readonly requester: string;
  readonly executor: string;
  /** 0 to 100. */
  readonly percent: number;
  readonly message: string;
  /** Unix milliseconds. */
  readonly updatedAtMs: number;

  constructor(progress: Progress) {
    super(progress.payload, progress.contentType);
    this.taskId = progress.taskId;
    this.mailbox = progress.to;
    this.requester = progress.requester;
    this.executor = progress.executor;
    this.percent = progress.percent;
    this.message = progress.message;
    this.updatedAtMs = Number(progress.updatedAtMs);
  }
}

/** What became of a cancellation. `too_late`: it was finished before. */
export type Cancellation = 'cancelled' | 'too_late' | 'not_found';

const CANCELLATIONS: Record<number, Cancellation> = {
  [CancelOutcome.CANCELLED]: 'cancelled',
  [CancelOutcome.TOO_LATE]: 'too_late',
};

/** The cancellation that an `agenthub.v1.CancelOutcome` says. */
export function cancellationOf(outcome: CancelOutcome): Cancellation {
  return CANCELLATIONS[outcome] ?? 'not_found';
}

/** The mailbox that an input names. @throws HubError `invalid` unless it names exactly one. */
export function mailboxOf({ to, capability }: Pick<TaskInput, 'to' | 'capability'>): string {
  if (to !== undefined && capability === undefined) return to;
  if (capability !== undefined && to === undefined) return capabilityMailbox(capability);
  throw new HubError('invalid', 'name either `to` or `capability` of the task', { field: 'task.to' });
}

/** The fields of a task on the wire. @throws HubError `invalid`, naming the field. */
export function fieldsOf(task: TaskInput, id: string, requester: string, clock: Clock): TaskFields {
  const { payload, contentType } = encodePayload(task.payload, 'task.payload');
  const { deadline, delay } = task;
  return {
    id,
    to: mailboxOf(task),
    type: task.type ?? task.capability ?? '',
    requester: task.requester ?? requester,
    priority: task.priority === undefined ? 0 : priorityOf(task.priority),
    deadlineMs: deadline === undefined ? 0 : time(Number(deadline), 'task.deadline'),
    notBeforeMs: delay === undefined ? 0 : time(clock.now() + delay, 'task.delay'),
    maxAttempts: count(task.maxAttempts, 'task.maxAttempts'),
    backoffMs: count(task.backoffMs, 'task.backoffMs'),
    maxRunMs: count(task.maxRunMs, 'task.maxRunMs'),
    contentType: task.contentType ?? contentType,
    headers: task.headers,
    contextId: task.contextId ?? '',
    payload,
  };
}

/** What a handler's value says as an answer; undefined: it is empty. */
export function answerOf(value: unknown): Answer | undefined {
  if (value === undefined) return undefined;
  const { payload, contentType } = encodePayload(value, 'result');
  return {
    payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
    contentType,
    headers: undefined,
  };
}

/** Bytes and media type of a payload. @throws HubError `invalid` if it can't be said in JSON. */
export function encodePayload(
  value: unknown,
  field: string,
): { payload: Uint8Array | string; contentType: string } {
  if (value === undefined) return NOTHING;
  if (typeof value === 'string') return { payload: value, contentType: 'text/plain' };
  if (value instanceof Uint8Array) return { payload: value, contentType: '' };
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HubError(
      'invalid',
      `${field} can't be said in JSON (${why}); give bytes, text, or plain data`,
      {
        field,
        cause: error,
      },
    );
  }
  if (json === undefined) {
    throw new HubError(
      'invalid',
      `${field} must be bytes, text, or what JSON can say, not a ${typeof value}`,
      { field },
    );
  }
  return { payload: json, contentType: 'application/json' };
}

/** The `agenthub.v1.Durability` of a level; 0: whatever the broker has. */
export function durabilityNumber(level: Durability | undefined): number {
  return level === undefined ? 0 : DURABILITIES.indexOf(level) + 1;
}

/** The level of an `agenthub.v1.Durability`; `memory` if it is none. */
export function durabilityName(level: number): Durability {
  return DURABILITIES[level - 1] ?? 'memory';
}

const NOTHING = { payload: new Uint8Array(0), contentType: '' };

function priorityOf(name: Priority): number {
  const index = PRIORITIES.indexOf(name);
  if (index < 0) throw bad('task.priority', `must be one of ${PRIORITIES.join(', ')}`);
  return index + 1;
}

function time(value: number, field: string): number {
  if (!(value >= 0 && value <= 8.64e15)) throw bad(field, 'must be a Date or milliseconds');
  return Math.floor(value);
}

function count(value: number | undefined, field: string): number {
  if (value === undefined) return 0;
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
    throw bad(field, 'must be a whole number from 0');
  return value;
}

function bad(field: string, what: string): HubError {
  return new HubError('invalid', `${field} ${what}`, { field });
}
