import { AckPolicy, connect, nanos, RetentionPolicy } from 'nats';
import type { Done, Span } from './meter.ts';
import { Meter } from './meter.ts';

/** The same loop as of a broker, with a work queue of JetStream: one message per task, acknowledged one by one. */
export interface QueueLoad extends Span {
  readonly server: string;
  readonly taskBytes: number;
  /** Tasks on their way. */
  readonly outstanding: number;
}

/** Loads a work queue: a task counts when the server has confirmed its acknowledgement. */
export async function queueLoad(load: QueueLoad): Promise<Done> {
  const { server, taskBytes, outstanding } = load;
  const [publisher, worker] = await Promise.all([connect({ servers: server }), connect({ servers: server })]);
  const jsm = await publisher.jetstreamManager();
  await jsm.streams.add({ name: 'queue', subjects: ['queue'], retention: RetentionPolicy.Workqueue });
  await jsm.consumers.add('queue', {
    durable_name: 'workers',
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(60_000),
    max_ack_pending: outstanding * 2,
  });
  const meter = new Meter(load);
  const js = publisher.jetstream();
  const payload = Buffer.alloc(taskBytes, 'x');
  let sent = 0;
  let completed = 0;
  const pump = (): void => {
    while (!meter.over && sent - completed < outstanding) {
      sent++;
      js.publish('queue', payload, { timeout: 30_000 }).catch(() => {});
    }
  };
  const consumer = await worker.jetstream().consumers.get('queue', 'workers');
  const messages = await consumer.consume({ max_messages: outstanding });
  void (async () => {
    for await (const message of messages) {
      void message.ackAck().then(
        () => {
          completed++;
          meter.add(1);
          pump();
        },
        // It is the end: the connection is closed.
        () => {},
      );
    }
  })();
  meter.start();
  pump();
  const done = await meter.done;
  await messages.close();
  await Promise.all([publisher.close(), worker.close()]);
  return done;
}
