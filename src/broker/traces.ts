import type { Span, Spans } from '../obs/spans.ts';
import type { Clock } from '../std/clock.ts';
import { ByteWriter } from '../wire/bytes.ts';
import { Ranges } from '../wire/client-frame.ts';
import { TextCache } from '../wire/text-cache.ts';
import type { TraceContext, TracedTask } from '../wire/trace-context.ts';
import {
  SpanNames,
  traceContextOf,
  TracedTaskReader,
  TRACEPARENT,
  TRACESTATE,
  writeWithContext,
} from '../wire/trace-context.ts';
import type { Carried, Ingress, Publication } from './ingress.ts';
import { Ticket } from './ticket.ts';

/** Where tasks enter: an {@link Ingress}, or one that is traced. */
export type Intake = Pick<Ingress, 'publish'>;

/** A task that was handed to a worker for the first time or again. */
export interface HandOut {
  readonly shard: number;
  readonly session: string;
  readonly attempt: number;
  readonly acceptedMs: number;
}

/** What a {@link TaskTraces} is made of. */
export interface TaskTracesOptions {
  readonly spans: Spans;
  readonly clock: Clock;
  /** The id of this broker. */
  readonly broker: string;
  /** How many task types give names to spans. */
  readonly taskTypes: number;
  /** The largest task, in bytes: one that would grow beyond it gets no headers. */
  readonly taskBytes: number;
}

/** The most bytes that the names of a span take. */
const CONTEXT_BYTES = 1024;

/**
 * The spans of a broker. Of each task of a kept trace there are two: its acceptance, until the log has it, and its
 * delivery, from then until a worker was chosen, which may be at another broker.
 *
 * Who publishes names the span a task belongs to in its headers, or for single calls in the gRPC metadata. If
 * nobody does, the acceptance is the publish: a trace begins there, and the headers of the task get its name, so
 * that the worker can go on with it.
 */
export class TaskTraces {
  private readonly options: TaskTracesOptions;
  private readonly names: SpanNames;
  private readonly reader = new TracedTaskReader(new TextCache(1024));
  private readonly writer = new ByteWriter();

  constructor(options: TaskTracesOptions) {
    this.options = options;
    this.names = new SpanNames(options.taskTypes);
  }

  /** The same way in, traced. */
  over(ingress: Intake): Intake {
    return { publish: (bytes, tasks, publication) => this.publish(ingress, bytes, tasks, publication) };
  }

  /** A task was handed out; its bytes are in `bytes[start, end)`. */
  delivered(bytes: Uint8Array, start: number, end: number, handOut: HandOut): void {
    const { spans, clock, broker } = this.options;
    const task = this.reader.read(bytes, start, end);
    if (!task.context?.sampled) return;
    const { shard, session, attempt, acceptedMs } = handOut;
    const now = clock.now();
    spans
      .start({
        name: this.names.of('deliver', task.type),
        kind: 'internal',
        parent: task.context,
        // The clock of the broker that accepted it may be ahead.
        startMs: Math.min(acceptedMs, now),
        attributes: {
          ...about(task, 'deliver'),
          'agenthub.broker.id': broker,
          'agenthub.shard': shard,
          'agenthub.session.id': session,
          'agenthub.attempt': attempt,
        },
      })
      .end(now);
  }

  private publish(ingress: Intake, bytes: Uint8Array, tasks: Ranges, publication: Publication): void {
    const { clock, taskBytes } = this.options;
    const mostBytes = taskBytes - CONTEXT_BYTES;
    const caller = publication.carried && callerOf(publication.carried);
    const began: (Span | undefined)[] = [];
    const places = new Ranges();
    const { writer } = this;
    for (let index = 0; index < tasks.count; index++) {
      const [start, end] = [tasks.start(index), tasks.end(index)];
      const from = writer.length;
      const span = this.begin(bytes, start, end, caller);
      if (span !== undefined) began[index] = span.span;
      if (span?.named === false && end - start <= mostBytes)
        writeWithContext(writer, bytes, start, end, span.span.context);
      else writer.bytes(bytes, start, end);
      places.add(from, writer.length);
    }
    const { ticket } = publication;
    const traced = new Ticket(tasks.count, ({ refused }) => {
      const now = clock.now();
      for (const { index, error } of refused) {
        began[index]?.end(now, error.message);
        began[index] = undefined;
        ticket.refuse(index, error);
      }
      for (const span of began) span?.end(now);
      if (tasks.count > refused.length) ticket.done(tasks.count - refused.length);
    });
    ingress.publish(writer.take(), places, { ...publication, ticket: traced });
  }

  /** The span of an acceptance, and whether the task names one already; `undefined`: it can't be read. */
  private begin(
    bytes: Uint8Array,
    start: number,
    end: number,
    caller: TraceContext | undefined,
  ): { readonly span: Span; readonly named: boolean } | undefined {
    const { spans, clock, broker } = this.options;
    let task: TracedTask;
    try {
      task = this.reader.read(bytes, start, end);
    } catch {
      // The ingress says what is wrong with it.
      return undefined;
    }
    const named = task.context !== undefined;
    const operation = named ? 'accept' : 'publish';
    const span = spans.start({
      name: this.names.of(operation, task.type),
      kind: named ? 'server' : 'producer',
      parent: task.context ?? caller,
      startMs: clock.now(),
      attributes: { ...about(task, operation), 'agenthub.broker.id': broker },
    });
    return { span, named };
  }
}

/** https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ */
function about({ id, to, type }: TracedTask, operation: string): Record<string, string> {
  return {
    'messaging.system': 'agenthub',
    'messaging.operation.name': operation,
    ...(operation === 'deliver' ? {} : { 'messaging.operation.type': 'send' }),
    'messaging.destination.name': to,
    'agenthub.task.type': type,
    ...(id === '' ? {} : { 'messaging.message.id': id }),
  };
}

function callerOf(carried: Carried): TraceContext | undefined {
  const [parent] = carried.get(TRACEPARENT);
  if (typeof parent !== 'string') return undefined;
  const state = carried.get(TRACESTATE).filter((part) => typeof part === 'string');
  return traceContextOf(parent, state.join(','));
}
