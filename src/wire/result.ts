import { ByteWriter } from './bytes.ts';
import type { Ranges } from './client-frame.ts';
import type { EchoScan } from './envelope.ts';

/** What a result says, beside the payload and what it repeats of its task. */
export interface ResultEnding {
  readonly to: string;
  /** `agenthub.v1.Outcome`. */
  readonly outcome: number;
  readonly executor: string;
  readonly error: string;
  readonly attempts: number;
  /** Unix milliseconds. */
  readonly finishedAtMs: number;
}

/** What a result says, beside the payload. */
export interface ResultFacts extends ResultEnding {
  readonly taskId: string;
  readonly type: string;
  readonly requester: string;
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

/** Makes a serialized `agenthub.v1.Result`. */
export function encodeResult(facts: ResultFacts, answer: ResultPayload | undefined): Buffer {
  const writer = new ByteWriter(256);
  text(writer, 1, facts.taskId);
  text(writer, 3, facts.type);
  text(writer, 4, facts.requester);
  text(writer, 13, facts.contextId);
  writeEnding(writer, facts, answer);
  return writer.take();
}

/** Writes the serialized `agenthub.v1.Result` of the task in `task`, whose facts are copied and not decoded. */
export function writeResult(
  writer: ByteWriter,
  task: Uint8Array,
  echo: EchoScan,
  ending: ResultEnding,
  answer: ResultPayload | undefined,
): void {
  range(writer, 1, task, echo.idStart, echo.idEnd);
  range(writer, 3, task, echo.typeStart, echo.typeEnd);
  range(writer, 4, task, echo.requesterStart, echo.requesterEnd);
  range(writer, 13, task, echo.contextStart, echo.contextEnd);
  writeEnding(writer, ending, answer);
}

function writeEnding(writer: ByteWriter, ending: ResultEnding, answer: ResultPayload | undefined): void {
  text(writer, 2, ending.to);
  number(writer, 5, ending.outcome);
  text(writer, 6, ending.executor);
  text(writer, 9, ending.error);
  number(writer, 10, ending.attempts);
  number(writer, 11, Math.floor(ending.finishedAtMs));
  if (!answer) return;
  range(writer, 7, answer.bytes, answer.payloadStart, answer.payloadEnd);
  range(writer, 8, answer.bytes, answer.contentTypeStart, answer.contentTypeEnd);
  if (!answer.headers) return;
  for (let index = 0; index < answer.headers.count; index++) {
    range(writer, 12, answer.bytes, answer.headers.start(index), answer.headers.end(index));
  }
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
