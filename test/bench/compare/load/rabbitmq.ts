import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, ClientSpec, Ears } from './client.ts';
import type { Amqp, AmqpChannel, AmqpConnection } from './packages.ts';
import { packageOf } from './packages.ts';

const QUEUE = 'queue';
const PREFETCH = 1000;

type Spec = ClientSpec & { readonly client: 'rabbitmq' };

/** One queue, with publisher confirms, messages acknowledged one by one. */
export async function openRabbitMq(spec: Spec, ears: Ears): Promise<Client> {
  const publisher = new Line(spec, async () => {});
  const worker = new Line(spec, async (channel) => {
    await channel.prefetch(PREFETCH);
    await channel.consume(QUEUE, (message) => {
      if (message === null) return;
      ears.delivered(message.content);
      channel.ack(message);
      ears.completed(1);
    });
  });
  await Promise.all([publisher.open(), worker.open()]);
  const persistent = spec.queue !== 'transient';
  return {
    batch: 1,
    async publish([payload]) {
      const channel = await publisher.channel();
      return [
        await new Promise<boolean>((resolve) => {
          try {
            channel.sendToQueue(QUEUE, payload!, { persistent }, (error) => resolve(!error));
          } catch {
            resolve(false);
          }
        }),
      ];
    },
    async close() {
      await Promise.all([publisher.close(), worker.close()]);
    },
  };
}

/** A connection with a channel, made again whenever it breaks, to one server after the other. */
class Line {
  private readonly spec: Spec;
  private readonly prepare: (channel: AmqpChannel) => Promise<void>;
  private connection: AmqpConnection | undefined;
  private current: Promise<AmqpChannel>;
  private opened: (channel: AmqpChannel) => void = () => {};
  private attempts = 0;
  private closed = false;

  constructor(spec: Spec, prepare: (channel: AmqpChannel) => Promise<void>) {
    this.spec = spec;
    this.prepare = prepare;
    this.current = this.next();
  }

  channel(): Promise<AmqpChannel> {
    return this.current;
  }

  async open(): Promise<void> {
    for (;;) {
      try {
        this.opened(await this.dial());
        return;
      } catch (error) {
        if (this.attempts > 300) throw error;
        await sleep(200);
      }
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.connection?.close().catch(() => {});
  }

  private next(): Promise<AmqpChannel> {
    const { promise, resolve } = Promise.withResolvers<AmqpChannel>();
    this.opened = resolve;
    return promise;
  }

  private async dial(): Promise<AmqpChannel> {
    const { ports, queue, replicas } = this.spec;
    const port = ports[this.attempts++ % ports.length]!;
    const connection = await packageOf<Amqp>('amqplib').connect(`amqp://guest:guest@127.0.0.1:${port}`);
    this.connection = connection;
    let broken = false;
    const again = (): void => {
      if (broken || this.closed) return;
      broken = true;
      this.current = this.next();
      void this.open();
    };
    connection.on('error', () => {});
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => {});
    await channel.assertQueue(QUEUE, {
      durable: queue !== 'transient',
      ...(queue === 'quorum'
        ? { arguments: { 'x-queue-type': 'quorum', 'x-quorum-initial-group-size': replicas } }
        : {}),
    });
    await this.prepare(channel);
    connection.on('close', again);
    return channel;
  }
}
