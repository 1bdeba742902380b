import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import { LinkHead, LinkKind, setLinkCounts, writeLinkHead } from '../../../src/wire/link-frame.ts';
import type { LinkRole } from '../../../src/wire/link-frame.ts';
import { bytes } from './arbitrary.ts';

const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const uint48 = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const head = fc.record({
  kind: fc.constantFrom(...Object.values(LinkKind)),
  role: fc.constantFrom<LinkRole>('edge', 'owner'),
  start: uint32,
  number: uint32,
  sender: fc.stringMatching(/^[a-z0-9-]{1,80}$/),
  frame: uint48,
  ack: uint48,
});
type Head = typeof head extends fc.Arbitrary<infer T> ? T : never;

function written({ kind, role, start, number, sender, frame, ack }: Head, body: Uint8Array): Buffer {
  const writer = new ByteWriter(16);
  writeLinkHead(writer, kind, role, { start, number }, sender);
  writer.bytes(body);
  const message = writer.take();
  setLinkCounts(message, frame, ack);
  return message;
}

const corrupt = expect.objectContaining({ name: 'HubError', code: 'corrupt' });

describe('the head of a message on a link', () => {
  test('is read as it was written, and the body follows', () => {
    const read = new LinkHead();
    fc.assert(
      fc.property(head, bytes, (one, body) => {
        const message = written(one, body);
        read.read(message);
        expect(read).toMatchObject(one);
        expect(new Uint8Array(message.subarray(read.body))).toEqual(body);
      }),
    );
  });

  test('that ends too early is refused', () => {
    fc.assert(
      fc.property(head, (one) => {
        const message = written(one, new Uint8Array(0));
        for (let end = 0; end < message.length; end++)
          expect(() => new LinkHead().read(message.subarray(0, end))).toThrow(corrupt);
      }),
      { numRuns: 20 },
    );
  });

  test('of another version or kind is refused', () => {
    fc.assert(
      fc.property(head, fc.constantFrom(0, 1), fc.integer({ min: 7, max: 255 }), (one, at, value) => {
        const message = written(one, new Uint8Array(10));
        message[at] = value;
        expect(() => new LinkHead().read(message)).toThrow(corrupt);
      }),
    );
  });
});
