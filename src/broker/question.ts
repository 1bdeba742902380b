import type { DescMessage, MessageShape } from '@bufbuild/protobuf';
import { toBinary } from '@bufbuild/protobuf';
import type { HubError } from '../std/errors.ts';
import { decode } from '../wire/decode.ts';

/** Takes how something ended: an error, or a value. */
export type Done<T> = (...ended: [error: HubError, value: undefined] | [error: undefined, value: T]) => void;

/** How something travels between brokers. */
export interface Codec<T> {
  write(value: T): Uint8Array;
  /** Throws HubError if it can't be read. */
  read(bytes: Buffer): T;
}

/** What brokers ask each other. */
export interface Question<Request, Response> {
  /** The same at all brokers. */
  readonly name: string;
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
}

/** A request about one namespace. */
export interface Scoped<T> {
  /** '' is the default one. */
  readonly namespace: string;
  readonly request: T;
}

/**
 * Requests with their namespaces, `0 | u8 length | namespace | request`; those about the default one as they always
 * were, which never begin with 0: in protobuf there is no field of that number.
 */
export function scoped<T>(codec: Codec<T>): Codec<Scoped<T>> {
  return {
    write({ namespace, request }) {
      const bytes = codec.write(request);
      if (namespace === '') return bytes;
      const name = Buffer.from(namespace);
      return Buffer.concat([Buffer.of(0, name.length), name, bytes]);
    },
    read(bytes) {
      if (bytes[0] !== 0) return { namespace: '', request: codec.read(bytes) };
      const start = 2 + (bytes[1] ?? 0);
      return { namespace: bytes.toString('utf8', 2, start), request: codec.read(bytes.subarray(start)) };
    },
  };
}

/** A protobuf message as it is. */
export function message<Desc extends DescMessage>(schema: Desc): Codec<MessageShape<Desc>> {
  return {
    write: (value) => toBinary(schema, value),
    read: (bytes) => decode(schema, bytes),
  };
}

/** The question that a method of a service is: its messages are those of the method. */
export function questionOf<I extends DescMessage, O extends DescMessage>(method: {
  readonly name: string;
  readonly input: I;
  readonly output: O;
}): Question<MessageShape<I>, MessageShape<O>> {
  const { name, input, output } = method;
  return { name, request: message(input), response: message(output) };
}

/** The same about one namespace. */
export function scopedQuestionOf<I extends DescMessage, O extends DescMessage>(method: {
  readonly name: string;
  readonly input: I;
  readonly output: O;
}): Question<Scoped<MessageShape<I>>, MessageShape<O>> {
  const { name, input, output } = method;
  return { name, request: scoped(message(input)), response: message(output) };
}
