import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { DEATHS } from '../../../src/core/shard-state.ts';
import { Flag, orderOf, RECORD_TASKS } from '../../../src/core/task-table.ts';
import type { EntryHead } from '../../../src/wire/entry.ts';
import type { OwnerOperations } from '../../../src/wire/owner-record.ts';
import {
  encodeEntry,
  Entry,
  entryBody,
  entryLength,
  entryMaxAttempts,
  entryOrigin,
  sessionWords,
} from '../../../src/wire/entry.ts';
import { OwnerRecordWriter, readOwner, readOwnerHead } from '../../../src/wire/owner-record.ts';
import { readTasks, RECORD_BYTES, TasksRecordWriter } from '../../../src/wire/tasks-record.ts';
import { TextCache } from '../../../src/wire/text-cache.ts';
import { bytes, text, time } from './arbitrary.ts';

const uint8 = fc.integer({ min: 0, max: 255 });
const uint16 = fc.integer({ min: 0, max: 0xffff });
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const session = fc
  .oneof(
    fc.constant(''),
    fc.tuple(uint32, uint32).map((words) => words.map((word) => word.toString(16).padStart(8, '0')).join('')),
  )
  .filter((id) => !/^0{16}$/.test(id));
const order = fc
  .tuple(fc.integer({ min: 0, max: 2 ** 40 - 1 }), fc.integer({ min: 0, max: RECORD_TASKS - 1 }))
  .map(([sequence, index]) => orderOf(sequence, index));
const name = fc.stringMatching(/^[a-zü]{0,8}$/);

interface Item {
  readonly mailbox: string;
  readonly type: string;
  readonly head: EntryHead;
  readonly origin: string;
  readonly body: Uint8Array;
}

const item: fc.Arbitrary<Item> = fc
  .record({
    mailbox: name,
    type: name,
    kind: fc.integer({ min: 0, max: 2 }),
    priority: fc.integer({ min: 0, max: 4 }),
    flags: fc
      .subarray([Flag.answers, Flag.runLimit, Flag.once])
      .map((set) => set.reduce<number>((a, b) => a | b, 0)),
    maxAttempts: uint8,
    hash: fc.tuple(uint32, uint32, uint32, uint32),
    origin: session,
    deadline: fc.oneof(fc.constant(0), time),
    notBefore: fc.oneof(fc.constant(0), time),
    body: bytes,
  })
  .map(({ mailbox, type, origin, body, hash, ...head }) => {
    const { high, low } = sessionWords(origin);
    return {
      mailbox,
      type,
      origin,
      body,
      head: { ...head, hash: Uint32Array.from(hash), originHigh: high, originLow: low },
    };
  });

/** What a reader sees of an entry. */
interface Seen {
  mailbox: string;
  type: string;
  kind: number;
  priority: number;
  flags: number;
  maxAttempts: number;
  hash: number[];
  origin: string;
  deadline: number;
  notBefore: number;
  body: Buffer;
  source: number;
  number: number;
}

function seen({ mailbox, type, head, origin, body }: Item, source = -1, number = 0): Seen {
  const { kind, priority, maxAttempts, hash, deadline, notBefore } = head;
  const flags = head.flags | (deadline > 0 ? Flag.deadline : 0) | (notBefore > 0 ? Flag.delay : 0);
  return {
    mailbox,
    type,
    kind,
    priority,
    flags,
    maxAttempts,
    hash: [...hash],
    origin,
    deadline,
    notBefore,
    body: Buffer.from(body),
    source,
    number,
  };
}

const cache = new TextCache(64);

function readAll(record: Uint8Array): { tag: number; accepted: number; count: number; entries: Seen[] } {
  const result = { tag: 0, accepted: 0, count: 0, entries: [] as Seen[] };
  let names: readonly string[] = [];
  readTasks(record, new Entry(), cache, {
    begin(tag, accepted, count, known) {
      Object.assign(result, { tag, accepted, count });
      names = known;
    },
    entry(entry, index, source, number) {
      expect(index).toBe(result.entries.length);
      const { kind, priority, flags, maxAttempts, a, b, c, d, deadline, notBefore, offset, length } = entry;
      expect(entryLength(record, offset)).toBe(length);
      expect(entryMaxAttempts(record, offset)).toBe(maxAttempts);
      result.entries.push({
        mailbox: names[entry.mailbox]!,
        type: names[entry.type]!,
        kind,
        priority,
        flags,
        maxAttempts,
        hash: [a, b, c, d],
        origin: entryOrigin(record, offset),
        deadline,
        notBefore,
        body: Buffer.from(entryBody(record, offset)),
        source,
        number,
      });
    },
  });
  return result;
}

describe('a record of tasks', () => {
  test('is read as it was written, parcels of other shards with their numbers', () => {
    const writer = new TasksRecordWriter();
    const group = fc.record({
      source: uint16,
      number: fc.maxSafeNat().map((n) => Math.floor(n / 2)),
      items: fc.array(item, { maxLength: 4 }),
    });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(item, group), { maxLength: 6 }),
        uint32,
        time,
        bytes,
        (parts, tag, accepted, before) => {
          const expected: Seen[] = [];
          for (const part of parts) {
            if ('items' in part) {
              const parcels = part.items.map(({ mailbox, type, head, body }) => ({
                mailbox,
                type,
                entry: encodeEntry(head, body),
              }));
              writer.forward(part.source, part.number, parcels);
              for (const [index, one] of part.items.entries())
                expected.push(seen(one, part.source, part.number + index));
            } else {
              const frame = Buffer.concat([before, part.body, before]);
              writer.add(
                part.mailbox,
                part.type,
                part.head,
                frame,
                before.length,
                before.length + part.body.length,
              );
              expected.push(seen(part));
            }
          }
          expect(writer.count).toBe(expected.length);
          expect(readAll(writer.finish(tag, accepted))).toEqual({
            tag,
            accepted,
            count: expected.length,
            entries: expected,
          });
        },
      ),
      { numRuns: 300 },
    );
  });

  test('takes what fits, and one task however large', () => {
    const writer = new TasksRecordWriter();
    const head = { ...fc.sample(item, 1)[0]!.head, deadline: 0, notBefore: 0 };
    const large = Buffer.alloc(RECORD_BYTES * 2);
    expect(writer.fits(large.length)).toBe(true);
    writer.add('x', 't', head, large, 0, large.length);
    expect(writer.fits(0)).toBe(false);
    expect(readAll(writer.finish(1, 1)).entries[0]!.body).toHaveLength(large.length);
    expect(writer.fits(large.length)).toBe(true);

    let count = 0;
    for (; writer.fits(0); count++) writer.add('x', 't', head, large, 0, 0);
    expect(count).toBeLessThanOrEqual(RECORD_TASKS);
    expect(writer.finish(1, 1).length).toBeLessThanOrEqual(RECORD_BYTES + 1024);
  });

  test('cut short or of another kind is an error, never a shorter record', () => {
    const writer = new TasksRecordWriter();
    fc.assert(
      fc.property(fc.array(item, { minLength: 1, maxLength: 3 }), fc.nat(), (items, cut) => {
        for (const { mailbox, type, head, body } of items)
          writer.add(mailbox, type, head, body, 0, body.length);
        const record = writer.finish(1, 1);
        expect(() => readAll(record.subarray(0, cut % record.length))).toThrow();
      }),
    );
    expect(() => readAll(Buffer.alloc(64))).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });
});

type Call = {
  [Name in keyof OwnerOperations]: [Name, ...Parameters<OwnerOperations[Name]>];
}[keyof OwnerOperations];

const reason = fc.constantFrom(...DEATHS);
const entry = item.map(({ head, body }) => encodeEntry(head, body));
const death = fc.option(fc.record({ reason, error: text, at: time }), { nil: undefined });
const copied = fc.record({
  order,
  tag: uint32,
  slot: uint32,
  mailbox: text,
  type: text,
  accepted: time,
  attempts: uint8,
  deliveries: uint16,
  notBefore: time,
  deadline: time,
  flags: uint8,
  session,
  death,
});
const posting = fc.record({ destination: uint16, number: time, mailbox: text, type: text, entry });

/** Anything that an owner may decide. Runs of the same operation are frequent, as in life. */
const call: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(
      fc.constant('lease' as const),
      fc.constantFrom('', '00000001000000ff'),
      order,
      uint32,
      uint32,
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(
      fc.constant('finish' as const),
      order,
      uint32,
      uint32,
      fc.integer({ min: 0, max: 5 }),
    ),
  },
  { weight: 2, arbitrary: fc.tuple(fc.constant('drop' as const), order, uint32, uint32) },
  fc.tuple(fc.constant('release' as const), order, uint32, uint32, uint16, time, fc.boolean()),
  fc.tuple(fc.constant('kill' as const), order, uint32, uint32, uint16, reason, text, fc.boolean()),
  fc.tuple(fc.constant('revive' as const), order, uint32, uint32),
  fc.tuple(fc.constant('fanout' as const), fc.array(text, { maxLength: 4 }), text, entry),
  fc.tuple(fc.constant('copy' as const), copied, entry),
  fc.tuple(fc.constant('post' as const), posting),
  fc.tuple(fc.constant('forwarded' as const), uint16, time),
  fc.tuple(fc.constant('expect' as const), text, text, text, text),
  fc.tuple(fc.constant('resolved' as const), text, text, fc.integer({ min: 0, max: 5 })),
  fc.tuple(fc.constant('checkpoint' as const), bytes),
);

/** Something that an owner's decisions are told to, and that notes them. */
function notebook(): { calls: unknown[]; operations: OwnerOperations } {
  const calls: unknown[] = [];
  const operations = new Proxy({} as OwnerOperations, {
    get:
      (_target, operation) =>
      (...said: unknown[]) => {
        calls.push([operation, ...said.map(plain)]);
      },
  });
  return { calls, operations };
}

/** With one kind of byte array, so that calls compare. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

function tell(to: OwnerOperations, [operation, ...said]: Call): void {
  (to[operation] as (...values: unknown[]) => void).apply(to, said);
}

describe("an owner's record", () => {
  test('says again what was decided, in order', () => {
    const writer = new OwnerRecordWriter();
    const epoch = fc.record({ revision: uint32, counter: uint32 });
    fc.assert(
      fc.property(
        fc.array(call, { maxLength: 20 }),
        uint32,
        epoch,
        time,
        fc.boolean(),
        (calls, tag, at, now, beginsEpoch) => {
          expect(writer.empty).toBe(true);
          for (const one of calls) tell(writer, one);
          const record = writer.finishRecord(tag, at, now, beginsEpoch);
          expect(readOwnerHead(record)).toEqual({ tag, epoch: at, now, beginsEpoch });
          const { calls: heard, operations } = notebook();
          readOwner(record, cache, operations);
          expect(heard).toEqual(calls.map(([operation, ...said]) => [operation, ...said.map(plain)]));
        },
      ),
      { numRuns: 500 },
    );
  });

  test('of a later version is refused with what to do', () => {
    const writer = new OwnerRecordWriter();
    const record = writer.finishRecord(1, { revision: 1, counter: 1 }, 1, false);
    record[1] = 99;
    expect(() => readOwnerHead(record)).toThrow(
      expect.objectContaining({ code: 'corrupt', message: expect.stringContaining('version 99') }),
    );
    record[1] = 1;
    const unknown = Buffer.concat([record, Buffer.from([200])]);
    expect(() => readOwner(unknown, cache, notebook().operations)).toThrow(
      expect.objectContaining({ code: 'corrupt' }),
    );
  });

  test('cut short is an error, or the decisions up to there', () => {
    const writer = new OwnerRecordWriter();
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 5 }), fc.nat(), (calls, cut) => {
        for (const one of calls) tell(writer, one);
        const record = writer.finishRecord(1, { revision: 1, counter: 1 }, 1, false);
        const { calls: heard, operations } = notebook();
        const head = record.length - (cut % record.length);
        try {
          readOwner(record.subarray(0, head), cache, operations);
        } catch {
          // Cut in the middle of a decision.
        }
        const whole = calls.map(([operation, ...said]) => [operation, ...said.map(plain)]);
        expect(whole.slice(0, heard.length)).toEqual(heard);
      }),
    );
  });
});
