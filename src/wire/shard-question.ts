import { ByteWriter } from './bytes.ts';
import { SpanReader } from './span-reader.ts';

/** A question or an answer between brokers, and the shards that it is about. */
export interface ShardQuestionParts {
  readonly shards: readonly number[];
  readonly body: Buffer;
}

/** Serializes it: `u16 count | u16 shard … | body`, little-endian. */
export function writeShardQuestion(shards: readonly number[], body: Uint8Array): Buffer {
  const writer = new ByteWriter(2 + 2 * shards.length + body.length);
  writer.u16(shards.length);
  for (const shard of shards) writer.u16(shard);
  writer.bytes(body);
  return writer.take();
}

/** The inverse of {@link writeShardQuestion}; the body is a view. Throws HubError `corrupt` if there is none. */
export function readShardQuestion(bytes: Buffer): ShardQuestionParts {
  const reader = new SpanReader('a question of another broker');
  reader.open(bytes, 0, bytes.length);
  const shards: number[] = [];
  for (let left = reader.u16(); left > 0; left--) shards.push(reader.u16());
  return { shards, body: bytes.subarray(reader.at) };
}
