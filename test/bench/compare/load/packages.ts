import { createRequire } from 'node:module';

const require = createRequire(new URL('../../../../tools/compare/package.json', import.meta.url));

/** As much of `amqplib` as is used. */
export interface Amqp {
  connect(url: string): Promise<AmqpConnection>;
}

/** A connection to RabbitMQ. */
export interface AmqpConnection {
  on(event: 'error' | 'close', listener: () => void): void;
  createConfirmChannel(): Promise<AmqpChannel>;
  close(): Promise<void>;
}

/** A channel whose publishes are confirmed. */
export interface AmqpChannel {
  on(event: 'error' | 'close', listener: () => void): void;
  assertQueue(
    name: string,
    options: { readonly durable: boolean; readonly arguments?: Readonly<Record<string, unknown>> },
  ): Promise<unknown>;
  prefetch(count: number): Promise<unknown>;
  consume(queue: string, listener: (message: { readonly content: Buffer } | null) => void): Promise<unknown>;
  ack(message: object): void;
  sendToQueue(
    queue: string,
    content: Buffer,
    options: { readonly persistent: boolean },
    confirmed: (error: unknown) => void,
  ): boolean;
}

/** As much of `bullmq` as is used. */
export interface BullMq {
  readonly Queue: new (
    name: string,
    options: { readonly connection: object },
  ) => {
    on(event: 'error', listener: () => void): void;
    addBulk(
      jobs: readonly { readonly name: string; readonly data: string; readonly opts: object }[],
    ): Promise<unknown>;
    disconnect(): Promise<void>;
  };
  readonly Worker: new (
    name: string,
    work: (job: { readonly data: string }) => Promise<void>,
    options: object,
  ) => {
    on(event: 'error', listener: () => void): void;
    waitUntilReady(): Promise<unknown>;
    close(force: boolean): Promise<void>;
  };
}

/** A package of tools/compare. @throws Error if it is not installed. */
export function packageOf<T>(name: 'amqplib' | 'bullmq'): T {
  return require(name) as T;
}
