import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Broker } from '../../src/broker/broker.ts';
import { BusPeers } from '../../src/cluster/bus-peers.ts';
import { Links } from '../../src/cluster/links.ts';
import { Membership } from '../../src/cluster/membership.ts';
import { SessionsDoor } from '../../src/edge/sessions-door.ts';
import type { Connection } from '../../src/edge/sessions-door.ts';
import { MemoryLog } from '../../src/log/memory.ts';
import { Metrics } from '../../src/obs/metrics.ts';
import type { HubError } from '../../src/std/errors.ts';
import { toHubError } from '../../src/std/errors.ts';
import { silent } from '../../src/std/logger.ts';
import type { ServerFrame } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { ClientFrameSchema, ServerFrameSchema } from '../../src/wire/gen/agenthub/v1/session_pb.ts';
import { ANYBODY, finderOf } from './admission.ts';
import { VirtualClock } from './clock.ts';
import { SeededRandom } from './random.ts';
import { SimBus } from './sim-bus.ts';
import { SimStore } from './sim-store.ts';

type Saying = MessageInitShape<typeof ClientFrameSchema>;

/** A session whose grace is over is gone after so long, in milliseconds. */
export const GRACE_MS = 10_000;

/** Whole brokers on one virtual clock and one log, whose clients a test plays. */
export class SimBrokers {
  readonly random = new SeededRandom(1);
  readonly clock = new VirtualClock();
  readonly bus = new SimBus(this.random);
  readonly brokers: SimBroker[] = [];
  readonly log: MemoryLog;
  readonly store: SimStore;

  constructor(shards: number) {
    this.log = new MemoryLog({ clock: this.clock, shards });
    this.store = new SimStore(this.clock, this.random);
  }

  /** Starts brokers, each when the one before is ready, and lets the shards find their places. */
  start(...ids: string[]): SimBroker[] {
    for (const id of ids) {
      const broker = new SimBroker(this, id);
      this.brokers.push(broker);
      this.until(() => broker.broker.phase === 'ready');
    }
    this.clock.advance(3000);
    return this.brokers;
  }

  /** The broker that serves the mailbox. */
  ownerOf(mailbox: string): SimBroker {
    return this.brokers.find(({ broker }) => broker.ownerOf(mailbox))!;
  }

  /** Another one than these. */
  otherThan(...those: SimBroker[]): SimBroker {
    return this.brokers.find((broker) => !those.includes(broker))!;
  }

  until(holds: () => boolean): void {
    const from = this.clock.now();
    this.clock.run(() => holds() || this.clock.now() - from > 60_000);
    if (!holds()) throw new Error(`it does not hold within a minute: ${String(holds)}`);
  }
}

/** One of them. */
export class SimBroker {
  readonly broker: Broker;
  readonly door: SessionsDoor;

  constructor({ clock, random, bus, store, log }: SimBrokers, id: string) {
    const parts = { bus: bus.end(id, clock), clock, random, logger: silent, self: id };
    this.broker = new Broker({
      cluster: new Membership({
        ...parts,
        store: store.end(clock),
        member: { id, address: id, version: '1.0.0', level: 1 },
        shards: log.shards,
        vitals: () => ({
          ...this.broker.vitals(),
          loadScore: 0,
          agents: 0,
          sessions: 0,
          tasksPerSecond: 0,
        }),
      }),
      links: (edge, owner) => new Links(parts, { edge, owner }),
      peers: new BusPeers(parts),
      log,
      clock,
      random,
      logger: silent,
      metrics: new Metrics({ clock, taskTypes: 10 }),
      memory: () => 0,
      limits: {
        taskBytes: 64 * 1024,
        batchTasks: 100,
        mailboxes: 1000,
        mailboxDepth: 1000,
        mailboxBytes: 1024 * 1024,
        memoryHighWaterBytes: 1,
      },
      delivery: { maxAttempts: 5, backoffInitialMs: 100, backoffMaxMs: 1000, balance: 'round-robin' },
      retention: {
        taskMs: 1e9,
        resultMs: 1e9,
        deadLetterMs: 1e9,
        deadPerMailbox: 1000,
        resultsPerMailbox: 1000,
      },
      graceMs: GRACE_MS,
      tickMs: 2,
      failed: (error) => {
        throw error;
      },
    });
    this.door = new SessionsDoor({
      finder: finderOf(this.broker),
      broker: this.broker,
      clock,
      random,
      maxSessions: 100,
      settings: {
        version: '1.0.0',
        heartbeatMs: 5000,
        timeoutMs: 12_500,
        graceMs: GRACE_MS,
        maxWindow: 100,
        maxAttachments: 100,
        maxAgents: 100,
        frameBytes: 4 * 1024 * 1024,
        taskBytes: 64 * 1024,
        batchTasks: 100,
      },
    });
    this.broker.start(() => {});
  }

  /** A client connects, and says that first. */
  connect(first: Saying): SimClient {
    return new SimClient(this.door, first);
  }
}

/** A client's connection: says what the test has it say, and keeps what it is told. */
export class SimClient {
  readonly told: ServerFrame[] = [];
  error: HubError | undefined;
  ended = false;
  private readonly connection: Connection;

  constructor(door: SessionsDoor, first: Saying) {
    this.connection = door.enter(
      {
        peer: 'test',
        busy: false,
        write: (frame) => {
          this.told.push(fromBinary(ServerFrameSchema, Buffer.from(frame)));
          return true;
        },
        end: (error) => {
          this.error = error;
          this.ended = true;
        },
      },
      ANYBODY,
    );
    this.say(first);
  }

  say(frame: Saying): void {
    this.sayBytes(Buffer.from(toBinary(ClientFrameSchema, create(ClientFrameSchema, frame))));
  }

  /** A frame as it is: its parts may stand in any order. */
  sayBytes(frame: Buffer): void {
    if (this.ended) return;
    try {
      this.connection.receive(frame);
    } catch (error) {
      this.error = toHubError(error);
      this.ended = true;
      this.connection.gone();
    }
  }

  /** Its connection breaks. */
  cut(): void {
    this.ended = true;
    this.connection.gone();
  }

  get welcome() {
    return this.told.flatMap(({ welcome }) => welcome ?? [])[0];
  }

  get deliveries() {
    return this.told.flatMap(({ delivery }) => delivery);
  }

  get aborted() {
    return this.told.flatMap(({ abort }) => abort);
  }

  get settleAcks() {
    return this.told.flatMap(({ settleAck }) => settleAck);
  }

  get attached() {
    return this.told.flatMap(({ attached }) => attached);
  }

  /** What its broker said last of the leases that it holds. */
  get counted() {
    return this.told.flatMap(({ heartbeat }) => heartbeat ?? []).at(-1);
  }
}
