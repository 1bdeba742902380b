import type { Broker } from '../broker/broker.ts';
import type { Vitals } from '../cluster/cluster.ts';
import type { LoadFigures } from '../core/load.ts';
import { loadScore } from '../core/load.ts';
import type { Metrics } from '../obs/metrics.ts';
import { Rate } from '../obs/instruments.ts';
import type { ProcessProbe } from '../obs/process.ts';
import type { Clock } from '../std/clock.ts';
import type { Capacity } from '../wire/capacity.ts';
import type { BrokerView } from '../wire/gen/agenthub/v1/broker_pb.ts';
import type { Door } from './calls.ts';
import type { Census } from './census.ts';
import { census } from './census.ts';
import type { Health } from './health.ts';
import type { DrainStatus } from './http.ts';

/** What a broker says of itself in its view; the list of members knows its pool. */
export type BrokerFacts = Omit<BrokerView, '$typeName' | '$unknown' | 'pool'>;

/** What counts as a full broker. */
export interface FullBroker {
  readonly agents: number;
  readonly tasksPerSecond: number;
  readonly memoryBytes: number;
}

/** What a {@link BrokerStatus} is made of. */
export interface StatusOptions {
  readonly broker: Broker;
  readonly metrics: Metrics;
  readonly process: ProcessProbe;
  readonly clock: Clock;
  readonly door: Door;
  readonly version: string;
  readonly full: FullBroker;
  /** As whom the broker is logged in to NATS, if it is, on all its connections. */
  readonly natsUser: () => string | undefined;
  /** Time that sessions have to finish when the broker drains, in milliseconds. */
  readonly drainMs: number;
}

/** What a broker says of itself, from one place for `/capacity`, gauges and the services. */
export class BrokerStatus {
  private readonly options: StatusOptions;
  private readonly shardRates = new Map<number, Rate>();

  constructor(options: StatusOptions) {
    this.options = options;
  }

  get activeAgents(): number {
    return this.options.broker.sessions.agents;
  }

  /** What the mailboxes hold now. */
  tasks(): Census {
    return census(this.options.broker.owners, this.options.clock.now());
  }

  /** Tasks and results that come into that shard per second. */
  shardRate(shard: number): number {
    const { broker, clock } = this.options;
    let rate = this.shardRates.get(shard);
    if (!rate) {
      rate = new Rate(clock, () => broker.shards.owner(shard)?.arrivals ?? 0);
      this.shardRates.set(shard, rate);
    }
    return rate.perSecond();
  }

  /** The document at `/capacity`. */
  capacity(): Capacity {
    const { broker, metrics, clock, door, version, full } = this.options;
    const natsUser = this.options.natsUser();
    const tasks = this.tasks();
    const rates = metrics.rates();
    const figures = this.figures();
    return {
      broker: broker.id,
      version,
      time: Math.floor(clock.now()),
      ...figures,
      ...rates,
      activeTasks: tasks.active,
      memoryHighWater: full.memoryBytes,
      openConnections: door.connections,
      backlog: tasks.backlog,
      oldestTaskAgeSeconds: tasks.oldestSeconds,
      draining: broker.phase === 'draining',
      loadScore: this.score(figures),
      ...(natsUser === undefined ? {} : { natsUser }),
      shards: broker.owners.map(({ shard, state }) => ({
        shard,
        queued: state.tasks.count,
        outbox: state.outbox.size,
        bytes: state.bytes,
        tasksPerSecond: this.shardRate(shard),
      })),
    };
  }

  /** How much it has to do, for the other brokers. */
  load(): Pick<Vitals, 'loadScore' | 'agents' | 'sessions' | 'tasksPerSecond'> {
    const figures = this.figures();
    return {
      loadScore: this.score(figures),
      agents: figures.activeAgents,
      sessions: this.options.broker.sessions.size,
      tasksPerSecond: figures.tasksPerSecond,
    };
  }

  private figures(): LoadFigures {
    const { metrics, process } = this.options;
    return {
      activeAgents: this.activeAgents,
      tasksPerSecond: metrics.rates().tasksPerSecond,
      cpu: process.cpu(),
      memory: process.memory().rss,
      eventLoopUtilization: Math.min(1, process.eventLoopUtilization()),
    };
  }

  private score(figures: LoadFigures): number {
    const { agents, tasksPerSecond, memoryBytes } = this.options.full;
    return loadScore(figures, { activeAgents: agents, tasksPerSecond, cpu: 1, memory: memoryBytes });
  }

  /** This broker among the brokers of the cluster. */
  view(level: number): BrokerFacts {
    const { broker, metrics, version } = this.options;
    const { cluster } = broker;
    return {
      id: broker.id,
      address: cluster.members().find(({ id }) => id === cluster.self)?.address ?? '',
      version,
      level,
      shards: broker.owners.length,
      sessions: broker.sessions.size,
      agents: this.activeAgents,
      tasksPerSecond: metrics.rates().tasksPerSecond,
      load: this.score(this.figures()),
      draining: broker.phase === 'draining',
      startedAtMs: BigInt(Math.floor(broker.startedAt)),
    };
  }

  /** What `/healthz` and `/readyz` go by. */
  health(): Health {
    const { broker, clock, version } = this.options;
    const now = clock.now();
    const check = { checkedAt: now, durationMs: 0 };
    return {
      version,
      uptimeMs: now - broker.startedAt,
      checks: [
        {
          ...check,
          name: 'broker',
          concerns: 'life',
          healthy: broker.phase !== 'stopped',
          message: broker.phase,
        },
        {
          ...check,
          name: 'accepting',
          concerns: 'readiness',
          healthy: broker.phase === 'ready',
          message: broker.phase,
        },
      ],
    };
  }

  /** How `/drain` sees the broker. */
  readonly drain = {
    status: (): DrainStatus => {
      const { broker } = this.options;
      const left = {
        shards: broker.shardsToHandOver,
        sessions: broker.sessions.movable,
        activeTasks: broker.leases(),
      };
      if (broker.phase !== 'draining') return { state: 'serving', ...left };
      const done = left.shards + left.sessions + left.activeTasks === 0;
      return { state: done ? 'drained' : 'draining', ...left };
    },
    start: (): void => this.options.broker.evacuate('this broker is draining', this.options.drainMs),
    cancel: (): void => this.options.broker.undrain(),
  };
}
