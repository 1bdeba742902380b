import { create, toBinary } from '@bufbuild/protobuf';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TaskSchema } from '../../../src/wire/gen/agenthub/v1/task_pb.ts';
import { TaskMessageSchema } from '../../../src/wire/gen/eventbus/eventbus_pb.ts';
import { WellFormed } from '../../../src/wire/well-formed.ts';
import { count, MALFORMED, NO_TEXT, part } from '../../support/proto.ts';
import { task } from './arbitrary.ts';

const tasks = new WellFormed(TaskSchema);
const messages = new WellFormed(TaskMessageSchema);

function check(form: WellFormed, bytes: Uint8Array): void {
  form.check(bytes, 0, bytes.length);
}

describe('a message is well-formed', () => {
  test('if an encoder made it', () => {
    fc.assert(fc.property(task, (one) => check(tasks, toBinary(TaskSchema, one))));
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (parameters) => {
        const plain = JSON.parse(JSON.stringify(parameters)) as Record<string, never>;
        check(messages, toBinary(TaskMessageSchema, create(TaskMessageSchema, { parameters: plain })));
      }),
    );
  });

  test('with fields that are not known, of any wire type', () => {
    check(
      tasks,
      Buffer.concat([part(99, NO_TEXT), count(98, 5), Buffer.of(0xb9, 0x06, 1, 2, 3, 4, 5, 6, 7, 8)]),
    );
  });

  test.each([
    ['a text that is not UTF-8', part(1, NO_TEXT), 'id'],
    ['a long text that is not UTF-8', part(1, Buffer.concat([Buffer.alloc(100, 0x61), NO_TEXT])), 'id'],
    ['a number where text should be', count(1, 5), 'id'],
    ['text where a number should be', part(5, 'x'), 'priority'],
    ['a name of a header that is not UTF-8', part(12, part(1, NO_TEXT)), 'headers key'],
    ['a value of a header that is no text', part(12, count(2, 1)), 'headers'],
  ])('but not with %s', (_, bytes, field) => {
    expect(() => check(tasks, bytes)).toThrow(expect.objectContaining({ code: 'invalid', field }));
  });

  test.each(MALFORMED)('but not %s', (_, bytes) => {
    expect(() => check(tasks, bytes)).toThrow(expect.objectContaining({ code: 'invalid' }));
  });

  test('but not with messages inside of each other without end', () => {
    const nested = (levels: number): Buffer => {
      let value: Buffer = part(3, 'x');
      for (let level = 0; level < levels; level++) value = part(6, part(1, value));
      return part(3, part(1, part(2, value)));
    };
    check(messages, nested(100));
    expect(() => check(messages, nested(1000))).toThrow(/more than 300 messages/);
  });

  test('bytes that are none never do harm', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          check(messages, bytes);
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid' });
        }
      }),
    );
  });
});
