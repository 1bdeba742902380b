import type { ByteWriter } from './bytes.ts';
import { textOf } from './bytes.ts';
import { Scanner } from './scanner.ts';
import { writeHeaders } from './task.ts';
import type { TextCache } from './text-cache.ts';

/** The header, or gRPC metadata, that names the span a task belongs to (https://www.w3.org/TR/trace-context/). */
export const TRACEPARENT = 'traceparent';
/** What other tracing systems want to travel along. */
export const TRACESTATE = 'tracestate';

/** A span as others name it. */
export interface TraceContext {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** 16 of them. */
  readonly spanId: string;
  /** Whether somebody keeps the trace. */
  readonly sampled: boolean;
  /** `tracestate`; empty: there is none. */
  readonly state: string;
}

const FORM = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const NOTHING = /^0+$/;
/** A longer `tracestate` may be dropped. */
const STATE_CHARS = 512;

/** The context that `traceparent` and `tracestate` say; `undefined` if they say none. */
export function traceContextOf(parent: string, state = ''): TraceContext | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = FORM.exec(parent.trim()) ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (NOTHING.test(traceId) || NOTHING.test(spanId)) return undefined;
  const sampled = (Number.parseInt(flags, 16) & 1) === 1;
  return { traceId, spanId, sampled, state: state.length <= STATE_CHARS ? state : '' };
}

/** The headers that say a context. */
export function traceHeaders({ traceId, spanId, sampled, state }: TraceContext): Record<string, string> {
  const parent = `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;
  return state === '' ? { [TRACEPARENT]: parent } : { [TRACEPARENT]: parent, [TRACESTATE]: state };
}

/** What a trace says of a task. */
export interface TracedTask {
  readonly id: string;
  readonly to: string;
  readonly type: string;
  /** The span that made it, if its headers name one. */
  readonly context: TraceContext | undefined;
}

/** Reads what a trace says of serialized `agenthub.v1.Task`s; one object serves many. */
export class TracedTaskReader {
  private readonly task = new Scanner();
  private readonly entry = new Scanner();
  private readonly names: TextCache;

  constructor(names: TextCache) {
    this.names = names;
  }

  /** @throws HubError `invalid` if the bytes are malformed. */
  read(bytes: Uint8Array, start: number, end: number): TracedTask {
    const { task, names } = this;
    let [id, to, type, parent, state] = ['', '', '', '', ''];
    task.open(bytes, start, end);
    while (task.next()) {
      if (task.wireType !== 2) continue;
      if (task.field === 1) id = textOf(bytes, task.start, task.stop);
      else if (task.field === 2) to = names.get(bytes, task.start, task.stop);
      else if (task.field === 3) type = names.get(bytes, task.start, task.stop);
      else if (task.field === HEADERS) {
        const { name, value } = this.header(bytes, task.start, task.stop);
        if (name === TRACEPARENT) parent = value;
        else if (name === TRACESTATE) state = value;
      }
    }
    return { id, to, type, context: parent === '' ? undefined : traceContextOf(parent, state) };
  }

  private header(bytes: Uint8Array, start: number, end: number): { name: string; value: string } {
    const { entry } = this;
    const header = { name: '', value: '' };
    entry.open(bytes, start, end);
    while (entry.next()) {
      if (entry.wireType !== 2) continue;
      // The values of most headers are of no interest here.
      if (entry.field === 1) header.name = textOf(bytes, entry.start, entry.stop);
      else if (entry.field === 2) header.value = textOf(bytes, entry.start, entry.stop);
    }
    return header;
  }
}

/** Appends a serialized task with headers added: in protobuf the last value of a key counts. */
export function writeWithContext(
  writer: ByteWriter,
  task: Uint8Array,
  start: number,
  end: number,
  context: TraceContext,
): void {
  writer.bytes(task, start, end);
  writeHeaders(writer, HEADERS_KEY, traceHeaders(context));
}

const HEADERS = 12;
const HEADERS_KEY = (HEADERS << 3) | 2;

/** As many task types get spans of their own name. */
const TYPES = 200;

/**
 * Names spans: `publish task:summarize`. Names must be few, so that tools can sum them up: what comes after the
 * first so many task types is called `other`.
 */
export class SpanNames {
  private readonly types = new Set<string>();
  private readonly most: number;

  constructor(most = TYPES) {
    this.most = most;
  }

  /** The name of what is done to a task of that type. */
  of(operation: string, type: string): string {
    return type === '' ? `${operation} task` : `${operation} task:${this.bounded(type)}`;
  }

  private bounded(type: string): string {
    if (this.types.has(type)) return type;
    if (this.types.size >= this.most) return 'other';
    this.types.add(type);
    return type;
  }
}
