import { open } from 'node:fs/promises';
import { closeSync, fdatasyncSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { SettleWriter } from '../../../src/wire/client-batch.ts';
import { MOVE, WORKER } from '../bare/method.ts';
import { BatchTemplate } from './bytes.ts';
import { ByteStream, FrameSession } from './stream.ts';

/** One task at a time. */
export interface PingLoad {
  readonly port: number;
  readonly taskBytes: number;
  readonly warm: number;
  readonly count: number;
}

/** Milliseconds from the write of a task to the moment its worker, in the same process, has it. */
export async function pingLoad({ port, taskBytes, warm, count }: PingLoad): Promise<number[]> {
  const template = new BatchTemplate({ tasks: 1, taskBytes, mailboxes: ['planner'], requester: '' });
  const writer = new SettleWriter();
  const samples: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  let sent = 0;
  let at = 0;
  const next = (): void => {
    if (sent === warm + count) return resolve();
    const frame = template.frame(++sent, sent);
    at = performance.now();
    publisher.write(frame);
  };
  let settles = 0;
  const worker = new FrameSession(port, {
    delivery({ bytes, leaseStart }) {
      if (sent > warm) samples.push(performance.now() - at);
      writer.open(++settles);
      writer.completed(bytes, leaseStart, undefined);
      worker.write(writer.take());
    },
    settled: next,
  });
  const publisher = new FrameSession(port, {});
  await worker.open(['planner']);
  await publisher.open([]);
  next();
  await promise;
  worker.close();
  publisher.close();
  return samples;
}

/** The same way through the bare peer: a frame to it on one stream, and on the other one the frame that follows. */
export async function barePingLoad({ port, taskBytes, warm, count }: PingLoad): Promise<number[]> {
  const frame = Buffer.alloc(taskBytes, 1);
  const samples: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  let sent = 0;
  let at = 0;
  const next = (): void => {
    if (sent++ === warm + count) return resolve();
    at = performance.now();
    publisher.write(frame);
  };
  const worker = new ByteStream(port, MOVE, () => {
    if (sent > warm) samples.push(performance.now() - at);
    setImmediate(next);
  });
  const publisher = new ByteStream(port, MOVE, () => {});
  worker.write(WORKER);
  await new Promise((wait) => setTimeout(wait, 200));
  next();
  await promise;
  worker.close();
  publisher.close();
  return samples;
}

/** One write and flush at a time. */
export interface FlushLoad {
  readonly folder: string;
  readonly bytes: number;
  readonly count: number;
}

/**
 * Milliseconds of one write with `fdatasync` in `folder`, one after the other: blocking, which is the
 * device and the file system, and in Node's thread pool, which is the least a program that must not block
 * can have.
 */
export async function flushLoad({
  folder,
  bytes,
  count,
}: FlushLoad): Promise<{ blocking: number[]; pooled: number[] }> {
  const path = join(folder, 'flush.bin');
  const block = Buffer.alloc(bytes, 'x');
  const fd = openSync(path, 'w');
  ftruncateSync(fd, 64 * 1024 * 1024);
  fdatasyncSync(fd);
  const blocking: number[] = [];
  for (let index = 0; index < count; index++) {
    const at = performance.now();
    writeSync(fd, block, 0, bytes, index * bytes);
    fdatasyncSync(fd);
    blocking.push(performance.now() - at);
  }
  closeSync(fd);
  const file = await open(path, 'r+');
  const pooled: number[] = [];
  for (let index = 0; index < count; index++) {
    const at = performance.now();
    await file.write(block, 0, bytes, (count + index) * bytes);
    await file.datasync();
    pooled.push(performance.now() - at);
  }
  await file.close();
  rmSync(path);
  return { blocking, pooled };
}
