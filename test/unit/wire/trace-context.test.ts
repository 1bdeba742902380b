import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ByteWriter } from '../../../src/wire/bytes.ts';
import { TaskReader, writeTask } from '../../../src/wire/task.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import {
  SpanNames,
  traceContextOf,
  TracedTaskReader,
  traceHeaders,
  writeWithContext,
} from '../../../src/wire/trace-context.ts';

const hex = (digits: number): fc.Arbitrary<string> =>
  fc
    .array(fc.nat(15), { minLength: digits, maxLength: digits })
    .map((values) => values.map((value) => value.toString(16)).join(''))
    .filter((text) => !/^0+$/.test(text));
const someContext = fc.record({
  traceId: hex(32),
  spanId: hex(16),
  sampled: fc.boolean(),
  state: fc.constantFrom('', 'vendor=1,other=2'),
});

const NAME = '4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7';

describe('a trace context', () => {
  test('is read back from the headers that say it', () => {
    fc.assert(
      fc.property(someContext, (context) => {
        const { traceparent, tracestate } = traceHeaders(context);
        expect(traceContextOf(traceparent!, tracestate)).toEqual(context);
      }),
    );
  });

  test.each([
    ['nothing', ''],
    ['no context at all', 'yes please'],
    ['a version that is not allowed', `ff-${NAME}-01`],
    ['capital letters', `00-${NAME.toUpperCase()}-01`],
    ['a trace of zeros', `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`],
    ['a span of zeros', `00-4bf92f3577b34da6a3ce929d0e0e4736-${'0'.repeat(16)}-01`],
    ['more than version 00 has', `00-${NAME}-01-more`],
  ])('is not read from %s', (_, text) => {
    expect(traceContextOf(text)).toBeUndefined();
  });

  test('of a later version is read as far as it is known', () => {
    expect(traceContextOf(`01-${NAME}-03-more`)).toMatchObject({ sampled: true });
  });

  test('does without a tracestate that is too long', () => {
    expect(traceContextOf(`00-${NAME}-01`, 'x'.repeat(513))).toMatchObject({ state: '' });
  });
});

describe('a task', () => {
  const fields = {
    id: 't1',
    to: 'clerk',
    type: 'file',
    requester: 'asker',
    priority: 3,
    deadlineMs: 5,
    notBeforeMs: 0,
    maxAttempts: 2,
    backoffMs: 0,
    maxRunMs: 0,
    contentType: 'text/plain',
    headers: { tenant: 'a', traceparent: 'of nobody' },
    contextId: '',
    payload: Buffer.from('it'),
  };
  const writer = new ByteWriter();
  writeTask(writer, fields);
  const task = writer.take();

  test('to which a context is added says that one, and all else as before', () => {
    fc.assert(
      fc.property(someContext, (context) => {
        writer.bytes(Buffer.from('before'));
        writeWithContext(writer, task, 0, task.length, context);
        const bytes = writer.take();
        const traced = new TracedTaskReader(new TextCache()).read(bytes, 6, bytes.length);
        expect(traced).toEqual({ id: 't1', to: 'clerk', type: 'file', context });
        const { headers, payload, ...rest } = new TaskReader().read(bytes, 6, bytes.length);
        expect({ ...headers }).toEqual({ tenant: 'a', ...traceHeaders(context) });
        expect({ ...rest, headers: fields.headers, payload: Buffer.from(payload) }).toEqual(fields);
      }),
    );
  });

  test('whose headers name no span has no context', () => {
    expect(new TracedTaskReader(new TextCache()).read(task, 0, task.length).context).toBeUndefined();
  });
});

test('names of spans are few, however many task types there are', () => {
  const names = new SpanNames(3);
  const all = new Set(Array.from({ length: 1000 }, (_, index) => names.of('process', `type-${index}`)));
  expect([...all]).toEqual([
    'process task:type-0',
    'process task:type-1',
    'process task:type-2',
    'process task:other',
  ]);
  expect(names.of('process', 'type-1')).toBe('process task:type-1');
  expect(names.of('process', '')).toBe('process task');
});
