import { afterEach } from '@jest/globals';
import { systemRandom } from '../../src/std/system.ts';
import type { Settings } from './broker.ts';
import { TestBroker } from './broker.ts';
import type { NatsServer } from './nats-server.ts';
import { freePort } from './nats-server.ts';

/** Brokers in this process that are one cluster, and end with the test. */
export function clusters(): {
  start(server: NatsServer, count: number, settings?: Settings): Promise<TestCluster>;
} {
  const open: TestCluster[] = [];
  afterEach(async () => {
    await Promise.all(open.splice(0).map((cluster) => cluster.remove()));
  });
  return {
    async start(server, count, settings = {}) {
      const cluster = new TestCluster(server, settings);
      open.push(cluster);
      for (let started = 0; started < count; started++) await cluster.add();
      return cluster;
    },
  };
}

/** A cluster on a NATS that runs. */
export class TestCluster {
  readonly brokers: TestBroker[] = [];
  private readonly settings: Settings;
  private started = 0;

  constructor(server: NatsServer, settings: Settings) {
    this.settings = {
      data: { log: 'jetstream' },
      nats: { servers: server.url, streamPrefix: `c${systemRandom.token(4)}` },
      ...settings,
    };
  }

  /** Another broker joins, with these members of `cluster` in its configuration. */
  async add(own: Readonly<Record<string, string>> = {}): Promise<TestBroker> {
    const { cluster = {}, ...settings } = this.settings;
    const port = await freePort();
    const broker = new TestBroker({
      ...settings,
      service: { name: `b${++this.started}` },
      grpc: { port },
      cluster: { address: `127.0.0.1:${port}`, sessions: 'stay', ...(cluster as object), ...own },
    });
    await broker.start();
    this.brokers.push(broker);
    return broker;
  }

  /** The broker that serves the mailbox; `undefined` while nobody does. */
  ownerOf(mailbox: string): TestBroker | undefined {
    return this.brokers.find(({ broker }) => broker.ownerOf(mailbox) !== undefined);
  }

  /** Shards that each broker serves. */
  get served(): number[] {
    return this.brokers.map(({ broker }) => broker.owners.length);
  }

  async remove(): Promise<void> {
    await Promise.all(this.brokers.map((broker) => broker.remove()));
  }
}
