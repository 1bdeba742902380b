import type { Attributes, Context, SpanContext, Tracer } from '@opentelemetry/api';
import {
  createTraceState,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace-base';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace-base';
import { HubError } from '../std/errors.ts';
import type { Clock } from '../std/clock.ts';
import type { Logger } from '../std/logger.ts';
import type { TraceContext } from '../wire/trace-context.ts';
import type { Span, Spans, SpanStart } from './spans.ts';

/** Where spans are sent, and which. */
export interface OtlpOptions {
  /** Host and port, or a URL; without a path `/v1/traces` is meant. */
  readonly endpoint: string;
  /** The share of the traces that begin here which is kept. What others have begun is kept if they keep it. */
  readonly ratio: number;
  /** What the broker says of itself. */
  readonly resource: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The port of OTLP over gRPC, which this exporter does not speak. */
const GRPC_PORT = '4317';
const EXPORT_MS = 1000;
const QUEUED = 16_384;
/** A collector that is away is logged about this often. */
const COMPLAIN_MS = 60_000;
const KINDS = { internal: SpanKind.INTERNAL, server: SpanKind.SERVER, producer: SpanKind.PRODUCER };

/** Sends spans to a collector: OTLP over HTTP, in protobuf. This module is loaded only if somebody wants traces. */
export class OtlpSpans implements Spans {
  private readonly provider: BasicTracerProvider;
  private readonly tracer: Tracer;

  constructor({ endpoint, ratio, resource, clock, logger }: OtlpOptions) {
    const url = urlOf(endpoint);
    if (url.port === GRPC_PORT) {
      logger.warn(
        { endpoint },
        'tracing.endpoint names the port of OTLP over gRPC, but traces are sent over HTTP: that is 4318 as a rule',
      );
    }
    const exporter = new Complaining(new OTLPTraceExporter({ url: url.href }), url.href, clock, logger);
    this.provider = new BasicTracerProvider({
      resource: resourceFromAttributes(resource),
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
      spanProcessors: [
        new BatchSpanProcessor(exporter, { maxQueueSize: QUEUED, scheduledDelayMillis: EXPORT_MS }),
      ],
    });
    this.tracer = this.provider.getTracer('agenthub');
  }

  start({ name, kind, parent, startMs, attributes }: SpanStart): Span {
    const options = { kind: KINDS[kind], startTime: startMs, attributes: attributes as Attributes };
    const span = this.tracer.startSpan(name, options, contextOf(parent));
    return {
      context: namedBy(span.spanContext()),
      end(endMs, error) {
        if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: error });
        span.end(endMs);
      },
    };
  }

  /** Sends what is left. It does not reject. */
  async close(): Promise<void> {
    await this.provider.shutdown().catch(() => {});
  }
}

/** Says when spans are not taken, now and then. */
class Complaining implements SpanExporter {
  private readonly inner: SpanExporter;
  private readonly url: string;
  private readonly clock: Clock;
  private readonly logger: Logger;
  private saidAt = -Infinity;

  constructor(inner: SpanExporter, url: string, clock: Clock, logger: Logger) {
    this.inner = inner;
    this.url = url;
    this.clock = clock;
    this.logger = logger;
  }

  export(spans: ReadableSpan[], done: Parameters<SpanExporter['export']>[1]): void {
    this.inner.export(spans, (result) => {
      if (result.error !== undefined) this.complain(result.error, spans.length);
      done(result);
    });
  }

  shutdown(): Promise<void> {
    return this.inner.shutdown();
  }

  forceFlush(): Promise<void> {
    return this.inner.forceFlush?.() ?? Promise.resolve();
  }

  private complain({ message }: Error, spans: number): void {
    const now = this.clock.now();
    if (now - this.saidAt < COMPLAIN_MS) return;
    this.saidAt = now;
    this.logger.warn({ endpoint: this.url, error: message, spans }, 'spans could not be sent, and are lost');
  }
}

function urlOf(endpoint: string): URL {
  const text = /^https?:\/\//i.test(endpoint) ? endpoint : `http://${endpoint}`;
  if (!URL.canParse(text)) {
    throw new HubError(
      'invalid',
      `tracing.endpoint is no address: use host:port or a URL, not "${endpoint}"`,
      {
        field: 'tracing.endpoint',
      },
    );
  }
  const url = new URL(text);
  if (url.pathname === '/') url.pathname = '/v1/traces';
  return url;
}

function contextOf(parent: TraceContext | undefined): Context {
  if (parent === undefined) return ROOT_CONTEXT;
  const { traceId, spanId, sampled, state } = parent;
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    isRemote: true,
    traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
    ...(state === '' ? {} : { traceState: createTraceState(state) }),
  });
}

function namedBy({ traceId, spanId, traceFlags, traceState }: SpanContext): TraceContext {
  const sampled = (traceFlags & TraceFlags.SAMPLED) !== 0;
  return { traceId, spanId, sampled, state: traceState?.serialize() ?? '' };
}
