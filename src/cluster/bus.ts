/** A subscription of a {@link Bus}. */
export interface Heard {
  /** No message is given any more. */
  stop(): void;
}

/**
 * Messages between the brokers of one cluster that may be lost, but arrive in order and unchanged:
 * core NATS, or the simulation's network. Subjects are dot-separated words within the cluster.
 */
export interface Bus {
  /** Whether messages can leave and arrive just now. */
  readonly connected: boolean;
  /** Sends to whoever listens. Nobody learns whether it arrived; without a connection it is dropped. */
  publish(subject: string, bytes: Uint8Array): void;
  /** Gives every message to exactly that subject, those of this broker too. The bytes belong to the receiver. */
  subscribe(subject: string, heard: (bytes: Buffer) => void): Heard;
  /** Calls the watcher whenever the connection is lost or back. */
  watch(watcher: (connected: boolean) => void): void;
}
