import type * as OpenTelemetryApi from '@opentelemetry/api';
import type { Attributes, Context, Span, SpanContext, Tracer } from '@opentelemetry/api';
import type { Answer } from '../wire/client-batch.ts';
import type { TaskFields } from '../wire/task.ts';
import type { TraceContext } from '../wire/trace-context.ts';
import { SpanNames, traceContextOf, traceHeaders, TRACEPARENT, TRACESTATE } from '../wire/trace-context.ts';
import type { ReceivedTask, TaskResult } from './messages.ts';

/** `@opentelemetry/api`, as the program that uses the SDK has it. */
export type OpenTelemetry = typeof OpenTelemetryApi;

/** Under this name the API of OpenTelemetry keeps what a program has registered, for all copies of itself. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1');

/**
 * What traces the tasks of a connection: with that tracer, or else with the one that the program has registered;
 * `undefined` if there is none, and then nothing of OpenTelemetry is loaded.
 */
export async function clientTraces(tracer: Tracer | false | undefined): Promise<ClientTraces | undefined> {
  if (tracer === false || (tracer === undefined && !(REGISTERED in globalThis))) return undefined;
  const api: OpenTelemetry = await import('@opentelemetry/api');
  const chosen = tracer ?? registered(api);
  return chosen && new ClientTraces(api, chosen);
}

function registered({ trace, ProxyTracerProvider }: OpenTelemetry): Tracer | undefined {
  const provider = trace.getTracerProvider();
  const nobody = new ProxyTracerProvider().getDelegate();
  if (provider instanceof ProxyTracerProvider && provider.getDelegate() === nobody) return undefined;
  return trace.getTracer('agenthub');
}

/**
 * The spans of a client: `publish task:{type}`, whose name travels in the headers of the task; `process task:{type}`,
 * which is a part of it wherever the worker is, and linked to it; `request task:{type}` around a publish and the
 * wait for the result, linked to the work.
 */
export class ClientTraces {
  private readonly api: OpenTelemetry;
  private readonly tracer: Tracer;
  private readonly names = new SpanNames();

  constructor(api: OpenTelemetry, tracer: Tracer) {
    this.api = api;
    this.tracer = tracer;
  }

  /** Publishes the task, with the name of the span in its headers. @param under default: the active span. */
  publish<T>(task: TaskFields, send: (task: TaskFields) => Promise<T>, under?: Context): Promise<T> {
    const { SpanKind } = this.api;
    const attributes = about('publish', 'send', task.id, task.to, task.type);
    const span = this.begin(this.names.of('publish', task.type), SpanKind.PRODUCER, attributes, under);
    return this.ended(span, send(withContext(task, span)));
  }

  /** The same for a batch, which has one span. */
  publishBatch<T>(
    tasks: readonly TaskFields[],
    send: (tasks: readonly TaskFields[]) => Promise<T>,
  ): Promise<T> {
    const { SpanKind } = this.api;
    const [first] = tasks;
    const type = tasks.every((task) => task.type === first?.type) ? (first?.type ?? '') : '';
    const span = this.begin(this.names.of('publish', type), SpanKind.PRODUCER, {
      'messaging.system': 'agenthub',
      'messaging.operation.name': 'publish',
      'messaging.operation.type': 'send',
      'messaging.batch.message_count': tasks.length,
    });
    return this.ended(span, send(tasks.map((task) => withContext(task, span))));
  }

  /** Asks, and waits for the result; `ask` publishes under the context that it gets. */
  request(task: TaskFields, ask: (under: Context) => Promise<TaskResult>): Promise<TaskResult> {
    const { SpanKind, context, trace } = this.api;
    const attributes = about('request', undefined, task.id, task.to, task.type);
    const span = this.begin(this.names.of('request', task.type), SpanKind.CLIENT, attributes);
    const answered = ask(trace.setSpan(context.active(), span)).then((result) => {
      const worked = this.spanOf(result.headers);
      if (worked !== undefined) span.addLink({ context: worked });
      span.setAttribute('agenthub.executor', result.executor);
      return result;
    });
    return this.ended(span, answered);
  }

  /** A worker begins with a task. */
  process(task: ReceivedTask, attempt: number): Processing {
    const { SpanKind, ROOT_CONTEXT, trace } = this.api;
    const made = this.spanOf(task.headers);
    const span = this.tracer.startSpan(
      this.names.of('process', task.type),
      {
        kind: SpanKind.CONSUMER,
        attributes: {
          ...about('process', 'process', task.id, task.mailbox, task.type),
          'agenthub.attempt': attempt,
        },
        links: made === undefined ? [] : [{ context: made }],
      },
      made === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, made),
    );
    return new Processing(this.api, span);
  }

  private begin(name: string, kind: number, attributes: Attributes, under?: Context): Span {
    return this.tracer.startSpan(name, { kind, attributes }, under ?? this.api.context.active());
  }

  private async ended<T>(span: Span, outcome: Promise<T>): Promise<T> {
    try {
      return await outcome;
    } catch (error) {
      failed(this.api, span, error);
      throw error;
    } finally {
      span.end();
    }
  }

  private spanOf(headers: Readonly<Record<string, string>>): SpanContext | undefined {
    const { createTraceState, TraceFlags } = this.api;
    const named = traceContextOf(headers[TRACEPARENT] ?? '', headers[TRACESTATE]);
    if (named === undefined) return undefined;
    const { traceId, spanId, sampled, state } = named;
    return {
      traceId,
      spanId,
      isRemote: true,
      traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
      ...(state === '' ? {} : { traceState: createTraceState(state) }),
    };
  }
}

/** The span of a task that is being done. */
export class Processing {
  private readonly api: OpenTelemetry;
  private readonly span: Span;

  constructor(api: OpenTelemetry, span: Span) {
    this.api = api;
    this.span = span;
  }

  /** Runs `work` so that spans which it begins are parts of this one. */
  run<T>(work: () => T): T {
    const { context, trace } = this.api;
    return context.with(trace.setSpan(context.active(), this.span), work);
  }

  /** The answer with the name of the span. */
  answer(answer: Answer | undefined): Answer {
    const { payload, contentType, headers } = answer ?? {
      payload: EMPTY,
      contentType: '',
      headers: undefined,
    };
    return { payload, contentType, headers: { ...headers, ...traceHeaders(namedBy(this.span)) } };
  }

  failed(error: unknown): void {
    failed(this.api, this.span, error);
  }

  end(): void {
    this.span.end();
  }
}

const EMPTY = new Uint8Array(0);

function failed({ SpanStatusCode }: OpenTelemetry, span: Span, error: unknown): void {
  span.recordException(Error.isError(error) ? error : String(error));
  const message = Error.isError(error) ? error.message : String(error);
  span.setStatus({ code: SpanStatusCode.ERROR, message });
}

function withContext(task: TaskFields, span: Span): TaskFields {
  return { ...task, headers: { ...task.headers, ...traceHeaders(namedBy(span)) } };
}

function namedBy(span: Span): TraceContext {
  const { traceId, spanId, traceFlags, traceState } = span.spanContext();
  return { traceId, spanId, sampled: (traceFlags & 1) === 1, state: traceState?.serialize() ?? '' };
}

/** https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ */
function about(name: string, kind: string | undefined, id: string, to: string, type: string): Attributes {
  return {
    'messaging.system': 'agenthub',
    'messaging.operation.name': name,
    ...(kind === undefined ? {} : { 'messaging.operation.type': kind }),
    'messaging.destination.name': to,
    'messaging.message.id': id,
    'agenthub.task.type': type,
  };
}
