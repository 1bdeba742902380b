import { describe, expect, test } from '@jest/globals';
import { joined } from '../../../src/edge/joined.ts';

/** What grpc-js 1.14 does with a message that it sends. */
function framed(message: Buffer): Buffer {
  const output = Buffer.allocUnsafe(message.byteLength + 5);
  output.writeUInt8(0, 0);
  output.writeUInt32BE(message.byteLength, 1);
  message.copy(output, 5);
  return output;
}

/** The messages in frames of gRPC. */
function read(bytes: Buffer): string[] {
  const messages: string[] = [];
  for (let at = 0; at < bytes.length;) {
    expect(bytes[at]).toBe(0);
    const length = bytes.readUInt32BE(at + 1);
    messages.push(bytes.toString('utf8', at + 5, at + 5 + length));
    at += 5 + length;
  }
  return messages;
}

describe('messages joined into one write', () => {
  test.each([
    [['one']],
    [['one', 'two']],
    [['', 'empty ones count', '', '']],
    [Array.from({ length: 100 }, (_, index) => 'x'.repeat(index * 7))],
    [['long', 'y'.repeat(300_000), 'end']],
  ])('arrive as the messages that they are', (messages) => {
    expect(read(framed(joined(messages.map((message) => Buffer.from(message)))))).toEqual(messages);
  });
});
