/** What a broker is doing. A capacity document (`wire/capacity.ts`) has all of these. */
export interface LoadFigures {
  readonly activeAgents: number;
  readonly tasksPerSecond: number;
  /** CPU cores in use. */
  readonly cpu: number;
  /** Resident bytes. */
  readonly memory: number;
  /** The share of time in which the event loop is busy. */
  readonly eventLoopUtilization: number;
}

/** What a broker can do; 0 where no limit is known. */
export interface LoadCapacity {
  readonly activeAgents: number;
  readonly tasksPerSecond: number;
  readonly cpu: number;
  readonly memory: number;
}

/**
 * How busy a broker is, 0 (idle) to 1 (full): the share in use of what it has least of. A broker
 * out of memory is full, however idle its processor.
 */
export function loadScore(figures: LoadFigures, capacity: LoadCapacity): number {
  const score = Math.max(
    share(figures.activeAgents, capacity.activeAgents),
    share(figures.tasksPerSecond, capacity.tasksPerSecond),
    share(figures.cpu, capacity.cpu),
    share(figures.memory, capacity.memory),
    share(figures.eventLoopUtilization, 1),
  );
  return Math.min(1, score);
}

function share(used: number, limit: number): number {
  return limit > 0 && used > 0 ? used / limit : 0;
}

/** A broker that new sessions may be pointed to. */
export interface Candidate {
  readonly id: string;
  readonly loadScore: number;
}

/**
 * The broker with the lowest load score, or `undefined` of none. `random01`, uniform in [0, 1),
 * chooses among equals, so that brokers with the same figures don't all point to one.
 */
export function leastLoaded<T extends Candidate>(brokers: readonly T[], random01: number): T | undefined {
  const lowest = Math.min(...brokers.map((broker) => broker.loadScore));
  const equals = brokers.filter((broker) => broker.loadScore === lowest);
  return equals[Math.floor(random01 * equals.length)];
}

/** Points to one broker after another, in the order of their ids, while they come and go. */
export class RoundRobin {
  private last = '';

  /** The broker after the one chosen last, or `undefined` of none. */
  next<T extends { readonly id: string }>(brokers: readonly T[]): T | undefined {
    let first: T | undefined;
    let following: T | undefined;
    for (const broker of brokers) {
      if (first === undefined || broker.id < first.id) first = broker;
      if (broker.id > this.last && (following === undefined || broker.id < following.id)) following = broker;
    }
    const chosen = following ?? first;
    if (chosen) this.last = chosen.id;
    return chosen;
  }
}
