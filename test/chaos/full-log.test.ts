import { describe, expect, test } from '@jest/globals';
import { connect } from '../../src/client/index.ts';
import { brokers } from '../support/broker.ts';

const { start } = brokers();
const PAYLOAD = Buffer.alloc(10_000, 'x');

describe('a full log', () => {
  test('refuses tasks by name of the limit, and takes them again when what is in it was settled', async () => {
    const { embedded } = await start({ data: { log: 'file', maxBytes: '2MiB' } });
    const address = `127.0.0.1:${embedded.grpcPort}`;
    await using requester = await connect({ address, agent: 'requester' });
    let accepted = 0;
    let limit: string | undefined;
    while (limit === undefined) {
      const tasks = Array.from({ length: 20 }, () => ({ to: 'worker', type: 'echo', payload: PAYLOAD }));
      const { outcomes } = await requester.publishBatch(tasks);
      for (const outcome of outcomes) {
        if (outcome.error) limit = outcome.error.limit;
        else accepted++;
      }
    }
    expect(limit).toBe('data.maxBytes');
    expect(accepted).toBeGreaterThan(50);

    await using worker = await connect({ address });
    const results = requester.results();
    await worker.work('worker', () => PAYLOAD, { concurrency: 50 });
    let answered = 0;
    for await (const result of results) {
      expect(result.payload).toHaveLength(PAYLOAD.length);
      if (++answered === accepted) break;
    }
    await requester.publish({ to: 'worker', type: 'echo', payload: PAYLOAD });
  }, 60_000);
});
