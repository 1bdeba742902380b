import type { Cluster } from '../cluster/cluster.ts';
import type { Atlas } from '../core/atlas.ts';
import { samePools } from '../core/pools.ts';
import type { Log } from '../log/log.ts';
import { backoff } from '../std/backoff.ts';
import type { Clock, Random, Timer } from '../std/clock.ts';
import type { Logger } from '../std/logger.ts';

const RETRY = { initialMs: 100, maxMs: 5000 };

/** What a {@link LayoutFollower} works with. */
export interface LayoutFollowerOptions {
  readonly cluster: Cluster;
  readonly log: Log;
  readonly atlas: Atlas;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** The log has more shards now, or the atlas says something else. */
  readonly changed: () => void;
}

/** Follows the layout of the cluster: opens the logs of new pools, and has mailboxes live there only then. */
export class LayoutFollower {
  private readonly options: LayoutFollowerOptions;
  private opening = false;
  private failures = 0;
  private timer: Timer | undefined;
  private stopped = false;

  constructor(options: LayoutFollowerOptions) {
    this.options = options;
  }

  /** Whether everything is as the cluster says. */
  get current(): boolean {
    const { cluster, atlas } = this.options;
    const layout = cluster.layout();
    const { pools, rules } = atlas.layout;
    return !layout || (samePools(layout.pools, pools) && layout.rules === rules);
  }

  /** Looks what the cluster says now. */
  review(): void {
    const { cluster, log, atlas, changed } = this.options;
    const layout = cluster.layout();
    if (!layout || this.stopped || this.opening || this.timer || this.current) return;
    const missing = layout.pools.find(({ first }) => first >= log.shards);
    if (missing) return this.open(missing);
    atlas.change(layout);
    changed();
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private open(pool: Parameters<NonNullable<Log['grow']>>[0]): void {
    const { log, clock, random, logger } = this.options;
    this.opening = true;
    log.grow?.(pool, (error) => {
      this.opening = false;
      if (this.stopped) return;
      if (!error) {
        this.failures = 0;
        logger.info({ pool: pool.name, shards: pool.shards }, 'the logs of a pool are open');
        return this.review();
      }
      const message = { pool: pool.name, error: error.message };
      logger.warn(message, 'the logs of a pool are not open yet: nothing reaches its mailboxes from here');
      this.timer = clock.after(backoff(++this.failures, RETRY, random.float()), () => {
        this.timer = undefined;
        this.review();
      });
    });
  }
}
