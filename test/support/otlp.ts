import { once } from 'node:events';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { Scanner } from '../../src/wire/scanner.ts';
import { until } from './inbox.ts';

/** A span as it was sent. */
export interface SentSpan {
  /** `service.instance.id` of who has sent it, or else its `service.name`. */
  readonly from: string;
  readonly name: string;
  /** `opentelemetry.proto.trace.v1.Span.SpanKind`. */
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty: the trace begins with it. */
  readonly parent: string;
  /** The ids of the spans it is linked to. */
  readonly links: readonly string[];
  readonly attributes: Readonly<Record<string, string | number>>;
  /** `opentelemetry.proto.trace.v1.Status.StatusCode`: 2 for an error. */
  readonly status: number;
}

/** Takes spans as a collector does: OTLP over HTTP, in protobuf, on loopback. */
export class OtlpReceiver {
  readonly spans: SentSpan[] = [];
  readonly server: Server;

  static async start(): Promise<OtlpReceiver> {
    const receiver = new OtlpReceiver();
    receiver.server.listen(0, '127.0.0.1');
    await once(receiver.server, 'listening');
    return receiver;
  }

  private constructor() {
    this.server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const fine =
          request.url === '/v1/traces' && request.headers['content-type'] === 'application/x-protobuf';
        const body = Buffer.concat(chunks);
        if (fine)
          this.spans.push(
            ...spansOf(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body),
          );
        response.writeHead(fine ? 200 : 400, { 'content-type': 'application/x-protobuf' }).end();
      });
    });
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Resolves with the spans when there are so many. */
  async whenSent(count: number): Promise<readonly SentSpan[]> {
    await until(() => this.spans.length >= count);
    return this.spans;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

/** A field of a message: a number, or bytes. */
type Field = readonly [number: number, value: Buffer | number];

/** https://github.com/open-telemetry/opentelemetry-proto: ExportTraceServiceRequest. */
function spansOf(request: Buffer): SentSpan[] {
  return parts(request, 1).flatMap((resourceSpans) => {
    const [resource = Buffer.alloc(0)] = parts(resourceSpans, 1);
    const about = attributesOf(parts(resource, 1));
    const from = String(about['service.instance.id'] ?? about['service.name']);
    const scopes = parts(resourceSpans, 2);
    return scopes.flatMap((scope) => parts(scope, 2)).map((span) => spanOf(span, from));
  });
}

function spanOf(span: Buffer, from: string): SentSpan {
  const text = (field: number): string => parts(span, field)[0]?.toString() ?? '';
  const id = (message: Buffer, field: number): string => parts(message, field)[0]?.toString('hex') ?? '';
  const [status = Buffer.alloc(0)] = parts(span, 15);
  return {
    from,
    name: text(5),
    kind: number(span, 6),
    traceId: id(span, 1),
    spanId: id(span, 2),
    parent: id(span, 4),
    links: parts(span, 13).map((link) => id(link, 2)),
    attributes: attributesOf(parts(span, 9)),
    status: number(status, 3),
  };
}

function attributesOf(all: readonly Buffer[]): Record<string, string | number> {
  return Object.fromEntries(
    all.map((attribute) => {
      const [key] = parts(attribute, 1);
      const [value = Buffer.alloc(0)] = parts(attribute, 2);
      const [text] = parts(value, 1);
      return [key!.toString(), text === undefined ? number(value, 3) : text.toString()];
    }),
  );
}

function parts(message: Buffer, wanted: number): Buffer[] {
  return fields(message).flatMap(([field, value]) =>
    field === wanted && typeof value !== 'number' ? [value] : [],
  );
}

function number(message: Buffer, wanted: number): number {
  const [, value] = fields(message).find(([field]) => field === wanted) ?? [];
  return typeof value === 'number' ? value : 0;
}

function fields(message: Buffer): Field[] {
  const scanner = new Scanner();
  const found: Field[] = [];
  scanner.open(message, 0, message.length);
  while (scanner.next()) {
    const { field, wireType, value, start, stop } = scanner;
    found.push([field, wireType === 2 ? message.subarray(start, stop) : value]);
  }
  return found;
}
