import { afterEach, describe, expect, test } from '@jest/globals';
import { DURABILITY, type Log } from '../../src/log/log.ts';
import type { HubError } from '../../src/std/errors.ts';
import { append, type Outcome, owner, readAll, Recorder, tasks } from '../support/log-reader.ts';

/** A log made for one test. */
export interface LogFixture {
  readonly log: Log;
  /** Opens the store of a log that was closed again; absent if that log is gone then. */
  readonly reopen?: () => Promise<Log>;
  /** Removes everything. The logs are closed by then. */
  readonly dispose: () => Promise<void>;
}

/** What a fixture is asked for. */
export interface LogWishes {
  readonly shards: number;
  /** How many bytes it may hold. */
  readonly maxBytes?: number;
}

/** Gives the loop `turns` turns, for what must not happen to happen. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** What every log promises; see `src/log/log.ts`. `make` gives an empty log. */
export function describeLog(name: string, make: (wishes: LogWishes) => Promise<LogFixture>): void {
  describe(name, () => {
    const open: Log[] = [];
    const fixtures: LogFixture[] = [];

    const fixture = async (wishes: Partial<LogWishes> = {}): Promise<LogFixture> => {
      const made = await make({ shards: 4, ...wishes });
      fixtures.push(made);
      open.push(made.log);
      return made;
    };
    const fresh = async (wishes: Partial<LogWishes> = {}): Promise<Log> => (await fixture(wishes)).log;
    const restart = async ({ log, reopen }: LogFixture): Promise<Log | undefined> => {
      await log.close();
      const again = await reopen?.();
      if (again !== undefined) open.push(again);
      return again;
    };

    afterEach(async () => {
      for (const log of open.splice(0)) await log.close();
      for (const { dispose } of fixtures.splice(0)) await dispose();
    });

    test('says how durable it is and how many shards it has', async () => {
      const log = await fresh({ shards: 3 });
      expect(DURABILITY).toContain(log.durability);
      expect(log.shards).toBe(3);
    });

    test('an empty shard begins at 1', async () => {
      const log = await fresh();
      expect(log.extent(2)).toEqual({ first: 1, last: 0, bytes: 0 });
      expect(await readAll(log, 2)).toEqual([]);
    });

    describe('appending', () => {
      test('numbers the records of each shard in the order of their appends', async () => {
        const log = await fresh();
        const outcomes: Promise<Outcome>[] = [];
        for (let i = 0; i < 40; i++) outcomes.push(append(log, i % 4, tasks(`${i}`)));
        expect(await Promise.all(outcomes)).toEqual(
          Array.from({ length: 40 }, (_, i) => Math.floor(i / 4) + 1),
        );
        for (let shard = 0; shard < 4; shard++) {
          const texts = (await readAll(log, shard)).map(({ text }) => Number(text));
          expect(texts).toEqual(Array.from({ length: 10 }, (_, i) => 4 * i + shard));
        }
      });

      test('answers each append exactly once, in order, and never before it returned', async () => {
        const log = await fresh();
        const answered: number[] = [];
        const all = Promise.withResolvers<void>();
        for (let i = 0; i < 500; i++) {
          let returned = false;
          log.append(0, tasks(`${i}`), (error, sequence) => {
            expect(returned).toBe(true);
            expect(error).toBeUndefined();
            answered.push(sequence);
            if (answered.length === 500) all.resolve();
          });
          returned = true;
        }
        await all.promise;
        await turns(20);
        expect(answered).toEqual(Array.from({ length: 500 }, (_, i) => i + 1));
      });

      test('takes appends made in the middle of an answer', async () => {
        const log = await fresh();
        const last = Promise.withResolvers<number>();
        const next = (error: HubError | undefined, sequence: number): void => {
          if (error !== undefined) last.reject(error);
          else if (sequence === 20) last.resolve(sequence);
          else log.append(0, tasks('more'), next);
        };
        log.append(0, tasks('first'), next);
        expect(await last.promise).toBe(20);
        expect(await readAll(log, 0)).toHaveLength(20);
      });

      test('counts what a shard retains', async () => {
        const log = await fresh();
        await append(log, 1, tasks('four'));
        await append(log, 1, owner('seven77'));
        expect(log.extent(1)).toEqual({ first: 1, last: 2, bytes: 11 });
        expect(log.extent(0)).toEqual({ first: 1, last: 0, bytes: 0 });
      });

      test('keeps records of any content and of sizes from 0 to 4 MiB', async () => {
        const log = await fresh();
        const all256 = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i));
        const texts = ['', 'a', all256, 'x'.repeat(100_000), `${all256.repeat(16 * 1024)}`, 'after'];
        await Promise.all(texts.map((text) => append(log, 3, tasks(text))));
        const seen = await readAll(log, 3);
        expect(seen.map(({ text }) => text.length)).toEqual([0, 1, 256, 100_000, 4 * 1024 * 1024, 5]);
        expect(seen.every(({ text }, i) => text === texts[i])).toBe(true);
      });

      test('refuses a record that is too large, and stores nothing of it', async () => {
        const log = await fresh();
        const huge = { subject: 'tasks', bytes: new Uint8Array(32 * 1024 * 1024), id: 'huge' } as const;
        expect(await append(log, 0, huge)).toBe('invalid');
        expect(await append(log, 0, tasks('small'))).toBe(1);
      });
    });

    describe('conditional appends', () => {
      test('succeed only on top of the owner record they expect', async () => {
        const log = await fresh();
        expect(await append(log, 0, owner('first', 0))).toBe(1);
        expect(await append(log, 0, tasks('between'))).toBe(2);
        expect(await append(log, 0, owner('second', 1))).toBe(3);
        expect(await append(log, 0, owner('stale', 1))).toBe('aborted');
        expect(await append(log, 0, owner('wrong', 2))).toBe('aborted');
        expect(await append(log, 0, owner('none', 0))).toBe('aborted');
        expect(await append(log, 0, owner('third', 3))).toBe(4);
        expect((await readAll(log, 0)).map(({ text }) => text)).toEqual([
          'first',
          'between',
          'second',
          'third',
        ]);
      });

      test('know only the owner of their own shard', async () => {
        const log = await fresh();
        expect(await append(log, 0, owner('zero', 0))).toBe(1);
        expect(await append(log, 1, owner('one', 0))).toBe(1);
      });

      test('of two owners on the same position, exactly one goes on', async () => {
        const log = await fresh();
        let last = 0;
        for (let round = 0; round < 50; round++) {
          const rivals = [0, 1].map((rival) => append(log, 0, owner(`${round} ${rival}`, last)));
          const outcomes = await Promise.all(rivals);
          expect(outcomes.filter((outcome) => outcome === 'aborted')).toHaveLength(1);
          last = outcomes.find((outcome) => typeof outcome === 'number') as number;
        }
        expect(await readAll(log, 0)).toHaveLength(50);
      });

      test('an unconditional owner record fences the former owner off, whenever it comes', async () => {
        const log = await fresh();
        let former = (await append(log, 0, owner('epoch 1'))) as number;
        const accepted: number[] = [];
        let epoch = 0;
        for (let i = 0; i < 60; i++) {
          const racing = append(log, 0, owner(`old ${i}`, former));
          if (i === 30) epoch = (await append(log, 0, owner('epoch 2'))) as number;
          const outcome = await racing;
          if (typeof outcome !== 'number') continue;
          former = outcome;
          accepted.push(outcome);
        }
        expect(accepted.length).toBeGreaterThanOrEqual(30);
        expect(accepted.every((sequence) => sequence < epoch)).toBe(true);
        expect(await append(log, 0, owner('new', epoch))).toBe(epoch + 1);
      });
    });

    describe('reading', () => {
      test('gives subject and bytes of every record, then says once that it has caught up', async () => {
        const log = await fresh();
        await append(log, 0, tasks('a'));
        await append(log, 0, owner('b'));
        const recorder = new Recorder();
        const reading = log.read(0, 1, recorder);
        expect(recorder.seen).toEqual([]);
        await recorder.isCaughtUp();
        expect(recorder.caughtUpAt).toBe(2);
        expect(recorder.seen).toEqual([
          { sequence: 1, subject: 'tasks', text: 'a' },
          { sequence: 2, subject: 'owner', text: 'b' },
        ]);
        reading.stop();
      });

      test('goes on with every new record, not later than right after its answer', async () => {
        const log = await fresh();
        const recorder = new Recorder();
        log.read(0, 1, recorder);
        await recorder.isCaughtUp();
        for (let i = 1; i <= 20; i++) {
          await append(log, 0, tasks(`${i}`));
          await recorder.has(i);
        }
        expect(recorder.sequences).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
      });

      test('begins where it is told to', async () => {
        const log = await fresh();
        await Promise.all(Array.from({ length: 10 }, (_, i) => append(log, 0, tasks(`${i}`))));
        expect((await readAll(log, 0, 7)).map(({ sequence }) => sequence)).toEqual([7, 8, 9, 10]);
        expect(await readAll(log, 0, 11)).toEqual([]);
        const recorder = new Recorder();
        log.read(0, 12, recorder);
        await recorder.isCaughtUp();
        await append(log, 0, tasks('11'));
        await append(log, 0, tasks('12'));
        await recorder.has(12);
        expect(recorder.sequences).toEqual([12]);
      });

      test('misses and repeats nothing, whenever it begins while others append', async () => {
        const log = await fresh();
        const total = 600;
        const recorders: Recorder[] = [];
        const appended: Promise<Outcome>[] = [];
        for (let i = 0; i < total; i++) {
          appended.push(
            append(log, 0, i % 7 === 0 ? owner(`${i}`) : tasks(`${i}`)),
            append(log, 1, tasks('other')),
          );
          if (i % 50 === 0) {
            const recorder = new Recorder();
            recorders.push(recorder);
            log.read(0, 1, recorder);
            await turns(1 + (i % 3));
          }
        }
        await Promise.all(appended);
        for (const recorder of recorders) {
          await recorder.has(total);
          expect(recorder.seen.map(({ text }) => Number(text))).toEqual(
            Array.from({ length: total }, (_, i) => i),
          );
        }
      });

      test('gives many shards what is theirs, all at once', async () => {
        const shards = 64;
        const log = await fresh({ shards });
        const appended: Promise<Outcome>[] = [];
        for (let i = 0; i < shards * 20; i++) {
          const shard = (i * 37) % shards;
          appended.push(append(log, shard, tasks(`${shard} ${'x'.repeat(i % 300)}`)));
        }
        await Promise.all(appended);
        const all = await Promise.all(Array.from({ length: shards }, (_, shard) => readAll(log, shard)));
        for (const [shard, seen] of all.entries()) {
          expect(seen.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
          expect(seen.every(({ text }) => text.startsWith(`${shard} `))).toBe(true);
        }
      });

      test('ends at once when it is stopped', async () => {
        const log = await fresh();
        await Promise.all(Array.from({ length: 10 }, (_, i) => append(log, 0, tasks(`${i}`))));
        const recorder = new Recorder();
        const reading = log.read(0, 1, recorder);
        recorder.onRecord = (sequence) => {
          if (sequence === 4) reading.stop();
        };
        await recorder.has(4);
        await append(log, 0, tasks('more'));
        await turns(20);
        expect(recorder.sequences).toEqual([1, 2, 3, 4]);
        expect(recorder.caughtUpAt).toBeUndefined();
      });
    });

    describe('truncation', () => {
      test('forgets what is below, and nothing else', async () => {
        const log = await fresh();
        for (let i = 1; i <= 10; i++) await append(log, 0, i === 8 ? owner('owner') : tasks(`${i}`));
        log.truncate(0, 6);
        expect(log.extent(0)).toEqual({ first: 6, last: 10, bytes: 10 });
        expect((await readAll(log, 0)).map(({ sequence }) => sequence)).toEqual([6, 7, 8, 9, 10]);
        log.truncate(0, 3);
        expect(log.extent(0).first).toBe(6);
        expect(await append(log, 0, tasks('next'))).toBe(11);
      });

      test('never forgets the last owner record', async () => {
        const log = await fresh();
        await append(log, 0, owner('old'));
        await append(log, 0, owner('last'));
        await append(log, 0, tasks('done'));
        log.truncate(0, 4);
        expect((await readAll(log, 0))[0]).toEqual({ sequence: 2, subject: 'owner', text: 'last' });
        expect(await append(log, 0, owner('stale', 0))).toBe('aborted');
        expect(await append(log, 0, owner('next', 2))).toBe(4);
      });

      test('of everything leaves an empty shard that counts on', async () => {
        const log = await fresh();
        await append(log, 0, tasks('a'));
        await append(log, 0, tasks('b'));
        log.truncate(0, 1000);
        expect(log.extent(0)).toEqual({ first: 3, last: 2, bytes: 0 });
        expect(await readAll(log, 0)).toEqual([]);
        expect(await append(log, 0, tasks('c'))).toBe(3);
      });

      test('does not disturb those who read', async () => {
        const log = await fresh();
        const text = 'x'.repeat(2000);
        await Promise.all(Array.from({ length: 1000 }, () => append(log, 0, tasks(text))));
        await append(log, 0, owner('last'));
        const recorders = Array.from({ length: 3 }, () => new Recorder());
        for (const recorder of recorders) {
          log.read(0, 1, recorder);
          recorder.onRecord = (sequence) => log.truncate(0, sequence);
        }
        for (const recorder of recorders) {
          await recorder.has(1001);
          await recorder.isCaughtUp();
        }
        expect(log.extent(0).first).toBe(1001);
      });
    });

    describe('a full store', () => {
      test('refuses records, stores nothing of them, and takes them again once there is room', async () => {
        const log = await fresh({ maxBytes: 1024 * 1024 });
        const text = 'x'.repeat(10_000);
        const room = log.room();
        expect(room).toBeLessThanOrEqual(1024 * 1024);
        let stored = 0;
        let outcome: Outcome = 0;
        while (typeof outcome === 'number' && stored < 1000) {
          outcome = await append(log, 0, tasks(text));
          if (typeof outcome === 'number') stored = outcome;
        }
        expect(outcome).toBe('exhausted');
        expect(log.room()).toBeLessThan(10_000 + 100);
        expect(log.extent(0).last).toBe(stored);
        log.truncate(0, stored + 1);
        do {
          await turns(1);
          outcome = await append(log, 0, tasks(text));
        } while (outcome === 'exhausted');
        expect(outcome).toBe(stored + 1);
        expect((await readAll(log, 0)).map(({ sequence }) => sequence)).toEqual([stored + 1]);
      });
    });

    test('a full store takes what settles what it holds, whatever that is', async () => {
      const log = await fresh({ maxBytes: 256 * 1024 });
      const text = 'x'.repeat(10_000);
      let outcome: Outcome;
      do outcome = await append(log, 0, tasks(text));
      while (typeof outcome === 'number');
      let last = 0;
      for (let count = 0; count < 60; count++) {
        const settled = await append(log, 0, { ...owner(text, last), settles: true });
        expect(settled).toEqual(expect.any(Number));
        last = settled as number;
      }
      const result = await append(log, 0, { ...tasks(text), settles: true });
      expect(result).toBe(last + 1);
      const { taken, limit } = log.fill(0);
      expect(taken).toBeGreaterThan(limit);
    });

    describe('closing', () => {
      test('finishes what was appended, and takes nothing any more', async () => {
        const log = await fresh();
        const recorder = new Recorder();
        log.read(0, 1, recorder);
        await recorder.isCaughtUp();
        const before = Array.from({ length: 20 }, (_, i) => append(log, 0, tasks(`${i}`)));
        const closed = log.close();
        const after = append(log, 0, tasks('late'));
        expect(await Promise.all(before)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
        expect(await after).toBe('unavailable');
        await closed;
        expect(await append(log, 0, tasks('later'))).toBe('unavailable');
        await log.close();
      });

      test('a durable log holds the same when it is opened again', async () => {
        const made = await fixture();
        const { log } = made;
        if (made.reopen === undefined) return;
        await append(log, 0, tasks('a'));
        await append(log, 0, owner('b', 0));
        await append(log, 0, tasks('c'));
        for (let i = 0; i < 5; i++) await append(log, 1, tasks(`${i}`));
        log.truncate(1, 4);
        const before = [0, 1, 2].map((shard) => log.extent(shard));
        const again = (await restart(made)) as Log;
        expect(await readAll(again, 0)).toEqual([
          { sequence: 1, subject: 'tasks', text: 'a' },
          { sequence: 2, subject: 'owner', text: 'b' },
          { sequence: 3, subject: 'tasks', text: 'c' },
        ]);
        expect(again.extent(0)).toEqual(before[0]);
        expect(again.extent(2)).toEqual(before[2]);
        const { first, last } = again.extent(1);
        expect(first).toBeLessThanOrEqual(4);
        expect(last).toBe(5);
        expect(await append(again, 0, owner('stale', 0))).toBe('aborted');
        expect(await append(again, 0, owner('next', 2))).toBe(4);
        expect(await append(again, 1, tasks('next'))).toBe(6);
        expect(await append(again, 2, tasks('first'))).toBe(1);
      });

      test('a durable log that was emptied counts on when it is opened again', async () => {
        const made = await fixture();
        if (made.reopen === undefined) return;
        for (let i = 0; i < 3; i++) await append(made.log, 0, tasks(`${i}`));
        made.log.truncate(0, 4);
        const again = (await restart(made)) as Log;
        expect(await append(again, 0, tasks('next'))).toBe(4);
      });
    });
  });
}
