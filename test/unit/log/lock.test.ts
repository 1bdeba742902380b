import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { lockFolder } from '../../../src/log/lock.ts';

const LOCK = new URL('../../../src/log/lock.ts', import.meta.url).href;
/** Takes the folder, says so, and stays. */
const HOLDER = `
  const { lockFolder } = await import(process.argv[1]);
  try {
    await lockFolder(process.argv[2]);
    console.log('held');
    setInterval(() => {}, 1000);
  } catch (error) {
    console.log(error.code);
  }
`;

describe('the lock of a folder', () => {
  let folder = '';

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'agenthub-lock-'));
  });

  afterEach(() => rm(folder, { recursive: true }));

  /** Another process that tries to hold the folder: what it says, and how to kill it. */
  async function contender(): Promise<{ says: string; pid: number; kill: () => Promise<void> }> {
    const child = spawn(process.execPath, ['--input-type=module', '-e', HOLDER, LOCK, folder]);
    const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
    const says = await new Promise<string>((resolve) => {
      child.stdout.once('data', (bytes: Buffer) => resolve(bytes.toString().trim()));
      child.stderr.once('data', (bytes: Buffer) => resolve(bytes.toString()));
    });
    const kill = async (): Promise<void> => {
      child.kill('SIGKILL');
      await ended;
    };
    return { says, pid: child.pid as number, kill };
  }

  test('is for one at a time', async () => {
    const lock = await lockFolder(folder);
    await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'conflict' });
    await expect(lockFolder(folder)).rejects.toThrow(`${folder} is in use by process ${process.pid}`);
    await lock.release();
    const next = await lockFolder(folder);
    await next.release();
    expect(await readdir(folder)).toEqual([]);
  });

  test('keeps other processes out, and names itself to them', async () => {
    const other = await contender();
    expect(other.says).toBe('held');
    await expect(lockFolder(folder)).rejects.toThrow(`process ${other.pid} on ${hostname()}`);
    expect((await contender()).says).toBe('conflict');
    await other.kill();
  });

  test('is released by the death of its holder', async () => {
    const other = await contender();
    await other.kill();
    expect(await readdir(folder)).toHaveLength(1);
    const lock = await lockFolder(folder);
    expect(await readdir(folder)).toHaveLength(1);
    await lock.release();
  });

  test('of many that come at once goes to one at most, and to the next one after', async () => {
    for (let round = 0; round < 10; round++) {
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(folder)));
      const held = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      expect(held.length).toBeLessThanOrEqual(1);
      for (const lock of held) await lock.release();
      const next = await lockFolder(folder);
      await next.release();
    }
  });

  test('works however long the path is', async () => {
    const deep = join(folder, 'x'.repeat(200), 'y'.repeat(200));
    await mkdir(deep, { recursive: true });
    const lock = await lockFolder(deep);
    await expect(lockFolder(deep)).rejects.toMatchObject({ code: 'conflict' });
    await lock.release();
  });

  test('is held by who does not answer as well', async () => {
    const mute = createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(join(folder, 'lock-mute'), resolve));
    await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'conflict' });
    await new Promise((resolve) => mute.close(resolve));
  });

  describe('where sockets are not possible', () => {
    const options = { sockets: false };

    test('is for one at a time, too', async () => {
      const lock = await lockFolder(folder, options);
      await expect(lockFolder(folder, options)).rejects.toMatchObject({ code: 'conflict' });
      await lock.release();
      await (await lockFolder(folder, options)).release();
    });

    test('is taken from the dead, and not from another machine', async () => {
      const file = join(folder, 'lock.json');
      const other = await contender();
      await other.kill();
      await writeFile(file, JSON.stringify({ pid: other.pid, host: hostname() }));
      await (await lockFolder(folder, options)).release();
      await writeFile(file, JSON.stringify({ pid: other.pid, host: 'elsewhere' }));
      await expect(lockFolder(folder, options)).rejects.toThrow('elsewhere');
    });
  });
});
