import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiskStorage } from '../../../src/log/disk.ts';
import type { StorageError, StoredFile, WritableFile } from '../../../src/log/storage.ts';

/** Turns an operation that answers with an error or a value into a promise. */
function value<T>(begin: (done: (error: StorageError | undefined, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    begin((error, value) => {
      if (error === undefined) resolve(value);
      else reject(error);
    });
  });
}

const act = (begin: (done: (error: StorageError | undefined) => void) => void): Promise<unknown> =>
  value<unknown>((done) => begin((error) => done(error, undefined)));

describe('DiskStorage', () => {
  let parent = '';
  let disk: DiskStorage;

  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), 'agenthub-disk-'));
    disk = await DiskStorage.open(join(parent, 'made', 'when', 'needed'));
  });

  afterEach(async () => {
    await disk.close();
    await rm(parent, { recursive: true });
  });

  const create = async (start: string, size = 0, durable = true): Promise<WritableFile> => {
    const file = await value<WritableFile | undefined>((done) =>
      disk.create('a', Buffer.from(start), size, durable, done),
    );
    return file as WritableFile;
  };
  const content = (): Promise<string> => readFile(join(disk.folder, 'a'), 'latin1');

  test('makes a file with a beginning and zeros up to its size', async () => {
    const file = await create('begin', 8);
    expect(await content()).toBe('begin\0\0\0');
    await act((done) => file.close(done));
  });

  test.each([true, false])('writes all chunks where it is told to (durable: %s)', async (durable) => {
    const file = await create('0123456789', 12, durable);
    await act((done) => file.write([Buffer.from('ab'), Buffer.alloc(0), Buffer.from('c')], 2, done));
    await act((done) => file.sync(done));
    expect(await content()).toBe('01abc56789\0\0');
    await act((done) => file.close(done));
  });

  test('writes more chunks than the system takes at once', async () => {
    const file = await create('');
    const chunks = Array.from({ length: 5000 }, (_, i) => Buffer.from(String(i % 10)));
    await act((done) => file.write(chunks, 0, done));
    expect(await content()).toBe('0123456789'.repeat(500));
    await act((done) => file.close(done));
  });

  test('cuts and extends files', async () => {
    const file = await create('0123456789');
    await act((done) => file.resize(3, done));
    await act((done) => file.resize(5, done));
    expect(await content()).toBe('012\0\0');
    await act((done) => file.close(done));
  });

  test('closes a file after what is in progress', async () => {
    const file = await create('');
    const written = act((done) => file.write([Buffer.alloc(1_000_000, 'x')], 0, done));
    const synced = act((done) => file.sync(done));
    await act((done) => file.close(done));
    await Promise.all([written, synced]);
    expect((await stat(join(disk.folder, 'a'))).size).toBe(1_000_000);
  });

  test('reads up to the end of a file', async () => {
    await writeFile(join(disk.folder, 'b'), '0123456789');
    const read = (position: number, length: number): Promise<Uint8Array> =>
      value<Uint8Array>((done) => disk.read('b', position, length, done));
    expect(Buffer.from(await read(2, 3)).toString()).toBe('234');
    expect(Buffer.from(await read(8, 100)).toString()).toBe('89');
    expect(Buffer.from(await read(50, 100)).toString()).toBe('');
    await expect(value<Uint8Array>((done) => disk.read('none', 0, 1, done))).rejects.toMatchObject({
      code: 'ENOENT',
    });
  });

  test('opens a file again without changing it', async () => {
    await writeFile(join(disk.folder, 'a'), '0123456789');
    const file = (await value<WritableFile | undefined>((done) =>
      disk.open('a', true, done),
    )) as WritableFile;
    await act((done) => file.write([Buffer.from('x')], 9, done));
    expect(await content()).toBe('012345678x');
    await act((done) => file.close(done));
  });

  test('lists and removes files; one that is gone already is no error', async () => {
    await writeFile(join(disk.folder, 'b'), '12345');
    const list = (): Promise<readonly StoredFile[]> =>
      value<readonly StoredFile[]>((done) => disk.list(done));
    expect(await list()).toContainEqual({ name: 'b', size: 5 });
    await act((done) => disk.remove(['gone', 'b'], done));
    expect((await list()).map(({ name }) => name)).not.toContain('b');
  });

  test('knows how much room there is', async () => {
    expect(await new Promise<number>((resolve) => disk.free(resolve))).toBeGreaterThan(0);
  });

  test('is for one process at a time', async () => {
    await expect(DiskStorage.open(disk.folder)).rejects.toMatchObject({ code: 'conflict' });
  });

  test('says which folder can not be used', async () => {
    const file = join(parent, 'file');
    await writeFile(file, '');
    await expect(DiskStorage.open(file)).rejects.toMatchObject({ code: 'invalid', field: 'data.dir' });
    await expect(DiskStorage.open(join(file, 'below'))).rejects.toThrow(file);
    await mkdir(join(parent, 'fine'));
  });
});
