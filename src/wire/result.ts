import { ByteWriter } from './bytes.ts';
import type { Ranges } from './client-frame.ts';

/** What a result says, beside the payload. */
export interface ResultFacts {
  readonly taskId: string;
  readonly to: string;
  readonly type: string;
  readonly requester: string;
  /** `agenthub.v1.Outcome`. */
  readonly outcome: number;
  readonly executor: string;
  readonly error: string;
  readonly attempts: number;
  /** Unix milliseconds. */
  readonly finishedAtMs: number;
  readonly contextId: string;
}

/** The worker's answer, as it stands in the bytes of its frame. */
export interface ResultPayload {
  readonly bytes: Uint8Array;
  readonly payloadStart: number;
  readonly payloadEnd: number;
  readonly contentTypeStart: number;
  readonly contentTypeEnd: number;
  /** Serialized map entries. */
  readonly headers: Ranges | undefined;
}

/** Makes a serialized `agenthub.v1.Result`. Who makes many lends an empty writer for it. */
export function encodeResult(
  facts: ResultFacts,
  answer: ResultPayload | undefined,
  writer = new ByteWriter(256),
): Buffer {
  text(writer, 1, facts.taskId);
  text(writer, 2, facts.to);
  text(writer, 3, facts.type);
  text(writer, 4, facts.requester);
  number(writer, 5, facts.outcome);
  text(writer, 6, facts.executor);
  if (answer) {
    range(writer, 7, answer.bytes, answer.payloadStart, answer.payloadEnd);
    range(writer, 8, answer.bytes, answer.contentTypeStart, answer.contentTypeEnd);
  }
  text(writer, 9, facts.error);
  number(writer, 10, facts.attempts);
  number(writer, 11, Math.floor(facts.finishedAtMs));
  if (answer?.headers) {
    for (let index = 0; index < answer.headers.count; index++) {
      range(writer, 12, answer.bytes, answer.headers.start(index), answer.headers.end(index));
    }
  }
  text(writer, 13, facts.contextId);
  return writer.take();
}

function text(writer: ByteWriter, field: number, value: string): void {
  if (value === '') return;
  writer.u8((field << 3) | 2);
  writer.string(value);
}

function number(writer: ByteWriter, field: number, value: number): void {
  if (value === 0) return;
  writer.u8(field << 3);
  writer.varint(value);
}

function range(writer: ByteWriter, field: number, bytes: Uint8Array, start: number, end: number): void {
  if (start === end) return;
  writer.u8((field << 3) | 2);
  writer.varint(end - start);
  writer.bytes(bytes, start, end);
}
