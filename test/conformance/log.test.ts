import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiskStorage } from '../../src/log/disk.ts';
import { FileLog, type FileLogOptions } from '../../src/log/file.ts';
import { MemoryLog } from '../../src/log/memory.ts';
import { silent } from '../../src/std/logger.ts';
import { systemClock, systemRandom } from '../../src/std/system.ts';
import { SeededRandom } from '../support/random.ts';
import { SimStorage } from '../support/sim-storage.ts';
import { describeLog, type LogFixture, type LogWishes } from './log.ts';

describeLog('MemoryLog', (wishes) =>
  Promise.resolve({
    log: new MemoryLog({ clock: systemClock, ...wishes }),
    dispose: () => Promise.resolve(),
  }),
);

type Choices = Pick<FileLogOptions, 'sync' | 'segmentBytes'>;

const common = (wishes: LogWishes): Omit<FileLogOptions, 'storage' | 'sync'> => ({
  clock: systemClock,
  logger: silent,
  generation: systemRandom.token(16),
  syncIntervalMs: 5,
  ...wishes,
});

async function onDisk(wishes: LogWishes, choices: Choices): Promise<LogFixture> {
  const folder = await mkdtemp(join(tmpdir(), 'agenthub-log-'));
  const open = async (): Promise<FileLog> =>
    FileLog.open({ ...common(wishes), ...choices, storage: await DiskStorage.open(folder) });
  return { log: await open(), reopen: open, dispose: () => rm(folder, { recursive: true }) };
}

async function simulated(wishes: LogWishes, choices: Choices): Promise<LogFixture> {
  const storage = new SimStorage(systemClock, new SeededRandom(1));
  const open = (): Promise<FileLog> => FileLog.open({ ...common(wishes), ...choices, storage });
  return { log: await open(), reopen: open, dispose: () => Promise.resolve() };
}

describeLog('FileLog that flushes before every answer', (wishes) => onDisk(wishes, { sync: 'always' }));
describeLog('FileLog that flushes now and then', (wishes) => onDisk(wishes, { sync: 'interval' }));
describeLog('FileLog with small segments', (wishes) => onDisk(wishes, { sync: 'none', segmentBytes: 4096 }));
describeLog('FileLog on the simulated disk', (wishes) =>
  simulated(wishes, { sync: 'always', segmentBytes: 8192 }),
);
