import { connect } from '../../../../src/client/index.ts';
import type { Client, ClientSpec, Ears } from './client.ts';

const MAILBOX = 'worker';
const WINDOW = 4096;

/** The SDK: batches where it has them, else a promise a task. */
export async function openAgentHub(
  { port, batch }: ClientSpec & { readonly client: 'agenthub' },
  ears: Ears,
): Promise<Client> {
  let size = 0;
  const address = `127.0.0.1:${port}`;
  const [publisher, worker] = await Promise.all([connect({ address }), connect({ address })]);
  if (batch > 1) {
    await worker.workBatch(
      MAILBOX,
      (deliveries, own) => {
        // The payload is the last field of a task, and the broker leaves tasks as they are.
        for (const { frame, end } of deliveries) ears.delivered(frame.subarray(end - size, end));
        own.settleAll(deliveries);
        ears.completed(deliveries.length);
      },
      { window: WINDOW },
    );
  } else {
    await worker.work(
      MAILBOX,
      ({ payload }) => {
        ears.delivered(payload);
        ears.completed(1);
      },
      { window: WINDOW },
    );
  }
  return {
    batch,
    async publish(payloads) {
      size = payloads[0]!.length;
      if (batch === 1) {
        const task = { to: MAILBOX, payload: payloads[0]! };
        return [await publisher.publish(task).then(yes, no)];
      }
      const tasks = payloads.map((payload) => ({ to: MAILBOX, payload }));
      const { outcomes } = await publisher.publishBatch(tasks);
      return outcomes.map(({ error }) => error === undefined);
    },
    async close() {
      await Promise.all([publisher.close({ graceMs: 500 }), worker.close({ graceMs: 500 })]);
    },
  };
}

const yes = (): boolean => true;
const no = (): boolean => false;
