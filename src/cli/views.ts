import { isUtf8 } from 'node:buffer';
import type { TaskInfo, TaskProgress, TaskResult } from '../client/index.ts';
import { span, time } from './format.ts';

/** What a task, a result or a progress carries. */
interface Carrier {
  readonly payload: Uint8Array;
  readonly contentType: string;
}

/** A payload for programs: `payload` if it is text, else `payloadBase64`. */
export function payloadView({ payload, contentType }: Carrier): object {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  const text = isUtf8(bytes) ? { payload: bytes.toString() } : { payloadBase64: bytes.toString('base64') };
  return { ...(contentType === '' ? {} : { contentType }), ...text };
}

/** A task for programs. Times are in ISO 8601. */
export function taskView(info: TaskInfo): object {
  const { id, mailbox, state, type, requester, priority, attempts, maxAttempts, shard, payloadBytes } = info;
  const { acceptedAtMs, notBeforeMs, deadlineMs, deadAtMs, progress, task } = info;
  return {
    id,
    mailbox,
    state,
    type,
    requester,
    priority,
    attempts,
    maxAttempts,
    shard,
    payloadBytes,
    ...(acceptedAtMs > 0 ? { acceptedAt: time(acceptedAtMs) } : {}),
    ...(notBeforeMs === undefined ? {} : { notBefore: time(notBeforeMs) }),
    ...(deadlineMs === undefined ? {} : { deadline: time(deadlineMs) }),
    ...(info.sessionId === '' ? {} : { session: info.sessionId }),
    ...(info.executor === '' ? {} : { executor: info.executor }),
    ...(deadAtMs === undefined
      ? {}
      : { deadAt: time(deadAtMs), deadReason: info.deadReason, deadError: info.deadError }),
    ...(progress === undefined ? {} : { progress: progressView(progress) }),
    ...(task === undefined ? {} : { headers: task.headers, contextId: task.contextId, ...payloadView(task) }),
  };
}

/** The facts of a task for people. */
export function taskFacts(info: TaskInfo, now: number): Record<string, string | number | undefined> {
  const { acceptedAtMs, notBeforeMs, deadlineMs, deadAtMs, progress, task } = info;
  const ago = (ms: number): string => `${time(ms)} (${span(now - ms)} ago)`;
  return {
    id: info.id,
    mailbox: info.mailbox,
    state: info.state,
    type: info.type,
    requester: info.requester,
    priority: info.priority,
    attempts: info.maxAttempts > 0 ? `${info.attempts} of ${info.maxAttempts}` : undefined,
    accepted: acceptedAtMs > 0 ? ago(acceptedAtMs) : undefined,
    'not before': notBeforeMs === undefined ? undefined : time(notBeforeMs),
    deadline: deadlineMs === undefined ? undefined : time(deadlineMs),
    executor: info.executor,
    session: info.sessionId,
    progress: progress === undefined ? undefined : `${progress.percent} % ${progress.message}`,
    died: deadAtMs === undefined ? undefined : ago(deadAtMs),
    reason: info.deadReason,
    error: info.deadError,
    context: task?.contextId,
    headers: task === undefined ? undefined : headerText(task.headers),
    payload:
      task === undefined ? undefined : `${task.contentType} ${task.payload.length} bytes\n${shown(task)}`,
  };
}

/** A result for programs. */
export function resultView(result: TaskResult): object {
  const { taskId, mailbox, type, requester, outcome, executor, error, attempts, headers } = result;
  return {
    id: taskId,
    mailbox,
    type,
    requester,
    outcome,
    executor,
    ...(error === '' ? {} : { error }),
    attempts,
    finishedAt: time(result.finishedAtMs),
    headers,
    ...payloadView(result),
  };
}

/** A protobuf message for programs: its fields, with large numbers as numbers. */
export function plain(message: object): object {
  const fields = Object.entries(message).filter(([name]) => !name.startsWith('$'));
  return Object.fromEntries(fields.map(([name, value]) => [name, plainValue(value)]));
}

function plainValue(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(plainValue);
  return typeof value === 'object' && value !== null ? plain(value) : value;
}

function progressView(progress: TaskProgress): object {
  const { percent, message, executor, updatedAtMs } = progress;
  return { percent, message, executor, updatedAt: time(updatedAtMs), ...payloadView(progress) };
}

/** A payload for people: the text it is, or what else it is. */
export function shown({ payload }: Carrier): string {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  return isUtf8(bytes) ? bytes.toString() : `(${bytes.length} bytes that are no text)`;
}

function headerText(headers: Readonly<Record<string, string>>): string {
  return Object.entries(headers)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
}
