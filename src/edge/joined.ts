/**
 * Several serialized messages as what grpc-js takes for one, so that they leave in one write: a write
 * a turn of the loop is all that a stream gets.
 *
 * grpc-js makes room for five bytes and the `byteLength` of the message, writes the header there (no
 * compression, big-endian length; https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), and
 * has the message copied behind it. Here that copy writes the first message with the header it needs,
 * and the others with theirs.
 */
export function joined(messages: readonly Buffer[]): Buffer {
  const [first] = messages;
  if (first && messages.length === 1) return first;
  const byteLength = messages.reduce((sum, { length }) => sum + HEADER_BYTES + length, -HEADER_BYTES);
  const copy = (target: Buffer, from: number): number => {
    let at = from - HEADER_BYTES;
    for (const message of messages) {
      target[at] = 0;
      target.writeUInt32BE(message.length, at + 1);
      message.copy(target, at + HEADER_BYTES);
      at += HEADER_BYTES + message.length;
    }
    return byteLength;
  };
  return { byteLength, copy } as unknown as Buffer;
}

const HEADER_BYTES = 5;
