import type { BrokerOptions } from '../../../src/broker/broker.ts';
import { Broker } from '../../../src/broker/broker.ts';
import { Helm } from '../../../src/broker/helm.ts';
import { BusPeers } from '../../../src/cluster/bus-peers.ts';
import { Links } from '../../../src/cluster/links.ts';
import { Membership } from '../../../src/cluster/membership.ts';
import type { Steering } from '../../../src/core/steer.ts';
import { Session } from '../../../src/edge/session.ts';
import type { SessionSettings } from '../../../src/edge/sessions-door.ts';
import { SessionsDoor } from '../../../src/edge/sessions-door.ts';
import { ANYBODY, finderOf } from '../admission.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import type { HubError } from '../../../src/std/errors.ts';
import type { Logger } from '../../../src/std/logger.ts';
import type { VirtualClock } from '../clock.ts';
import type { SeededRandom } from '../random.ts';
import type { SimBus, SimBusEnd } from '../sim-bus.ts';
import type { SimStore, SimStoreEnd } from '../sim-store.ts';
import type { SimConnection } from './connection.ts';
import { Life } from './life.ts';
import type { ReplicatedLog, ReplicatedLogEnd } from './replicated-log.ts';

const STOP_CHECK_MS = 20;

/** What a {@link Node} is made of. */
export interface NodeOptions {
  /** Its name, which clients dial, and what it is called since this start. */
  readonly name: string;
  readonly id: string;
  readonly clock: VirtualClock;
  readonly random: SeededRandom;
  readonly logger: Logger;
  readonly bus: SimBus;
  readonly store: SimStore;
  readonly log: ReplicatedLog;
  readonly broker: Pick<
    BrokerOptions,
    'limits' | 'delivery' | 'retention' | 'graceMs' | 'tickMs' | 'upkeepMs' | 'thrift'
  >;
  readonly session: SessionSettings;
  readonly steering: Steering;
  /** The delay of messages to and from its log, in milliseconds, and how many of them are lost. */
  readonly logDelayMs: () => number;
  readonly logLoss: () => boolean;
  readonly applied: (node: Node, shard: number, sequence: number) => void;
  /** It has ended by itself, with an error or because it was told to stop. */
  readonly ended: (node: Node, error: HubError | undefined) => void;
}

/** A broker's process in a cluster, as `embedded.ts` and `clustered.ts` make it, without ports. */
export class Node {
  readonly name: string;
  readonly id: string;
  readonly life: Life;
  readonly broker: Broker;
  readonly cluster: Membership;
  readonly bus: SimBusEnd;
  readonly store: SimStoreEnd;
  readonly log: ReplicatedLogEnd;
  stopping = false;
  private readonly options: NodeOptions;
  private readonly door: SessionsDoor;
  private readonly helm: Helm;
  private readonly connections = new Set<SimConnection>();

  constructor(options: NodeOptions) {
    const { name, id, random, logger, session, clock } = options;
    this.options = options;
    this.name = name;
    this.id = id;
    const life = new Life(clock);
    this.life = life;
    this.bus = options.bus.end(id, life.steady);
    this.store = options.store.end(life.steady);
    this.log = options.log.open({
      broker: id,
      clock,
      life: life.steady,
      delayMs: options.logDelayMs,
      lost: options.logLoss,
      applied: (shard, sequence) => options.applied(this, shard, sequence),
    });
    const parts = { bus: this.bus, clock: life, random, logger, self: id };
    this.cluster = new Membership({
      ...parts,
      store: this.store,
      member: { id, address: name, version: '1.0.0', level: 1 },
      shards: this.log.shards,
      vitals: () => ({ ...this.broker.vitals(), ...this.load() }),
    });
    this.broker = new Broker({
      ...options.broker,
      cluster: this.cluster,
      links: (edge, owner) => new Links(parts, { edge, owner }),
      peers: new BusPeers(parts),
      log: this.log,
      clock: life,
      random,
      logger,
      metrics: new Metrics({ clock: life, taskTypes: 10 }),
      memory: () => 0,
      failed: (error) => options.ended(this, error),
    });
    const { broker } = this;
    this.door = new SessionsDoor({
      broker,
      finder: finderOf(broker),
      clock: life,
      random,
      settings: session,
      maxSessions: 1000,
    });
    this.helm = new Helm({ broker, clock: life, random, mode: options.steering });
    broker.start(() => this.watch());
  }

  get ready(): boolean {
    return !this.life.over && this.broker.phase === 'ready';
  }

  *sessions(): Generator<Session> {
    for (const session of this.broker.sessions.values()) if (session instanceof Session) yield session;
  }

  /** A client connects. False if nobody listens. */
  accept(connection: SimConnection): boolean {
    if (this.life.over || this.broker.phase === 'starting' || this.broker.phase === 'stopped') return false;
    this.connections.add(connection);
    const transport = {
      peer: connection.client,
      busy: false,
      write: (frame: Buffer) => connection.write(frame),
      end: (error?: HubError) => connection.end(error),
    };
    connection.accepted(this.door.enter(transport, ANYBODY));
    return true;
  }

  /** It dies at once. */
  kill(clientsLearnMs: () => number): void {
    this.life.end();
    this.options.bus.leave(this.id);
    this.store.connect(false);
    this.options.log.forget(this.log);
    for (const connection of this.connections) connection.orphan(clientsLearnMs());
  }

  /** Its connection to NATS breaks, or is back. */
  connect(connected: boolean): void {
    if (this.life.over) return;
    this.bus.connect(connected);
    this.store.connect(connected);
    this.log.connect(connected);
  }

  /** It stops in good order, as `Embedded.stop` does. */
  stop(deadlineMs: number): void {
    const { broker, life, options } = this;
    if (this.stopping || broker.phase !== 'ready') return;
    this.stopping = true;
    const until = options.clock.now() + deadlineMs;
    broker.evacuate('the broker is stopping', deadlineMs);
    const waiting = (): boolean => broker.leases() > 0 || !broker.settled;
    this.settle(
      () => broker.shardsToHandOver > 0 || (waiting() && broker.sessions.connected > 0),
      until,
      () => {
        for (const session of this.sessions()) session.handBack();
        this.settle(
          () => !broker.settled,
          until,
          () => {
            for (const session of this.sessions()) session.close();
            life.after(100, () => {
              broker.stop();
              this.cluster.stop(() => options.ended(this, undefined));
            });
          },
        );
      },
    );
  }

  private settle(waiting: () => boolean, until: number, then: () => void): void {
    if (!waiting() || this.options.clock.now() >= until) then();
    else this.life.after(STOP_CHECK_MS, () => this.settle(waiting, until, then));
  }

  private watch(): void {
    this.life.after(this.options.session.heartbeatMs, () => {
      if (this.broker.phase === 'stopped') return;
      for (const session of this.sessions()) session.checkAlive(this.life.now());
      this.helm.look();
      this.watch();
    });
  }

  private load() {
    const { sessions } = this.broker;
    return {
      loadScore: Math.min(1, sessions.size / 10),
      agents: sessions.agents,
      sessions: sessions.size,
      tasksPerSecond: 0,
    };
  }
}
