import type { ByteWriter } from './bytes.ts';
import { textOf } from './bytes.ts';
import { Scanner } from './scanner.ts';
import { TextCache } from './text-cache.ts';

/** An `agenthub.v1.Task`, field by field; what is 0 or empty is not written. */
export interface TaskFields {
  readonly id: string;
  readonly to: string;
  readonly type: string;
  readonly requester: string;
  /** `agenthub.v1.Priority`. */
  readonly priority: number;
  /** Unix milliseconds. */
  readonly deadlineMs: number;
  /** Unix milliseconds. */
  readonly notBeforeMs: number;
  readonly maxAttempts: number;
  readonly backoffMs: number;
  readonly maxRunMs: number;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>> | undefined;
  readonly contextId: string;
  /** Text is written as UTF-8. */
  readonly payload: Uint8Array | string;
}

/** A task as its receiver sees it: the payload is a view of the bytes it was read from. */
export interface ReadTaskFields extends TaskFields {
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Uint8Array;
}

/** Writes a serialized task. Each call is one message; nothing before or after it is touched. */
export function writeTask(writer: ByteWriter, task: TaskFields): void {
  text(writer, 0x0a, task.id);
  text(writer, 0x12, task.to);
  text(writer, 0x1a, task.type);
  text(writer, 0x22, task.requester);
  number(writer, 0x28, task.priority);
  number(writer, 0x30, task.deadlineMs);
  number(writer, 0x38, task.notBeforeMs);
  number(writer, 0x40, task.maxAttempts);
  number(writer, 0x48, task.backoffMs);
  number(writer, 0x50, task.maxRunMs);
  text(writer, 0x5a, task.contentType);
  if (task.headers !== undefined) writeHeaders(writer, 0x62, task.headers);
  text(writer, 0x6a, task.contextId);
  const { payload } = task;
  if (typeof payload === 'string') text(writer, 0x72, payload);
  else if (payload.length > 0) {
    writer.u8(0x72);
    writer.varint(payload.length);
    writer.bytes(payload);
  }
}

/** Writes the entries of a `map<string, string>` field whose key is `tag`. */
export function writeHeaders(
  writer: ByteWriter,
  tag: number,
  headers: Readonly<Record<string, string>>,
): void {
  for (const name in headers) {
    writer.u8(tag);
    const length = writer.lengthLater();
    text(writer, 0x0a, name);
    text(writer, 0x12, headers[name]!);
    writer.setLength(length);
  }
}

function text(writer: ByteWriter, tag: number, value: string): void {
  if (value.length === 0) return;
  writer.u8(tag);
  writer.string(value);
}

function number(writer: ByteWriter, tag: number, value: number): void {
  if (value === 0) return;
  writer.u8(tag);
  writer.varint(value);
}

/** Reads serialized tasks; one object serves many. */
export class TaskReader {
  private readonly task = new Scanner();
  private readonly entry = new Scanner();
  private readonly names = new TextCache(1024);

  /** @throws HubError `invalid` if the bytes are malformed. */
  read(bytes: Uint8Array, start: number, end: number): ReadTaskFields {
    const { names, task } = this;
    let id = '';
    let to = '';
    let type = '';
    let requester = '';
    let priority = 0;
    let deadlineMs = 0;
    let notBeforeMs = 0;
    let maxAttempts = 0;
    let backoffMs = 0;
    let maxRunMs = 0;
    let contentType = '';
    let headers: Record<string, string> | undefined;
    let contextId = '';
    let payload: Uint8Array = NOTHING;
    task.open(bytes, start, end);
    while (task.next()) {
      const { field } = task;
      if (field >= 5 && field <= 10) task.expectVarint('task');
      else if (field <= 14) task.expectBytes('task');
      switch (field) {
        case 1:
          id = textOf(bytes, task.start, task.stop);
          break;
        case 2:
          to = names.get(bytes, task.start, task.stop);
          break;
        case 3:
          type = names.get(bytes, task.start, task.stop);
          break;
        case 4:
          requester = names.get(bytes, task.start, task.stop);
          break;
        case 5:
          priority = task.value;
          break;
        case 6:
          deadlineMs = task.value;
          break;
        case 7:
          notBeforeMs = task.value;
          break;
        case 8:
          maxAttempts = task.value;
          break;
        case 9:
          backoffMs = task.value;
          break;
        case 10:
          maxRunMs = task.value;
          break;
        case 11:
          contentType = names.get(bytes, task.start, task.stop);
          break;
        case 12:
          // Without a prototype, every name is as good as any other.
          headers ??= Object.create(null) as Record<string, string>;
          this.header(bytes, task.start, task.stop, headers);
          break;
        case 13:
          contextId = textOf(bytes, task.start, task.stop);
          break;
        case 14:
          payload = bytes.subarray(task.start, task.stop);
          break;
        default:
      }
    }
    return {
      id,
      to,
      type,
      requester,
      priority,
      deadlineMs,
      notBeforeMs,
      maxAttempts,
      backoffMs,
      maxRunMs,
      contentType,
      headers: headers ?? NO_HEADERS,
      contextId,
      payload,
    };
  }

  private header(bytes: Uint8Array, start: number, end: number, into: Record<string, string>): void {
    const { entry } = this;
    let name = '';
    let value = '';
    entry.open(bytes, start, end);
    while (entry.next()) {
      if (entry.field <= 2) entry.expectBytes('task.headers');
      if (entry.field === 1) name = textOf(bytes, entry.start, entry.stop);
      else if (entry.field === 2) value = textOf(bytes, entry.start, entry.stop);
    }
    into[name] = value;
  }
}

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});
const NOTHING = new Uint8Array(0);
