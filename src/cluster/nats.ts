import type { NatsConnection } from 'nats';
import { createInbox } from 'nats';
import type { NatsAccess } from '../nats/connection.ts';
import { connectNats, watchConnection } from '../nats/connection.ts';
import { natsFault } from '../nats/faults.ts';
import type { Logger } from '../std/logger.ts';
import type { Bus, Heard } from './bus.ts';

/** How a {@link NatsBus} is opened. */
export interface NatsBusOptions extends NatsAccess {
  /** Begins its subjects, so that several clusters can share one NATS. */
  readonly prefix: string;
  /** What NATS calls the connection. */
  readonly name: string;
  readonly logger: Logger;
}

/** What is not heard within this time does not come, in milliseconds. */
const HEARD_MS = 5000;

/** Messages between brokers by core NATS, over a connection of their own. */
export class NatsBus implements Bus {
  connected = true;
  private readonly nats: NatsConnection;
  private readonly prefix: string;
  private readonly logger: Logger;
  private readonly watchers: ((connected: boolean) => void)[] = [];
  private readonly denied = new Set<string>();

  /**
   * Connects, and checks that what is published is heard.
   *
   * @throws HubError `unavailable`, `unauthenticated`, `permission`, `invalid` (a file can't be read).
   */
  static async open(options: NatsBusOptions): Promise<NatsBus> {
    const nats = await connectNats(options, `${options.name} (bus)`, 'bus');
    const subject = createInbox(`${options.prefix}.b.probe`);
    try {
      // Asks where it waits for the answer, so that the question is the answer.
      await nats.request(subject, undefined, { noMux: true, reply: subject, timeout: HEARD_MS });
    } catch (error) {
      await nats.close();
      throw natsFault(error, `speaking to other brokers on ${options.prefix}.b.>`);
    }
    return new NatsBus(nats, options);
  }

  private constructor(nats: NatsConnection, { prefix, logger }: NatsBusOptions) {
    this.nats = nats;
    this.prefix = `${prefix}.b.`;
    this.logger = logger;
    void watchConnection(nats, {
      lost: () => this.connect(false),
      back: () => this.connect(true),
      denied: (subject) => this.complain(subject, `NATS forbids publishing to ${subject}`),
    });
  }

  publish(subject: string, bytes: Uint8Array): void {
    if (!this.connected || this.nats.isClosed()) return;
    try {
      this.nats.publish(this.prefix + subject, bytes);
    } catch (error) {
      this.complain(subject, natsFault(error, `publishing ${bytes.length} bytes to ${subject}`).message);
    }
  }

  subscribe(subject: string, heard: (bytes: Buffer) => void): Heard {
    const subscription = this.nats.subscribe(this.prefix + subject, {
      callback: (error, message) => {
        // A copy: what came is a piece of what the socket gave, and would keep all of that alive.
        if (error === null) heard(Buffer.from(message.data));
        else this.complain(subject, natsFault(error, `listening to ${this.prefix}${subject}`).message);
      },
    });
    return { stop: () => subscription.unsubscribe() };
  }

  watch(watcher: (connected: boolean) => void): void {
    this.watchers.push(watcher);
  }

  /** Sends what was published, and closes the connection. */
  async close(): Promise<void> {
    // Without a connection there is nothing that could be sent.
    if (this.connected) await this.nats.flush().catch(() => {});
    await this.nats.close();
  }

  private connect(connected: boolean): void {
    if (connected === this.connected) return;
    this.connected = connected;
    for (const watcher of this.watchers) watcher(connected);
  }

  /** Says once what is wrong with a subject. */
  private complain(subject: string, message: string): void {
    if (this.denied.has(subject)) return;
    this.denied.add(subject);
    this.logger.error({ subject }, `${message}; brokers can't hear each other`);
  }
}
