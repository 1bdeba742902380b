import { describe, expect, test } from '@jest/globals';
import { append as appendTo, owner, Recorder, tasks } from '../../support/log-reader.ts';
import { SimLogs } from '../../support/sim-log.ts';

describe('group commit', () => {
  test('what comes while a commit is on its way leaves as one with the next', () => {
    const logs = new SimLogs({ delayMs: () => 5 });
    const log = logs.open();
    const before = logs.disk.counts.get('write') ?? 0;
    const answered: number[] = [];
    for (let i = 0; i < 100; i++) log.append(i % 2, tasks(`${i}`), () => answered.push(i));
    logs.clock.advance(1);
    for (let i = 100; i < 200; i++) log.append(i % 2, tasks(`${i}`), () => answered.push(i));
    logs.clock.advance(4);
    expect(answered).toHaveLength(100);
    logs.clock.advance(5);
    expect(answered).toHaveLength(200);
    expect((logs.disk.counts.get('write') ?? 0) - before).toBe(2);
    expect(logs.disk.counts.get('sync') ?? 0).toBe(0);
  });

  test('one commit is never larger than what the disk takes in a moment', () => {
    const logs = new SimLogs();
    const log = logs.open();
    const before = logs.disk.counts.get('write') ?? 0;
    logs.append(log, 0, ...Array.from({ length: 2000 }, () => tasks('small')));
    expect((logs.disk.counts.get('write') ?? 0) - before).toBe(4);
  });
});

describe('durability', () => {
  test('is synced if every answer waits for the flush, and stored otherwise', () => {
    expect(new SimLogs().open({ sync: 'always' }).durability).toBe('synced');
    expect(new SimLogs().open({ sync: 'interval' }).durability).toBe('stored');
    expect(new SimLogs().open({ sync: 'none' }).durability).toBe('stored');
  });

  test('with sync always, the loss of power takes nothing that was acknowledged', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const logs = new SimLogs({ seed, delayMs: () => 1 });
      const log = logs.open();
      expect(logs.append(log, 0, tasks('a'), tasks('b'))).toEqual([1, 2]);
      log.append(0, tasks('c'), () => {});
      const again = logs.reopen('crash');
      expect(
        logs
          .read(again, 0)
          .slice(0, 2)
          .map(({ text }) => text),
      ).toEqual(['a', 'b']);
    }
  });

  test('with sync interval, the loss of power takes at most what came since', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const logs = new SimLogs({ seed });
      const log = logs.open({ sync: 'interval', syncIntervalMs: 100 });
      logs.append(log, 0, tasks('old'));
      logs.clock.advance(101);
      logs.append(log, 0, tasks('new'));
      const again = logs.reopen('crash');
      expect(logs.read(again, 0)[0]?.text).toBe('old');
    }
  });

  test.each(['always', 'interval', 'none'] as const)(
    'with sync %s, the death of the process takes nothing',
    (sync) => {
      const logs = new SimLogs();
      const log = logs.open({ sync });
      logs.append(log, 0, tasks('a'), tasks('b'));
      expect(logs.read(logs.reopen('kill', { sync }), 0)).toHaveLength(2);
    },
  );
});

describe('a full disk', () => {
  test('refuses the appends, shows nothing of them later, and goes on when there is room', () => {
    for (let seed = 1; seed <= 30; seed++) {
      const logs = new SimLogs({ seed });
      const log = logs.open();
      const recorder = new Recorder();
      log.read(0, 1, recorder);
      logs.append(log, 0, tasks('before'), owner('owner'));
      logs.disk.failNext('write', 'ENOSPC');
      expect(logs.append(log, 0, tasks('lost'), owner('lost', 2), tasks('x'.repeat(3000)))).toEqual([
        'exhausted',
        'exhausted',
        'exhausted',
      ]);
      expect(log.extent(0).last).toBe(2);
      expect(recorder.sequences).toEqual([1, 2]);
      expect(logs.append(log, 0, owner('after', 2))).toEqual([3]);
      const again = logs.reopen(seed % 2 === 0 ? 'kill' : 'crash');
      expect(logs.read(again, 0).map(({ text }) => text)).toEqual(['before', 'owner', 'after']);
    }
  });

  test('says that there is no room, and when to try again', () => {
    const logs = new SimLogs({ capacity: 20_000 });
    const log = logs.open({ segmentBytes: 4096 });
    log.room();
    logs.clock.run();
    expect(log.room()).toBeLessThanOrEqual(20_000);
    const outcomes: unknown[] = [];
    for (let i = 0; i < 30; i++) {
      log.append(0, tasks('x'.repeat(1000)), (error) => outcomes.push(error));
      logs.clock.run();
    }
    expect(outcomes[0]).toBeUndefined();
    expect(outcomes.at(-1)).toMatchObject({ code: 'exhausted', limit: 'disk', retryAfterMs: 1000 });
    logs.clock.advance(1000);
    log.room();
    logs.clock.run();
    expect(log.room()).toBeLessThan(2000);
    log.truncate(0, log.extent(0).last);
    logs.clock.run();
    expect(logs.append(log, 0, tasks('x'.repeat(1000)))).toEqual([log.extent(0).last]);
  });
});

describe('a broken disk', () => {
  const breaks = [
    ['a write that fails', 'always', 'write'],
    ['a flush that fails', 'interval', 'sync'],
  ] as const;

  test.each(breaks)('%s ends the log: no append is answered as stored any more', (_name, sync, operation) => {
    const logs = new SimLogs();
    const log = logs.open({ sync, syncIntervalMs: 10 });
    const recorder = new Recorder();
    log.read(0, 1, recorder);
    logs.append(log, 0, tasks('before'));
    logs.disk.failNext(operation, 'EIO');
    const outcome = logs.append(log, 0, tasks('at the break'))[0];
    expect(outcome).toBe(operation === 'write' ? 'unavailable' : 2);
    logs.clock.advance(20);
    expect(logs.append(log, 0, tasks('after'), owner('after'))).toEqual(['unavailable', 'unavailable']);
    expect(recorder.error).toMatchObject({ code: 'unavailable' });
    expect(recorder.error?.message).toMatch(/restart the broker/);
    const late = new Recorder();
    log.read(0, 1, late);
    logs.clock.run();
    expect(late.error?.code).toBe('unavailable');
  });

  test('an unacknowledged record does not come back after a failed write', () => {
    for (let seed = 1; seed <= 30; seed++) {
      const logs = new SimLogs({ seed });
      const log = logs.open();
      logs.append(log, 0, tasks('before'));
      logs.disk.failNext('write', 'EIO');
      logs.append(log, 0, tasks('x'.repeat(2000)));
      expect(logs.read(logs.reopen('crash'), 0).map(({ text }) => text)).toEqual(['before']);
    }
  });

  test('a record that can not be read any more ends the reading, not the log', () => {
    const logs = new SimLogs();
    const log = logs.open();
    logs.append(log, 0, tasks('a'), tasks('second'));
    const name = logs.disk.names()[0] as string;
    const damaged = logs.disk.content(name);
    damaged.write('X', damaged.indexOf('second'));
    logs.disk.replace(name, damaged);
    const recorder = new Recorder();
    log.read(0, 1, recorder);
    logs.clock.run();
    expect(recorder.sequences).toEqual([1]);
    expect(recorder.error?.code).toBe('corrupt');
    expect(recorder.error?.message).toContain(name);
    expect(logs.append(log, 0, tasks('c'))).toEqual([3]);
  });

  test('can be closed, as a full one can', async () => {
    const full = new SimLogs();
    const filled = full.open();
    full.append(filled, 0, tasks('a'));
    filled.truncate(0, 2);
    full.disk.capacity = 0;
    await full.close(filled);

    const logs = new SimLogs();
    const log = logs.open();
    logs.disk.failNext('write', 'EIO');
    const outcome = appendTo(log, 0, tasks('a'));
    await logs.close(log);
    expect(await outcome).toBe('unavailable');
  });
});

describe('conditional appends', () => {
  test('count on owner records that are still on their way', () => {
    const logs = new SimLogs({ delayMs: () => 5 });
    const log = logs.open();
    expect(logs.append(log, 0, owner('a', 0), owner('b', 1), owner('stale', 1), owner('c', 2))).toEqual([
      1,
      2,
      'aborted',
      3,
    ]);
  });
});

describe('room', () => {
  /** Appends `count` records of 200 bytes to `shard`, with an owner record after every tenth. */
  function fill(logs: SimLogs, log: ReturnType<SimLogs['open']>, shard: number, count: number): void {
    for (let i = 0; i < count; i++) {
      logs.append(log, shard, i % 10 === 9 ? owner('o'.repeat(200)) : tasks('t'.repeat(200)));
    }
  }

  test('of forgotten records is given back, and stays so after a restart', () => {
    const logs = new SimLogs();
    const log = logs.open({ segmentBytes: 2048 });
    fill(logs, log, 0, 100);
    expect(logs.disk.names().length).toBeGreaterThan(10);
    log.truncate(0, 101);
    logs.clock.run();
    expect(logs.disk.names().length).toBeLessThanOrEqual(2);
    const again = logs.reopen('crash');
    expect(again.extent(0)).toMatchObject({ first: 100, last: 100 });
  });

  test('is not pinned by the last records of quiet shards', () => {
    const logs = new SimLogs();
    const shards = 12;
    const log = logs.open({ segmentBytes: 2048, shards });
    for (let shard = 1; shard < shards; shard++) {
      logs.append(log, shard, tasks('unclaimed'), owner('quiet'));
      fill(logs, log, 0, 20);
      log.truncate(0, log.extent(0).last + 1);
      logs.clock.run();
    }
    expect(logs.disk.names()).not.toContain('000000000001.log');
    expect(logs.disk.names().length).toBeLessThanOrEqual(6);
    const quiet = [
      { sequence: 1, subject: 'tasks', text: 'unclaimed' },
      { sequence: 2, subject: 'owner', text: 'quiet' },
    ];
    for (let shard = 1; shard < shards; shard++) expect(logs.read(log, shard)).toEqual(quiet);
    const again = logs.reopen('crash', { shards });
    for (let shard = 1; shard < shards; shard++) expect(logs.read(again, shard)).toEqual(quiet);
    expect(logs.append(again, 1, owner('next', 2))).toEqual([3]);
  });

  test('on a limited disk is made even if little is wasted', () => {
    const logs = new SimLogs();
    const log = logs.open({ maxBytes: 64 * 1024 });
    for (let i = 0; i < 4000; i++) {
      logs.append(log, i % 8 === 0 ? 1 : 0, tasks('t'.repeat(100)));
      if (i % 20 === 0) {
        log.truncate(0, log.extent(0).last + 1);
        log.truncate(1, log.extent(1).last - 100);
        logs.clock.run();
      }
    }
    expect(log.extent(0).last + log.extent(1).last).toBe(4000);
    expect(logs.read(log, 1).length).toBeGreaterThan(100);
  });

  test('is not given back while a removal fails', () => {
    const logs = new SimLogs();
    const log = logs.open({ segmentBytes: 2048 });
    fill(logs, log, 0, 50);
    logs.disk.failNext('remove', 'EIO');
    log.truncate(0, 51);
    logs.clock.run();
    const left = logs.disk.names().length;
    expect(left).toBeGreaterThan(4);
    fill(logs, log, 0, 10);
    log.truncate(0, 61);
    logs.clock.run();
    expect(logs.disk.names().length).toBeLessThan(4);
  });
});
