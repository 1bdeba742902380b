import type { Assignment } from '../core/assignment.ts';
import { UNASSIGNED } from '../core/assignment.ts';
import type { HubError } from '../std/errors.ts';
import { toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import { readAssignment, readMember, writeAssignment } from '../wire/cluster-documents.ts';
import type { Heard } from './bus.ts';
import type { Member } from './cluster.ts';
import type { Store, Stored } from './store.ts';

const ASSIGNMENT = 'assignment';
const MEMBER = 'member.';

/** The key of the document of a broker. */
export function memberKey(broker: string): string {
  return `${MEMBER}${broker}`;
}

/** Whom {@link Documents} tell. */
export interface DocumentsListener {
  /** The document of a broker came, changed, or went. */
  memberChanged(broker: string, stored: Stored | undefined): void;
  assignmentChanged(): void;
  /** Everything that there was has been given. */
  ready(): void;
}

/** What the store says, as far as this broker has heard: the members and the assignment. */
export class Documents {
  readonly members = new Map<string, { readonly member: Member; readonly revision: number }>();
  assignment: Assignment = UNASSIGNED;
  /** Of the assignment; 0: there is none. */
  revision = 0;
  /** Whether the store holds something that can't be read in its stead. */
  unreadable = false;
  ready = false;
  private readonly store: Store;
  private readonly logger: Logger;
  private readonly listener: DocumentsListener;
  private watching: Heard | undefined;
  /** A revision that was read or written, and that the watch has not come to yet. */
  private ahead = 0;
  private reading = false;
  /** Who waits for a read that begins only now. */
  private waiting: ((error: HubError | undefined) => void)[] = [];

  constructor(store: Store, logger: Logger, listener: DocumentsListener) {
    this.store = store;
    this.logger = logger;
    this.listener = listener;
  }

  start(): void {
    this.watching = this.store.watch(
      (key, stored) => this.changed(key, stored),
      () => {
        this.ready = true;
        this.listener.ready();
      },
    );
  }

  stop(): void {
    this.watching?.stop();
  }

  /** Reads the assignment from the leader. `done` is called once, later, when it is known here. */
  refresh(done: (error: HubError | undefined) => void): void {
    this.waiting.push(done);
    if (!this.reading) this.read();
  }

  /** Writes an assignment if nobody else has since the one that is known here. */
  propose(assignment: Assignment, done: (error: HubError | undefined) => void): void {
    this.store.put(ASSIGNMENT, writeAssignment(assignment), this.revision, (error, revision) => {
      if (!error && revision > this.revision) {
        this.ahead = revision;
        this.learn(assignment, revision);
      }
      done(error);
    });
  }

  private read(): void {
    const asked = this.waiting;
    this.waiting = [];
    this.reading = true;
    const before = this.revision;
    this.store.get(ASSIGNMENT, (error, stored) => {
      this.reading = false;
      if (stored && stored.revision > this.revision) {
        this.ahead = stored.revision;
        this.take(stored);
      } else if (stored && stored.revision < before) {
        // The store has lost its end.
        this.ahead = 0;
        this.take(stored);
      } else if (!error && !stored && this.revision > 0) {
        this.lost();
      }
      for (const done of asked) done(error);
      if (this.waiting.length > 0 && !this.reading) this.read();
    });
  }

  private changed(key: string, stored: Stored | undefined): void {
    if (key === ASSIGNMENT) {
      if (!stored) return this.lost();
      // What the watch says is in order, but may be older than what was read or written here meanwhile.
      if (stored.revision < this.ahead) return;
      this.ahead = 0;
      if (stored.revision !== this.revision) this.take(stored);
    } else if (key.startsWith(MEMBER)) {
      this.memberChanged(key.slice(MEMBER.length), stored);
    }
  }

  private memberChanged(broker: string, stored: Stored | undefined): void {
    if (stored && stored.revision === this.members.get(broker)?.revision) return;
    try {
      if (stored) {
        this.members.set(broker, { member: readMember(stored.value), revision: stored.revision });
      } else {
        this.members.delete(broker);
      }
    } catch (error) {
      this.logger.warn(
        { broker, error: toHubError(error).message },
        'what a broker says of itself is ignored',
      );
    }
    this.listener.memberChanged(broker, stored);
  }

  private take({ value, revision }: Stored): void {
    try {
      this.learn(readAssignment(value), revision);
    } catch (error) {
      this.logger.error(
        { error: toHubError(error).message },
        'the assignment is made anew: it is unreadable',
      );
      this.learn(this.assignment, revision);
      this.unreadable = true;
    }
  }

  private lost(): void {
    if (this.revision === 0) return;
    this.logger.warn({}, 'somebody has removed the assignment; it is made anew');
    this.ahead = 0;
    this.learn(this.assignment, 0);
  }

  private learn(assignment: Assignment, revision: number): void {
    this.unreadable = false;
    this.assignment = assignment;
    this.revision = revision;
    this.listener.assignmentChanged();
  }
}
