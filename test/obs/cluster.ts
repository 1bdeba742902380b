import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import type { BrokerClusterObject } from '../../operator/controller/kinds.ts';
import { serveHttp } from '../../operator/http.ts';
import { OperatorMetrics } from '../../operator/metrics.ts';
import type { Hub } from '../../src/client/index.ts';
import { Admin, connect, PermanentError } from '../../src/client/index.ts';
import { systemClock } from '../../src/std/system.ts';
import { Broker as BrokerService } from '../../src/wire/gen/agenthub/v1/broker_pb.ts';
import { ClientFrameSchema } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { serviceDefinition } from '../../src/wire/service.ts';
import { CERTIFICATE, KEY } from '../support/certificate.ts';
import { freePort, NatsServer } from '../support/nats-server.ts';
import { ServeProcess } from '../support/serve.ts';

const BROKERS = 3;
const SHARDS = 6;
/** Long enough for a scrape to see what happens until then. */
const DEAD_AFTER = '5s';

interface Ports {
  readonly grpc: number;
  readonly http: number;
}

/**
 * Three brokers on three NATS servers, one broker by itself that has little memory, one with a certificate, and the figures of an operator,
 * all under load: what Prometheus is to look at.
 */
export class Landscape {
  readonly servers: NatsServer[] = [];
  readonly brokers: ServeProcess[] = [];
  readonly #dir = mkdtempSync(join(tmpdir(), 'agenthub-obs-'));
  readonly #hubs: Hub[] = [];
  readonly #ports: Ports[] = [];
  readonly #stuck: Client[] = [];
  readonly #operator = { leading: true, depth: 1, clusters: [] as BrokerClusterObject[] };
  readonly #figures = new OperatorMetrics(() => this.#operator, systemClock);
  #alone: ServeProcess | undefined;
  #encrypted: ServeProcess | undefined;
  #page: { readonly server: Server; readonly port: number } | undefined;
  #stopped = false;
  #work: Promise<unknown> = Promise.resolve();

  async start(): Promise<void> {
    this.servers.push(...(await NatsServer.cluster(BROKERS)));
    for (let index = 0; index < BROKERS; index++) {
      this.#ports.push({ grpc: await freePort(), http: await freePort() });
      this.brokers.push(this.#serve(index));
      if (index === 0) await this.brokers[0]!.ready();
    }
    this.#alone = new ServeProcess(join(this.#dir, 'alone'), [
      ...['--data-log', 'memory', '--service-name', 'alone', '--log-level', 'warn'],
      ...['--limits-memory-high-water-bytes', '64MiB', '--limits-sessions', '1'],
    ]);
    this.#encrypted = this.#serveEncrypted();
    await Promise.all([...this.brokers, this.#alone, this.#encrypted].map((broker) => broker.ready()));
    const { metrics, contentType } = {
      metrics: () => this.#figures.registry.metrics(),
      contentType: this.#figures.registry.contentType,
    };
    this.#page = await serveHttp(
      { ready: () => true, metrics: { metrics, contentType } },
      { host: '127.0.0.1', port: 0 },
    );
    await this.#load();
  }

  /** What Prometheus scrapes, by job. */
  get targets(): Readonly<Record<string, readonly string[]>> {
    return {
      agenthub: this.#ports.map(({ http }) => `127.0.0.1:${http}`),
      'agenthub-alone': [this.#alone!.http],
      'agenthub-tls': [this.#encrypted!.http],
      operator: [`127.0.0.1:${this.#page!.port}`],
    };
  }

  /** The target of one of the three. */
  targetOf(index: number): string {
    return `127.0.0.1:${this.#ports[index]!.http}`;
  }

  /** Starts it again, at the same ports. */
  async revive(index: number): Promise<void> {
    this.brokers[index] = this.#serve(index);
    await this.brokers[index].ready();
  }

  /** Assigns a shard of one broker to another one. */
  async move(from: number, to: number): Promise<void> {
    const hub = await this.#connect(to, 'mover');
    const { shards } = await hub.call(Admin.method.listShards, {});
    const shard = shards.find(({ owner }) => owner.startsWith(`b${from}-`))!;
    await hub.call(Admin.method.moveShard, { shard: shard.shard, broker: `b${to}` });
    await hub.close({ graceMs: 0 });
  }

  /** The operator has nothing but trouble. */
  troubleOperator(): void {
    this.#operator.leading = false;
    this.#operator.clusters = [clusterWith('True', 'True', '2026-01-01T00:00:00Z')];
    this.#figures.reconciled('unavailable', 30);
    this.#figures.called('apply', 'none', 30_000);
  }

  async remove(): Promise<void> {
    this.#stopped = true;
    for (const client of this.#stuck) client.close();
    const running = [...this.brokers, this.#alone, this.#encrypted].filter((broker) => broker !== undefined);
    await Promise.all(running.map((broker) => broker.end('SIGKILL')));
    await Promise.all(this.#hubs.map((hub) => hub.close({ graceMs: 0 })));
    await this.#work;
    this.#page?.server.close();
    this.#page?.server.closeAllConnections();
    await Promise.all(this.servers.map((server) => server.remove()));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #serve(index: number): ServeProcess {
    const { grpc, http } = this.#ports[index]!;
    const broker = new ServeProcess(
      join(this.#dir, `data-${index}`),
      [
        ...['--data-log', 'jetstream', '--nats-servers', this.servers.map(({ url }) => url).join(',')],
        ...['--nats-replicas', '3', '--shards', `${SHARDS}`, '--cluster-dead-after-ms', DEAD_AFTER],
        ...['--grpc-port', `${grpc}`, '--http-port', `${http}`, '--service-name', `b${index}`],
        ...['--limits-mailbox-depth', '150', '--delivery-backoff-initial-ms', '1ms', '--log-level', 'error'],
      ],
      { NODE_COMPILE_CACHE: join(this.#dir, 'compiled') },
    );
    return broker;
  }

  #serveEncrypted(): ServeProcess {
    const [cert, key] = ['tls.crt', 'tls.key'].map((name) => join(this.#dir, name)) as [string, string];
    writeFileSync(cert, CERTIFICATE);
    writeFileSync(key, KEY);
    const flags = ['--data-log', 'memory', '--tls-cert-file', cert, '--tls-key-file', key];
    return new ServeProcess(join(this.#dir, 'encrypted'), [...flags, '--log-level', 'error']);
  }

  async #connect(index: number, agent: string): Promise<Hub> {
    const hub = await connect({
      address: `127.0.0.1:${this.#ports[index]!.grpc}`,
      agent,
      publishTimeoutMs: 5000,
    });
    this.#hubs.push(hub);
    return hub;
  }

  async #load(): Promise<void> {
    const worker = await this.#connect(0, 'worker');
    await worker.work(
      'type:steady',
      async (task, context) => {
        context.progress(50);
        await new Promise((resolve) => setTimeout(resolve, 2));
        return task.text();
      },
      { concurrency: 20 },
    );
    await worker.work(
      'slow',
      async (_, context) => {
        context.progress(50, 'half of it');
        await new Promise((resolve) => setTimeout(resolve, 300));
      },
      { concurrency: 20 },
    );
    await worker.work('flaky', (_, { attempt }) => {
      if (attempt === 1) throw new Error('bad luck');
      return 'done';
    });
    await worker.work('picky', () => {
      throw new PermanentError('no point');
    });
    await worker.work('firehose', () => 'seen', { concurrency: 50 });
    this.#listenAndNotRead('firehose');
    const asker = await this.#connect(1, 'asker');
    const flood = await connect({ address: this.#alone!.grpc, agent: 'flood' });
    this.#hubs.push(flood);
    this.#work = Promise.all([this.#ask(asker), this.#take(asker), this.#flood(flood), this.#operate()]);
  }

  /** Publishes what goes well, what fails, what is refused, and what nobody wants. */
  async #ask(hub: Hub): Promise<void> {
    for (let turn = 0; !this.#stopped; turn++) {
      const steady = Array.from({ length: 20 }, () => ({
        to: 'type:steady',
        payload: 'x',
        requester: 'asker',
      }));
      const firehose = Array.from({ length: 5 }, () => ({ to: 'firehose', payload: 'y'.repeat(20_000) }));
      const nobody = Array.from({ length: turn < 3 ? 80 : 2 }, () => ({ to: 'nobody', payload: 'z' }));
      const known = { to: 'type:steady', id: 'the same', payload: 'x' };
      const others = [
        known,
        { to: 'flaky', payload: 'f' },
        { to: 'picky', payload: 'p' },
        { to: 'slow', requester: 'asker' },
      ];
      await hub.publishBatch([...steady, ...firehose, ...nobody, ...others]).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async #take(hub: Hub): Promise<void> {
    try {
      for await (const _ of hub.results()) if (this.#stopped) return;
    } catch {
      // Closed.
    }
  }

  /** The broker with little memory refuses all of it, and a second session. */
  async #flood(hub: Hub): Promise<void> {
    const tasks = Array.from({ length: 500 }, () => ({ to: 'planner', payload: 'w'.repeat(100) }));
    while (!this.#stopped) {
      await hub.publishBatch(tasks).catch(() => {});
      if (Math.random() < 0.02) this.#knock();
    }
  }

  #knock(): void {
    const { client, call } = this.#open(this.#alone!.grpc);
    call.on('error', () => client.close());
    call.on('end', () => client.close());
    call.resume();
    call.write(create(ClientFrameSchema, { hello: {} }));
  }

  /** A session that is sent more than it reads. */
  #listenAndNotRead(mailbox: string): void {
    for (const { grpc } of this.#ports) {
      const { client, call } = this.#open(`127.0.0.1:${grpc}`);
      this.#stuck.push(client);
      call.on('error', () => {});
      call.write(
        create(ClientFrameSchema, { hello: {}, attach: [{ attachment: 1, mailbox, listener: true }] }),
      );
    }
  }

  #open(address: string) {
    const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
    const { path, requestSerialize, responseDeserialize } = serviceDefinition(BrokerService).connect;
    return { client, call: client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize) };
  }

  /** What an operator would have to tell of a cluster that grows, and empties a broker now and then. */
  async #operate(): Promise<void> {
    for (let turn = 0; !this.#stopped; turn++) {
      const drains = turn % 4 < 2;
      const before = this.#operator.clusters[0]?.status ?? {};
      const soon = new Date(Date.now() + 30_000).toISOString();
      if (this.#operator.leading)
        this.#operator.clusters = [clusterWith('False', 'False', drains ? soon : undefined)];
      const after = this.#operator.clusters[0]?.status ?? {};
      const events = drains ? (['Draining'] as const) : (['ScalingUp', 'Removing'] as const);
      this.#figures.decided(
        before,
        after,
        events.map((reason) => ({ type: 'Normal', reason, message: '' })),
      );
      this.#figures.waited(2);
      this.#figures.called('list', '200', 12);
      this.#figures.called('apply', '409', 30);
      this.#figures.reconciled(this.#operator.leading ? 'ok' : 'unavailable', 40);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

function clusterWith(
  degraded: 'True' | 'False',
  stale: 'True' | 'False',
  deadline: string | undefined,
): BrokerClusterObject {
  const condition = (type: string, status: 'True' | 'False') => ({
    type,
    status,
    lastTransitionTime: '2026-01-01T00:00:00Z',
    reason: 'Test',
    message: '',
  });
  const since = new Date(Date.now() - 5000).toISOString();
  const drain =
    deadline === undefined
      ? {}
      : { drain: { pod: 'hub-2', uid: 'u2', cause: 'ScaleDown' as const, since, deadline } };
  return {
    apiVersion: 'agenthub.io/v1alpha1',
    kind: 'BrokerCluster',
    metadata: { namespace: 'agents', name: 'hub' },
    status: {
      pools: [
        {
          name: 'default',
          replicas: 3,
          ready: 3,
          updated: 3,
          desired: 3,
          scaling: { recommended: 2, reason: 'calm' },
          ...drain,
        },
      ],
      conditions: [
        condition('Available', 'True'),
        condition('Degraded', degraded),
        condition('CapacityStale', stale),
      ],
    },
  };
}
