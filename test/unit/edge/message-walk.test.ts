import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { MessageWalk } from '../../../src/edge/message-walk.ts';
import { grpcMessage } from '../../support/http2.ts';

const message = fc.record({ size: fc.nat(300), compressed: fc.boolean() });

test('messages are counted however they are cut, and nothing is left when they are complete', () => {
  fc.assert(
    fc.property(fc.array(message), fc.array(fc.integer({ min: 1, max: 50 })), (messages, cuts) => {
      const bytes = Buffer.concat(
        messages.map(({ size, compressed }) => grpcMessage(Buffer.alloc(size, 1), { compressed })),
      );
      const walk = new MessageWalk();
      let [taken, compressed, at] = [0, 0, 0];
      for (const cut of [...cuts, bytes.length]) {
        const passed = walk.pass(bytes.subarray(at, at + cut));
        at += cut;
        taken += passed.taken;
        compressed += passed.compressed;
        // What is complete never exceeds what has come.
        expect(taken).toBeLessThanOrEqual(Math.min(at, bytes.length));
      }
      expect(taken).toBe(bytes.length);
      expect(walk.messages).toBe(messages.length);
      const squeezed = messages.filter((each) => each.compressed);
      expect(compressed).toBe(squeezed.reduce((sum, { size }) => sum + size, 0));
    }),
  );
});

test('a message counts when its last byte is there, and what was announced before that', () => {
  const walk = new MessageWalk();
  expect(walk.pass(grpcMessage(Buffer.alloc(3), { length: 10, compressed: true }))).toEqual({
    taken: 0,
    compressed: 10,
  });
  expect(walk.pass(Buffer.alloc(6))).toEqual({ taken: 0, compressed: 0 });
  expect(walk.pass(Buffer.alloc(1))).toEqual({ taken: 15, compressed: 0 });
});
