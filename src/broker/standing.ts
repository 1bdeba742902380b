import type { Clock } from '../std/clock.ts';

/** For how long an owner may rely on what the log has confirmed, in milliseconds. */
const SURE_MS = 1000;

/** What a {@link Standing} is judged by. */
export interface StandingOptions {
  readonly clock: Clock;
  /** When the last record that the log took as the owner's was sent. */
  readonly confirmedAt: () => number;
  /** See `Cluster.heardSince`. */
  readonly heardSince: () => number;
}

/**
 * Whether an owner may take itself for the owner still.
 *
 * A process that was stopped for long goes on as if nothing had happened: by the state that it has it would
 * give out what others have done since, until it reads that it was replaced. So the owner's word counts only for a
 * while after the log has last taken it, or as long as the broker is heard without a break since then: nobody takes
 * its shards meanwhile. It is a matter of not working in vain; what keeps two owners apart is the log.
 */
export class Standing {
  private readonly options: StandingOptions;

  constructor(options: StandingOptions) {
    this.options = options;
  }

  /** As the clock says now. */
  get sure(): boolean {
    const { clock, confirmedAt, heardSince } = this.options;
    const since = confirmedAt();
    if (heardSince() <= since) return true;
    const age = clock.now() - since;
    return age >= 0 && age <= SURE_MS;
  }
}
