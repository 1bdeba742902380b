/** How a client reaches its servers. */
export type ClientSpec =
  | { readonly client: 'agenthub'; readonly port: number; readonly batch: number }
  | { readonly client: 'bare'; readonly port: number; readonly batch: number }
  | {
      readonly client: 'jetstream';
      readonly servers: readonly string[];
      readonly storage: 'memory' | 'file';
      readonly replicas: number;
    }
  | {
      readonly client: 'rabbitmq';
      readonly ports: readonly number[];
      readonly queue: 'transient' | 'durable' | 'quorum';
      readonly replicas: number;
    }
  | { readonly client: 'bullmq'; readonly port: number };

/** Hears of tasks. */
export interface Ears {
  /** A worker has got it; it completes it at once. */
  delivered(payload: Uint8Array): void;
  /** So many tasks are completed, as far as the worker knows. */
  completed(tasks: number): void;
}

/** Somebody who publishes and somebody who works, each with a connection of its own. */
export interface Client {
  /** Tasks that are best handed over together. */
  readonly batch: number;
  /** Publishes; for each task whether it was acknowledged. It does not reject. */
  publish(payloads: readonly Buffer[]): Promise<readonly boolean[]>;
  close(): Promise<void>;
}
