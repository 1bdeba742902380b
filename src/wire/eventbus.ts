import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { JsonObject, JsonValue, MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { HubError } from '../std/errors.ts';
import { asBuffer, ByteWriter } from './bytes.ts';
import { Outcome, ResultSchema, TaskSchema } from './gen/agenthub/v1/task_pb.ts';
import type { ProgressSchema } from './gen/agenthub/v1/task_pb.ts';
import type { TaskProgress, TaskResult } from './gen/eventbus/eventbus_pb.ts';
import {
  Priority,
  TaskMessageSchema,
  TaskProgressSchema,
  TaskResultSchema,
  TaskStatus,
} from './gen/eventbus/eventbus_pb.ts';
import type { ResultFacts } from './result.ts';
import { encodeResult } from './result.ts';
import { Scanner } from './scanner.ts';
import { WellFormed } from './well-formed.ts';

/*
 * Between `eventbus` and `agenthub.v1`. What came through the event bus travels untouched, as the
 * payload of a native message whose content type says so; what goes out through it is that payload
 * again, or else a translation: JSON objects become Structs, other JSON `{"value": …}`, all else
 * `{"base64": …, "content_type": …}`.
 */

/** The payload is an `eventbus.TaskMessage`. */
export const TASK_TYPE = 'application/protobuf; proto=eventbus.TaskMessage';
/** The payload is an `eventbus.TaskResult`. */
export const RESULT_TYPE = 'application/protobuf; proto=eventbus.TaskResult';
/** The payload is an `eventbus.TaskProgress`. */
export const PROGRESS_TYPE = 'application/protobuf; proto=eventbus.TaskProgress';

const TASK_TYPE_BYTES = Buffer.from(TASK_TYPE);
const RESULT_TYPE_BYTES = Buffer.from(RESULT_TYPE);
const BROADCAST_BYTES = Buffer.from('*');
/** The last second that a google.protobuf.Timestamp can say. */
const LAST_SECOND = 253_402_300_799;
/** Varints from here on are negative. */
const NEGATIVE = 2 ** 63;

/** Progress of a task, as the broker passes it on. */
type ProgressInit = MessageInitShape<typeof ProgressSchema>;

const tasks = new WellFormed(TaskMessageSchema);
const results = new WellFormed(TaskResultSchema);
const progress = new WellFormed(TaskProgressSchema);

/** Field numbers of `eventbus.TaskMessage`. */
const Field = { id: 1, type: 2, requester: 4, responder: 5, deadline: 6, priority: 7, last: 9 } as const;

/** Makes native tasks of `eventbus.PublishTaskRequest`s. One object is used again and again. */
export class TaskMessageReader {
  private readonly scanner = new Scanner();
  private readonly time = new Scanner();
  private readonly writer = new ByteWriter(4096);
  /** Where the fields of the task stand, by number. */
  private readonly starts = new Uint32Array(Field.last + 1);
  private readonly stops = new Uint32Array(Field.last + 1);

  /**
   * The serialized `agenthub.v1.Task` around the task of that request: valid until the next call.
   *
   * @throws HubError `invalid` for what is missing or malformed, in the words that clients know.
   */
  read(request: Buffer): Buffer {
    const { scanner, starts, stops } = this;
    const task = partOf(request, 'task');
    tasks.check(task, 0, task.length);
    starts.fill(0);
    stops.fill(0);
    let priority = 0;
    let deadlineMs = 0;
    scanner.open(task, 0, task.length);
    while (scanner.next()) {
      const { field } = scanner;
      if (field > Field.last) continue;
      if (field === Field.priority) priority = scanner.value;
      else if (field === Field.deadline) deadlineMs = this.milliseconds(task, scanner.start, scanner.stop);
      else {
        starts[field] = scanner.start;
        stops[field] = scanner.stop;
      }
    }
    if (!this.has(Field.id)) throw empty('task_id');
    if (!this.has(Field.type)) throw empty('task_type');
    if (!this.has(Field.requester)) throw empty('requester_agent_id');
    if (priority > Priority.CRITICAL)
      throw invalid('priority is not a known priority; use 0 to 4', 'priority');
    return this.envelope(task, priority, deadlineMs);
  }

  private envelope(task: Buffer, priority: number, deadlineMs: number): Buffer {
    const { writer } = this;
    writer.length = 0;
    this.copy(0x0a, task, Field.id);
    if (this.has(Field.responder)) this.copy(0x12, task, Field.responder);
    else bytes(writer, 0x12, BROADCAST_BYTES, 0, BROADCAST_BYTES.length);
    this.copy(0x1a, task, Field.type);
    this.copy(0x22, task, Field.requester);
    number(writer, 0x28, priority);
    number(writer, 0x30, deadlineMs);
    bytes(writer, 0x5a, TASK_TYPE_BYTES, 0, TASK_TYPE_BYTES.length);
    bytes(writer, 0x72, task, 0, task.length);
    return writer.written();
  }

  private has(field: number): boolean {
    return this.stops[field]! > this.starts[field]!;
  }

  private copy(tag: number, task: Buffer, field: number): void {
    bytes(this.writer, tag, task, this.starts[field]!, this.stops[field]!);
  }

  /** A time before 1970, as the zero time of some languages is, counts as none. */
  private milliseconds(message: Uint8Array, start: number, end: number): number {
    const { time } = this;
    let seconds = 0;
    let nanos = 0;
    time.open(message, start, end);
    while (time.next()) {
      if (time.field === 1) seconds = time.value;
      else if (time.field === 2) nanos = time.value;
    }
    if (seconds >= NEGATIVE) return 0;
    if (seconds > LAST_SECOND || nanos > 999_999_999)
      throw invalid('deadline is not a valid Timestamp', 'deadline');
    return seconds * 1000 + Math.floor(nanos / 1e6);
  }
}

/** A report about a task that an agent has made through the event bus, with its bytes as they came. */
export interface Report<T> {
  readonly message: T;
  readonly bytes: Buffer;
}

/** Reads an `eventbus.PublishTaskResultRequest`. @throws HubError `invalid`, in the words that clients know. */
export function readResult(request: Buffer): Report<TaskResult> {
  const part = partOf(request, 'result');
  results.check(part, 0, part.length);
  const message = fromBinary(TaskResultSchema, part);
  checkReport(message);
  return { message, bytes: part };
}

/** Reads an `eventbus.PublishTaskProgressRequest`. @throws HubError as {@link readResult}. */
export function readProgress(request: Buffer): Report<TaskProgress> {
  const part = partOf(request, 'progress');
  progress.check(part, 0, part.length);
  const message = fromBinary(TaskProgressSchema, part);
  checkReport(message);
  return { message, bytes: part };
}

/** How a result of that status ends its task; `UNSPECIFIED` if it does not. */
export function outcomeOf(status: TaskStatus): Outcome {
  if (status === TaskStatus.COMPLETED) return Outcome.SUCCEEDED;
  if (status === TaskStatus.FAILED) return Outcome.FAILED;
  return status === TaskStatus.CANCELLED ? Outcome.CANCELLED : Outcome.UNSPECIFIED;
}

/** The serialized `agenthub.v1.Result` around a result of the event bus. */
export function nativeResult(
  { message, bytes }: Report<TaskResult>,
  { to, type, requester, now }: { to: string; type: string; requester: string; now: number },
): Buffer {
  const facts: ResultFacts = {
    taskId: message.taskId,
    to,
    type,
    requester,
    outcome: outcomeOf(message.status),
    executor: message.executorAgentId,
    error: message.errorMessage,
    attempts: 1,
    finishedAtMs: message.completedAt ? Math.max(0, timestampMs(message.completedAt)) : now,
    contextId: '',
  };
  return encodeResult(facts, answerOf(bytes));
}

/** The result as the answer of a worker. */
export function answerOf(result: Buffer): NonNullable<Parameters<typeof encodeResult>[1]> {
  return {
    bytes: Buffer.concat([result, RESULT_TYPE_BYTES]),
    payloadStart: 0,
    payloadEnd: result.length,
    contentTypeStart: result.length,
    contentTypeEnd: result.length + RESULT_TYPE_BYTES.length,
    headers: undefined,
  };
}

/** Progress of the event bus as the broker passes it on. */
export function nativeProgress(
  { message, bytes }: Report<TaskProgress>,
  { to, requester, now }: { to: string; requester: string; now: number },
): ProgressInit {
  return {
    taskId: message.taskId,
    to,
    requester,
    executor: message.executorAgentId,
    percent: Math.min(100, Math.max(0, message.progressPercentage)),
    message: message.progressMessage,
    payload: bytes,
    contentType: PROGRESS_TYPE,
    updatedAtMs: BigInt(Math.floor(message.updatedAt ? Math.max(0, timestampMs(message.updatedAt)) : now)),
  };
}

/** The `eventbus.TaskMessage` that the `agenthub.v1.Task` in `message[start, end)` is to subscribers. */
export function taskMessageOf(message: Uint8Array, start: number, end: number, acceptedMs: number): Buffer {
  const original = payloadOf(message, start, end, 11, 14, TASK_TYPE_BYTES, tasks);
  if (original) return original;
  const task = fromBinary(TaskSchema, message.subarray(start, end));
  return translated(task.contentType, task.payload, (parameters) =>
    toBinary(
      TaskMessageSchema,
      create(TaskMessageSchema, {
        taskId: task.id,
        taskType: task.type,
        ...(parameters ? { parameters } : {}),
        requesterAgentId: task.requester,
        responderAgentId: task.to === '*' ? '' : task.to,
        ...(task.deadlineMs > 0n ? { deadline: timestampFromMs(Number(task.deadlineMs)) } : {}),
        priority: Math.min(task.priority, Priority.CRITICAL) as Priority,
        ...metadata('metadata', task.headers),
        createdAt: timestampFromMs(Math.floor(acceptedMs)),
      }),
    ),
  );
}

/** The `eventbus.TaskResult` that the `agenthub.v1.Result` in `message[start, end)` is to subscribers. */
export function taskResultOf(message: Uint8Array, start: number, end: number): Buffer {
  const original = payloadOf(message, start, end, 8, 7, RESULT_TYPE_BYTES, results);
  if (original) return original;
  const result = fromBinary(ResultSchema, message.subarray(start, end));
  return translated(result.contentType, result.payload, (value) =>
    toBinary(
      TaskResultSchema,
      create(TaskResultSchema, {
        taskId: result.taskId,
        status: STATUS[result.outcome] ?? TaskStatus.UNSPECIFIED,
        ...(value ? { result: value } : {}),
        errorMessage: result.error,
        executorAgentId: result.executor,
        completedAt: timestampFromMs(Number(result.finishedAtMs)),
        ...metadata('executionMetadata', result.headers),
      }),
    ),
  );
}

/** The `eventbus.TaskProgress` that this is to subscribers. */
export function taskProgressOf(update: ProgressInit): Buffer {
  const payload = update.payload ?? new Uint8Array(0);
  if (update.contentType === PROGRESS_TYPE && isGood(progress, payload, 0, payload.length))
    return asBuffer(payload);
  return translated(update.contentType ?? '', payload, (progressData) =>
    toBinary(
      TaskProgressSchema,
      create(TaskProgressSchema, {
        taskId: update.taskId ?? '',
        status: TaskStatus.IN_PROGRESS,
        progressMessage: update.message ?? '',
        progressPercentage: update.percent ?? 0,
        ...(progressData ? { progressData } : {}),
        executorAgentId: update.executor ?? '',
        updatedAt: timestampFromMs(Number(update.updatedAtMs ?? 0n)),
      }),
    ),
  );
}

/** A subscriber knows these ends of a task; a task that expired has failed for its requester. */
const STATUS: Readonly<Record<number, TaskStatus>> = {
  [Outcome.SUCCEEDED]: TaskStatus.COMPLETED,
  [Outcome.FAILED]: TaskStatus.FAILED,
  [Outcome.CANCELLED]: TaskStatus.CANCELLED,
  [Outcome.EXPIRED]: TaskStatus.FAILED,
  [Outcome.DELIVERED]: TaskStatus.COMPLETED,
};

function checkReport({ taskId, status }: { readonly taskId: string; readonly status: number }): void {
  if (taskId === '') throw empty('task_id');
  if (status < 0 || status > TaskStatus.CANCELLED)
    throw invalid('status is not a known status; use 0 to 5', 'status');
}

/** Field 1 of a request. Parts of a message that stand apart are one message, says protobuf. */
function partOf(request: Buffer, name: string): Buffer {
  const scanner = new Scanner();
  let part: Buffer | undefined;
  scanner.open(request, 0, request.length);
  while (scanner.next()) {
    if (scanner.field !== 1) continue;
    scanner.expectBytes(name);
    const more = request.subarray(scanner.start, scanner.stop);
    part = part ? Buffer.concat([part, more]) : more;
  }
  if (!part) throw invalid(`${name} cannot be nil`, name);
  return part;
}

/** The payload of a native message if it is what its content type says. */
function payloadOf(
  message: Uint8Array,
  start: number,
  end: number,
  typeField: number,
  payloadField: number,
  contentType: Buffer,
  form: WellFormed,
): Buffer | undefined {
  const scanner = new Scanner();
  let is = false;
  let from = 0;
  let to = 0;
  scanner.open(message, start, end);
  while (scanner.next()) {
    if (scanner.field === typeField) is = contentType.equals(message.subarray(scanner.start, scanner.stop));
    else if (scanner.field === payloadField) {
      from = scanner.start;
      to = scanner.stop;
    }
  }
  return is && isGood(form, message, from, to) ? asBuffer(message.subarray(from, to)) : undefined;
}

function isGood(form: WellFormed, message: Uint8Array, start: number, end: number): boolean {
  try {
    form.check(message, start, end);
    return true;
  } catch {
    return false;
  }
}

/** Encodes with the payload as a Struct; as an opaque one if it can't be said otherwise. */
function translated(
  contentType: string,
  payload: Uint8Array,
  encode: (struct: JsonObject | undefined) => Uint8Array,
): Buffer {
  if (payload.length === 0) return asBuffer(encode(undefined));
  if (/^application\/(.+\+)?json\b/i.test(contentType)) {
    try {
      return asBuffer(encode(objectOf(JSON.parse(asBuffer(payload).toString()) as JsonValue)));
    } catch {
      // Not JSON, or nothing that a Struct can hold.
    }
  }
  return asBuffer(encode({ base64: asBuffer(payload).toString('base64'), content_type: contentType }));
}

function objectOf(value: JsonValue): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : { value };
}

function metadata<Name extends string>(
  name: Name,
  headers: Readonly<Record<string, string>>,
): { readonly [key in Name]?: JsonObject } {
  return Object.keys(headers).length === 0
    ? {}
    : ({ [name]: { ...headers } } as { readonly [key in Name]: JsonObject });
}

function bytes(writer: ByteWriter, tag: number, source: Uint8Array, start: number, end: number): void {
  writer.u8(tag);
  writer.varint(end - start);
  writer.bytes(source, start, end);
}

function number(writer: ByteWriter, tag: number, value: number): void {
  if (value === 0) return;
  writer.u8(tag);
  writer.varint(value);
}

function empty(field: string): HubError {
  return invalid(`${field} cannot be empty`, field);
}

function invalid(message: string, field: string): HubError {
  return new HubError('invalid', message, { field });
}
