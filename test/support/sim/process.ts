import { Broker } from '../../../src/broker/broker.ts';
import type { BrokerOptions } from '../../../src/broker/broker.ts';
import { LocalCluster } from '../../../src/cluster/local.ts';
import { Session } from '../../../src/edge/session.ts';
import type { SessionSettings } from '../../../src/edge/sessions-door.ts';
import { SessionsDoor } from '../../../src/edge/sessions-door.ts';
import type { Log } from '../../../src/log/log.ts';
import { ANYBODY, finderOf } from '../admission.ts';
import { Metrics } from '../../../src/obs/metrics.ts';
import type { Clock, Random } from '../../../src/std/clock.ts';
import type { HubError } from '../../../src/std/errors.ts';
import type { Logger } from '../../../src/std/logger.ts';
import type { SimConnection } from './connection.ts';
import { Life } from './life.ts';
import type { Tap } from './shadows.ts';
import { TappedLog } from './shadows.ts';

const STOP_CHECK_MS = 5;

export interface ProcessOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tap: Tap;
  readonly broker: Omit<
    BrokerOptions,
    'cluster' | 'links' | 'log' | 'clock' | 'random' | 'logger' | 'metrics' | 'memory' | 'failed'
  >;
  readonly session: SessionSettings;
  /** Opens the log, or makes one. */
  readonly open: (life: Life, done: (error: HubError | undefined, log: Log | undefined) => void) => void;
  /** It serves. */
  readonly ready: (life: Life) => void;
  /** It has ended by itself, with an error or because it was told to stop. */
  readonly ended: (error: HubError | undefined) => void;
}

/** A broker's process, as `embedded.ts` makes it, without ports. */
export class Process {
  readonly life: Life;
  broker: Broker | undefined;
  log: Log | undefined;
  private door: SessionsDoor | undefined;
  private readonly options: ProcessOptions;
  private readonly connections = new Set<SimConnection>();
  private stopping = false;

  constructor(options: ProcessOptions) {
    this.options = options;
    this.life = new Life(options.clock);
    options.open(this.life, (error, log) => {
      if (this.life.over) return;
      if (!log) this.options.ended(error);
      else this.start(new TappedLog(log, this.life, options.tap));
    });
  }

  get ready(): boolean {
    return this.broker?.phase === 'ready';
  }

  private start(log: Log): void {
    const { random, logger, session, ready, ended } = this.options;
    const clock = this.life;
    this.log = log;
    this.broker = new Broker({
      ...this.options.broker,
      cluster: new LocalCluster(
        {
          id: 'sim',
          address: '',
          joinedAt: clock.now(),
          version: '',
          level: 1,
          draining: false,
          pool: 'default',
        },
        clock,
      ),
      log,
      clock,
      random,
      logger,
      metrics: new Metrics({ clock, taskTypes: 10 }),
      memory: () => (random.float() < 0.1 ? 2 : 0),
      failed: ended,
    });
    const { broker } = this;
    this.door = new SessionsDoor({
      broker,
      finder: finderOf(broker),
      clock,
      random,
      settings: session,
      maxSessions: 1000,
    });
    broker.start(() => {
      this.watch();
      ready(this.life);
    });
  }

  private watch(): void {
    this.life.after(this.options.session.heartbeatMs, () => {
      for (const session of this.sessions()) session.checkAlive(this.life.now());
      this.watch();
    });
  }

  *sessions(): Generator<Session> {
    for (const session of this.broker?.sessions.values() ?? []) if (session instanceof Session) yield session;
  }

  /** A client connects. False if nobody listens. */
  accept(connection: SimConnection): boolean {
    if (!this.door || this.life.over || this.broker?.phase !== 'ready') return false;
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
    for (const connection of this.connections) connection.orphan(clientsLearnMs());
  }

  /** It stops in good order, as `Embedded.stop` does. */
  stop(deadlineMs: number): void {
    const { broker, life } = this;
    if (this.stopping || !broker || broker.phase !== 'ready') return;
    this.stopping = true;
    const until = life.now() + deadlineMs;
    broker.drain();
    broker.pause();
    for (const session of this.sessions()) session.goAway('the broker is stopping', deadlineMs, true);
    const settle = (waiting: () => boolean, then: () => void): void => {
      if (!waiting() || life.now() >= until) then();
      else life.after(STOP_CHECK_MS, () => settle(waiting, then));
    };
    settle(
      () => broker.sessions.connected > 0 && (broker.leases() > 0 || !broker.settled),
      () => {
        for (const session of this.sessions()) session.handBack();
        settle(
          () => !broker.settled,
          () => {
            for (const session of this.sessions()) session.close();
            broker.stop();
            this.options.ended(undefined);
          },
        );
      },
    );
  }
}
