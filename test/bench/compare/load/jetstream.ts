import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumerMessages, JetStreamManager } from 'nats';
import { AckPolicy, connect, nanos, RetentionPolicy, StorageType } from 'nats';
import type { Client, ClientSpec, Ears } from './client.ts';

const STREAM = 'queue';
const CONSUMER = 'workers';

/** A work queue: a message a task, published with its acknowledgement, acknowledged one by one. */
export async function openJetStream(
  { servers, storage, replicas }: ClientSpec & { readonly client: 'jetstream' },
  ears: Ears,
): Promise<Client> {
  const options = { servers: [...servers], maxReconnectAttempts: -1, reconnectTimeWait: 100 };
  const [publisher, worker] = await Promise.all([connect(options), connect(options)]);
  await prepare(await publisher.jetstreamManager(), storage, replicas);
  const js = publisher.jetstream();
  let open = true;
  let messages: ConsumerMessages | undefined;
  const consume = async (): Promise<void> => {
    while (open) {
      try {
        const consumer = await worker.jetstream().consumers.get(STREAM, CONSUMER);
        messages = await consumer.consume({ max_messages: 2000, expires: 2000 });
        for await (const message of messages) {
          ears.delivered(message.data);
          message.ack();
          ears.completed(1);
        }
      } catch {
        // The server is away.
        await sleep(100);
      }
    }
  };
  void consume();
  return {
    batch: 1,
    publish: async ([payload]) => {
      const acknowledged = js.publish(STREAM, payload, { timeout: 2000 });
      return [
        await acknowledged.then(
          () => true,
          () => false,
        ),
      ];
    },
    async close() {
      open = false;
      messages?.stop();
      await Promise.all([publisher.close(), worker.close()]);
    },
  };
}

async function prepare(jsm: JetStreamManager, storage: 'memory' | 'file', replicas: number): Promise<void> {
  const stream = {
    name: STREAM,
    subjects: [STREAM],
    retention: RetentionPolicy.Workqueue,
    storage: storage === 'file' ? StorageType.File : StorageType.Memory,
    num_replicas: replicas,
  };
  const consumer = {
    durable_name: CONSUMER,
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(3_000),
    max_ack_pending: 10_000,
  };
  await jsm.streams.info(STREAM).catch(() => jsm.streams.add(stream));
  await jsm.consumers.info(STREAM, CONSUMER).catch(() => jsm.consumers.add(STREAM, consumer));
}
