import { shardOf } from '../core/shard.ts';
import type { Balance } from '../core/subscription.ts';
import type { Log } from '../log/log.ts';
import type { Metrics } from '../obs/metrics.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import { HubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import type { Delivery } from './endings.ts';
import { TextCache } from '../wire/text-cache.ts';
import { Ingress, limit } from './ingress.ts';
import { Owner } from './owner.ts';
import { ProgressDesk } from './progress.ts';
import { Sessions } from './sessions.ts';
import type { Retention, Thrift } from './upkeep.ts';
import { Upkeep } from './upkeep.ts';

const UPKEEP_MS = 1000;

/** While less than this share of the log's room is left, no task is accepted. */
const FULL_SHARE = 0.25;

/** Bounds of what a broker takes; each names its configuration key when it is met. */
export interface BrokerLimits {
  readonly taskBytes: number;
  readonly batchTasks: number;
  readonly mailboxes: number;
  readonly mailboxDepth: number;
  readonly mailboxBytes: number;
  readonly memoryHighWaterBytes: number;
}

/** What a {@link Broker} is made of. */
export interface BrokerOptions {
  /** Its name in the cluster. */
  readonly id: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Bytes of memory that the process has in use. */
  readonly memory: () => number;
  readonly limits: BrokerLimits;
  readonly delivery: Delivery & { readonly balance: Balance };
  readonly retention: Retention;
  readonly graceMs: number;
  /** Time between an owner's records while it has much to write, in milliseconds. */
  readonly tickMs: number;
  /** Upkeep of a shard happens this often, in milliseconds, the shards one after the other. Default: 1000. */
  readonly upkeepMs?: number;
  readonly thrift?: Partial<Thrift>;
  /** Ids of ended tasks that a shard remembers. Default: 65,536. */
  readonly knownIds?: number;
  /** The broker can't go on, as when its log has failed. */
  readonly failed: (error: HubError) => void;
}

/** What a broker is doing. */
export type Phase = 'starting' | 'ready' | 'draining' | 'stopped';

/** One broker: the owners of its shards, the way in to them, and the sessions that they serve. */
export class Broker {
  readonly id: string;
  readonly log: Log;
  readonly owners: readonly Owner[];
  readonly ingress: Ingress;
  readonly sessions: Sessions;
  readonly progress: ProgressDesk;
  readonly startedAt: number;
  private readonly options: BrokerOptions;
  private readonly upkeeps: readonly Upkeep[];
  private current: Phase = 'starting';
  private readonly watchers: ((phase: Phase) => void)[] = [];
  private upkeepTimer: Timer | undefined;
  private turn = 0;
  private overHighWater = false;
  /** Bytes of the log's room that tasks must leave. */
  private reserve = 0;
  /** Tasks have had to wait for room. */
  private starving = false;

  constructor(options: BrokerOptions) {
    const { log, clock, random, metrics, delivery } = options;
    this.options = options;
    this.id = options.id;
    this.log = log;
    this.startedAt = clock.now();
    this.sessions = new Sessions(clock, options.graceMs, (session) => this.sessionGone(session));
    this.progress = new ProgressDesk(this.sessions, (mailbox) => this.ownerOf(mailbox), clock, metrics);
    this.ingress = new Ingress({
      log,
      clock,
      random,
      metrics,
      taskBytes: options.limits.taskBytes,
      batchTasks: options.limits.batchTasks,
      fullness: {
        full: (shard, mailbox) => this.full(shard, mailbox),
        known: (shard, hash) => this.owners[shard]!.knows(hash),
        closed: () => this.closed(),
        recipients: (shard) => this.owners[shard]!.recipients(),
      },
    });
    const known = new TextCache();
    this.owners = Array.from(
      { length: log.shards },
      (_, shard) =>
        new Owner({
          shard,
          log,
          clock,
          random,
          metrics,
          delivery,
          balance: delivery.balance,
          tickMs: options.tickMs,
          known,
          knownIds: options.knownIds,
          graceMs: options.graceMs,
          logger: options.logger.child({ shard }),
          forward: (destination, source, parcels, done) =>
            this.ingress.forward(destination, source, parcels, done),
          starved: () => this.starved(),
          isAlive: (session) => this.sessions.isAlive(session),
          lost: (error) => this.fail(error),
        }),
    );
    this.upkeeps = this.owners.map(
      (owner) => new Upkeep(owner, log, clock, options.retention, options.thrift),
    );
  }

  get phase(): Phase {
    return this.current;
  }

  /** Calls the watcher with every later phase. */
  watch(watcher: (phase: Phase) => void): void {
    this.watchers.push(watcher);
  }

  private enter(phase: Phase): void {
    this.current = phase;
    for (const watcher of this.watchers) watcher(phase);
  }

  /** Replays the log and serves; `ready` is called when all shards do. */
  start(ready: () => void): void {
    let left = this.owners.length;
    for (const owner of this.owners) {
      owner.start(() => {
        if (--left > 0 || this.current !== 'starting') return;
        this.enter('ready');
        this.sessions.started();
        for (const session of this.sessionsInLog()) this.sessions.lose(session);
        this.upkeep();
        ready();
      });
    }
  }

  /** No task and no session is accepted any more; what is in flight may still be settled. */
  drain(): void {
    if (this.current === 'ready') this.enter('draining');
  }

  /** Accepts tasks again after {@link drain}. */
  undrain(): void {
    if (this.current !== 'draining') return;
    this.enter('ready');
    for (const owner of this.owners) owner.pause(false);
  }

  /** Drains, delivers nothing any more, and asks all sessions to go within that time. */
  evacuate(reason: string, deadlineMs: number): void {
    this.drain();
    this.pause();
    for (const session of this.sessions.values()) session.goAway(reason, deadlineMs, true);
  }

  /** Stops delivering; used once sessions have been told to go. */
  pause(): void {
    for (const owner of this.owners) owner.pause(true);
  }

  /** Leases that sessions hold. */
  leases(): number {
    return this.owners.reduce((sum, owner) => sum + owner.leases(), 0);
  }

  /** Everything decided is in the log. */
  get settled(): boolean {
    return this.ingress.waitingBytes === 0 && this.owners.every((owner) => owner.journal.idle);
  }

  /** Stops at once. What was acknowledged is in the log; everything else is forgotten. */
  stop(): void {
    if (this.current === 'stopped') return;
    this.enter('stopped');
    this.upkeepTimer?.cancel();
    this.sessions.close();
    for (const owner of this.owners) owner.stop();
  }

  /** The owner of a mailbox. */
  ownerOf(mailbox: string): Owner {
    return this.owners[shardOf(mailbox, this.owners.length)]!;
  }

  private fail(error: HubError): void {
    if (this.current === 'stopped') return;
    this.stop();
    this.options.failed(error);
  }

  private sessionsInLog(): Set<string> {
    const sessions = new Set<string>();
    for (const { state } of this.owners) for (const session of state.sessions.values()) sessions.add(session);
    return sessions;
  }

  private sessionGone(session: string): void {
    for (const owner of this.owners) owner.sessionGone(session, true, 'the session of its worker was lost');
  }

  private closed(): HubError | undefined {
    const { limits } = this.options;
    if (this.current === 'draining')
      return new HubError('unavailable', 'this broker is draining; publish to another one', {
        retryAfterMs: 1000,
      });
    if (this.current !== 'ready')
      return new HubError('unavailable', 'this broker is not ready', { retryAfterMs: 500 });
    if (this.log.room() - this.ingress.waitingBytes < this.reserve) {
      return limit(
        'data.maxBytes',
        'the log is three quarters full, the rest is for settling what is in it; add workers, or room',
        1000,
      );
    }
    if (!this.overHighWater) return undefined;
    return limit(
      'limits.memoryHighWaterBytes',
      `the broker uses more than ${limits.memoryHighWaterBytes} bytes of memory; try again later`,
      1000,
    );
  }

  private full(shard: number, mailbox: string): HubError | undefined {
    const { limits } = this.options;
    const { mailboxes, tasks, bytes } = this.owners[shard]!.state;
    const roomy = tasks.count < limits.mailboxDepth && bytes < limits.mailboxBytes;
    if (roomy && mailboxes.size * this.owners.length < limits.mailboxes) return undefined;
    const id = mailboxes.find(mailbox);
    if (id < 0) {
      if (mailboxes.size * this.owners.length < limits.mailboxes) return undefined;
      return limit('limits.mailboxes', `there are ${limits.mailboxes} mailboxes already; purge some`, 5000);
    }
    if (mailboxes.queued[id]! >= limits.mailboxDepth) {
      return limit(
        'limits.mailboxDepth',
        `the mailbox ${mailbox} holds ${limits.mailboxDepth} tasks already; add workers`,
        1000,
      );
    }
    if (mailboxes.bytes[id]! >= limits.mailboxBytes) {
      return limit(
        'limits.mailboxBytes',
        `the mailbox ${mailbox} holds ${limits.mailboxBytes} bytes already; add workers`,
        1000,
      );
    }
    return undefined;
  }

  /**
   * Keeps the last quarter of the log's room for decisions and results: if tasks took it too, nothing could
   * be settled and the log would stay full for ever. In its second half no task is delivered, so that what
   * is settled already makes room first.
   */
  private watchRoom(): void {
    const room = this.log.room();
    const retained = this.owners.reduce((sum, { shard }) => sum + this.log.extent(shard).bytes, 0);
    const share = room === Infinity ? 1 : room / (room + retained);
    this.reserve = room === Infinity ? 0 : (room + retained) * FULL_SHARE;
    if (share < FULL_SHARE) for (const upkeep of this.upkeeps) upkeep.makeRoom();
    if (this.starving && !this.starved()) {
      this.starving = false;
      for (const owner of this.owners) owner.redispatch();
    }
  }

  private starved(): boolean {
    if (this.reserve === 0 || this.log.room() * 2 > this.reserve) return false;
    this.starving = true;
    return true;
  }

  /** One shard at a time, so that a turn is short. */
  private upkeep(): void {
    if (this.current === 'stopped') return;
    const { clock, upkeepMs = UPKEEP_MS } = this.options;
    this.upkeepTimer = clock.after(upkeepMs / this.upkeeps.length, () => {
      if (this.turn === 0)
        this.overHighWater = this.options.memory() > this.options.limits.memoryHighWaterBytes;
      this.watchRoom();
      this.upkeeps[this.turn]!.run();
      this.turn = (this.turn + 1) % this.upkeeps.length;
      this.upkeep();
    });
  }
}
