import type { HubError } from '../std/errors.ts';
import { ByteWriter } from './bytes.ts';
import { readError, writeError } from './error-record.ts';
import { SpanReader } from './span-reader.ts';

/**
 * Messages between brokers, little-endian. A question: `u8 version | u32 start | u32 call | asker | question`,
 * then the request. An answer: `u8 version | u32 start | u32 call | u8 failed`, then the error or the response.
 * Texts after their length in 32 bits.
 */
const VERSION = 1;

/** Names a question for who asked it: a random number of the asker's start, and a number of the question. */
export interface Call {
  readonly start: number;
  readonly call: number;
}

/** A question from broker to broker. The request is a view of the message. */
export interface Question extends Call {
  readonly asker: string;
  readonly question: string;
  readonly request: Buffer;
}

/** The answer to the question of that name. The response is a view of the message, and empty if there is an error. */
export interface PeerAnswer extends Call {
  readonly error: HubError | undefined;
  readonly response: Buffer;
}

/** Makes the message that asks. */
export function encodeQuestion(
  { start, call }: Call,
  asker: string,
  question: string,
  request: Uint8Array,
): Buffer {
  const writer = new ByteWriter(64 + request.length);
  begin(writer, start, call);
  writer.longText(asker);
  writer.longText(question);
  writer.bytes(request);
  return writer.take();
}

/** Makes the message that answers; of an error and a response, the error counts. */
export function encodeAnswer(
  { start, call }: Call,
  error: HubError | undefined,
  response: Uint8Array,
): Buffer {
  const writer = new ByteWriter(64 + response.length);
  begin(writer, start, call);
  writer.u8(error ? 1 : 0);
  if (error) writeError(writer, error);
  else writer.bytes(response);
  return writer.take();
}

/** Throws HubError `corrupt` if it is none, or of another version. */
export function decodeQuestion(message: Uint8Array): Question {
  const reader = open(message, 'a question');
  return {
    start: reader.u32(),
    call: reader.u32(),
    asker: reader.longText(),
    question: reader.longText(),
    request: rest(reader),
  };
}

/** Throws HubError `corrupt` if it is none, or of another version. */
export function decodeAnswer(message: Uint8Array): PeerAnswer {
  const reader = open(message, 'an answer');
  const start = reader.u32();
  const call = reader.u32();
  const error = reader.u8() === 1 ? readError(reader) : undefined;
  return { start, call, error, response: rest(reader) };
}

function begin(writer: ByteWriter, start: number, call: number): void {
  writer.u8(VERSION);
  writer.u32(start);
  writer.u32(call);
}

function open(message: Uint8Array, what: string): SpanReader {
  const reader = new SpanReader(`${what} of another broker`);
  reader.open(message, 0, message.length);
  if (reader.u8() !== VERSION) throw reader.corrupt('has an unknown version');
  return reader;
}

function rest(reader: SpanReader): Buffer {
  return reader.bytes.subarray(reader.at, reader.end);
}
