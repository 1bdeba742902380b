import { describe, expect, test } from '@jest/globals';
import { HEADER_BYTES, OVERHEAD, segmentName } from '../../../src/log/segment.ts';
import type { HubError } from '../../../src/std/errors.ts';
import type { Logger } from '../../../src/std/logger.ts';
import { silent } from '../../../src/std/logger.ts';
import { owner, tasks } from '../../support/log-reader.ts';
import { SimLogs } from '../../support/sim-log.ts';

const FIRST = segmentName(1);
/** Where the first record of a segment is: after the header and the mark of two shards. */
const START = HEADER_BYTES + OVERHEAD + 2 * 16;

/** A closed log with records `1`, `two` and `three33` in shard 0, and where each of them is. */
function threeRecords(): { logs: SimLogs; content: Buffer; places: number[]; end: number } {
  const logs = new SimLogs();
  const log = logs.open({ segmentBytes: 4096 });
  const places: number[] = [];
  let end = START;
  for (const text of ['1', 'two', 'three33']) {
    logs.append(log, 0, tasks(text));
    places.push(end);
    end += OVERHEAD + text.length;
  }
  return { logs, content: logs.disk.content(FIRST), places, end };
}

function failure(open: () => unknown): HubError {
  try {
    open();
  } catch (error) {
    return error as HubError;
  }
  throw new Error('it opened');
}

function warnings(): { logger: Logger; messages: string[] } {
  const messages: string[] = [];
  return { logger: { ...silent, warn: (_fields, message) => messages.push(message) }, messages };
}

describe('recovery', () => {
  test('finds every record of a log that was not closed', () => {
    const { logs } = threeRecords();
    const { logger, messages } = warnings();
    const log = logs.reopen('kill', { logger });
    expect(logs.read(log, 0).map(({ text }) => text)).toEqual(['1', 'two', 'three33']);
    expect(messages).toEqual([]);
  });

  describe('of a torn last write', () => {
    const { content, places, end } = threeRecords();
    const last = places[2] as number;
    const tears: [string, (at: number) => Buffer][] = [
      ['ends', (at) => content.subarray(0, at)],
      ['turns to zeros', (at) => Buffer.concat([content.subarray(0, at), Buffer.alloc(content.length - at)])],
      [
        'turns to rubbish',
        (at) => Buffer.concat([content.subarray(0, at), Buffer.alloc(end - at + 9, 0xa6)]),
      ],
    ];
    test.each(tears)('cuts it off, wherever the file %s', (_how, tear) => {
      for (let at = last; at < end; at++) {
        const logs = new SimLogs();
        logs.disk.replace(FIRST, tear(at));
        const { logger, messages } = warnings();
        const log = logs.open({ logger });
        expect(logs.read(log, 0).map(({ text }) => text)).toEqual(['1', 'two']);
        expect(logs.append(log, 0, tasks('again'))).toEqual([3]);
        const reopened = logs.reopen('crash');
        expect(logs.read(reopened, 0).map(({ text }) => text)).toEqual(['1', 'two', 'again']);
        if (tear(at)[at] !== 0 && tear(at).length > at) expect(messages.join()).toMatch(/torn/);
      }
    });

    test('cuts off a whole group of which only later parts reached the disk', () => {
      const logs = new SimLogs();
      const log = logs.open({ segmentBytes: 8192 });
      logs.append(log, 0, tasks('kept'));
      logs.append(log, 0, tasks('a'.repeat(500)), tasks('b'.repeat(500)), tasks('c'.repeat(500)));
      const torn = logs.disk.content(FIRST);
      torn.fill(0, START + OVERHEAD + 4, START + OVERHEAD + 4 + 100);
      logs.disk.replace(FIRST, torn);
      const again = logs.reopen('kill');
      expect(logs.read(again, 0).map(({ text }) => text)).toEqual(['kept']);
    });
  });

  describe('of damage', () => {
    test('names the file and the offset of any damaged byte before the last write, and what to do', () => {
      const { content, places } = threeRecords();
      for (const place of [places[0] as number, places[1] as number]) {
        for (
          let at = place;
          at < (place === places[0] ? (places[1] as number) : (places[2] as number));
          at++
        ) {
          const logs = new SimLogs();
          const damaged = Buffer.from(content);
          damaged[at] = (damaged[at] as number) ^ 0x10;
          logs.disk.replace(FIRST, damaged);
          const error = failure(() => logs.open());
          expect(error.code).toBe('corrupt');
          expect(error.message).toContain(`sim/${FIRST} is damaged at offset ${place}`);
          expect(error.message).toMatch(/[Rr]estore .* from a backup/);
          expect(logs.disk.content(FIRST).equals(damaged)).toBe(true);
        }
      }
    });

    test('refuses a damaged header of a segment with records', () => {
      const { content } = threeRecords();
      for (let at = 0; at < HEADER_BYTES; at++) {
        const logs = new SimLogs();
        const damaged = Buffer.from(content);
        damaged[at] = (damaged[at] as number) ^ 0x01;
        logs.disk.replace(FIRST, damaged);
        expect(failure(() => logs.open()).code).toBe('corrupt');
      }
    });

    const manySegments = (): SimLogs => {
      const logs = new SimLogs();
      const log = logs.open({ segmentBytes: 1024 });
      for (let i = 0; i < 20; i++) logs.append(log, i % 2, tasks(`${i}`.repeat(100)));
      expect(logs.disk.names().length).toBeGreaterThan(4);
      return logs;
    };

    test('refuses a torn end of any segment but the last', () => {
      const logs = manySegments();
      const content = logs.disk.content(segmentName(2));
      logs.disk.replace(segmentName(2), content.subarray(0, 600));
      expect(failure(() => logs.reopen('kill')).code).toBe('corrupt');
    });

    test('refuses a store that lacks a segment', () => {
      const logs = manySegments();
      logs.disk.delete(segmentName(2));
      const error = failure(() => logs.reopen('kill'));
      expect(error.code).toBe('corrupt');
      expect(error.message).toMatch(/records of shard \d are missing \(\d+ to \d+\)/);
    });

    test('refuses a segment of another store', () => {
      const logs = manySegments();
      const other = new SimLogs();
      const log = other.open({ generation: 'f'.repeat(32), segmentBytes: 1024 });
      for (let i = 0; i < 6; i++) other.append(log, 0, tasks('x'.repeat(300)));
      logs.disk.replace(segmentName(2), other.disk.content(segmentName(2)));
      const error = failure(() => logs.reopen('kill'));
      expect(error.code).toBe('corrupt');
      expect(error.message).toContain('another store');
    });

    test('is not fooled by records inside of records', () => {
      const { content, places } = threeRecords();
      const logs = new SimLogs();
      const log = logs.open();
      const inner = content.subarray(0, (places[2] as number) + 30).toString('latin1');
      logs.append(log, 0, tasks('before'));
      logs.append(log, 0, tasks(inner));
      const torn = logs.disk.content(FIRST);
      torn.fill(0, START + OVERHEAD + 6, START + OVERHEAD + 6 + OVERHEAD);
      logs.disk.replace(FIRST, torn);
      const again = logs.reopen('kill');
      expect(logs.read(again, 0).map(({ text }) => text)).toEqual(['before']);
    });
  });

  describe('of a store made differently', () => {
    test('says which number of shards to set', () => {
      const { logs } = threeRecords();
      const error = failure(() => logs.reopen('kill', { shards: 16 }));
      expect(error).toMatchObject({ code: 'precondition', field: 'shards' });
      expect(error.message).toContain('set shards to 2');
    });

    test('keeps the name it was made with', () => {
      const { logs } = threeRecords();
      const made = logs.reopen('kill', { generation: 'f'.repeat(32) });
      expect(made.generation).toBe('0123456789abcdef0123456789abcdef');
    });
  });

  test.each(['a', 'f4b7d1c2-6a53-4a53-9f0e-0123456789ab', 'x'.repeat(40)])(
    'finds a store named %s',
    (generation) => {
      const logs = new SimLogs();
      logs.append(logs.open({ generation }), 0, tasks('first'));
      const log = logs.reopen('kill');
      expect(log.generation).toBe(generation);
      expect(logs.read(log, 0)).toHaveLength(1);
    },
  );

  test.each(['', 'x'.repeat(41), 'ü'])('makes no store named %p', (generation) => {
    const logs = new SimLogs();
    expect(failure(() => logs.open({ generation }))).toMatchObject({ code: 'invalid', field: 'generation' });
    expect(logs.disk.names()).toEqual([]);
  });

  test('removes a segment that was never finished', () => {
    const { content } = threeRecords();
    for (const left of [0, 1, 20, HEADER_BYTES, START - 1]) {
      for (const size of [left, 4096]) {
        const logs = new SimLogs();
        logs.disk.replace(FIRST, content);
        const unfinished = Buffer.alloc(size);
        content.copy(unfinished, 0, 0, left);
        logs.disk.replace(segmentName(2), unfinished);
        const log = logs.open();
        expect(logs.disk.names()).toEqual([FIRST]);
        expect(logs.append(log, 0, tasks('next'))).toEqual([4]);
      }
    }
  });

  test('starts anew in a store whose very first segment was never finished', () => {
    const logs = new SimLogs();
    logs.disk.replace(FIRST, Buffer.alloc(4096));
    expect(logs.append(logs.open(), 0, tasks('first'))).toEqual([1]);
  });

  test('leaves other files in the folder alone', () => {
    const logs = new SimLogs();
    logs.disk.replace('notes.txt', Buffer.from('mine'));
    logs.append(logs.open(), 0, tasks('first'));
    const log = logs.reopen('kill');
    expect(logs.read(log, 0)).toHaveLength(1);
    expect(logs.disk.names()).toContain('notes.txt');
  });

  test('knows the last owner of each shard', () => {
    const logs = new SimLogs();
    const log = logs.open();
    logs.append(log, 0, owner('one'), tasks('x'), owner('two'), tasks('y'));
    logs.append(log, 1, tasks('z'));
    const again = logs.reopen('kill');
    expect(logs.append(again, 0, owner('stale', 1))).toEqual(['aborted']);
    expect(logs.append(again, 0, owner('next', 3))).toEqual([5]);
    expect(logs.append(again, 1, owner('first', 0))).toEqual([2]);
  });
});
