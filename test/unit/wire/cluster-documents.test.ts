import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { HubError } from '../../../src/std/errors.ts';
import {
  readAssignment,
  readMember,
  readPulse,
  readWant,
  writeAssignment,
  writeMember,
  writePulse,
  writeWant,
} from '../../../src/wire/cluster-documents.ts';

const count = fc.nat(2 ** 31);
const name = fc.string({ minLength: 1 });

const member = fc.record({
  id: name,
  address: fc.string(),
  joinedAt: fc.nat(),
  version: fc.string(),
  level: count,
  draining: fc.boolean(),
  pool: name,
});
const assignment = fc.record({
  owners: fc.array(fc.string()),
  pins: fc.dictionary(fc.nat(1000).map(String), name, { noNullPrototype: true }),
});
const pulse = fc.record({
  id: name,
  n: count,
  leaving: fc.boolean(),
  claims: fc.array(fc.tuple(count, count, count)),
  vitals: fc.record({
    loadScore: fc.integer({ min: 0, max: 100 }).map((percent) => percent / 100),
    agents: count,
    sessions: count,
    tasksPerSecond: fc.nat(),
    full: fc.array(fc.tuple(count, fc.string(), fc.string())),
    recipients: fc.array(fc.tuple(count, count)),
  }),
});
const want = fc.record({ shard: count, by: name, revision: count });

describe('the documents of a cluster', () => {
  test('are read as they were written', () => {
    fc.assert(
      fc.property(member, assignment, pulse, want, (one, two, three, four) => {
        expect(readMember(writeMember(one))).toEqual(one);
        expect(readAssignment(writeAssignment(two))).toEqual(two);
        expect(readPulse(writePulse(three))).toEqual(three);
        expect(readWant(writeWant(four))).toEqual(four);
      }),
    );
  });

  test('may have more than this version knows', () => {
    fc.assert(
      fc.property(member, pulse, (one, two) => {
        expect(readMember(JSON.stringify({ ...one, news: [1] }))).toEqual(one);
        const vitals = { ...two.vitals, news: {} };
        expect(readPulse(Buffer.from(JSON.stringify({ ...two, vitals, news: null })))).toEqual(two);
      }),
    );
    expect(readAssignment('{"owners":["a"],"news":1}')).toEqual({ owners: ['a'], pins: {} });
  });

  test.each([
    '',
    '{',
    'null',
    '[]',
    '{"owners":[1]}',
    '{"owners":[],"pins":{"x":"a"}}',
    '{"owners":[],"pins":[]}',
  ])('are refused if they are none: %s', (text) => {
    for (const read of [
      () => readMember(text),
      () => readAssignment(text),
      () => readPulse(Buffer.from(text)),
      () => readWant(Buffer.from(text)),
    ]) {
      expect(read).toThrow(HubError);
    }
  });

  test('say which member is wrong', () => {
    const text = writeMember({
      id: 'a',
      address: '',
      joinedAt: 0,
      version: '',
      level: 0,
      draining: false,
      pool: 'p',
    });
    expect(() => readMember(text.replace('false', '"no"'))).toThrow(/^no document of a member: draining: /);
  });
});
