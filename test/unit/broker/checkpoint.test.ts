import { describe, expect, test } from '@jest/globals';
import { readCheckpoint, writeCheckpoint } from '../../../src/broker/checkpoint.ts';
import { ShardState } from '../../../src/core/shard-state.ts';

describe('a checkpoint', () => {
  const state = new ShardState(3);
  state.sequence = 2 ** 40;
  state.dedup.finish(state.dedup.accept(1, 2, 3, 4, 9), 5);
  state.undropped.set(2 ** 50, 2 ** 31);
  state.outbox.forwarded(2, 7);
  state.outbox.receive(1, 2 ** 35);
  state.awaiting.add('id', { mailbox: 'coder', type: 'ocr', requester: 'planner#ü' });
  state.awaiting.add('id', { mailbox: 'tester', type: '', requester: '' });
  const bytes = writeCheckpoint(state);

  test('says what cutting the log would forget', () => {
    expect(readCheckpoint(bytes)).toEqual({
      sequence: 2 ** 40,
      cut: 2 ** 40 + 1,
      ring: expect.objectContaining({ length: 17 }),
      undropped: [[2 ** 50, 2 ** 31]],
      forwarded: [0, 0, 7],
      received: [0, 2 ** 35, 0],
      awaiting: [...state.awaiting.entries()],
    });
    const again = new ShardState(3);
    again.dedup.importRing(readCheckpoint(bytes).ring);
    expect(again.dedup.outcome(again.dedup.find(1, 2, 3, 4))).toBe(5);
  });

  test('that is cut short is refused, wherever it is cut', () => {
    for (let length = 0; length < bytes.length; length++) {
      expect(() => readCheckpoint(bytes.subarray(0, length))).toThrow(
        expect.objectContaining({ name: 'RangeError' }),
      );
    }
  });
});
