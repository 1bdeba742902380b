import type { Assignment } from '../core/assignment.ts';
import { assignPools, sameAssignment } from '../core/assignment.ts';
import type { Logger } from '../std/logger.ts';
import type { Member } from './cluster.ts';
import type { Documents } from './documents.ts';
import { memberKey } from './documents.ts';
import type { Store } from './store.ts';

/** What a {@link Proposer} looks at. */
export interface ProposerOptions {
  readonly self: string;
  readonly store: Store;
  readonly documents: Documents;
  readonly logger: Logger;
  readonly isLive: (broker: string) => boolean;
}

/**
 * Keeps the documents true: removes those of dead brokers, assigns shards to those that live, and records the
 * feature level that all of them speak. Only the
 * broker that has been live for longest does so; should two think that it is they, all but one find that
 * somebody else has written since.
 */
export class Proposer {
  private readonly options: ProposerOptions;
  private readonly removing = new Set<string>();
  private proposing = false;
  private raising = false;
  private stopped = false;

  constructor(options: ProposerOptions) {
    this.options = options;
  }

  /** Looks whether there is something to do. Call it whenever something has changed, and now and then. */
  consider(): void {
    const { self, documents, isLive } = this.options;
    if (this.stopped || !documents.ready) return;
    const members = [...documents.members.values()].map(({ member }) => member);
    const live = members.filter(({ id }) => isLive(id)).sort(longestFirst);
    if (live[0]?.id !== self) return;
    for (const { id } of members) if (!isLive(id)) this.remove(id);
    this.raise(members);
    if (this.proposing) return;
    const { assignment, revision, unreadable } = documents;
    const next = assignPools(assignment, live, documents.layout.pools);
    if (revision === 0 || unreadable || !sameAssignment(assignment, next)) this.propose(next);
  }

  stop(): void {
    this.stopped = true;
  }

  private propose(next: Assignment): void {
    const { documents, logger } = this.options;
    this.proposing = true;
    documents.propose(next, (error) => {
      if (!error) {
        this.proposing = false;
        logger.info({ revision: documents.revision }, 'shards are assigned');
        return this.consider();
      }
      logger.debug({ error: error.message }, 'the assignment was not written');
      documents.refresh((unread) => {
        this.proposing = false;
        // Whoever was first may have known more, or less. Without an answer there is time.
        if (!unread && error.code === 'conflict') this.consider();
      });
    });
  }

  /** Records the level that all speak: from then on records may be written that a lower one can't read. */
  private raise(members: readonly Member[]): void {
    const { documents, logger, isLive } = this.options;
    const level = Math.min(...members.map((member) => member.level));
    if (this.raising || level <= documents.level || !members.every(({ id }) => isLive(id))) return;
    this.raising = true;
    documents.raise(level, (error) => {
      this.raising = false;
      if (error) logger.debug({ level, error: error.message }, 'the level of the cluster was not raised');
      else logger.info({ level }, 'all brokers speak this level: there is no way back to versions below it');
    });
  }

  private remove(broker: string): void {
    const { store, documents, logger } = this.options;
    const known = documents.members.get(broker);
    if (!known || this.removing.has(broker)) return;
    this.removing.add(broker);
    store.remove(memberKey(broker), known.revision, (error) => {
      this.removing.delete(broker);
      if (error) logger.debug({ broker, error: error.message }, 'a dead broker was not removed');
      else logger.info({ broker }, 'a dead broker was removed');
    });
  }
}

function longestFirst(a: Member, b: Member): number {
  return a.joinedAt - b.joinedAt || (a.id < b.id ? -1 : 1);
}
