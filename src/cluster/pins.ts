import type { Assignment } from '../core/assignment.ts';
import { poolOf, shardsOf } from '../core/pools.ts';
import { HubError } from '../std/errors.ts';
import type { Member } from './cluster.ts';
import type { Documents } from './documents.ts';

/** Attempts to write a change while others write theirs. */
const ATTEMPTS = 5;

type Done = (error: HubError | undefined) => void;

/** What {@link Pins} looks at. */
export interface PinsOptions {
  readonly documents: Documents;
  /** The live brokers. */
  readonly members: () => readonly Member[];
}

/** Gives shards to brokers by hand. */
export class Pins {
  private readonly options: PinsOptions;

  constructor(options: PinsOptions) {
    this.options = options;
  }

  /** See `Membership.move`. */
  move(shard: number, broker: string, done: Done): void {
    this.change(
      (assignment) => {
        this.checkShard(shard);
        this.checkBroker(broker, shard);
        if (assignment.pins[shard] === broker && assignment.owners[shard] === broker) return undefined;
        return {
          owners: assignment.owners.map((owner, index) => (index === shard ? broker : owner)),
          pins: { ...assignment.pins, [shard]: broker },
        };
      },
      ATTEMPTS,
      done,
    );
  }

  /** See `Membership.unpin`. */
  unpin(shard: number, done: Done): void {
    this.change(
      ({ owners, pins }) => {
        this.checkShard(shard);
        if (pins[shard] === undefined) return undefined;
        const others = Object.entries(pins).filter(([pinned]) => Number(pinned) !== shard);
        return { owners, pins: Object.fromEntries(others) };
      },
      ATTEMPTS,
      done,
    );
  }

  /** Writes what `next` makes of the assignment, and makes it anew if somebody else has written meanwhile. */
  private change(next: (now: Assignment) => Assignment | undefined, attempts: number, done: Done): void {
    const { documents } = this.options;
    documents.refresh((unread) => {
      if (unread) return done(unread);
      let assignment: Assignment | undefined;
      try {
        assignment = next(documents.assignment);
      } catch (error) {
        return done(error as HubError);
      }
      if (!assignment) return done(undefined);
      documents.propose(assignment, (error) => {
        if (error?.code !== 'conflict') return done(error);
        if (attempts > 1) return this.change(next, attempts - 1, done);
        done(
          new HubError('aborted', 'others change the assignment all the time; try again', {
            retryAfterMs: 1000,
            cause: error,
          }),
        );
      });
    });
  }

  private checkShard(shard: number): void {
    const shards = shardsOf(this.options.documents.layout.pools);
    if (Number.isInteger(shard) && shard >= 0 && shard < shards) return;
    throw new HubError('invalid', `shard: there is no shard ${shard}; they are 0 to ${shards - 1}`, {
      field: 'shard',
    });
  }

  private checkBroker(broker: string, shard: number): void {
    const members = this.options.members();
    const member = members.find(({ id }) => id === broker);
    if (!member) {
      const known = members.map(({ id }) => id).join(', ');
      throw new HubError('not_found', `broker: there is no broker ${broker}; there are ${known}`, {
        field: 'broker',
      });
    }
    const refused = (why: string): HubError =>
      new HubError('precondition', `broker: ${broker} ${why}; choose another`, { field: 'broker' });
    const pool = poolOf(this.options.documents.layout.pools, shard)?.name;
    if (pool !== member.pool)
      throw refused(`is of the pool ${member.pool}, and shard ${shard} is of ${pool}`);
    if (member.draining) throw refused('is being drained');
  }
}
