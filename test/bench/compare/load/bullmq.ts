import type { Client, ClientSpec, Ears } from './client.ts';
import type { BullMq } from './packages.ts';
import { packageOf } from './packages.ts';

const QUEUE = 'queue';
const BULK = 100;
const CONCURRENCY = 200;

/** One queue, jobs added in bulks, one worker with many at a time; jobs that are done are removed. */
export async function openBullMq(
  { port }: ClientSpec & { readonly client: 'bullmq' },
  ears: Ears,
): Promise<Client> {
  const { Queue, Worker } = packageOf<BullMq>('bullmq');
  const connection = { host: '127.0.0.1', port, retryStrategy: () => 100, maxRetriesPerRequest: null };
  const queue = new Queue(QUEUE, { connection });
  const worker = new Worker(
    QUEUE,
    async ({ data }) => {
      ears.delivered(Buffer.from(data, 'latin1'));
      ears.completed(1);
    },
    // A job whose worker is not heard of for so long is given to another one.
    { connection, concurrency: CONCURRENCY, lockDuration: 4000, stalledInterval: 1000, maxStalledCount: 10 },
  );
  queue.on('error', () => {});
  worker.on('error', () => {});
  await worker.waitUntilReady();
  const opts = { removeOnComplete: true, removeOnFail: true };
  return {
    batch: BULK,
    async publish(payloads) {
      const jobs = payloads.map((payload) => ({ name: 'task', data: payload.toString('latin1'), opts }));
      const taken = await queue.addBulk(jobs).then(
        () => true,
        () => false,
      );
      return payloads.map(() => taken);
    },
    async close() {
      await Promise.all([queue.disconnect(), worker.close(true)]).catch(() => {});
    },
  };
}
