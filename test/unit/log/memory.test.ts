import { describe, expect, test } from '@jest/globals';
import { MemoryLog } from '../../../src/log/memory.ts';
import { VirtualClock } from '../../support/clock.ts';
import { owner, Recorder, tasks } from '../../support/log-reader.ts';

describe('MemoryLog', () => {
  test('does everything when the clock says so, and nothing before', () => {
    const clock = new VirtualClock();
    const log = new MemoryLog({ clock, shards: 1 });
    const recorder = new Recorder();
    const happened: string[] = [];
    recorder.onRecord = (sequence) => happened.push(`read ${sequence}`);
    log.read(0, 1, recorder);
    clock.run();
    for (let i = 0; i < 3; i++)
      log.append(0, tasks(`${i}`), (_error, sequence) => happened.push(`done ${sequence}`));
    expect(happened).toEqual([]);
    clock.run();
    expect(happened).toEqual(['done 1', 'read 1', 'done 2', 'read 2', 'done 3', 'read 3']);
    expect(clock.pending).toBe(0);
  });

  test('does the same for the same calls', () => {
    const run = (): string[] => {
      const clock = new VirtualClock();
      const log = new MemoryLog({ clock, shards: 2 });
      const happened: string[] = [];
      for (let i = 0; i < 50; i++) {
        log.append(i % 2, i % 5 === 0 ? owner(`${i}`, 0) : tasks(`${i}`), (error, sequence) =>
          happened.push(`${i}: ${error?.code ?? sequence}`),
        );
        if (i % 10 === 3) {
          const recorder = new Recorder();
          recorder.onRecord = (sequence) => happened.push(`${i} read ${sequence}`);
          log.read(0, 1, recorder);
        }
        if (i % 7 === 0) clock.tick();
      }
      clock.run();
      return happened;
    };
    expect(run()).toEqual(run());
    expect(run().length).toBeGreaterThan(100);
  });

  test('lets the loop live while it gives a long log', () => {
    const clock = new VirtualClock();
    const log = new MemoryLog({ clock, shards: 1 });
    for (let i = 0; i < 1000; i++) log.append(0, tasks('x'), () => {});
    clock.run();
    const recorder = new Recorder();
    log.read(0, 1, recorder);
    clock.tick();
    expect(recorder.seen.length).toBeLessThan(500);
    clock.run();
    expect(recorder.caughtUpAt).toBe(1000);
  });
});
