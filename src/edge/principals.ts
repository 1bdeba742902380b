import type { Broker } from '../broker/broker.ts';
import { limit } from '../broker/ingress.ts';
import type { Clock } from '../std/clock.ts';
import type { HubError } from '../std/errors.ts';
import type { Principal } from '../trust/principal.ts';

/** How much one principal may have of a broker; 0: as much as all together. */
export interface PrincipalLimits {
  readonly sessionsPerPrincipal: number;
  readonly agentsPerPrincipal: number;
  readonly queuedBytesPerPrincipal: number;
}

/** What {@link Principals} are made of. */
export interface PrincipalsOptions {
  readonly broker: Pick<Broker, 'sessions' | 'metrics'>;
  readonly clock: Clock;
  readonly limits: PrincipalLimits;
}

interface Amount {
  sessions: number;
  agents: number;
}

/** Sessions are counted anew after this time, in milliseconds; */
const COUNT_MS = 500;
/** or when somebody has met a limit, but not more often than this. */
const AGAIN_MS = 20;
const RETRY_MS = 1000;

/** What each principal has of this broker, so that none of them takes what is there for all. Administrators may. */
export class Principals {
  private readonly options: PrincipalsOptions;
  /** As they were counted, and what has come since. */
  private present = new Map<string, Amount>();
  private countedAt = -Infinity;
  /** Bytes that the log does not hold yet. */
  private readonly waiting = new Map<string, number>();

  constructor(options: PrincipalsOptions) {
    this.options = options;
  }

  /** Counts one more session of it. @throws HubError `exhausted` if that is too many. */
  enter(principal: Principal): void {
    this.admit(principal, 'sessions', 'sessionsPerPrincipal', this.options.limits.sessionsPerPrincipal);
  }

  /** Counts one more agent of it. @throws HubError `exhausted` if that is too many. */
  host(principal: Principal): void {
    this.admit(principal, 'agents', 'agentsPerPrincipal', this.options.limits.agentsPerPrincipal);
  }

  /**
   * Counts that many bytes of its tasks until the answer is called: then the log has them, or never will.
   *
   * @returns HubError `exhausted` if it has too many on their way already.
   */
  hold({ name, role }: Principal, bytes: number): HubError | (() => void) {
    const most = this.options.limits.queuedBytesPerPrincipal;
    if (most === 0 || role === 'admin') return nothing;
    const before = this.waiting.get(name) ?? 0;
    // One alone may be of any size that a message may have.
    if (before > 0 && before + bytes > most) {
      return this.met(
        'queuedBytesPerPrincipal',
        `${name} has ${before} bytes of tasks on their way to the log already; wait for answers`,
      );
    }
    this.waiting.set(name, before + bytes);
    return () => {
      const left = this.waiting.get(name)! - bytes;
      if (left > 0) this.waiting.set(name, left);
      else this.waiting.delete(name);
    };
  }

  private admit(
    { name, role }: Principal,
    what: keyof Amount,
    key: keyof PrincipalLimits,
    most: number,
  ): void {
    if (most === 0 || role === 'admin') return;
    const now = this.options.clock.now();
    if (now - this.countedAt >= COUNT_MS) this.count(now);
    if (this.amountOf(name)[what] >= most && now - this.countedAt >= AGAIN_MS) this.count(now);
    const amount = this.amountOf(name);
    if (amount[what] >= most) throw this.met(key, `${name} has ${most} ${what} at this broker already`);
    amount[what]++;
  }

  private count(now: number): void {
    this.present.clear();
    this.countedAt = now;
    for (const { principal = '', agents } of this.options.broker.sessions.values()) {
      const amount = this.amountOf(principal);
      amount.sessions++;
      amount.agents += agents;
    }
  }

  private amountOf(name: string): Amount {
    let amount = this.present.get(name);
    if (!amount) this.present.set(name, (amount = { sessions: 0, agents: 0 }));
    return amount;
  }

  private met(key: keyof PrincipalLimits, words: string): HubError {
    this.options.broker.metrics.limits.of(`limits.${key}`).add();
    return limit(`limits.${key}`, words, RETRY_MS);
  }
}

function nothing(): void {}
