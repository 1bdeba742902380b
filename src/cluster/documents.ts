import type { Assignment } from '../core/assignment.ts';
import { UNASSIGNED } from '../core/assignment.ts';
import type { PlacementRules } from '../core/placement.ts';
import type { Layout, Pools } from '../core/pools.ts';
import { plainLayout, samePools, withPool } from '../core/pools.ts';
import type { HubError } from '../std/errors.ts';
import { toHubError } from '../std/errors.ts';
import type { Logger } from '../std/logger.ts';
import {
  readAssignment,
  readMember,
  readPlacement,
  readPools,
  writeAssignment,
  writePlacement,
  writePools,
} from '../wire/cluster-documents.ts';
import type { Heard } from './bus.ts';
import type { Member } from './cluster.ts';
import type { Store, Stored } from './store.ts';

const ASSIGNMENT = 'assignment';
const POOLS = 'pools';
const PLACEMENT = 'placement';
const MEMBER = 'member.';
const LEVEL = 'level';

/** The key of the document of a broker. */
export function memberKey(broker: string): string {
  return `${MEMBER}${broker}`;
}

/** Whom {@link Documents} tell. */
export interface DocumentsListener {
  /** The document of a broker came, changed, or went. */
  memberChanged(broker: string, stored: Stored | undefined): void;
  assignmentChanged(): void;
  layoutChanged(): void;
  levelChanged(): void;
  /** Everything that there was has been given. */
  ready(): void;
}

/** What the store says, as far as this broker has heard: the members, the assignment, and the layout. */
export class Documents {
  readonly members = new Map<string, { readonly member: Member; readonly revision: number }>();
  assignment: Assignment = UNASSIGNED;
  /** Of the assignment; 0: there is none. */
  revision = 0;
  /** Whether the store holds something that can't be read in its stead. */
  unreadable = false;
  ready = false;
  layout: Layout;
  /** Revisions of the pools and of the rules; 0: nobody has written any. */
  private poolsRevision = 0;
  private rulesRevision = 0;
  /** The feature level that all brokers of the cluster have spoken once; 0: not known yet. */
  level = 0;
  private levelRevision = 0;
  private readonly store: Store;
  private readonly logger: Logger;
  private readonly listener: DocumentsListener;
  private watching: Heard | undefined;
  /** A revision that was read or written, and that the watch has not come to yet. */
  private ahead = 0;
  private reading = false;
  /** Who waits for a read that begins only now. */
  private waiting: ((error: HubError | undefined) => void)[] = [];

  /** `shards`: of the default pool. */
  constructor(store: Store, logger: Logger, shards: number, listener: DocumentsListener) {
    this.layout = plainLayout(shards);
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

  /** Adds a pool of so many shards, if nobody else has changed the pools meanwhile. */
  addPool(name: string, shards: number, done: (error: HubError | undefined) => void): void {
    let pools: Pools;
    try {
      pools = withPool(this.layout.pools, name, shards);
    } catch (error) {
      return done(error as HubError);
    }
    this.store.put(POOLS, writePools(pools), this.poolsRevision, (error, revision) => {
      if (!error) this.learnPools(pools, revision);
      done(error);
    });
  }

  /** Writes rules in place of those of the version before, if they are still the ones that are known here. */
  place(rules: PlacementRules, done: (error: HubError | undefined) => void): void {
    this.store.put(PLACEMENT, writePlacement(rules), this.rulesRevision, (error, revision) => {
      if (!error) this.learnRules(rules, revision);
      done(error);
    });
  }

  /** Records that all brokers speak that level, from which there is no way back. */
  raise(level: number, done: (error: HubError | undefined) => void): void {
    this.store.put(LEVEL, String(level), this.levelRevision, (error) => done(error));
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
    } else if (key === POOLS || key === PLACEMENT) {
      this.layoutChanged(key, stored);
    } else if (key === LEVEL) {
      this.level = Number(stored?.value ?? 0) || 0;
      this.levelRevision = stored?.revision ?? 0;
      this.listener.levelChanged();
    } else if (key.startsWith(MEMBER)) {
      this.memberChanged(key.slice(MEMBER.length), stored);
    }
  }

  private layoutChanged(key: string, stored: Stored | undefined): void {
    if (!stored) {
      // Pools never go, and rules that are gone would scatter what they have gathered.
      this.logger.error({ key }, 'somebody has removed a document of the cluster; what it said still holds');
      if (key === POOLS) this.poolsRevision = 0;
      else this.rulesRevision = 0;
      return;
    }
    try {
      if (key === POOLS) this.learnPools(readPools(stored.value), stored.revision);
      else this.learnRules(readPlacement(stored.value), stored.revision);
    } catch (error) {
      const { message } = toHubError(error);
      this.logger.error(
        { key, error: message },
        'a document of the cluster is unreadable; the former one holds',
      );
      if (key === POOLS) this.poolsRevision = stored.revision;
      else this.rulesRevision = stored.revision;
    }
  }

  private learnPools(pools: Pools, revision: number): void {
    if (revision <= this.poolsRevision) return;
    this.poolsRevision = revision;
    if (samePools(pools, this.layout.pools)) return;
    this.layout = { ...this.layout, pools };
    this.listener.layoutChanged();
  }

  private learnRules(rules: PlacementRules, revision: number): void {
    if (revision <= this.rulesRevision) return;
    this.rulesRevision = revision;
    this.layout = { ...this.layout, rules };
    this.listener.layoutChanged();
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
