import type { TraceContext } from '../wire/trace-context.ts';

/** What a span is good for, as OpenTelemetry calls it. */
export type SpanKind = 'internal' | 'server' | 'producer';

/** A span to begin. */
export interface SpanStart {
  readonly name: string;
  readonly kind: SpanKind;
  /** The span that it is a part of; without one a trace begins, if it is sampled. */
  readonly parent: TraceContext | undefined;
  /** Unix milliseconds. */
  readonly startMs: number;
  readonly attributes: Readonly<Record<string, string | number>>;
}

/** A span that was begun. */
export interface Span {
  /** What others call it. If it is not sampled, nobody will ever see it. */
  readonly context: TraceContext;
  /** It has ended; with an error if there is one. */
  end(endMs: number, error?: string): void;
}

/** Where spans go. */
export interface Spans {
  start(span: SpanStart): Span;
}
